package endpoint_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/endpoint"
	"github.com/sandpool/sandpool/internal/proxy"
)

const (
	suffix = "pools.example.com"
	custom = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/sessionPools/web"
	code   = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/sessionPools/python"
	tooled = "/subscriptions/s/resourceGroups/default/sessionPools/tooled"
)

// world has the custom pools "web" and "tooled", whose one container answers with the request line
// it sees, and of which the second has tools of MCP, and a code pool "python", whose answers name
// the pool and the segments of the path; whatever is for no pool is answered with "rest" and the
// path.
type world struct {
	container string // its address
	ctx       context.Context
	acquired  []string
	released  int
}

func (w *world) Kind(_ context.Context, id sandpool.PoolID) (sandpool.ContainerType, error) {
	switch id.Name {
	case "web", "tooled":
		return sandpool.CustomContainer, nil
	case "python":
		return sandpool.PythonLTS, nil
	}
	return "", sandpool.Errorf(sandpool.NotFound, "", "", "no pool")
}

func (w *world) Pool(_ context.Context, id sandpool.PoolID) (sandpool.Pool, error) {
	return sandpool.Pool{ID: id, Spec: sandpool.Spec{Kind: sandpool.CustomContainer,
			MCP: sandpool.MCP{Enabled: id.Name == "tooled"}, Forwarding: sandpool.Forwarding{Port: 80}}},
		nil
}

func (w *world) Acquire(_ context.Context, id sandpool.PoolID,
	identifier sandpool.Identifier) (endpoint.Lease, error) {
	w.acquired = append(w.acquired, id.Name+"/"+string(identifier))
	return w, nil
}

func (w *world) Sandbox() sandpool.Sandbox { return sandpool.Sandbox{ID: "box"} }
func (w *world) Context() context.Context  { return w.ctx }
func (w *world) Claim() sandpool.Claim     { return sandpool.Claim{} }
func (w *world) Release()                  { w.released++ }
func (w *world) Dial(ctx context.Context, _ int) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", w.container)
}

// Serve implements endpoint.Code.
func (w *world) Serve(rw http.ResponseWriter, _ *http.Request, pool sandpool.PoolID,
	_ sandpool.ContainerType, segments []string) error {
	_, err := io.WriteString(rw, "code "+pool.Name+" "+strings.Join(segments, "|"))
	return err
}

// tools answers for the MCP endpoint.
type tools struct{}

func (tools) Serve(rw http.ResponseWriter, _ *http.Request, pool sandpool.PoolID) error {
	_, err := io.WriteString(rw, "mcp "+pool.Name)
	return err
}

// start serves w and returns the server's address.
func (w *world) start(t *testing.T) string {
	t.Helper()
	ctx, end := context.WithCancel(context.WithoutCancel(t.Context()))
	w.ctx = ctx
	inside := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, "container "+r.Method+" "+r.RequestURI)
	}))
	w.container = inside.Listener.Addr().String()
	rest := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, "rest "+r.URL.EscapedPath())
	})
	responder := &arm.Responder{Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	p := proxy.New(proxy.Options{})
	b, err := endpoint.NewBranch(w, responder, suffix, endpoint.Parts{Code: w, MCP: tools{},
		Custom: endpoint.NewCustom(w, p)})
	if err != nil {
		t.Fatal(err)
	}
	split := b.Split(b, responder.Normalise(rest))
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		grant := sandpool.Grant{Role: auth.Admin}
		if role := r.Header.Get("Test-Role"); role != "" {
			grant = sandpool.Grant{Role: sandpool.Role(role)}
		}
		principal := auth.Principal{Subject: "test", Grants: []sandpool.Grant{grant}}
		split.ServeHTTP(rw, r.WithContext(auth.WithPrincipal(r.Context(), principal)))
	}))
	t.Cleanup(func() {
		server.Close()
		p.Close()
		end()
		inside.Close()
	})
	return server.Listener.Addr().String()
}

// ask sends a request line as it is, and returns the answer's status and body.
func ask(t *testing.T, addr, host, line string, headers ...string) (int, string) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n", line, host,
		strings.Join(append(headers, ""), "\r\n"))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestBranch checks who gets a request, and that a container sees its path as it came.
func TestBranch(t *testing.T) {
	w := &world{}
	addr := w.start(t)
	const id = "?identifier=abcd"
	for _, tt := range []struct{ host, line, want string }{
		{"x", "GET " + custom + id, "container GET /" + id},
		{"x", "GET " + custom + "/" + id, "container GET /" + id},
		{"x", "GET " + custom + "/a//b/./../c;d=e/%2F%2e%41|\"" + id + "&x=1;2",
			"container GET /a//b/./../c;d=e/%2F%2e%41|\"" + id + "&x=1;2"},
		{"x", "GET " + custom + "//a" + id, "container GET //a" + id},
		{"x", "GET " + custom + "/../python/executions" + id,
			"container GET /../python/executions" + id},
		{"x", "DELETE " + custom + "/executions" + id, "container DELETE /executions" + id},
		{"x", "GET http://x" + custom + "/abs%20olute" + id, "container GET /abs%20olute" + id},
		{"x", "GET " + strings.ToUpper(custom[:14]) + "/" + custom[14:] + "/a" + id,
			"container GET /a" + id},
		{"x", "GET " + custom + "/.management/getSession" + id, "code web .management|getSession"},
		{"x", "GET " + custom + "/.Management//getSession" + id, "code web .Management|getSession"},
		{"x", "GET " + custom + "//.management/getSession" + id,
			"container GET //.management/getSession" + id},
		{"x", "POST " + custom + "/mcp" + id, "container POST /mcp" + id},
		{"x", "POST " + tooled + "/mcp", "mcp tooled"},
		{"x", "POST " + tooled + "/MCP/" + id, "mcp tooled"},
		{"x", "POST " + tooled + "/mcp/a" + id, "container POST /mcp/a" + id},
		{"tooled.default.s." + suffix, "POST /mcp", "mcp tooled"},
		{"x", "GET " + code + "//executions" + id, "code python executions"},
		{"x", "GET " + code + "/files//a%2Fb%41;c/" + id, "code python files|a/bA;c"},
		{"x", "GET " + strings.Replace(code, "python", "none", 1) + "/a" + id, "code none a"},
		{"x", "POST " + code + "/mcp", "mcp python"},
		{"x", "POST " + code + "//MCP/?x=1", "mcp python"},
		{"x", "POST " + code + "/mcp/files", "code python mcp|files"},
		{"x", "POST " + strings.Replace(code, "python", "none", 1) + "/mcp", "mcp none"},
		{"x", "POST " + custom + "/mcp" + id, "container POST /mcp" + id},
		{"python." + suffix, "POST /mcp", "mcp python"},
		{"x", "GET " + strings.Replace(custom, "/sessionPools",
			"/providers/Microsoft.App/sessionPools", 1), "rest " +
			strings.Replace(custom, "/sessionPools", "/providers/Microsoft.App/sessionPools", 1)},
		{"web." + suffix, "GET /" + id, "container GET /" + id},
		{"web." + suffix + ":443", "GET //a/..%2F;" + id, "container GET //a/..%2F;" + id},
		{"WEB." + suffix + ".", "GET " + code + id, "container GET " + code + id},
		{"web." + suffix, "GET /.management/listSessions", "code web .management|listSessions"},
		{"python." + suffix, "GET /executions" + id, "code python executions"},
		{"web.other.sub." + suffix, "GET /b" + id, "container GET /b" + id},
		{"web.o.t.sub." + suffix, "GET /b" + id, "container GET /b" + id},
		{"web.other." + suffix, "GET /c", "rest /c"},
		{suffix, "GET /c", "rest /c"},
	} {
		status, got := ask(t, addr, tt.host, tt.line)
		if status != 200 || got != tt.want {
			t.Errorf("%s at %s: %d %q, want %q", tt.line, tt.host, status, got, tt.want)
		}
	}
	if len(w.acquired) != w.released {
		t.Errorf("%d leases acquired, %d released", len(w.acquired), w.released)
	}
}

// TestTunnel checks that a tunnel leads to the container, and to nothing else that is not exposed.
func TestTunnel(t *testing.T) {
	w := &world{}
	addr := w.start(t)
	const tunnel = "GET " + custom + "/.management/tunnel?identifier=abcd"
	for line, want := range map[string]int{tunnel: 101, tunnel + "&port=81": 403, tunnel +
		"&port=80&port=81": 400} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(conn,
			"%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", line)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s: %v, %v; want %d", line, resp, err, want)
		}
	}
}

// TestNothingPassesUnchecked checks that no container sees a request without permission, without a
// session, with two of them, or that cannot be forwarded, and that no session begins by one.
func TestNothingPassesUnchecked(t *testing.T) {
	w := &world{}
	addr := w.start(t)
	for _, tt := range []struct {
		line, header string
		status       int
	}{
		{"GET " + custom + "/a?identifier=abcd", "Test-Role: pool-contributor", 403},
		{"GET " + custom + "/a", "X: y", 400},
		{"GET " + custom + "/a?identifier=abcd&identifier=abce", "X: y", 400},
		{"GET " + custom + "/a?identifier=abcd", "X-Ms-Session-Identifier: abce", 400},
		{"GET " + code + "/a/../b", "X: y", 400},
		{"CONNECT " + custom + "/a?identifier=abcd", "X: y", 405},
		{"GET " + custom + "/.management/tunnel?identifier=abcd", "X: y", 400},
		{"GET " + custom + "/.management/tunnel?identifier=abcd&port=81", "X: y", 403},
	} {
		if status, body := ask(t, addr, "x", tt.line, tt.header); status != tt.status {
			t.Errorf("%s with %q: %d %s, want %d", tt.line, tt.header, status, body, tt.status)
		}
	}
	const bad = "a;b" // which net/http lets through
	if status, body := ask(t, addr, bad, "GET "+custom+"/a?identifier=abcd"); status != 400 {
		t.Errorf("host %s: %d %s", bad, status, body)
	}
	if len(w.acquired) != 0 {
		t.Errorf("leases were acquired: %v", w.acquired)
	}
}

// TestKeys checks where a pool's own key counts: at an MCP endpoint of ours, and nowhere else.
func TestKeys(t *testing.T) {
	w := &world{}
	responder := &arm.Responder{Log: slog.New(slog.DiscardHandler)}
	b, err := endpoint.NewBranch(w, responder, suffix, endpoint.Parts{
		Code: w, MCP: tools{}, Custom: endpoint.NewCustom(w, nil)})
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"http://x" + code + "/mcp": "python", "http://python." + suffix + "/mcp": "python",
		"http://x" + code + "/executions": "", "http://x" + code: "", "http://x" + custom +
			"/mcp": "",
		"http://x" + tooled + "/mcp": "tooled", "http://x" + tooled + "/mcp/a": "",
		"http://web." + suffix + "/mcp": "", "http://x/mcp": "", "http://x" + code +
			"/mcp/..%2Fexecutions": "",
	} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", url, nil)
		r.RequestURI = r.URL.RequestURI()
		ask := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if id, ok := b.Keys(r); id.Name != want || ok != (want != "") {
				t.Errorf("%s: %v, %v; want %q", url, id, ok, want)
			}
		})
		b.Split(ask, ask).ServeHTTP(httptest.NewRecorder(), r)
	}
}

// TestURL checks that the endpoint of a pool leads back to it.
func TestURL(t *testing.T) {
	own := sandpool.PoolID{Subscription: sandpool.DefaultSubscription,
		ResourceGroup: sandpool.DefaultResourceGroup, Name: "web"}
	for _, tt := range []struct {
		id   sandpool.PoolID
		base string
		want string
	}{
		{own, "https://x", "https://web." + suffix},
		{own, "http://127.0.0.1:8720", "http://web." + suffix + ":8720"},
		{sandpool.PoolID{Subscription: "s", ResourceGroup: "a.b", Name: "web"}, "https://x",
			"https://web.a.b.s." + suffix},
		{sandpool.PoolID{Subscription: "s", ResourceGroup: "a_b", Name: "web"}, "https://x",
			"https://x/subscriptions/s/resourceGroups/a_b/sessionPools/web"},
	} {
		got := endpoint.URL(tt.base, tt.id, "local", suffix)
		if got != tt.want {
			t.Errorf("%v: %q, want %q", tt.id, got, tt.want)
		}
		r := httptest.NewRequestWithContext(t.Context(), "GET", got+"/a", nil)
		r.RequestURI = r.URL.RequestURI()
		if target, found := endpoint.Find(r, suffix); !found || target.Pool != tt.id ||
			target.Path != "/a" {
			t.Errorf("%q leads to %v (%v)", got, target, found)
		}
	}
}

// FuzzFind checks that prefix and path are together what came, and that a pool is found in
// every path that is one when it has been given one spelling.
func FuzzFind(f *testing.F) {
	f.Add(custom + "/a//b/%2e%2e?x=1;2")
	f.Add("//subscriptions/%73/resourceGroups//g/sessionpools/p%")
	f.Add("/subscriptions/s/resourceGroups/../sessionPools/p")
	responder := &arm.Responder{Log: slog.New(slog.DiscardHandler)}
	f.Fuzz(func(t *testing.T, uri string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + uri +
			" HTTP/1.1\r\nHost: x\r\n\r\n")))
		if err != nil {
			return
		}
		target, found := endpoint.Find(r, suffix)
		path, _, _ := strings.Cut(r.RequestURI, "?")
		if found && !strings.HasSuffix(path, target.Prefix+target.Path) {
			t.Errorf("%q: %q and %q", uri, target.Prefix, target.Path)
		}
		mux := http.NewServeMux()
		seen := sandpool.PoolID{}
		note := func(_ http.ResponseWriter, r *http.Request) { seen, _ = arm.ParsePoolID(r) }
		mux.HandleFunc(arm.EndpointPath, note)
		mux.HandleFunc(arm.EndpointPath+"/{rest...}", note)
		responder.Normalise(mux).ServeHTTP(httptest.NewRecorder(), r)
		if seen != (sandpool.PoolID{}) && (!found || seen != target.Pool) {
			t.Errorf("%q: the mux finds %v, Find %v (%v)", uri, seen, target.Pool, found)
		}
	})
}
