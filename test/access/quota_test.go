package access_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/server"
)

// TestQuota: a caller with as many sessions as each may have is told so by status 429, with when to
// ask again, in the form of whichever plane was asked, and goes on with those that it has. Others
// notice nothing.
func TestQuota(t *testing.T) {
	h := newHouses(t, func(c *server.Config) { c.Limits.CallerSessions = 2 })
	tokens := map[string]string{}
	for _, name := range []string{"one", "two"} {
		made, err := h.srv.Client.CreateToken(t.Context(), api.TokenRequest{Name: name,
			Role: string(auth.SessionExecutor), Pool: h.pool.String()})
		if err != nil {
			t.Fatal(err)
		}
		tokens[name] = made.Text
	}
	const code = `{"properties":{"codeInputType":"inline","executionType":"synchronous","code":"1"}}`
	run := func(token, identifier string) (int, string) {
		return h.ask(token, "POST", h.at("/code/execute", identifier), code)
	}
	for _, identifier := range []string{"zeroth", "first"} {
		if status, text := run(tokens["one"], identifier); status != http.StatusOK {
			t.Fatalf("the %s session: %d %s", identifier, status, text)
		}
	}
	for _, row := range []struct{ what, path, body, accept string }{
		{"execute", "/code/execute", code, ""},
		{"executions", "/executions", `{"code":"1"}`, ""},
		{"a stream", "/executions", `{"code":"1"}`, "text/event-stream"},
		{"a process", "/processes", `{"command":["true"]}`, ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "POST",
			h.srv.URL()+h.at(row.path, "second"), strings.NewReader(row.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", row.accept)
		r.Header.Set("Authorization", "Bearer "+tokens["one"])
		r.Header.Set("Content-Type", "application/json")
		resp, err := h.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		var body api.ErrorBody
		err = json.NewDecoder(resp.Body).Decode(&body)
		_ = resp.Body.Close() // it was read
		wait, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		if err != nil || resp.StatusCode != http.StatusTooManyRequests || wait < 1 ||
			body.Error.Code != "PrincipalMaxSessionsReached" ||
			!strings.Contains(body.Error.Message, "limits.caller_sessions") {
			t.Errorf("%s in one session more: %d, Retry-After %d, %+v, %v", row.what,
				resp.StatusCode, wait, body, err)
		}
	}
	for name, identifier := range map[string]string{"one": "first", "two": "second"} {
		if status, text := run(tokens[name], identifier); status != http.StatusOK {
			t.Errorf("%s in %s: %d %s", name, identifier, status, text)
		}
	}
	if status, text := h.ask(tokens["one"], "DELETE", h.at("/session", "first"), ""); status >= 300 {
		t.Fatalf("the session does not end: %d %s", status, text)
	}
	if status, text := run(tokens["one"], "third"); status != http.StatusOK {
		t.Errorf("a session in place of one that has ended: %d %s", status, text)
	}
}
