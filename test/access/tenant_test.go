package access_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/oidc"
	"github.com/sandpool/sandpool/internal/server"
	"github.com/sandpool/sandpool/test/real"
)

const (
	mine = tenant + "a"
	// theirs is somebody else's session, and noOnes one that there is not. Both have the same
	// length.
	theirs = "tenant-8-qqqq"
	noOnes = "tenant-9-qqqq"
	// mark is in everything that somebody else's session has.
	mark = "marked4711"
)

// houses is a server with a real session of a tenant and one of somebody else.
type houses struct {
	*world
	pool sandpool.PoolID
	// tokens are the tenant's, of every kind.
	tokens map[string]string
}

func newHouses(t *testing.T, changes ...func(*server.Config)) *houses {
	t.Helper()
	w := &world{T: t, client: &http.Client{Timeout: time.Minute}, foreign: newForeign(t),
		keys: map[string]string{}}
	t.Cleanup(w.client.CloseIdleConnections)
	h := &houses{world: w, pool: sandpool.PoolID{Subscription: sandpool.DefaultSubscription,
		ResourceGroup: sandpool.DefaultResourceGroup, Name: "python"}}
	scope := h.pool.Scope().Session(tenant)
	scope.Prefix = true
	w.srv = real.Start(t, func(c *server.Config) {
		c.Issuers = []oidc.Settings{{Issuer: w.foreign.url,
			Audiences: []string{"https://dynamicsessions.io"}, Rules: []oidc.Rule{{
				Role: string(auth.SessionExecutor), Scope: scope.String(),
				Claims: map[string]string{"case": "session-executor B"}}}}}
		for _, change := range changes {
			change(c)
		}
	})
	w.operation = "none"
	ready, most := 2, 10
	if _, err := w.srv.Client.PutPool(t.Context(), h.pool.Name, api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{ContainerType: string(sandpool.PythonLTS),
			ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
				ReadySessionInstances: &ready}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.srv.Client.WaitReady(t.Context(), h.pool.Name, nil); err != nil {
		t.Fatal(err)
	}
	h.tokens = w.hold(auth.SessionExecutor, "B", []sandpool.Grant{{Role: auth.SessionExecutor,
		Scope: scope}}).tokens
	h.furnish(mine, "own4711")
	h.furnish(theirs, mark)
	return h
}

// furnish gives a session files, output, a context and a process with a mark in each.
func (h *houses) furnish(identifier, mark string) {
	h.Helper()
	if _, err := h.srv.Client.Execute(h.Context(), h.pool.Name, identifier, client.Run{
		Code: fmt.Sprintf("import subprocess\nopen('/mnt/data/%[1]s.txt', 'w').write('%[1]s')\n"+
			"print('%[1]s', flush=True)\nprocess = subprocess.Popen(['sleep', '600'], "+
			"env={'%[1]s': '1'})", mark)}); err != nil {
		h.Fatal(err)
	}
	endpoint := h.at("/processes", identifier)
	status, text := h.ask(h.srv.AdminToken(), "POST", endpoint, fmt.Sprintf(
		`{"command":["sh","-c","echo %[1]s; exec sleep 600"],"name":"%[1]s"}`, mark))
	if status >= 300 {
		h.Fatalf("POST %s: %d %s", endpoint, status, text)
	}
	endpoint = h.at("/contexts/"+mark, identifier)
	if status, text := h.ask(h.srv.AdminToken(), "PUT", endpoint, "{}"); status >= 300 {
		h.Fatalf("PUT %s: %d %s", endpoint, status, text)
	}
}

// at is the address of an operation on a session.
func (h *houses) at(path, identifier string) string {
	return strings.Replace(h.pool.String(), "/providers/Microsoft.App", "", 1) + path +
		"?identifier=" + url.QueryEscape(identifier)
}

// hides fails the test if an answer has something of somebody else's session in it. asked is what
// the request said itself.
func (h *houses) hides(what, answer, asked string) {
	h.Helper()
	// Identifiers of the tenant's may have somebody else's in them, as some of smuggle's have.
	answer = ownIdentifier.ReplaceAllString(answer, "OWN")
	for _, secret := range []string{mark, "tenant-8"} {
		if strings.Contains(answer, secret) && !strings.Contains(asked, secret) {
			h.Errorf("%s shows %q:\n%.600s", what, secret, answer)
		}
	}
}

var ownIdentifier = regexp.MustCompile(tenant + `[^"<]*`)

// varying is what differs from answer to answer, whatever was asked.
var varying = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9a-f]{32}\b`)

// same makes answers comparable that are about different identifiers.
func same(status int, text, identifier string) string {
	return fmt.Sprint(status, " ", strings.ReplaceAll(varying.ReplaceAllString(text, "ID"),
		identifier, "IDENTIFIER"))
}

// TestTenant: somebody with a token for the identifiers of one tenant, of whatever kind, tries
// everything. Their own sessions are theirs, and of others nothing shows, not even that they exist.
func TestTenant(t *testing.T) {
	h := newHouses(t)
	for kind, token := range h.tokens {
		t.Run(kind, func(t *testing.T) {
			in := *h.world
			in.T = t
			h := &houses{world: &in, pool: h.pool, tokens: h.tokens}
			h.others(token)
			h.lists(token)
			h.smuggle(token)
			h.management(token)
			h.agents(token)
		})
	}
	t.Run("pages", func(t *testing.T) { h.pages(h.tokens["of the server"]) })
	// The last, because it ends the session. Every operation is open on the tenant's own.
	token := h.tokens["of the server"]
	all := dataRoutes(t)
	slices.SortStableFunc(all, func(a, b operation) int { return ends(a) - ends(b) })
	for _, o := range all {
		if o.path == "/metadata" || strings.HasSuffix(o.path, "listSessions") {
			continue // which are about the pool
		}
		path := strings.ReplaceAll(o.path, "*", "own4711")
		status := h.opens(token, o.method, h.at(path, mine))
		if status == http.StatusForbidden || status == http.StatusUnauthorized {
			t.Errorf("%s on the tenant's own session: %d", o, status)
		}
	}
	// And the other session has noticed nothing.
	got, err := h.srv.Client.Execute(t.Context(), h.pool.Name, theirs, client.Run{
		Code: "print(process.poll(), open('/mnt/data/" + mark + ".txt').read())"})
	if err != nil || strings.TrimSpace(got.Result.Stdout) != "None "+mark {
		t.Errorf("the other session says %q, %v", got.Result.Stdout, err)
	}
}

// opens sends a request and returns the status of the answer, which may be a stream.
func (h *houses) opens(token, method, target string) int {
	h.Helper()
	r, err := http.NewRequestWithContext(h.Context(), method, h.srv.URL()+target, nil)
	if err != nil {
		h.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := h.client.Do(r)
	if err != nil {
		h.Fatalf("%s %s: %v", method, target, err)
	}
	_ = resp.Body.Close() // its status counts
	return resp.StatusCode
}

// ends tells operations that end a session, which come last.
func ends(o operation) int {
	if o == (operation{"DELETE", "/session", data}) || strings.HasSuffix(o.path, "stopSession") {
		return 1
	}
	return 0
}

// others asks for every operation on somebody else's session, and on one that there is not.
func (h *houses) others(token string) {
	h.Helper()
	for _, o := range dataRoutes(h.T) {
		if o.path == "/metadata" || strings.HasSuffix(o.path, "istSessions") {
			continue
		}
		path := strings.ReplaceAll(o.path, "*", mark)
		answers := map[string]string{}
		for _, identifier := range []string{theirs, noOnes} {
			status, text := h.ask(token, o.method, h.at(path, identifier), `{"code":"1","files":[]}`,
				"Upgrade", "websocket", "Connection", "Upgrade", "Accept", "text/event-stream")
			if status != http.StatusForbidden {
				h.Errorf("%s on %s: %d %s", o, identifier, status, text)
			}
			h.hides(o.String(), text, "")
			answers[identifier] = same(status, text, identifier)
		}
		if answers[theirs] != answers[noOnes] {
			h.Errorf("%s tells whether there is a session:\n%s\n%s", o, answers[theirs],
				answers[noOnes])
		}
	}
}

// lists asks for every list without an identifier.
func (h *houses) lists(token string) {
	h.Helper()
	for _, o := range dataRoutes(h.T) {
		target, _, _ := strings.Cut(h.at(strings.ReplaceAll(o.path, "*", mark), ""), "?")
		_, text := h.ask(token, o.method, target, "")
		h.hides(o.String()+" without an identifier", text, "")
		if strings.HasSuffix(o.path, "istSessions") && !strings.Contains(text, mine) {
			h.Errorf("%s does not list the tenant's own session: %s", o, text)
		}
	}
}

// smuggle names somebody else's session in ways that two readers of a request may read differently.
func (h *houses) smuggle(token string) {
	h.Helper()
	base, _, _ := strings.Cut(h.at("", ""), "?")
	file := "/files/" + mark + ".txt/content"
	for _, target := range []string{
		base + file + "?identifier=" + mine + "&identifier=" + theirs,
		base + file + "?identifier=" + theirs + "&identifier=" + mine,
		base + file + "?identifier=" + mine + "&Identifier=" + theirs,
		base + file + "?identifier=" + mine + "&%69dentifier=" + theirs,
		base + file + "?identifier=" + mine + ";identifier=" + theirs,
		base + file + "?identifier=" + mine + "%00" + theirs,
		base + file + "?identifier=" + mine + "%26identifier=" + theirs,
		base + "/identifier/" + theirs + file,
		base + "/identifier/" + theirs + file + "?identifier=" + mine,
		base + "/identifier/" + mine + file + "?identifier=" + theirs,
		base + "/identifier/" + mine + "%2F..%2F" + theirs + file,
		base + "/identifier/" + mine + "/../" + theirs + file,
		base + "/files/..%2F..%2F" + theirs + "%2F" + mark + ".txt/content?identifier=" + mine,
		base + "X/../python" + file + "?identifier=" + theirs,
		strings.ToUpper(base) + file + "?identifier=" + theirs,
		base + "//" + file + "?identifier=" + theirs,
		base + file + "?identifier=" + strings.ToUpper(theirs),
	} {
		for _, header := range [][]string{nil, {"Identifier", theirs}, {"X-Ms-Identifier", theirs}} {
			status, text := h.ask(token, "GET", target, "", header...)
			if status < 300 {
				h.Errorf("GET %s: %d %s", target, status, text)
			}
			if strings.Contains(text, mark) && !strings.Contains(text, mark+".txt") {
				h.Errorf("GET %s shows the file: %s", target, text)
			}
		}
	}
	body := `{"identifier":"` + theirs + `","code":"print(open('/mnt/data/` + mark + `.txt').read())",` +
		`"properties":{"identifier":"` + theirs + `","codeInputType":"inline",` +
		`"executionType":"synchronous","code":"print(list(__import__('os').environ), ` +
		`__import__('os').listdir('/mnt/data'))"}}`
	for _, path := range []string{"/executions", "/code/execute", "/execute", "/python/execute"} {
		_, text := h.ask(token, "POST", h.at(path, mine), body)
		if strings.Contains(text, mark+`"`) || strings.Contains(text, mark+`\n`) {
			h.Errorf("POST %s runs in the session that its body names: %s", path, text)
		}
	}
}

// management asks for everything that looks at the control plane.
func (h *houses) management(token string) {
	h.Helper()
	for _, o := range operations(h.T) {
		if o.plane != management || o.method != "GET" && o.method != "HEAD" {
			continue
		}
		target := strings.NewReplacer("{subscription}", h.pool.Subscription, "{resourceGroup}",
			h.pool.ResourceGroup, "{pool}", h.pool.Name, "{provider}", "Microsoft.App", "{location}",
			"local").Replace(o.path)
		target = regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(target, "none")
		_, text := h.ask(token, o.method, target+"?api-version=2024-11-01", "")
		h.hides(o.String(), text, "")
	}
}

// agents tries the tools of the MCP endpoint.
func (h *houses) agents(token string) {
	h.Helper()
	target, _, _ := strings.Cut(h.at("/mcp", ""), "?")
	ask := func(method string, params any) string {
		h.Helper()
		body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method,
			"params": params})
		if err != nil {
			h.Fatal(err)
		}
		_, text := h.ask(token, "POST", target, string(body),
			"Accept", "application/json, text/event-stream")
		return text
	}
	var tools struct {
		Result struct {
			Tools []struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(ask("tools/list", struct{}{})), &tools); err != nil ||
		len(tools.Result.Tools) < 3 {
		h.Fatalf("the tools are %+v, %v", tools, err)
	}
	for _, tool := range tools.Result.Tools {
		answers := map[string]string{}
		for _, identifier := range []string{theirs, noOnes} {
			text := ask("tools/call", map[string]any{"name": tool.Name, "arguments": map[string]any{
				"environmentId": identifier, "path": mark + ".txt", "code": "open('/mnt/data/" +
					mark + ".txt').read()"}})
			h.hides("the tool "+tool.Name, strings.ReplaceAll(text, mark+".txt", ""), identifier)
			answers[identifier] = same(0, text, identifier)
		}
		if answers[theirs] != answers[noOnes] {
			h.Errorf("the tool %s tells whether there is a session:\n%s\n%s", tool.Name,
				answers[theirs], answers[noOnes])
		}
	}
	for _, method := range []string{"resources/list", "resources/templates/list", "prompts/list"} {
		h.hides(method, ask(method, struct{}{}), "")
	}
	answers := map[string]string{}
	for _, identifier := range []string{theirs, noOnes} {
		text := ask("resources/read", map[string]any{"uri": "sandpool://environments/" + identifier +
			"/files/" + mark + ".txt"})
		answers[identifier] = same(0, text, identifier)
		if strings.Contains(strings.ReplaceAll(text, mark+".txt", ""), mark) {
			h.Errorf("resources/read shows the file: %s", text)
		}
	}
	if answers[theirs] != answers[noOnes] {
		h.Errorf("resources/read tells whether there is a session:\n%s\n%s", answers[theirs],
			answers[noOnes])
	}
}

// pages looks through the dashboard.
func (h *houses) pages(token string) {
	h.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		h.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: time.Minute}
	h.Cleanup(browser.CloseIdleConnections)
	resp, err := browser.PostForm(h.srv.URL()+"/ui/sign-in", url.Values{"token": {token}})
	if err != nil {
		h.Fatal(err)
	}
	_ = resp.Body.Close() // what counts is the cookie
	endpoint := strings.Replace(h.pool.String(), "/providers/Microsoft.App", "", 1)
	for _, path := range []string{"/ui/", "/ui/pools/python", "/ui/pools/python/play", "/ui/access",
		"/ui/audit", "/ui/audit.csv", "/ui/usage", "/ui/usage.csv?records=1", "/ui/system",
		"/ui/pools/python/sessions/" + theirs,
		"/ui/api" + h.at("/files", theirs), "/ui/api" + endpoint + "/listSessions",
		"/ui/api" + h.pool.String() + "/events", "/ui/api" + h.pool.String() + "/status"} {
		resp, err := browser.Get(h.srv.URL() + path)
		if err != nil {
			h.Fatal(err)
		}
		text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			h.Fatal(err)
		}
		if resp.StatusCode == http.StatusUnauthorized {
			h.Errorf("%s: the tenant is not signed in", path)
		}
		h.hides(path, string(text), path)
	}
}
