package gateway

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	door "github.com/sandpool/sandpool/internal/endpoint"
	"github.com/sandpool/sandpool/internal/interpreter"
	"github.com/sandpool/sandpool/internal/openapi/openapitest"
)

// described holds the answers of all tests to the description.
var described = openapitest.New("Sessions", "Inside a session")

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { os.Exit(described.End(code)) }))
}

// operation returns the described operation that r is for.
func (w *world) operation(r *http.Request) string {
	segments, err := arm.Segments(r.URL.EscapedPath())
	below := strings.Count(endpoint, "/")
	if err != nil || len(segments) < below {
		return ""
	}
	segments = segments[below:]
	if len(segments) > 2 && strings.EqualFold(segments[0], "identifier") {
		segments = segments[2:]
	}
	c := &call{w: httptest.NewRecorder(), r: r}
	found, err := w.gateway.find(c, segments)
	if err != nil {
		return ""
	}
	return found.pattern()
}

// pattern is how the description has a route.
func (r route) pattern() string {
	return r.method + " " + arm.EndpointPath + "/" + strings.ReplaceAll(r.path, "*", "{}")
}

// TestRoutes: what is routed is described, and what is described is routed.
func TestRoutes(t *testing.T) {
	var patterns []string
	for _, r := range routes() {
		patterns = append(patterns, r.pattern())
	}
	for _, fault := range described.Differ(patterns) {
		t.Error(fault)
	}
}

// endpoint is the path of the pool that tests use.
const endpoint = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/sessionPools/python"

// world is a pool in memory, whose sandboxes answer as a test orders, behind a
// real HTTP server with the real middleware.
type world struct {
	// listed are the sessions of lists; nil means five of its own.
	listed []sandpool.Identifier
	t      testing.TB
	url    string

	logged   logged
	gateway  *Gateway
	tapes    tapes
	finish   func()     // waits for all requests
	mu       sync.Mutex // guards the fields below it
	sessions map[sandpool.Identifier]*lease
	acquired int
	released int
	full     error
	lost     map[sandpool.Identifier]error
	files    map[string][]byte // of all sessions together
	agent    string            // address of an agent, if leases are to have one
	// mostListed is the most that a listing may hold; 0 means no bound.
	mostListed int
	kind       sandpool.ContainerType // of all pools; empty means PythonLTS
	history    *sandpool.History      // of all pools
	// within are the interpreters; claimed, if set, is called for each lease.
	within  *interpreter.Set
	claimed func()
	// execute answers executions; nil means an empty success.
	execute func(ctx context.Context, l *lease, r agent.ExecuteRequest) (agent.ExecuteResult, error)
}

// logged is what a world's log holds.
type logged struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

// Write implements io.Writer.
func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newWorld starts a world. Every request comes from an administrator unless the headers
// Test-Role and Test-Scope say otherwise.
func newWorld(t testing.TB, o Options) *world {
	t.Helper()
	return newWorldOf(t, o, func(s interpreter.Session) interpreter.Agent {
		return &fakeAgent{w: s.(*lease).w, l: s.(*lease)}
	})
}

// newWorldOf is newWorld with sandboxes whose agents are reached by connect; nil means by
// the agent's protocol.
func newWorldOf(t testing.TB, o Options,
	connect func(interpreter.Session) interpreter.Agent) *world {
	t.Helper()
	w := &world{t: t, sessions: map[sandpool.Identifier]*lease{}, files: map[string][]byte{},
		within: interpreter.New(interpreter.Options{Connect: connect})}
	responder := &arm.Responder{Log: slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(),
		&w.logged), nil))}
	g, err := New(responder.Log, w, w.within, o)
	if err != nil {
		t.Fatal(err)
	}
	w.gateway = g
	branch, err := door.NewBranch(w, responder, "", door.Parts{
		Code: g, MCP: noMCP{}, Custom: door.NewCustom(nil, nil)})
	if err != nil {
		t.Fatal(err)
	}
	planes := branch.Split(branch, responder.NotFound())
	if _, test := t.(*testing.T); test {
		planes = described.Handler(w.operation, planes)
	}
	server := httptest.NewServer(arm.Trace(withRole(planes)))
	t.Cleanup(server.Close)
	w.url, w.finish = server.URL, server.Close
	return w
}

// noMCP stands where the MCP endpoint would.
type noMCP struct{}

func (noMCP) Serve(http.ResponseWriter, *http.Request, sandpool.PoolID) error { return nil }

func withRole(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		grant := sandpool.Grant{Role: auth.Admin}
		if role := r.Header.Get("Test-Role"); role != "" {
			grant.Role = sandpool.Role(role)
		}
		if scope := r.Header.Get("Test-Scope"); scope != "" {
			var err error
			if grant.Scope, err = sandpool.ParseScope(scope); err != nil {
				panic(err)
			}
		}
		p := auth.Principal{Subject: cmp.Or(r.Header.Get("Test-Subject"), "token:test"),
			Name: "test", Grants: []sandpool.Grant{grant}}
		next.ServeHTTP(w, r.WithContext(auth.WithPrincipal(r.Context(), p)))
	})
}

func (w *world) Acquire(_ context.Context, id sandpool.PoolID,
	identifier sandpool.Identifier) (Lease, error) {
	if w.claimed != nil {
		w.claimed()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.pool(id); err != nil {
		return nil, err
	}
	if w.full != nil && w.sessions[identifier] == nil {
		return nil, w.full
	}
	w.acquired++
	if held := w.sessions[identifier]; held != nil {
		l := *held
		l.outcome = sandpool.ClaimExisting
		return &l, nil
	}
	l := newLease(w, identifier)
	w.sessions[identifier] = l
	return l, nil
}

func (w *world) pool(id sandpool.PoolID) (sandpool.Pool, error) {
	if !strings.HasPrefix(strings.ToLower(id.Name), "python") {
		return sandpool.Pool{}, sandpool.Errorf(sandpool.NotFound, "ResourceNotFound",
			"sessionPool", "There is no pool %s.", id.Name)
	}
	return sandpool.Pool{ID: id, Spec: sandpool.Spec{Kind: cmp.Or(w.kind, sandpool.PythonLTS),
		History: w.history}}, nil
}

func (w *world) Kind(_ context.Context, id sandpool.PoolID) (sandpool.ContainerType, error) {
	p, err := w.pool(id)
	return p.Spec.Kind, err
}

func (w *world) Pool(_ context.Context, id sandpool.PoolID) (sandpool.Pool, error) {
	return w.pool(id)
}

// Lost implements Pools.
func (w *world) Lost(_ context.Context, _ sandpool.PoolID, identifier sandpool.Identifier) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.lost[identifier]
	delete(w.lost, identifier)
	return err
}

func (w *world) Session(_ context.Context, id sandpool.PoolID,
	identifier sandpool.Identifier) (sandpool.Session, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := w.pool(id); err != nil {
		return sandpool.Session{}, err
	}
	l := w.sessions[identifier]
	if l == nil {
		return sandpool.Session{}, sandpool.Errorf(sandpool.NotFound,
			"SessionWithIdentifierNotFound", "identifier", "no session")
	}
	return l.Session(), nil
}

func (w *world) Sessions(_ context.Context, id sandpool.PoolID, skip,
	limit int) ([]sandpool.Session, bool, error) {
	if _, err := w.pool(id); err != nil {
		return nil, false, err
	}
	names := w.listed
	if names == nil {
		names = []sandpool.Identifier{"session-a", "session-b", "session-c", "session-d",
			"session-e"}
	}
	var page []sandpool.Session
	for _, name := range names[min(skip, len(names)):min(skip+limit, len(names))] {
		page = append(page, sandpool.Session{Identifier: name})
	}
	return page, skip+limit < len(names), nil
}

func (w *world) StopSession(ctx context.Context, id sandpool.PoolID,
	identifier sandpool.Identifier) error {
	if _, err := w.Session(ctx, id, identifier); err != nil {
		return err
	}
	w.end(identifier, sandpool.Errorf(sandpool.Ended, "", "identifier", "The session was deleted."))
	return nil
}

// end ends a session for the reason given.
func (w *world) end(identifier sandpool.Identifier, why error) {
	w.mu.Lock()
	l := w.sessions[identifier]
	delete(w.sessions, identifier)
	w.mu.Unlock()
	l.cancel(why)
}

func (w *world) counts() (acquired, released int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acquired, w.released
}

// lease is a session of a world.
type lease struct {
	w       *world
	session sandpool.Session
	outcome sandpool.ClaimOutcome
	ctx     context.Context
	cancel  context.CancelCauseFunc
}

// History implements Lease.
func (l *lease) History() *sandpool.History { return l.w.history }

func newLease(w *world, identifier sandpool.Identifier) *lease {
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	l := &lease{w: w, outcome: sandpool.ClaimReady, session: sandpool.Session{Identifier: identifier, Sandbox: "sb" +
		sandpool.SandboxID(identifier),
		CreatedAt: at, LastUsedAt: at.Add(time.Minute), ExpiresAt: at.Add(6 * time.Minute)}}
	l.ctx, l.cancel = context.WithCancelCause(w.t.Context())
	return l
}
func (l *lease) Unattended() {}

func (l *lease) Sandbox() sandpool.Sandbox { return sandpool.Sandbox{ID: l.session.Sandbox} }
func (l *lease) Session() sandpool.Session { return l.session }
func (l *lease) Context() context.Context  { return l.ctx }
func (l *lease) Claim() sandpool.Claim {
	return sandpool.Claim{Outcome: l.outcome, Took: 213 * time.Microsecond}
}
func (l *lease) Release() {
	l.w.mu.Lock()
	l.w.released++
	l.w.mu.Unlock()
}
func (l *lease) Dial(ctx context.Context, _ int) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", l.w.agent)
}

// returns orders executions to end with res.
func (w *world) returns(res agent.ExecuteResult) {
	w.execute = func(context.Context, *lease, agent.ExecuteRequest) (agent.ExecuteResult, error) {
		return res, nil
	}
}

// reply is an HTTP answer read to its end.
type reply struct {
	status int
	header http.Header
	body   string
}

// json decodes the body.
func (r reply) json(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	dec := json.NewDecoder(strings.NewReader(r.body))
	dec.UseNumber()
	if err := dec.Decode(&m); err != nil {
		t.Fatalf("answer %d %q: %v", r.status, r.body, err)
	}
	return m
}

// do sends a request below the pool's endpoint. Headers are pairs of name and value.
func (w *world) do(method, path, body string, headers ...string) reply {
	w.t.Helper()
	return w.raw(method, endpoint+"/"+path, body, headers...)
}

func (w *world) raw(method, path, body string, headers ...string) reply {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path,
		bytes.NewReader([]byte(body)))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(data)}
}

// post sends a body under a context of its own.
func post(ctx context.Context, url, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		resp.Body.Close()
	}
	return resp, err
}

// wait returns when done is true, and fails the test after a minute.
func wait(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("waited a minute in vain")
		}
	}
}
