package escape_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/auth"
)

// operations are calls of every kind on a pool: all of both planes.
func operations(pool string) []request {
	plane := "/subscriptions/" + sandpool.DefaultSubscription + "/resourceGroups/" +
		sandpool.DefaultResourceGroup + "/providers/Microsoft.App/sessionPools/" + pool
	var all []request
	for _, op := range []string{"POST /executions", "POST /code/execute", "POST /execute",
		"POST /python/execute", "POST /files", "POST /files/upload", "GET /files",
		"GET /files/x", "GET /files/x/content", "GET /files/content/x", "DELETE /files/x",
		"GET /session", "DELETE /session", "GET /listSessions", "GET /metadata",
		"POST /.management/stopSession", "GET /.management/listSessions", "GET /executions/x",
		"GET /nothing", "PROPFIND /session", "OPTIONS /session", "GET "} {
		method, path, _ := strings.Cut(op, " ")
		all = append(all, request{method: method, path: endpoint(pool) + path +
			"?identifier=victim-session"})
	}
	for _, op := range []string{"PUT ", "GET ", "PATCH ", "DELETE ", "GET /status",
		"POST /fetchMCPServerCredentials", "TRACE "} {
		method, path, _ := strings.Cut(op, " ")
		all = append(all, request{method: method, path: plane + path})
	}
	return all
}

// noToken: without a valid token nothing answers but health, whatever else a request says.
func (k *target) noToken(t *testing.T) {
	headers := []http.Header{
		nil, {"Authorization": {""}}, {"Authorization": {"Bearer"}}, {"Authorization": {"Bearer "}},
		{"Authorization": {"Basic YWRtaW46YWRtaW4="}},
		bearer("sp_" + strings.Repeat("a", 16) + "_" + strings.Repeat("a", 52)),
		bearer(k.token[:len(k.token)-1] + "b"), bearer(k.token + "a"),
		bearer(strings.ToUpper(k.token)), bearer("x " + k.token), {
			"Authorization": {"Bearer " + k.token, "Bearer x"}},
		bearer("eyJhbGciOiJub25lIn0.eyJyb2xlIjoiYWRtaW4ifQ."), {"Cookie": {"Authorization=Bearer " +
			k.token}}, {"X-Api-Key": {k.token}},
		{"X-Forwarded-User": {"admin"}, "X-Forwarded-For": {"127.0.0.1"},
			"X-Real-Ip": {"127.0.0.1"}, "X-Original-Url": {"/healthz"}, "X-Rewrite-Url": {
				"/healthz"}, "Forwarded": {"for=127.0.0.1"}},
		{"Connection": {"Authorization"}, "Proxy-Authorization": {"Bearer " + k.token}},
	}
	for _, h := range headers {
		for _, op := range operations(mine)[:4] {
			op.header = h
			if status, _, body := k.send(t, op); status != http.StatusUnauthorized {
				t.Errorf("%s %s with %v: %d %.200s", op.method, op.path, h, status, body)
			}
		}
	}
	paths := []string{"/sandpool/tokens", "/", "/healthz/", "/healthz/x",
		"/healthz%2f..%2fsandpool%2ftokens", "/healthz/../sandpool/tokens", "//healthz",
		"/%68ealthz", "/debug/pprof/", "/metrics"}
	for _, op := range append(operations(mine), operations("missing")...) {
		paths = append(paths, op.path, op.path+"&access_token="+k.token)
	}
	for _, path := range paths {
		status, _, body := k.send(t, request{method: "GET", path: path})
		if status != http.StatusUnauthorized && status != http.StatusBadRequest &&
			strings.TrimSpace(body) != "ok" {
			t.Errorf("GET %s without a token: %d %.200s", path, status, body)
		}
	}
	// Refused as the token is, before anything waits for the body.
	conn := k.dial(t, time.Minute)
	fmt.Fprintf(conn,
		"POST %s/executions?identifier=slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
		endpoint(mine))
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil ||
		resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("an unauthenticated body that never comes: %v %v", resp, err)
	}
}

// scopedToken: a token of one pool learns nothing of another, not even that it exists.
func (k *target) scopedToken(t *testing.T) {
	for _, role := range auth.Roles() {
		made, err := k.CreateToken(t.Context(), api.TokenRequest{Name: "attacker",
			Role: string(role), Pool: k.PoolID(theirs).String()})
		if err != nil {
			t.Fatal(err)
		}
		denied := map[string]string{}
		for _, pool := range []string{mine, "missing"} {
			for i, op := range operations(pool) {
				op.header = bearer(made.Text)
				status, _, body := k.send(t, op)
				if status != http.StatusForbidden {
					t.Errorf("%s: %s %s: %d %.200s", role, op.method, op.path, status, body)
				}
				_, words, _ := strings.Cut(body, `"message"`)
				words, _, _ = strings.Cut(words, `"details"`)
				words = strings.ReplaceAll(words, "missing", mine)
				if key := fmt.Sprint(role, i); pool == mine {
					denied[key] = words
				} else if denied[key] != words {
					t.Errorf("%s %s: %s for a pool that exists, %s for one that does not",
						op.method, op.path, denied[key], words)
				}
			}
		}
		for _, spelling := range []string{"MINE", "%6dine", "mine%20", "mine.", "mine%00",
			"theirs%2f..%2fmine", "theirs/../mine", "theirs;/mine", "m%c4%b1ne", "mine%2f"} {
			status, _, body := k.send(t, request{"GET", endpoint(spelling) + "/listSessions",
				bearer(made.Text), nil})
			if status < 400 || status >= 500 {
				t.Errorf("%s: %s: %d %.200s", role, spelling, status, body)
			}
		}
		if status, _, body := k.send(t, request{"GET", "/sandpool/tokens", bearer(made.Text),
			nil}); status != http.StatusForbidden {
			t.Errorf("%s: tokens: %d %.200s", role, status, body)
		}
		c, err := client.New(client.Config{Endpoint: k.Endpoint(), Token: made.Text})
		if err != nil {
			t.Fatal(err)
		}
		pools, err := c.Pools(t.Context())
		switch {
		case role == auth.MonitoringReader: // which is no role of pools
			if sandpool.ClassOf(err) != sandpool.Denied || len(pools) > 0 {
				t.Errorf("%s sees the pools %v, %v", role, pools, err)
			}
		case err != nil || len(pools) != 1 || pools[0].Name != theirs:
			t.Errorf("%s sees the pools %v, %v", role, pools, err)
		}
		if err := k.RevokeToken(t.Context(), made.ID); err != nil {
			t.Error(err)
		}
		if _, err := c.Pools(t.Context()); sandpool.ClassOf(err) != sandpool.Unauthenticated {
			t.Errorf("%s: after it was revoked: %v", role, err)
		}
		c.CloseIdle()
	}
}

// identifiers: an identifier reaches its own session alone, in one pool, in one spelling.
func (k *target) identifiers(t *testing.T) {
	victim := k.session(t, "Victim")
	victim.prints(t, "secret = 'found'")
	other := session{k: k, pool: theirs, id: victim.id}
	if got := other.run(t, "'secret' in globals()"); string(got.Result.ExecutionResult) !=
		`"False"` && string(got.Result.ExecutionResult) != "false" {
		t.Errorf("the identifier in another pool: %s", got.Result.ExecutionResult)
	}
	if err := k.DeleteSession(t.Context(), theirs, victim.id); err != nil {
		t.Error(err)
	}
	id := victim.id
	ask := func(query, path string) (int, string) {
		status, _, body := k.send(t, request{"POST", endpoint(mine) + path + "/executions" + query,
			bearer(k.token), strings.NewReader(`{"code":"secret"}`)})
		return status, body
	}
	for _, guess := range []string{
		"?identifier=" + strings.ToUpper(id), "?identifier=" + strings.ToLower(id), "?identifier=" +
			id + "%00", "?identifier=" + id + "%20", "?identifier=" + id + ".",
		"?identifier=" + id + "%0a", "?identifier=" + id + "%2f", "?identifier=" + id +
			"%ef%bc%8d", "?identifier=" + strings.Replace(id, "V", "%ef%bc%b6", 1),
		"?identifier=" + strings.ReplaceAll(id, "-", "%252D"), "?identifier=" + id +
			"+", "?identifier=*", "?identifier=%25%25%25%25", "?identifier=____",
		"?identifier=x%27%20OR%201=1--", "?identifier=" + id + "&identifier=other-session",
		"?identifier=&identifier=" + id, "?identifier=other-one;identifier=" + id,
		"?identifier[]=" + id, "?x=1", "",
	} {
		if status, body := ask(guess, ""); strings.Contains(body, "found") {
			t.Errorf("%s reaches the session: %d %.200s", guess, status, body)
		}
	}
	if status, body := ask("?identifier=other-session", "/identifier/"+
		id); status != http.StatusBadRequest {
		t.Errorf("two identifiers in path and query: %d %.200s", status, body)
	}
	if status, body := ask("?identifier="+id, ""); status != 200 ||
		!strings.Contains(body, "found") {
		t.Errorf("the victim itself: %d %.200s", status, body)
	}
	list, err := k.Sessions(t.Context(), mine)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list { // those of the guesses that are identifiers of their own
		if strings.EqualFold(strings.TrimRight(s.Identifier, "./+"), id) && s.Identifier != id ||
			!strings.HasPrefix(s.Identifier, "TestEscape") &&
				!strings.HasPrefix(s.Identifier, "metadata-") {
			if err := k.DeleteSession(t.Context(), mine, s.Identifier); err != nil &&
				sandpool.ClassOf(err) != sandpool.NotFound {
				t.Errorf("delete %q: %v", s.Identifier, err)
			}
		}
	}
}

// dial opens a connection to the server that ends with the test or after d.
func (k *target) dial(t *testing.T, d time.Duration) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: time.Minute}).DialContext(t.Context(), "tcp", k.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// smuggling: a request that two readers could cut differently is refused whole, and
// what follows it on the connection is not answered.
func (k *target) smuggling(t *testing.T) {
	inner := "GET /sandpool/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + k.token +
		"\r\n\r\n"
	head := "POST " + endpoint(mine) + "/executions?identifier=smuggler HTTP/1.1\r\nHost: x\r\n"
	for name, text := range map[string]string{
		"two lengths":        head + "Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
		"a list of lengths":  head + "Content-Length: 0, 5\r\n\r\n",
		"a signed length":    head + "Content-Length: +0\r\n\r\n",
		"a negative length":  head + "Content-Length: -1\r\n\r\n",
		"two codings":        head + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
		"an odd coding":      head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"space before colon": head + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
		"folded header":      head + "X: 1\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"bare CR":            head + "X: 1\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"NUL":                head + "X: a\x00b\r\n\r\n",
		"two hosts":          "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"no host":            "GET /healthz HTTP/1.1\r\n\r\n",
		"huge header":        head + "X: " + strings.Repeat("a", 64<<10) + "\r\n\r\n",
		"many headers":       head + strings.Repeat("X: a\r\n", 20000) + "\r\n",
		"HTTP/2 preface":     "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"connect": "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: " +
			"169.254.169.254:80\r\n\r\n",
		"another's authority": "GET http://169.254.169.254/latest/ HTTP/1.1\r\nHost: " +
			"169.254.169.254\r\n\r\n",
	} {
		conn := k.dial(t, time.Minute)
		// the server may refuse before it has read all
		go func() { _, _ = io.WriteString(conn, text+inner) }()
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err == nil && resp.StatusCode < 400 {
			t.Errorf("%s: status %d", name, resp.StatusCode)
		}
		if err != nil || name == "connect" || name == "another's authority" || name == "two hosts" {
			continue // refused; what follows is a request of its own
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if rest, _ := io.ReadAll(r); strings.Contains(string(rest), "200 OK") {
			t.Errorf("%s: %d, and then %.100q", name, resp.StatusCode, rest)
		}
	}
}
