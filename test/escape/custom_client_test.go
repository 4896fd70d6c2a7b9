package escape_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
)

// forwarded are requests of every kind to a pool of containers, in several spellings.
func forwarded(pool, id string) []request {
	var all []request
	for _, op := range []string{"GET /", "POST /run", "PUT //a//../b", "OPTIONS /*", "PROPFIND /x",
		"GET /.management/tunnel", "GET /.MANAGEMENT/tunnel",
		"POST /.management/stopSession", "GET /%2emanagement/listSessions", "GET /.management/logs",
		"GET /x/../.management/listSessions", "TRACE /"} {
		method, path, _ := strings.Cut(op, " ")
		all = append(all, request{method: method, path: endpoint(pool) + path + "?identifier=" +
			id})
	}
	return all
}

// customNoToken: no container sees a request without a valid token.
func (k *target) customNoToken(t *testing.T) {
	b := k.box(t, "box")
	b.seen(t)
	for _, h := range []http.Header{nil, {"Authorization": {"Bearer "}},
		{"Authorization": {"Bearer " + k.token + "x"}}, {"Authorization": {"Bearer x", "Bearer " +
			k.token}},
		{"Cookie": {"sandpool-session=" + b.id}}, {"X-Ms-Session-Identifier": {b.id}}, {
			"Proxy-Authorization": {"Bearer " + k.token}},
		{"Connection": {"Authorization"}, "X-Forwarded-For": {"127.0.0.1"},
			"X-Original-Url": {"/healthz"}}} {
		for _, op := range forwarded(mine, b.id) {
			op.header = h
			if status, _, body := k.send(t, op); status != http.StatusUnauthorized {
				t.Errorf("%s %s with %v: %d %.200s", op.method, op.path, h, status, body)
			}
		}
	}
	if seen := b.seen(t); strings.Count(seen, "HTTP/1.1\r\n") != 2 {
		t.Errorf("the container has seen:\n%s", seen)
	}
}

// customScoped: a token of one pool, or of some sessions, reaches no other container, however it
// names the session.
func (k *target) customScoped(t *testing.T) {
	victim := k.box(t, "victim")
	victim.seen(t)
	for name, grant := range map[string]api.TokenRequest{
		"of another pool": {Name: "pool", Role: string(auth.SessionExecutor),
			Pool: k.PoolID(theirs).String()},
		"of one session": {Name: "one", Role: string(auth.SessionExecutor),
			Scope: k.PoolID(mine).String() + "/identifiers/another-one"},
		"of a family": {Name: "family", Role: string(auth.SessionExecutor),
			Scope: k.PoolID(mine).String() + "/identifiers/family-*"},
		"of another pool's id": {Name: "other", Role: string(auth.SessionExecutor),
			Scope: k.PoolID(theirs).String() + "/identifiers/" + victim.id},
	} {
		made, err := k.CreateToken(t.Context(), grant)
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range forwarded(mine, victim.id) {
			op.header = bearer(made.Text)
			status, _, body := k.send(t, op)
			lists := strings.Contains(op.path, "/%2emanagement/listSessions") && status == 200
			if status != http.StatusForbidden &&
				(!lists || !strings.HasPrefix(body, `{"value":[],`)) {
				t.Errorf("%s: %s %s: %d %.200s", name, op.method, op.path, status, body)
			}
		}
		for _, query := range []string{"", "?identifier=family-a", "?identifier=another-one",
			"?identifier=family-a&identifier=" + victim.id, "?identifier=family-a%00" + victim.id} {
			for _, h := range []http.Header{{"X-Ms-Session-Identifier": {victim.id}},
				{"X_ms_session_identifier": {victim.id}}, {"X-Ms-Session-Identifier": {"family-a",
					victim.id}},
				{"Cookie": {"sandpool-session=" + victim.id}}, {
					"Connection": {"X-Ms-Session-Identifier"}, "X-Ms-Session-Identifier": {
						victim.id}}} {
				h["Authorization"] = []string{"Bearer " + made.Text}
				// it may begin its own session
				k.send(t, request{"GET", endpoint(mine) + "/scoped" + query, h, nil})
			}
		}
		if err := k.RevokeToken(t.Context(), made.ID); err != nil {
			t.Error(err)
		}
	}
	if seen := victim.seen(t); strings.Contains(seen, "/scoped") ||
		strings.Count(seen, "HTTP/1.1\r\n") != 2 {
		t.Errorf("the container has seen:\n%s", seen)
	}
	for _, id := range []string{"family-a", "another-one"} {
		if err := k.DeleteSession(t.Context(), mine, id); err != nil &&
			sandpool.ClassOf(err) != sandpool.NotFound {
			t.Error(err)
		}
	}
}

// customIdentifiers: an identifier reaches its own container alone, in one pool, in one spelling.
func (k *target) customIdentifiers(t *testing.T) {
	victim := k.box(t, "Victim")
	victim.seen(t)
	id := victim.id
	guesses := []string{strings.ToUpper(id), strings.ToLower(id), id + "%00", id + "%20", id + ".",
		id + "%0a", id + "%2f", id + "%ef%bc%8d",
		strings.Replace(id, "V", "%ef%bc%b6", 1), id + "+", "*", "../" + id, "", id +
			"&identifier=other-one", "&identifier=" + id + "&identifier=x"}
	made := map[string]bool{}
	for _, guess := range guesses {
		k.send(t, request{"GET", endpoint(mine) + "/guess?identifier=" + guess, bearer(k.token),
			nil})
	}
	for _, pool := range []string{theirs, "missing", mine + "%2f..%2f" + mine,
		strings.ToUpper(theirs), mine + ".", mine + "%00"} {
		k.send(t, request{"GET", endpoint(pool) + "/guess?identifier=" + id, bearer(k.token), nil})
	}
	if seen := victim.seen(t); strings.Contains(seen, "/guess") {
		t.Errorf("the container has seen:\n%s", seen)
	}
	for _, pool := range []string{mine, theirs} {
		list, err := k.Sessions(t.Context(), pool)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			if s.Identifier != id && strings.Contains(strings.ToLower(s.Identifier),
				strings.ToLower(id)) || s.Identifier == id && pool == theirs {
				made[s.Identifier] = true
				if err := k.DeleteSession(t.Context(), pool, s.Identifier); err != nil {
					t.Errorf("delete %q: %v", s.Identifier, err)
				}
			}
		}
	}
	if len(made) < 2 { // the same name in another pool, and another case, are names of their own
		t.Errorf("the guesses made the sessions %v", made)
	}
}

// customRoutes: no header moves a request to another pool, path, method or host.
func (k *target) customRoutes(t *testing.T) {
	b := k.box(t, "box")
	for _, name := range []string{"X-Original-Url", "X-Rewrite-Url", "X-Forwarded-Path",
		"X-Forwarded-Prefix", "X-Forwarded-Host", "X-Forwarded-Uri", "X-Host",
		"X-Http-Method-Override", "X-Method-Override", "X-Original-Host", "X-Envoy-Original-Path",
		"X-Accel-Redirect", "Content-Location", "Destination", "Referer", "Forwarded",
		"X-Real-Ip"} {
		for _, value := range []string{endpoint(theirs) + "/moved", "/.management/stopSession",
			"/sandpool/tokens", "DELETE", "theirs", "http://169.254.169.254/latest"} {
			h := bearer(k.token)
			h[name] = []string{value}
			if status, _, body := k.send(t, request{"GET", b.at("/route"), h, nil}); status !=
				200 || body != "/route 0" {
				t.Errorf("%s: %s: %d %.100q", name, value, status, body)
			}
		}
	}
	seen := b.seen(t)
	for _, bad := range []string{"X-Original-", "X-Rewrite-Url", "X-Real-Ip", "X-Forwarded-Path",
		"X-Forwarded-Uri", "Forwarded: /", "Forwarded: http", "X-Forwarded-Host: /",
		"X-Forwarded-Prefix: /sandpool"} {
		if strings.Contains(seen, bad) {
			t.Errorf("the container is told %s", bad)
		}
	}
}

// customAuthorization: no spelling of a header carries the caller's key, or ours, into a container.
func (k *target) customAuthorization(t *testing.T) {
	b := k.box(t, "box")
	for _, h := range []http.Header{
		{"Authorization": {"Bearer " + k.token}, "Proxy-Authorization": {"Bearer " + k.token},
			"X-Ms-Apikey": {k.token}},
		{"authorization": {"bearer " + k.token}, "X_ms_apikey": {k.token},
			"X-Sandpool-Token": {k.token}},
		{"Authorization": {"Bearer " + k.token}, "Proxy_Authorization": {k.token},
			"X_sandpool_token": {k.token}},
		{"Authorization": {"Bearer " + k.token}, "Connection": {"close, Authorization",
			"keep-alive"}},
		{"Authorization": {"Bearer " + k.token}, "Te": {"trailers"}, "Trailer": {"Authorization"}},
	} {
		if status, _, body := k.send(t, request{"GET", b.at("/key"), h, nil}); status != 200 {
			t.Errorf("%v: %d %s", h, status, body)
		}
	}
	conn := k.dial(t, time.Minute)
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
		"Transfer-Encoding: chunked\r\nTrailer: Authorization, X-Ok\r\n\r\n1\r\na\r\n0\r\n"+
		"Authorization: Bearer %s\r\nX-Ok: 1\r\n\r\n", b.at("/key"), k.token, k.token)
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
		t.Errorf("a trailer: %v", err)
	} else {
		resp.Body.Close()
	}
	if seen := b.seen(t); strings.Contains(seen, k.token) {
		t.Errorf("the container has the token:\n%s", seen)
	} else if !strings.Contains(seen, "/key") {
		t.Error("the container has seen nothing")
	}
}

// customSmuggling: no request hides in another on its way into a container.
func (k *target) customSmuggling(t *testing.T) {
	b := k.box(t, "box")
	b.seen(t)
	inner := "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	head := "POST " + b.at("/outer") + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + k.token +
		"\r\n"
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(inner), inner)
	for name, text := range map[string]string{
		"length and chunks": head + fmt.Sprintf(
			"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", len(inner)+5),
		"chunks and length": head + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" +
			chunk,
		"two lengths": head + fmt.Sprintf(
			"Content-Length: 0\r\nContent-Length: %d\r\n\r\n", len(inner)),
		"length with a space": head + fmt.Sprintf("Content-Length : %d\r\n\r\n", len(inner)),
		"odd coding":          head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"coding with a tab":   head + "Transfer-Encoding:\tchunked\r\n\r\n" + chunk,
		"coding twice": head +
			"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"vertical tab": head + "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n",
		"folded":       head + "X: 1\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"nominated length": head + fmt.Sprintf(
			"Connection: Content-Length\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner),
		"a body of a GET": strings.Replace(head, "POST", "GET", 1) +
			fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(inner), inner),
		"bare LF in a chunk": head + "Transfer-Encoding: chunked\r\n\r\n0\n\n",
		"chunk extension": head + "Transfer-Encoding: chunked\r\n\r\n1;x=\n" + inner +
			"\r\na\r\n0\r\n\r\n",
		"negative chunk": head + "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
		"huge chunk":     head + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
		"upgrade with a body": head + fmt.Sprintf(
			"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: %d\r\n\r\n%s", len(inner),
			inner),
		"h2c": head + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" +
			"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nContent-Length: 0\r\n\r\n",
		"a line in the path": strings.Replace(head, "/outer", "/outer%0d%0aX:1", 1) +
			"Content-Length: 0\r\n\r\n",
		"expectation, refused": head + fmt.Sprintf(
			"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner),
	} {
		conn := k.dial(t, 30*time.Second)
		// what follows is a request without a token
		go func() { _, _ = io.WriteString(conn, text+inner) }()
		r := bufio.NewReader(conn)
		// whatever comes, until the server answers that the inner one lacks a token, or closes
		for {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				break
			}
			body, _ := io.ReadAll(resp.Body)
			if strings.HasPrefix(string(body), "/smuggled") {
				t.Errorf("%s: the inner request is answered: %q", name, body)
			}
			if resp.StatusCode == http.StatusUnauthorized || resp.Close {
				break
			}
		}
		_ = conn.Close()
	}
	if seen := b.seen(t); strings.Contains(seen, "GET /smuggled") {
		t.Errorf("the container has seen:\n%s", seen)
	}
}

// slowCallers is how many there are: a container of testdata/hostile.py has a thread for each, and
// may have a hundred.
const slowCallers = 80

// customSlow: callers that take or give nothing hold little of the server, and keep nobody from
// being served; they end with their session.
func (k *target) customSlow(t *testing.T) {
	s := k.box(t, "box")
	s.seen(t)
	head := "Host: x\r\nAuthorization: Bearer " + k.token + "\r\n"
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var conns []net.Conn
	for i := range slowCallers {
		conn := k.dial(t, 3*time.Minute)
		switch i % 5 {
		case 0:
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\n%s\r\n", s.at("/endless"), head)
		case 1:
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\n%sConnection: Upgrade\r\nUpgrade: websocket\r\n"+
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
				s.at("/flood"), head)
		case 2:
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\n%sContent-Length: 1000000000\r\n\r\nhello",
				s.at("/upload"), head)
		case 3:
			fmt.Fprintf(conn,
				"GET %s&port=8080 HTTP/1.1\r\n%sConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
				s.at("/.management/tunnel"), head)
		case 4:
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\n%s", s.at("/head"), head)
		}
		conns = append(conns, conn)
		if i%5 != 2 && i%5 != 4 { // its answer begins
			if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 200"))); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
	}
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for strings.Count(s.seen(t), "POST /upload") < slowCallers/5 {
		<-look.C
	}
	for range 3 {
		refused(t, s.verdicts(t, "try_('alive', lambda: 1 / 0)"))
		refused(t, k.box(t, "other").verdicts(t, "try_('alive', lambda: 1 / 0)"))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	// 128 KiB each way, at most; other attacks run beside this one.
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 64<<20 {
		t.Errorf("%d slow callers take %d MiB of the server", slowCallers, grown>>20)
	}
	if err := k.DeleteSession(t.Context(), mine, s.id); err != nil {
		t.Fatal(err)
	}
	for i, conn := range conns {
		if i%5 == 4 {
			continue // which has not asked for anything yet
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %d outlives its session", i)
		}
	}
}

// customTunnels: a tunnel leads to the ports that the pool exposes and nowhere else, and its number
// is bounded.
func (k *target) customTunnels(t *testing.T) {
	b := k.box(t, "box")
	b.verdicts(t, "srv = socket.socket(); srv.bind(('0.0.0.0', 9999)); srv.listen()")
	for _, port := range []string{"9999", "22", "0", "-1", "65536", "8080.0", "0x1f90", "+8080",
		"08080 ", "8080,9999", "127.0.0.1:9999", "169.254.169.254:80", "http", "8080%00", "%00"} {
		for _, upgrade := range []string{"tcp", "websocket"} {
			h := bearer(k.token)
			h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{upgrade}
			h["Sec-Websocket-Version"], h["Sec-Websocket-Key"] = []string{"13"}, []string{
				"AAAAAAAAAAAAAAAAAAAAAA=="}
			if status, _, body := k.send(t, request{"GET", b.at("/.management/tunnel") + "&port=" +
				strings.ReplaceAll(port, " ", "%20"), h, nil}); status < 400 || status >= 500 {
				t.Errorf("port %s: %d %.100s", port, status, body)
			}
		}
	}
}
