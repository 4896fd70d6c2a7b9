package custom_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sandpool/sandpool/api"
)

// withTools is a pool of containers whose MCP endpoint has a key.
func withTools(image string) api.SessionPool {
	p, on := container(image), true
	p.Properties.McpServerSettings = &api.McpServerSettings{IsMcpServerEnabled: &on}
	return p
}

// authorized adds a header to requests.
type authorized struct {
	name, value string
	next        http.RoundTripper
}

func (a authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(a.name, a.value)
	return a.next.RoundTrip(r)
}

// agent is a conversation over MCP, and what it was told while its calls ran.
type agent struct {
	*sdk.ClientSession
	told chan string
}

// The versions of the protocol: with a session for each conversation, and without any.
const (
	withSession    = "2025-11-25"
	withoutSession = "2026-07-28"
)

// converse begins a conversation, by the Go SDK, with the header that lets it in.
func (k *kit) converse(t *testing.T, version, header, value string) agent {
	t.Helper()
	told := make(chan string, 100)
	client := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, &sdk.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context,
			r *sdk.ProgressNotificationClientRequest) {
			told <- r.Params.Message
		}})
	session, err := client.Connect(t.Context(), &sdk.StreamableClientTransport{
		Endpoint:   k.PoolEndpoint("tooled") + "/mcp",
		HTTPClient: &http.Client{Transport: authorized{header, value, k.http.Transport}},
	}, &sdk.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return agent{session, told}
}

// call calls a tool, and returns its structured result, which is nil after an error that the model
// is told, and all its text.
func (a agent) call(t *testing.T, tool, arguments string, meta map[string]any) (map[string]any,
	string) {
	t.Helper()
	var given map[string]any
	if err := json.Unmarshal([]byte(arguments), &given); err != nil {
		t.Fatal(err)
	}
	r, err := a.CallTool(t.Context(), &sdk.CallToolParams{Name: tool, Arguments: given, Meta: meta})
	if err != nil {
		return nil, err.Error()
	}
	var text strings.Builder
	for _, c := range r.Content {
		if c, ok := c.(*sdk.TextContent); ok {
			text.WriteString(c.Text + "\n")
		}
	}
	if r.IsError {
		return nil, text.String()
	}
	structured, _ := r.StructuredContent.(map[string]any)
	return structured, text.String()
}

// want calls a tool, and checks what a member of its result holds.
func (a agent) want(t *testing.T, tool, arguments, member, part string) map[string]any {
	t.Helper()
	out, text := a.call(t, tool, arguments, nil)
	got, err := json.Marshal(out[member])
	if err != nil {
		t.Fatal(err)
	}
	if out == nil || !strings.Contains(string(got), part) {
		t.Errorf("%s %.200s: %s is %.300s, want %s; text: %.300s", tool, arguments, member, got,
			part, text)
	}
	return out
}

// TestMCP has an agent use the containers of a pool by the tools of its MCP endpoint.
func TestMCP(t *testing.T) {
	k := newKit(t)
	image := k.push(t, "app:1", app(t))
	k.makePool(t, "tooled", withTools(image))
	k.makePool(t, "plain", container(image))
	key, err := k.MCPKey(t.Context(), "tooled")
	if err != nil {
		t.Fatal(err)
	}
	t.Run("tools", func(t *testing.T) { k.usesTools(t, key) })
	t.Run("request", func(t *testing.T) { k.sendsRequests(t, key) })
	t.Run("bounds", func(t *testing.T) { k.keepsBounds(t, key) })
	t.Run("apart", func(t *testing.T) { k.keepsApart(t, key) })
	t.Run("refused", func(t *testing.T) { k.refuses(t, key) })
}

// usesTools is a conversation from the first look at the tools to the end of its environment.
func (k *kit) usesTools(t *testing.T, key string) {
	a := k.converse(t, withSession, "X-Ms-Apikey", key)
	list, err := a.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
	}
	if got, want := strings.Join(names, " "), "launchEnvironment sendHttpRequest getEnvironment "+
		"listEnvironments readLogs stopEnvironment"; got != want {
		t.Errorf("the tools are %s, want %s", got, want)
	}
	if got := a.InitializeResult().Capabilities.Resources; got != nil {
		t.Errorf("there are resources: %+v", got)
	}
	if _, said := a.call(t, "runPythonCodeInRemoteEnvironment", `{"pythonCode":"1"}`, nil); !strings.Contains(
		said, "Unknown tool") {
		t.Errorf("a container runs Python: %s", said)
	}
	if _, said := a.call(t, "getEnvironment", `{}`, nil); !strings.Contains(said, "not found") {
		t.Errorf("an environment that is not there: %s", said)
	}
	a.want(t, "listEnvironments", `{}`, "environments", "[]")
	a.want(t, "sendHttpRequest", `{"path":"/count"}`, "body", `"1\n"`)
	out := a.want(t, "sendHttpRequest", `{"path":"/count"}`, "body", `"2\n"`)
	own, _ := out["environmentId"].(string)
	a.want(t, "getEnvironment", `{}`, "environmentId", own)
	a.want(t, "listEnvironments", `{}`, "environments", own)

	a.want(t, "sendHttpRequest", `{"path":"/print?out=hello&err=alas"}`, "status", "200")
	var at string
	for range 100 { // the output of a program is on its way for a moment
		out, _ = a.call(t, "readLogs", `{}`, nil)
		text, _ := json.Marshal(out["lines"])
		if strings.Contains(string(text), `"stream":"stderr","text":"alas"`) &&
			strings.Contains(string(text), `"stream":"stdout","text":"hello"`) {
			at, _ = out["next"].(string)
			break
		}
		<-time.After(20 * time.Millisecond)
	}
	if at == "" {
		t.Errorf("the logs hold %v", out)
	}
	a.want(t, "readLogs", `{"after":"`+at+`"}`, "lines", "[]")
	if _, said := a.call(t, "readLogs", `{"after":"yesterday"}`, nil); !strings.Contains(said,
		"use next of an earlier call") {
		t.Errorf("a position that is none: %s", said)
	}
	a.want(t, "stopEnvironment", `{}`, "environmentId", own)
	a.want(t, "readLogs", `{}`, "lines", "hello") // which are kept
	a.want(t, "sendHttpRequest", `{"path":"/count"}`, "body", `"1\n"`)

	b := k.converse(t, withoutSession, "X-Ms-Apikey", key)
	out = b.want(t, "launchEnvironment", `{}`, "environmentId", "-")
	id, _ := out["environmentId"].(string)
	b.want(t, "sendHttpRequest", `{"path":"/count","environmentId":"`+id+`"}`, "body", `"1\n"`)
	b.want(t, "sendHttpRequest", `{"path":"/count","environmentId":"`+id+`"}`, "body", `"2\n"`)
	b.want(t, "listEnvironments", `{}`, "environments", "[]")
}

// sendsRequests checks what a container sees of a request: what the tool was given, and nothing of
// the keys and the headers by which the tool was called.
func (k *kit) sendsRequests(t *testing.T, key string) {
	a := k.converse(t, withSession, "X-Ms-Apikey", key)
	out := a.want(t, "sendHttpRequest", `{"environmentId":"seen-1","method":"put",
		"path":"/request?a=b%20c&d","headers":{"X-Mine":"yes","Content-Type":"text/csv"},
		"body":"a,b\n"}`, "body", `PUT /request?a=b%20c\u0026d HTTP/1.1\r\n`)
	body, _ := out["body"].(string)
	for _, want := range []string{"X-Mine: yes\r\n", "Content-Type: text/csv\r\n",
		"Content-Length: 4\r\n", "X-Forwarded-Prefix: /subscriptions/", "\r\n\r\na,b\n"} {
		if !strings.Contains(body, want) {
			t.Errorf("the container does not see %q: %s", want, body)
		}
	}
	for _, no := range []string{key, "Mcp-", "Apikey", "Accept: application/json"} {
		if strings.Contains(body, no) {
			t.Errorf("the container sees %q: %s", no, body)
		}
	}
	a.want(t, "sendHttpRequest", `{"environmentId":"seen-1","method":"POST","path":"/echo",
		"body":"AAEC/w==","encoding":"base64"}`, "body", `"AAEC/w=="`)
	a.want(t, "sendHttpRequest", `{"environmentId":"seen-1","path":"/none"}`, "status", "404")
	for arguments, want := range map[string]string{
		`{"path":"count"}`:               "begins with a slash",
		`{"path":"http://example.com/"}`: "begins with a slash",
		`{"path":"/a b"}`:                "escaped",
		`{"path":"/count HTTP/1.1\r\nX-Ms-Apikey: x\r\n\r\nGET /"}`: "escaped",
		`{"path":"/?a=b\r\nX: y"}`:                                  "control character",
		`{"path":"/","method":"GET / HTTP/1.1\r\nX: y"}`:            "not a token",
		`{"path":"/","method":"CONNECT"}`:                           "CONNECT is not forwarded",
		`{"path":"/","headers":{"X":"a\r\nY: b"}}`:                  "control character",
		`{"path":"/","headers":{"X\r\nY":"b"}}`:                     "not a token",
		`{"path":"/","headers":{"Connection":"Upgrade"}}`:           "set by the server",
		`{"path":"/","headers":{"upgrade":"websocket"}}`:            "set by the server",
		`{"path":"/","headers":{"Content-Length":"5"}}`:             "set by the server",
		`{"path":"/","headers":{"Host":"evil.example"}}`:            "set by the server",
		`{"path":"/","body":"?","encoding":"base64"}`:               "not base64",
		`{"path":"/","environmentId":"1"}`:                          "4 to 128",
	} {
		if out, said := a.call(t, "sendHttpRequest", arguments, nil); out != nil ||
			!strings.Contains(said, want) {
			t.Errorf("%s: %v %s, want %s", arguments, out, said, want)
		}
	}
}

// keepsBounds checks that neither a long answer nor one without an end makes more of a call than it
// may take, and that its caller is told meanwhile.
func (k *kit) keepsBounds(t *testing.T, key string) {
	a := k.converse(t, withSession, "X-Ms-Apikey", key)
	out := a.want(t, "sendHttpRequest", `{"environmentId":"long-1","path":"/bytes?n=9000000"}`,
		"truncated", "true")
	if body, _ := out["body"].(string); len(body) < 5<<20 || len(body) > 6<<20 { // in base64
		t.Errorf("a long answer has %d bytes", len(body))
	}
	a.want(t, "sendHttpRequest", `{"environmentId":"long-1","path":"/bytes?n=4194304"}`,
		"truncated", "false")
	out, said := a.call(t, "sendHttpRequest",
		`{"environmentId":"long-1","path":"/lines","timeoutInSeconds":2}`,
		map[string]any{"progressToken": "p1"})
	if out["body"] != "the first line\n" || out["truncated"] != true {
		t.Errorf("an answer without an end: %v %s", out, said)
	}
	select {
	case line := <-a.told:
		if line != "the first line\n" {
			t.Errorf("the progress is %q", line)
		}
	case <-time.After(10 * time.Second):
		t.Error("there was no progress")
	}
	_, said = a.call(t, "sendHttpRequest",
		`{"environmentId":"long-1","path":"/started-never","timeoutInSeconds":0}`, nil)
	if !strings.Contains(said, "whole number of seconds") {
		t.Errorf("no time at all: %s", said)
	}
	a.want(t, "sendHttpRequest", `{"environmentId":"long-1","path":"/count"}`, "body", `"1\n"`)
}

// keepsApart checks that conversations with the pool's key see nothing of each other, while a token
// sees what it may: all sessions, or those of its scope.
func (k *kit) keepsApart(t *testing.T, key string) {
	a := k.converse(t, withSession, "X-Ms-Apikey", key)
	b := k.converse(t, withSession, "X-Ms-Apikey", key)
	for _, conversation := range []agent{a, b} {
		conversation.want(t, "sendHttpRequest", `{"path":"/count"}`, "body", `"1\n"`)
	}
	out := a.want(t, "listEnvironments", `{}`, "environments", "environmentId")
	if list, _ := out["environments"].([]any); len(list) != 1 {
		t.Errorf("a conversation sees %v", list)
	}
	admin := k.converse(t, withSession, "Authorization", "Bearer "+k.token)
	admin.want(t, "sendHttpRequest", `{"path":"/count","environmentId":"alice-1"}`, "body", "1")
	out = admin.want(t, "listEnvironments", `{}`, "environments", "alice-1")
	if list, _ := out["environments"].([]any); len(list) < 3 {
		t.Errorf("an administrator sees %v", list)
	}
	made, err := k.CreateToken(t.Context(), api.TokenRequest{Name: "narrow",
		Role:  "session-executor",
		Scope: k.PoolID("tooled").Scope().String() + "/identifiers/alice-*"})
	if err != nil {
		t.Fatal(err)
	}
	alice := k.converse(t, withSession, "Authorization", "Bearer "+made.Text)
	out = alice.want(t, "listEnvironments", `{}`, "environments", "alice-1")
	if list, _ := out["environments"].([]any); len(list) != 1 {
		t.Errorf("alice sees %v", list)
	}
	alice.want(t, "getEnvironment", `{"environmentId":"alice-1"}`, "environmentId", "alice-1")
	for _, tool := range []string{"getEnvironment", "stopEnvironment", "readLogs",
		"sendHttpRequest"} {
		_, said := alice.call(t, tool, `{"path":"/","environmentId":"bobby-1"}`, nil)
		if !strings.Contains(said, "AuthorizationFailed") {
			t.Errorf("alice may %s bobby's: %s", tool, said)
		}
	}
}

// refuses checks who gets in, and that without the setting the path is the container's.
func (k *kit) refuses(t *testing.T, key string) {
	const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	for name, tt := range map[string]struct {
		pool, path string
		headers    []string
		status     int
		holds      string
	}{
		"the key":     {"tooled", "/mcp", []string{"X-Ms-Apikey", key}, 200, `"result":{}`},
		"nothing":     {"tooled", "/mcp", nil, 401, "AuthenticationFailed"},
		"a wrong key": {"tooled", "/mcp", []string{"X-Ms-Apikey", key + "x"}, 401, "mcp-key"},
		"a foreign origin": {"tooled", "/mcp", []string{"X-Ms-Apikey", key, "Origin",
			"https://evil.example.com"}, 403, "OriginNotAllowed"},
		"a foreign host": {"tooled", "/mcp", []string{"X-Ms-Apikey", key, "Host",
			"evil.example.com"}, 403, "HostNotAllowed"},
		"a key elsewhere": {"tooled", "/count?identifier=key-1", []string{"X-Ms-Apikey", key}, 401,
			"no token"},
		"a pool without tools": {"plain", "/mcp", []string{"X-Ms-Apikey", key}, 401, "no token"},
		"its container's path": {"plain", "/mcp?identifier=key-1",
			[]string{"Authorization", "Bearer " + k.token}, 404, "404 page not found"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
				k.PoolEndpoint(tt.pool)+tt.path, strings.NewReader(ping))
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(tt.headers); i += 2 {
				if r.Header.Set(tt.headers[i], tt.headers[i+1]); tt.headers[i] == "Host" {
					r.Host = tt.headers[i+1]
				}
			}
			resp, err := k.http.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.status ||
				!strings.Contains(string(text), tt.holds) {
				t.Errorf("%d %s, %v; want %d and %q", resp.StatusCode, text, err, tt.status,
					tt.holds)
			}
		})
	}
	next, err := k.RotateMCPKey(t.Context(), "tooled")
	if err != nil {
		t.Fatal(err)
	}
	k.converse(t, withSession, "X-Ms-Apikey", next)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
		k.PoolEndpoint("tooled")+"/mcp", strings.NewReader(ping))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Ms-Apikey", key)
	resp, err := k.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("the key that was rotated: %d", resp.StatusCode)
	}
}
