package clients_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/sync/errgroup"
)

// plain is a client that trusts the server's authority, and nothing else.
func (s *server) plain(t *testing.T) *http.Client {
	t.Helper()
	text, err := os.ReadFile(s.authority)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots},
		MaxIdleConnsPerHost: 1000,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// keyed adds the key to requests.
type keyed struct {
	key  string
	next http.RoundTripper
}

func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Ms-Apikey", k.key)
	return k.next.RoundTrip(r)
}

// connectMCP begins an MCP session by the Go SDK.
func (s *server) connectMCP(t *testing.T, o *sdk.ClientOptions) *sdk.ClientSession {
	t.Helper()
	c := s.plain(t)
	c.Transport = keyed{s.key(t, tools), c.Transport}
	client := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, o)
	session, err := client.Connect(
		t.Context(),
		&sdk.StreamableClientTransport{Endpoint: s.endpoints[tools] + "/mcp", HTTPClient: c},
		nil,
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// runPython runs code by the SDK, and returns its structured result.
func runPython(
	ctx context.Context,
	c *sdk.ClientSession,
	arguments, meta map[string]any,
) (map[string]any, error) {
	r, err := c.CallTool(
		ctx,
		&sdk.CallToolParams{
			Name:      "runPythonCodeInRemoteEnvironment",
			Arguments: arguments,
			Meta:      meta,
		},
	)
	if err != nil {
		return nil, err
	}
	structured, ok := r.StructuredContent.(map[string]any)
	if !ok || r.IsError {
		text, _ := json.Marshal(r.Content)
		return nil, fmt.Errorf("the result is %s", text)
	}
	return structured, nil
}

const (
	goSDKClient = "MCP SDK for Go"
	goSDKModule = "github.com/modelcontextprotocol/go-sdk"
)

// goSDK has the Go SDK run code, with progress.
func (s *server) goSDK(t *testing.T) {
	var said strings.Builder
	done := make(chan struct{}, 100)
	c := s.connectMCP(
		t,
		&sdk.ClientOptions{
			ProgressNotificationHandler: func(_ context.Context,
				r *sdk.ProgressNotificationClientRequest) {
				said.WriteString(r.Params.Message)
				done <- struct{}{}
			},
		},
	)
	list, err := c.ListTools(t.Context(), nil)
	if err != nil || len(list.Tools) < 7 {
		t.Fatalf("tools: %+v, %v", list, err)
	}
	env := "go-" + fmt.Sprint(time.Now().UnixNano())
	out, err := runPython(
		t.Context(),
		c,
		map[string]any{
			"environmentId": env,
			"pythonCode":    "x = 6\nprint('live', flush=True)\nx * 7",
		},
		map[string]any{"progressToken": "p1"},
	)
	if err != nil || out["result"] != 42.0 || out["stdout"] != "live\n" {
		t.Fatalf("%v, %v", out, err)
	}
	select {
	case <-done:
	case <-time.After(scriptTime):
		t.Fatal("there was no progress")
	}
	if said.String() != "live\n" {
		t.Errorf("progress said %q", said.String())
	}
	y := newTally(t, goSDKClient, goSDKModule, "../../go.mod")
	for _, what := range []string{"tools", "a value", "output is progress"} {
		y.did(what, "works")
	}
	y.hold(t)
}

// languages checks the tools of pools of other types. The shell of a Shell pool is one from call to
// call, and Python runs there too, in processes of its own; a Node pool has JavaScript besides.
func (s *server) languages(t *testing.T) {
	const run, python = "runShellCommandInRemoteEnvironment", "runPythonCodeInRemoteEnvironment"
	const javaScript = "runJavaScriptCodeInRemoteEnvironment"
	token := "Bearer " + s.token(t, "session-executor")
	for _, tt := range []struct{ pool, tool, arguments, want string }{
		{shell, run, `"shellCommand":"cd /tmp; x=5; echo out; echo err >&2; false"`,
			`"stdout":"out\n","stderr":"err\n","exitCode":1`},
		{shell, run, `"shellCommand":"echo $x $PWD"`, `"stdout":"5 /tmp\n"`},
		{shell, run, `"execCommandAndArgs":["printf","%s","a  b"]`,
			`"stdout":"a  b","stderr":"","exitCode":0`},
		{shell, python, `"pythonCode":"print(6*7)"`, `"stdout":"42\n"`},
		{shell, python, `"pythonCode":"1/0"`, `ZeroDivisionError`},
		{shell, python, `"pythonCode":"1/0"`, `"isError":true`},
		{shell, javaScript, `"javaScriptCode":"1"`, `ToolNotSupported`},
		{node, javaScript, `"javaScriptCode":"console.log('hi'); const x = 6; x * 7"`,
			`"stdout":"hi\n","stderr":"","result":42`},
		{node, javaScript, `"javaScriptCode":"x"`, `"result":6`},
		{node, javaScript, `"javaScriptCode":"throw new Error('no')"`,
			`"errorName":"Error","errorMessage":"no"`},
		{node, run, `"shellCommand":"echo out; echo err >&2; exit 3"`,
			`"stdout":"out\n","stderr":"err\n","exitCode":3`},
		{node, run, `"shellCommand":"# ` + strings.Repeat("x", 200_000) + `\nprintf done"`,
			`"stdout":"done"`},
		{node, python, `"pythonCode":"1"`, `ToolNotSupported`},
	} {
		body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tt.tool +
			`","arguments":{"environmentId":"lang-1",` + tt.arguments + `}}}`
		status, _, text := s.post(t, "POST", s.endpoints[tt.pool]+"/mcp", body, "Authorization", token)
		if status != 200 || !strings.Contains(text, tt.want) {
			t.Errorf("%s: %s %.200s: %d %s; want %s",
				tt.pool, tt.tool, tt.arguments, status, text, tt.want)
		}
	}
	for pool, want := range map[string]bool{shell: false, node: true} {
		list := `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
		_, _, text := s.post(t, "POST", s.endpoints[pool]+"/mcp", list, "Authorization", token)
		if strings.Contains(text, javaScript) != want || !strings.Contains(text, python) {
			t.Errorf("the tools of %s are %s", pool, text)
		}
	}
}

// alive checks that code which says nothing shows that it runs, and that it ends when its call is
// cancelled.
func (s *server) alive(t *testing.T) {
	beats := make(chan string, 100)
	hear := func(_ context.Context, r *sdk.ProgressNotificationClientRequest) {
		beats <- r.Params.Message
	}
	c := s.connectMCP(t, &sdk.ClientOptions{ProgressNotificationHandler: hear})
	env := "alive-" + fmt.Sprint(time.Now().UnixNano())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		arguments := map[string]any{"environmentId": env, "pythonCode": "import time\ntime.sleep(200)"}
		_, err := runPython(ctx, c, arguments, map[string]any{"progressToken": "p2"})
		ended <- err
	}()
	select {
	case message := <-beats:
		if message != "" {
			t.Errorf("code that says nothing says %q", message)
		}
	case <-time.After(scriptTime):
		t.Fatal("there is no sign of life")
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("a call that was cancelled has a result")
	}
	arguments := map[string]any{"environmentId": env, "pythonCode": "6 * 7"}
	if out, err := runPython(t.Context(), c, arguments, nil); err != nil || out["result"] != 42.0 {
		t.Errorf("after it: %v, %v", out, err)
	}
}

// crowd makes a thousand calls at the same time, over fifty sessions: each is run, in its own
// session, and none twice.
func (s *server) crowd(t *testing.T) {
	const sessions, calls = 50, 20
	c := s.connectMCP(t, nil)
	seen := make([][]int, sessions)
	for i := range seen {
		seen[i] = make([]int, calls)
	}
	var g errgroup.Group
	for i := range sessions {
		for j := range calls {
			g.Go(func() error {
				code := fmt.Sprintf("n = globals().get('n', %d) + 1\nn", 1000*i)
				out, err := runPython(
					t.Context(),
					c,
					map[string]any{"environmentId": fmt.Sprintf("crowd-%d", i), "pythonCode": code},
					nil,
				)
				if err != nil {
					return fmt.Errorf("session %d: %w", i, err)
				}
				n, _ := out["result"].(float64)
				seen[i][j] = int(n)
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for i, got := range seen {
		slices.Sort(got)
		for j, n := range got {
			if n != 1000*i+j+1 {
				t.Fatalf("session %d has counted %v", i, got)
			}
		}
	}
}

// failing is what fails within scenarios of which the rest must pass, and why: the suite has tools
// of its own that it would call, and there are no prompts.
func failing() map[string][]string {
	return map[string][]string{
		"server-caching": {"sep-2549-prompts-list-caching-hints"},
		"server-server-stateless": {
			"sep-2575-server-rejects-undeclared-capability",
			"sep-2575-missing-capability-http-400",
			"sep-2575-http-server-no-independent-requests-on-stream",
			"sep-2575-server-no-log-without-loglevel",
		},
	}
}

// conformance runs the suite of a version through a proxy that adds the key, which the suite
// cannot. It ends badly with a failure that is not listed, and with one that is listed and has
// gone.
func (s *server) conformance(t *testing.T, m modules, version string) {
	to, err := url.Parse(s.endpoints[tools])
	if err != nil {
		t.Fatal(err)
	}
	key := s.key(t, tools)
	proxy := httptest.NewServer(
		&httputil.ReverseProxy{Transport: s.plain(t).Transport, FlushInterval: -1,
			Rewrite: func(p *httputil.ProxyRequest) {
				p.SetURL(to)
				p.Out.Host = p.In.Host
				p.Out.Header.Set("X-Ms-Apikey", key)
			}},
	)
	defer proxy.Close()
	listed, err := filepath.Abs("mcp/expected-" + version + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	results := t.TempDir()
	run := exec.CommandContext(
		t.Context(),
		m.node(),
		"node_modules/@modelcontextprotocol/conformance/dist/index.js",
		"server",
		"--url",
		proxy.URL+"/mcp",
		"--requirements",
		version,
		"--expected-failures",
		listed,
		"--timeout",
		"120000",
		"-o",
		results,
	)
	run.Dir = m.dir
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for scenario, want := range failing() {
		files, err := filepath.Glob(filepath.Join(results, scenario+"-20*", "checks.json"))
		if err != nil || len(files) != 1 && version == "2026-07-28" {
			t.Fatalf("%s: %v, %v", scenario, files, err)
		}
		if version != "2026-07-28" {
			continue
		}
		text, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		var checks []struct{ ID, Status, ErrorMessage string }
		if err := json.Unmarshal(text, &checks); err != nil {
			t.Fatal(err)
		}
		for _, c := range checks {
			if c.Status == "FAILURE" && !slices.Contains(want, c.ID) {
				t.Errorf("%s: %s: %s", scenario, c.ID, c.ErrorMessage)
			}
		}
	}
}
