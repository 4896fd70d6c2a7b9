package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/history/executions"
)

// keeping makes the pools of a world keep what their sessions run.
func keeping(w *world) *executions.Keeper {
	w.history = &sandpool.History{Retention: time.Hour}
	kept := executions.New(executions.Bounds{}, nil)
	kept.Keep(poolOf("python"), w.history)
	w.gateway.options.History = kept
	return kept
}

func poolOf(name string) sandpool.PoolID {
	return sandpool.PoolID{Subscription: sandpool.DefaultSubscription,
		ResourceGroup: sandpool.DefaultResourceGroup, Name: name}
}

// past reads the history of an identifier.
func (w *world) past(query string) (h api.SessionHistory) {
	w.t.Helper()
	got := w.do("GET", ".management/history?"+query, "")
	if err := json.Unmarshal([]byte(got.body), &h); err != nil || got.status != 200 {
		w.t.Fatalf("the history: %d %s", got.status, got.body)
	}
	return h
}

// TestHistory: what ran is there, also after the session, until somebody forgets it.
func TestHistory(t *testing.T) {
	w := newWorld(t, Options{})
	kept := keeping(w)
	w.execute = func(_ context.Context, _ *lease, r agent.ExecuteRequest) (agent.ExecuteResult,
		error) {
		switch r.Code {
		case "lost":
			return agent.ExecuteResult{}, errors.New("dial /run/host/path")
		case "1/0":
			return agent.ExecuteResult{Outcome: agent.Failed, Error: &agent.ExecutionError{
				Name: "ZeroDivisionError", Message: "division by zero"}}, nil
		}
		return agent.ExecuteResult{Outcome: agent.OK, Stdout: "<script>alert(1)</script>\x1b[31m",
			Text: "2", Duration: time.Second}, nil
	}
	for _, path := range []string{"executions", "code/execute"} {
		w.do("POST", path+"?identifier=chat", `{"code":"1+1","codeInputType":"inline"}`,
			"Operation-Id", "op-"+path[:4])
	}
	w.do("POST", "executions?identifier=chat", `{"code":"1/0"}`)
	w.do("POST", "executions?identifier=chat", `{"code":"lost"}`)
	w.do("POST", "executions?identifier=else", `{"code":"other"}`)
	h := w.past("identifier=chat")
	if len(h.Value) != 4 || h.RetentionSeconds != 3600 {
		t.Fatalf("kept: %+v", h)
	}
	first := h.Value[0]
	if first.ID != "op-exec" || first.Sandbox != "sbchat" || !strings.HasPrefix(first.By, "token:") ||
		first.Code != "1+1" || first.Outcome != "ok" || first.Seconds != 1 || first.Result != "2" ||
		first.Stdout != "<script>alert(1)</script>\x1b[31m" {
		t.Errorf("the first: %+v", first)
	}
	if e := h.Value[2]; e.Outcome != "error" || e.Error != "ZeroDivisionError: division by zero" {
		t.Errorf("an exception: %+v", e)
	}
	if e := h.Value[3]; e.Outcome != "aborted" || e.Error == "" ||
		strings.Contains(e.Error, "host") {
		t.Errorf("no answer: %+v", e)
	}
	if n := len(w.past(fmt.Sprint("identifier=chat&after=", h.Value[2].Number)).Value); n != 1 {
		t.Errorf("after the third there are %d", n)
	}
	raw := w.do("GET", ".management/history?identifier=chat", "")
	if !strings.HasPrefix(raw.header.Get("Content-Type"), "application/json") ||
		strings.ContainsAny(strings.TrimSpace(raw.body), "\x1b<>") {
		t.Errorf("the answer could be taken for a page: %s %q", raw.header, raw.body)
	}
	w.do("DELETE", "session?identifier=chat", "")
	acquired, _ := w.counts()
	if n := len(w.past("identifier=chat").Value); n != 4 {
		t.Errorf("after the session there are %d", n)
	}
	for range 2 {
		if got := w.do("DELETE", ".management/history?identifier=chat", ""); got.status != 204 {
			t.Errorf("forget: %d %s", got.status, got.body)
		}
	}
	if n, _ := kept.Kept(); n != 1 || len(w.past("identifier=else").Value) != 1 {
		t.Errorf("%d are kept after one of two identifiers was forgotten", n)
	}
	if again, _ := w.counts(); again != acquired {
		t.Error("to look at a history began a session")
	}
	for query, want := range map[string]int{"": 400, "identifier=chat&after=x": 400,
		"identifier=chat&after=-1": 400} {
		if got := w.do("GET", ".management/history?"+query, ""); got.status != want {
			t.Errorf("%s: %d %s", query, got.status, got.body)
		}
	}
}

// TestHistoryOff: a pool that does not ask for it has none, and its executions are not looked at.
func TestHistoryOff(t *testing.T) {
	w := newWorld(t, Options{})
	kept := keeping(w)
	w.history = nil
	w.do("POST", "executions?identifier=chat", `{"code":"1+1"}`)
	if n, _ := kept.Kept(); n != 0 {
		t.Errorf("%d executions are kept", n)
	}
	for _, method := range []string{"GET", "DELETE"} {
		got := w.do(method, ".management/history?identifier=chat", "")
		if got.status != 409 || !strings.Contains(got.body, "HistoryNotKept") ||
			!strings.Contains(got.body, "--history") {
			t.Errorf("%s: %d %s", method, got.status, got.body)
		}
	}
}

// TestHistoryScope: what a session ran is for those who may run code in it.
func TestHistoryScope(t *testing.T) {
	w := newWorld(t, Options{})
	keeping(w)
	for _, name := range []string{"tenant-7-a", "tenant-8-a"} {
		w.do("POST", "executions?identifier="+name, `{"code":"secret"}`)
	}
	scope := strings.Replace(endpoint, "/sessionPools", "/providers/Microsoft.App/sessionPools",
		1) + "/identifiers/tenant-7-*"
	for _, method := range []string{"GET", "DELETE"} {
		for query, headers := range map[string][]string{
			"identifier=tenant-8-a": {"Test-Role", "session-executor", "Test-Scope", scope},
			"identifier=tenant-7-b&identifier=tenant-8-a": {"Test-Role", "session-executor",
				"Test-Scope", scope},
			"identifier=tenant-7-a": {"Test-Role", "pool-contributor"},
			"Identifier=tenant-7-a": {"Test-Role", "reader"},
		} {
			got := w.do(method, ".management/history?"+query, "", headers...)
			if got.status/100 != 4 || strings.Contains(got.body, "secret") {
				t.Errorf("%s %s as %v: %d %s", method, query, headers, got.status, got.body)
			}
		}
	}
	got := w.do("GET", ".management/history?identifier=tenant-7-a", "", "Test-Role",
		"session-executor", "Test-Scope", scope)
	if got.status != 200 || strings.Count(got.body, "secret") != 1 {
		t.Errorf("its own: %d %s", got.status, got.body)
	}
	if n := len(w.past("identifier=tenant-8-a").Value); n != 1 {
		t.Errorf("of the other tenant's are left %d", n)
	}
}

// TestHistoryBackground: an execution that nobody waits for is kept with what it put out, and so is
// one whose events are followed.
func TestHistoryBackground(t *testing.T) {
	w, r := backgroundWorld(t)
	keeping(w)
	w.do("POST", "executions?identifier=abcd",
		`{"code":"print wait show","executionType":"Asynchronous"}`, "Operation-Id", "op-1")
	if h := w.past("identifier=abcd"); len(h.Value) != 1 || h.Value[0].Outcome != "" ||
		h.Value[0].ID != "op-1" {
		t.Errorf("while it runs: %+v", h)
	}
	r.ticks <- struct{}{}
	wait(t, func() bool { return w.past("identifier=abcd").Value[0].Outcome != "" })
	if e := w.past("identifier=abcd").Value[0]; e.Outcome != "ok" || e.Stdout != "line\n" ||
		e.Result != "42" {
		t.Errorf("ended: %+v", e)
	}
	w.do("POST", "executions?identifier=abcd", `{"code":"print"}`, "Accept", "application/x-ndjson")
	wait(t, func() bool {
		h := w.past("identifier=abcd")
		return len(h.Value) == 2 && h.Value[1].Outcome == "ok" && h.Value[1].Stdout == "line\n"
	})
	w.do("POST", "executions?identifier=abcd",
		`{"code":"wait","executionType":"Asynchronous"}`, "Operation-Id", "op-3")
	w.end("abcd", sandpool.Errorf(sandpool.Ended, "", "identifier", "The session was deleted."))
	wait(t, func() bool { return w.past("identifier=abcd").Value[2].Outcome == "aborted" })
	if e := w.past("identifier=abcd").Value[2]; e.Error != "The session was deleted." {
		t.Errorf("cut short: %+v", e)
	}
	r.ticks <- struct{}{} // the sandbox of the test goes on
}
