package servers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

// across: what a caller asks two for is done by one, which has the pool: a change of the pool,
// which only one records, a call of the MCP endpoint by the key, and a terminal.
func (w *world) across(one, two *server) {
	w.Helper()
	enabled := true
	if _, err := two.PatchPool(w.Context(), "python", api.SessionPool{
		Properties: &api.SessionPoolProperties{McpServerSettings: &api.McpServerSettings{
			IsMcpServerEnabled: &enabled}}}); err != nil {
		w.Fatal(err)
	}
	for server, want := range map[*server]int{one: 1, two: 0} {
		page, err := server.Audit(w.Context(), client.Audit{Outcome: api.AuditDone})
		got := 0
		for _, r := range page.Value {
			if r.Action == http.MethodPatch {
				got++
			}
		}
		if err != nil || got != want {
			w.Errorf("%s recorded the change %d times, %v; want %d", server.name, got, err, want)
		}
	}
	key, err := one.MCPKey(w.Context(), "python")
	if err != nil {
		w.Fatal(err)
	}
	if again, err := two.MCPKey(w.Context(), "python"); err != nil || again != key {
		w.Errorf("the other server has another key, or %v", err)
	}
	two.callTool(key)
	two.typeIn()
	// Two pools are on two servers: each deployment changes one of the other server's.
	two.deploy("made", 5)
	one.deploy("again", 6)
	two.deploy("again", 7)
	for _, name := range []string{"deployed1", "deployed2"} {
		p, err := one.Pool(w.Context(), name)
		if err != nil || *p.Properties.ScaleConfiguration.MaxConcurrentSessions != 7 {
			w.Errorf("%s after deployments: %+v, %v", name, p, err)
		}
		if _, err := two.DeletePool(w.Context(), name); err != nil {
			w.Error(err)
		}
	}
}

// deploy deploys a template of two pools.
func (s *server) deploy(name string, most int) {
	s.w.Helper()
	url := s.Endpoint() + "/subscriptions/" + sandpool.DefaultSubscription + "/resourceGroups/" +
		"default/providers/Microsoft.Resources/deployments/" + name + "?api-version=2025-04-01"
	ask := func(method, body string) (out api.Deployment) {
		req, err := http.NewRequestWithContext(s.w.Context(), method, url, strings.NewReader(body))
		if err != nil {
			s.w.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.token())
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			s.w.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode >= 300 {
			s.w.Fatalf("%s of %s: %s, %v", method, name, resp.Status, err)
		}
		return out
	}
	ask(http.MethodPut, fmt.Sprintf(`{"properties":{"mode":"Incremental","template":{"resources":[{`+
		`"type":"Microsoft.App/sessionPools","apiVersion":"2025-07-01","location":"local",`+
		`"name":"[concat('deployed', copyIndex(1))]","copy":{"name":"all","count":2},"properties":{`+
		`"containerType":"PythonLTS","scaleConfiguration":{"maxConcurrentSessions":%d,`+
		`"readySessionInstances":0}}}]}}}`, most))
	ctx, cancel := context.WithTimeout(s.w.Context(), replaceTime)
	defer cancel()
	s.w.eventually(ctx, "the deployment does not end", func() error {
		switch got := ask(http.MethodGet, ""); got.Properties.ProvisioningState {
		case "Succeeded":
			return nil
		case "Failed":
			s.w.Fatalf("the deployment %s by %s: %+v", name, s.name, got.Properties.Error)
		}
		return fmt.Errorf("the deployment %s by %s goes on", name, s.name)
	})
}

// callTool runs code by way of the MCP endpoint.
func (s *server) callTool(key string) {
	s.w.Helper()
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":`+
		`"runPythonCodeInRemoteEnvironment","arguments":{"environmentId":%q,`+
		`"pythonCode":"print(x + 2)"}}}`, session)
	req, err := http.NewRequestWithContext(s.w.Context(), http.MethodPost,
		s.PoolEndpoint("python")+"/mcp", strings.NewReader(body))
	if err != nil {
		s.w.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	req.Header.Set("X-Ms-Apikey", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.w.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close() // all of it has been read
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), "43") {
		s.w.Errorf("the MCP endpoint answered %s %s, %v", resp.Status, text, err)
	}
}

// typeIn types into a terminal, which is a WebSocket, and reads what comes of it.
func (s *server) typeIn() {
	s.w.Helper()
	ctx, cancel := context.WithTimeout(s.w.Context(), time.Minute)
	defer cancel()
	term, err := s.Terminal(ctx, "python", session, "one", 80, 24)
	if err != nil {
		s.w.Fatal(err)
	}
	defer context.AfterFunc(ctx, func() { _ = term.Close() })()
	if _, err := term.Write([]byte("echo $((6*7))-seen\n")); err != nil {
		s.w.Fatal(err)
	}
	var seen strings.Builder
	for b := make([]byte, 4<<10); !strings.Contains(seen.String(), "42-seen"); {
		n, err := term.Read(b)
		seen.Write(b[:n])
		if err != nil {
			s.w.Fatalf("the terminal showed %q: %v", seen.String(), err)
		}
	}
	if err := term.Close(); err != nil {
		s.w.Log(err) // the server may have been quicker
	}
	if err := s.EndTerminal(ctx, "python", session, "one"); err != nil {
		s.w.Error(err)
	}
}
