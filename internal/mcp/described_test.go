package mcp

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/interpreter"
	"github.com/sandpool/sandpool/internal/openapi/openapitest"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// described holds the answers of all tests to the description.
var described = openapitest.New("MCP")

func TestMain(m *testing.M) { os.Exit(described.End(m.Run())) }

// endpoint is where the pool is.
const endpoint = "/subscriptions/s/resourceGroups/g/sessionPools/pypool"

// fakePools has one pool, and a session for every identifier.
type fakePools struct{ custom bool }

func (f fakePools) Pool(_ context.Context, id sandpool.PoolID) (sandpool.Pool, error) {
	p := sandpool.Pool{ID: id, Spec: sandpool.Spec{Kind: sandpool.PythonLTS}}
	if f.custom {
		p.Spec.Kind = sandpool.CustomContainer
	}
	if id.Name != "pypool" {
		return p, sandpool.Errorf(sandpool.NotFound, "", "", "There is no pool %q.", id.Name)
	}
	return p, nil
}

func (fakePools) Acquire(_ context.Context, id sandpool.PoolID,
	identifier sandpool.Identifier) (Lease, error) {
	return lease{sandpool.Sandbox{ID: "box", Pool: id, Identifier: identifier}}, nil
}

func (fakePools) Session(context.Context, sandpool.PoolID,
	sandpool.Identifier) (sandpool.Session, error) {
	return sandpool.Session{}, nil
}

func (fakePools) StopSession(context.Context, sandpool.PoolID, sandpool.Identifier) error {
	return nil
}

func (fakePools) Forward(w http.ResponseWriter, _ *http.Request, _ sandpool.PoolID,
	_ sandpool.Identifier, _ string) error {
	_, err := io.WriteString(w, "from the container")
	return err
}

func (fakePools) Sessions(context.Context, sandpool.PoolID, int, int) ([]sandpool.Session, bool,
	error) {
	return nil, false, nil
}

func (fakePools) SessionLog(context.Context, sandpool.PoolID, sandpool.Identifier,
	sandpool.SandboxID, sandbox.LogQuery) (page sandbox.LogPage, err error) {
	return page, nil
}

// lease is a session's sandbox.
type lease struct{ row sandpool.Sandbox }

func (l lease) Sandbox() sandpool.Sandbox                 { return l.row }
func (lease) Dial(context.Context, int) (net.Conn, error) { return nil, io.EOF }
func (lease) Context() context.Context                    { return context.TODO() }
func (lease) History() *sandpool.History                  { return nil }
func (lease) Release()                                    {}

// python is an agent that says what it was asked to run.
type python struct{ interpreter.Agent }

func (python) Execute(_ context.Context, r agent.ExecuteRequest) (agent.ExecuteResult, error) {
	return agent.ExecuteResult{Outcome: agent.OK, Stdout: r.Code}, nil
}

func (python) Close() {}

// serve returns the endpoint, as the server has it, for an administrator.
func serve(t *testing.T, pools fakePools) http.Handler {
	t.Helper()
	connect := func(interpreter.Session) interpreter.Agent { return python{} }
	within := interpreter.New(interpreter.Options{Connect: connect})
	s, err := New(slog.New(slog.DiscardHandler), pools, within, pools,
		Options{Key: []byte(strings.Repeat("k", 32))})
	if err != nil {
		t.Fatal(err)
	}
	respond := &arm.Responder{Log: slog.New(slog.DiscardHandler)}
	mux := http.NewServeMux()
	mux.Handle("/", respond.Handle(func(w http.ResponseWriter, r *http.Request) error {
		who := auth.Principal{Subject: "token:t", Grants: []sandpool.Grant{{Role: auth.Admin}}}
		if r.Header.Get("Authorization") == "" {
			who = auth.Principal{Subject: "token:u"}
		}
		return s.Serve(w, r.WithContext(auth.WithPrincipal(r.Context(), who)),
			sandpool.PoolID{Subscription: "s", ResourceGroup: "g",
				Name: strings.Split(r.URL.Path, "/")[6]})
	}))
	return arm.Trace(described.Handler(func(r *http.Request) string {
		if r.Method != http.MethodPost && r.Method != http.MethodDelete {
			return ""
		}
		return r.Method + " /subscriptions/{s}/resourceGroups/{g}/sessionPools/{p}/mcp"
	}, mux))
}

// TestDescribed: what the endpoint takes and gives is as it is described.
func TestDescribed(t *testing.T) {
	h := serve(t, fakePools{})
	session := ""
	ask := func(method, pool, body string, want int, has string, headers ...string) {
		t.Helper()
		r := httptest.NewRequest(method, strings.TrimSuffix(endpoint, "pypool")+pool+"/mcp",
			strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json")
		r.Header.Set("Authorization", "Bearer x")
		if session != "" {
			r.Header.Set(sessionHeader, session)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want || !strings.Contains(w.Body.String(), has) {
			t.Errorf("%s %.200s: %d %s", method, body, w.Code, w.Body)
		}
		if id := w.Header().Get(sessionHeader); id != "" {
			session = id
		}
	}
	const call = `{"jsonrpc":"2.0","id":%s,"method":%q,"params":%s}`
	one := func(method, params string) string { return fmt.Sprintf(call, "1", method, params) }
	ask("POST", "pypool", one("initialize", `{"protocolVersion":"2025-03-26","capabilities":{},`+
		`"clientInfo":{"name":"t","version":"1"}}`), 200, `"serverInfo"`)
	ask("POST", "pypool", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, 202, "")
	ask("POST", "pypool", one("ping", "{}"), 200, `"result":{}`)
	ask("POST", "pypool", one("tools/list", "{}"), 200, `"tools":[`)
	ask("POST", "pypool", one("nothing", "{}"), 200, `"code":-32601`)
	ask("POST", "pypool", fmt.Sprintf(call, `"text"`, "resources/read", `{"uri":"x:/y"}`), 200, `"error"`)
	ask("POST", "pypool", "["+one("ping", "{}")+","+one("ping", "{}")+"]", 200, `[{"jsonrpc"`)
	ask("POST", "pypool", `[{"jsonrpc":"2.0","method":"notifications/initialized"}]`, 202, "")
	run := `{"name":"runPythonCodeInRemoteEnvironment","arguments":{"pythonCode":"hello"}`
	ask("POST", "pypool", one("tools/call", run+"}"), 200, "hello")
	ask("POST", "pypool", one("tools/call", run+`,"_meta":{"progressToken":7}}`), 200, "data: ", "Accept",
		"application/json, text/event-stream")
	ask("POST", "pypool", `{`, 400, `"code":-32700`)
	ask("POST", "pypool", `{"id":1,"method":"ping"}`, 400, `"jsonrpc":"2.0"`)
	ask("POST", "pypool", one("ping", "{}"), 400, `"code":-32`, versionHeader, "1999-01-01")
	ask("POST", "pypool", one("ping", "{}"), 404, `"code":-32001`, sessionHeader, "none")
	ask("POST", "other", one("ping", "{}"), 404, `"error":{"code":"`)
	ask("POST", "pypool", one("ping", "{}"), 403, `"error":{"code":"`, "Authorization", "")
	ask("GET", "pypool", "", 405, "MethodNotAllowed")
	ask("DELETE", "pypool", "", 204, "")
	ask("DELETE", "pypool", "", 404, `"code":-32001`)
	session = ""
	ask("DELETE", "pypool", "", 400, sessionHeader)
	ask("POST", "pypool", one("server/discover", `{"_meta":{"io.modelcontextprotocol/protocolVersion":`+
		`"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},`+
		`"io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"}}}`), 200, "2026-07-28", versionHeader, "2026-07-28", "Mcp-Method",
		"server/discover")
	for _, answer := range []string{`"result":{}`, `"error":{"code":1,"message":"m","data":1}`} {
		ask("POST", "pypool", `{"jsonrpc":"2.0","id":9,`+answer+`}`, 202, "") // to nothing
	}
}
