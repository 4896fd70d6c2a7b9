package clients_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/api"
)

const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`

// post sends a message to an endpoint and returns the status, the headers and the body of the
// answer.
func (s *server) post(
	t *testing.T,
	method, url, body string,
	headers ...string,
) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if req.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	resp, err := s.plain(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// refusals checks who gets in, and that nobody else learns or does anything.
func (s *server) refusals(t *testing.T) {
	url, executions := s.endpoints[tools]+"/mcp", s.endpoints[tools]+
		"/executions?identifier=refused-1"
	key, foreign := s.key(t, tools), s.key(t, other)
	token := "Bearer " + s.token(t, "session-executor")
	_, headers, _ := s.post(t, "POST", url, initialize, "x-ms-apikey", key)
	session := headers.Get("Mcp-Session-Id")
	ping := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	for name, tt := range map[string]struct {
		method, url, body string
		headers           []string
		status            int
		holds             string
	}{
		"a key": {"POST", url, initialize, []string{"x-ms-apikey", key}, 200,
			`"protocolVersion":"2025-11-25"`},
		"a key as bearer token": {"POST", url, initialize, []string{"Authorization",
			"Bearer " + key}, 200, `"result"`},
		"a token": {"POST", url, initialize, []string{"Authorization", token},
			200, `"result"`},
		"initialize without params": {"POST", url,
			`{"jsonrpc":"2.0","id":1,"method":"initialize"}`, []string{"x-ms-apikey", key}, 200,
			`"protocolVersion":"2025-03-26"`},
		"nothing": {"POST", url, initialize, nil, 401, "AuthenticationFailed"},
		"a wrong key": {"POST", url, initialize,
			[]string{"x-ms-apikey", key[:len(key)-1]}, 401, "mcp-key"},
		"a key of another pool": {"POST", url, initialize, []string{"x-ms-apikey", foreign},
			401, "mcp-key"},
		"a foreign key as bearer": {"POST", url, initialize, []string{"Authorization",
			"Bearer " + foreign}, 401, "mcp-key"},
		"key and token": {"POST", url, initialize, []string{"x-ms-apikey", key,
			"Authorization", token}, 401, "more than one"},
		"a key elsewhere": {"POST", executions, `{"code":"1"}`,
			[]string{"x-ms-apikey", key}, 401, "no token"},
		"a key as bearer elsewhere": {"POST", executions, `{"code":"1"}`,
			[]string{"Authorization", "Bearer " + key}, 401, "not valid"},
		"a token that runs nothing": {"POST", url, initialize, []string{"Authorization",
			"Bearer " + s.token(t, "pool-contributor")}, 403, "AuthorizationFailed"},
		"a foreign origin": {"POST", url, initialize, []string{"x-ms-apikey", key,
			"Origin", "https://evil.example.com"}, 403, "OriginNotAllowed"},
		"a foreign host": {"POST", url, initialize, []string{"x-ms-apikey", key,
			"Host", "evil.example.com"}, 403, "HostNotAllowed"},
		"its own session": {"POST", url, ping, []string{"x-ms-apikey", key,
			"Mcp-Session-Id", session}, 200, `"result":{}`},
		"a session of another caller": {"POST", url, ping, []string{"Authorization", token,
			"Mcp-Session-Id", session}, 404, "initialize"},
		"a session that nobody signed": {"POST", url, ping, []string{"x-ms-apikey", key,
			"Mcp-Session-Id", session[:26] + "-aaaa"}, 404, "initialize"},
		"GET": {"GET", url, "", []string{"x-ms-apikey", key, "Accept",
			"text/event-stream"}, 405, "MethodNotAllowed"},
		"a version of tomorrow": {"POST", url, ping, []string{"x-ms-apikey", key,
			"Mcp-Protocol-Version", "2024-01-01"}, 400, `"supported"`},
		"a batch of old": {"POST", url, "[" + ping + "," + ping + "]",
			[]string{"x-ms-apikey", key}, 200, `},{`},
		"a batch of today": {"POST", url, "[" + ping + "]", []string{"x-ms-apikey", key,
			"Mcp-Protocol-Version", "2025-06-18"}, 400, "Batches"},
		"deep JSON": {"POST", url,
			`{"jsonrpc":"2.0","id":1,"method":"ping","params":` + strings.Repeat(`{"a":`, 5000),
			[]string{"x-ms-apikey", key}, 400, "nests deeper"},
		"a large body": {"POST", url, strings.Repeat(" ", 33<<20),
			[]string{"x-ms-apikey", key}, 413, "larger"},
		"no JSON": {"POST", url, `hello`, []string{"x-ms-apikey", key}, 400,
			"-32700"},
		"a method that is not served": {"POST", url,
			`{"jsonrpc":"2.0","id":7,"method":"nonsense"}`, []string{"x-ms-apikey", key}, 200,
			`"id":7`},
		"a notification": {"POST", url,
			`{"jsonrpc":"2.0","method":"notifications/initialized"}`, []string{"x-ms-apikey", key},
			202, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, _, body := s.post(t, tt.method, tt.url, tt.body, tt.headers...)
			if status != tt.status || !strings.Contains(body, tt.holds) {
				t.Errorf("%d %s; want %d and %q", status, body, tt.status, tt.holds)
			}
		})
	}
	t.Run("rotated", func(t *testing.T) {
		next, err := s.RotateMCPKey(t.Context(), other)
		if err != nil {
			t.Fatal(err)
		}
		mine := s.endpoints[other] + "/mcp"
		if status, _, _ := s.post(t, "POST", mine, ping, "x-ms-apikey", foreign); status != 401 {
			t.Errorf("the key that was rotated: %d", status)
		}
		if status, _, body := s.post(
			t,
			"POST",
			mine,
			ping,
			"x-ms-apikey",
			next,
		); status != 200 || next == foreign ||
			s.key(t, other) != next {
			t.Errorf("the new key: %d %s", status, body)
		}
	})
	t.Run("lost", s.lost)
	t.Run("narrow", s.narrow)
}

// narrow checks that a token for some sessions of a pool opens these and no others.
func (s *server) narrow(t *testing.T) {
	made, err := s.CreateToken(t.Context(), api.TokenRequest{Name: t.Name(), Role: "session-executor",
		Scope: s.PoolID(tools).Scope().String() + "/identifiers/alice-*"})
	if err != nil {
		t.Fatal(err)
	}
	for arguments, want := range map[string]string{
		`{"environmentId":"alice-1","pythonCode":"6*7"}`: `"result":42`,
		`{"environmentId":"bob-12","pythonCode":"6*7"}`:  "AuthorizationFailed",
		`{"pythonCode":"6*7"}`:                           "AuthorizationFailed",
	} {
		body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"runPythonCodeInRemoteEnvironment","arguments":` +
			arguments + `}}`
		_, _, text := s.post(t, "POST", s.endpoints[tools]+"/mcp", body, "Authorization", "Bearer "+made.Text)
		if !strings.Contains(text, want) {
			t.Errorf("%s: %s; want %s", arguments, text, want)
		}
	}
}

// lost checks what a caller reads whose environment is gone: the words by which clients launch
// another.
func (s *server) lost(t *testing.T) {
	url, key := s.endpoints[tools]+"/mcp", s.key(t, tools)
	call := func(tool, arguments string) map[string]any {
		t.Helper()
		body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool +
			`","arguments":` + arguments + `}}`
		_, _, text := s.post(t, "POST", url, body, "x-ms-apikey", key)
		var answer map[string]any
		if err := json.NewDecoder(bytes.NewBufferString(text)).Decode(&answer); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return answer
	}
	for name, answer := range map[string]map[string]any{
		"one that never was": call("readFile", `{"environmentId":"never-was-1","path":"x"}`),
		"one that ends under the call": call("runPythonCodeInRemoteEnvironment",
			`{"environmentId":"lost-1","pythonCode":"[b'x' * (1 << 26) for _ in range(4096)]"}`),
	} {
		failure, ok := answer["error"].(map[string]any)
		if !ok {
			result, _ := answer["result"].(map[string]any)
			if result["isError"] == true && strings.HasPrefix(name, "one that ends") {
				continue // the kernel alone was killed, and the environment lives
			}
			t.Errorf("%s: %v", name, answer)
			continue
		}
		if message, _ := failure["message"].(string); !strings.Contains(message, "environment") ||
			!strings.Contains(message, "not found") {
			t.Errorf("%s: %v", name, failure)
		}
	}
}
