package custom_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestRunner goes the way of a public client that runs commands in sessions of custom pools: what
// it sends carries no version below the container's paths, and it reads events as they come.
func TestRunner(t *testing.T) {
	k := newKit(t)
	p := container(k.push(t, "runner:1", app(t)))
	k.makePool(t, "pool", p)
	// The client tells by the code that a session is not there, and begins it by asking for health.
	const version = "?api-version=2025-02-02-preview&identifier="
	manage := func(operation, identifier string) (int, string) {
		t.Helper()
		r := k.request(t, http.MethodPost, k.PoolEndpoint("pool")+"/.management/"+operation+version+
			identifier, nil)
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(text)
	}
	if status, text := manage("getSession", "run-1"); status != http.StatusBadRequest ||
		!strings.Contains(text, "SessionWithIdentifierNotFound") {
		t.Errorf("a session that is not there: %d %s", status, text)
	}
	if got := k.get(t, "pool", "run-1", "/health"); got != `{"ok":true}` {
		t.Errorf("health: %q", got)
	}
	if status, text := manage("getSession", "run-1"); status != http.StatusOK {
		t.Errorf("a session that is there: %d %s", status, text)
	}
	var list struct{ Value []json.RawMessage }
	if status, text := manage("listSessions", ""); status != http.StatusOK ||
		json.Unmarshal([]byte(text), &list) != nil || len(list.Value) != 1 {
		t.Errorf("the list: %d %s", status, text)
	}
	resp := k.request(t, http.MethodPost, k.PoolEndpoint("pool")+"/v1/exec?identifier=run-1",
		strings.NewReader(`{"command":"/dev/shm/answer"}`))
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "application/x-ndjson" {
		t.Errorf("the events come as %q", got)
	}
	var said []string
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		var e struct {
			Type, Data string
			ExitCode   *int
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("the event %q: %v", lines.Text(), err)
		}
		switch e.Type {
		case "heartbeat":
			continue
		case "stdout": // it is here while the execution goes on, or this would never end
			status, text := k.do(t, http.MethodPost, "pool", "run-1", "/v1/files?path=/dev/shm/answer",
				strings.NewReader("sent meanwhile"))
			if status != http.StatusOK {
				t.Fatalf("send a file: %d %s", status, text)
			}
		case "complete":
			if e.ExitCode == nil || *e.ExitCode != 3 {
				t.Errorf("it ends with %s", lines.Text())
			}
		}
		said = append(said, e.Type+" "+e.Data)
	}
	if got := strings.Join(said, ";"); got != "start ;stdout waiting\n;stderr sent meanwhile;complete " {
		t.Errorf("the events are %q", got)
	}
	if status, text := k.do(t, http.MethodPost, "pool", "run-1", "/start", nil); status !=
		http.StatusConflict || text != "it runs already\n" {
		t.Errorf("the container's own conflict: %d %q", status, text)
	}
	if status, text := manage("stopSession", "run-1"); status != http.StatusOK {
		t.Errorf("stop: %d %s", status, text)
	}
	if status, _ := manage("getSession", "run-1"); status != http.StatusBadRequest {
		t.Errorf("after the stop: %d", status)
	}
}

// request is one with the administrator's token.
func (k *kit) request(t *testing.T, method, url string, body io.Reader) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+k.token)
	resp, err := k.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}
