package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/guest/executions"
	"github.com/sandpool/sandpool/internal/agent/guest/output"
	"github.com/sandpool/sandpool/internal/interpreter"
)

// recording is a fake agent that keeps executions as the real one does. Their code says what they
// do, a word each: "print", "show", "wait" for ticks, and "fail".
type recording struct {
	fakeAgent
	kept  executions.Registry
	ticks chan struct{}
}

var _ interpreter.Background = (*recording)(nil)

func (r *recording) run(ctx context.Context, req agent.ExecuteRequest,
	f *output.Feed) (agent.ExecuteResult, error) {
	f.Begin()
	res := agent.ExecuteResult{Outcome: agent.OK, HasValue: true, Text: "42",
		Duration: time.Millisecond}
	for word := range strings.FieldsSeq(req.Code) {
		switch word {
		case "print":
			f.Stdout()([]byte("line\n"))
			res.Stdout += "line\n"
		case "show":
			d := agent.Display{ID: "d", Data: agent.Bundle{"text/html": "<b>"}}
			f.Display(d)
			res.Displays = append(res.Displays, d)
		case "wait":
			select {
			case <-r.ticks:
			case <-ctx.Done():
				res.Outcome, res.Error = agent.Failed, &agent.ExecutionError{
					Name: "KeyboardInterrupt"}
				return res, nil
			}
		case "fail":
			res.Outcome, res.HasValue, res.Error = agent.Failed, false, &agent.ExecutionError{
				Name: "ValueError", Message: "no", Traceback: "ValueError: no"}
		}
	}
	return res, nil
}

func (r *recording) Start(ctx context.Context, req agent.StartRequest) (agent.Execution, error) {
	if req.Room != nil {
		req.Room.Sent()
	}
	return r.kept.Start(ctx, req, r.run)
}

func (r *recording) Executions(context.Context) ([]agent.Execution, error) {
	return r.kept.List(), nil
}

func (r *recording) Execution(_ context.Context, id string, _ agent.Room) (agent.Execution, error) {
	return r.kept.Get(id)
}

func (r *recording) Cancel(_ context.Context, id string) (agent.Execution, error) {
	return r.kept.Cancel(id)
}

func (r *recording) Wait(ctx context.Context, id string) (agent.Execution, error) {
	return r.kept.Wait(ctx, id)
}

func (r *recording) Follow(ctx context.Context, id string, after int64, _ agent.Room,
	emit func(agent.Record) error) error {
	return r.kept.Read(ctx, id, after, emit)
}

// backgroundWorld returns a world whose one session keeps executions.
func backgroundWorld(t *testing.T) (*world, *recording) {
	t.Helper()
	r := &recording{ticks: make(chan struct{})}
	w := newWorldOf(t, Options{}, func(s interpreter.Session) interpreter.Agent {
		r.fakeAgent = fakeAgent{w: s.(*lease).w, l: s.(*lease)}
		return r
	})
	return w, r
}

func TestAsynchronous(t *testing.T) {
	w, r := backgroundWorld(t)
	got := w.do("POST", "executions?api-version=2025-10-02-preview&identifier=abcd",
		`{"code":"print wait show","executionType":"Asynchronous"}`, "Operation-Id", "op-1")
	location := got.header.Get("Operation-Location")
	if m := got.json(t); got.status != 202 || m["id"] != "op-1" ||
		m["executionType"] != "Asynchronous" || m["result"] != nil ||
		got.header.Get("Operation-Id") != "op-1" ||
		location != w.url+endpoint+
			"/executions/op-1?api-version=2025-10-02-preview&identifier=abcd" {
		t.Fatalf("answer %d %s, found at %q", got.status, got.body, location)
	}
	path := strings.TrimPrefix(location, w.url)
	wait(t, func() bool { return w.raw("GET", path, "").json(t)["status"] == "Running" })
	if acquired, released := w.counts(); acquired == released {
		t.Error("nothing holds the session while its execution goes on")
	}
	if got := w.do("POST", "executions?identifier=abcd",
		`{"code":"1","executionType":"asynchronous"}`, "Operation-Id", "op-1"); got.status != 409 {
		t.Errorf("the same id again: %d %s", got.status, got.body)
	}
	r.ticks <- struct{}{}
	wait(t, func() bool { return w.raw("GET", path, "").json(t)["status"] == "Succeeded" })
	m := w.raw("GET", path, "").json(t)
	result, _ := m["result"].(map[string]any)
	if result["stdout"] != "line\n" || result["executionResult"] != json.Number("42") ||
		m["executionType"] != "Asynchronous" || m["sessionId"] != "sbabcd" {
		t.Errorf("the result: %v", m)
	}
	w.do("POST", "executions?identifier=abcd", `{"code":"fail","executionType":"asynchronous"}`,
		"Operation-Id", "op-2")
	wait(t, func() bool {
		return w.do("GET", "executions/op-2?identifier=abcd", "").json(t)["status"] == "Failed"
	})
	w.do("POST", "executions?identifier=abcd", `{"code":"wait","executionType":"asynchronous"}`,
		"Operation-Id", "op-3")
	if got := w.do("DELETE", "executions/op-3?identifier=abcd", ""); got.status != 200 {
		t.Errorf("cancel: %d %s", got.status, got.body)
	}
	wait(t, func() bool {
		return w.do("GET", "executions/op-3?identifier=abcd", "").json(t)["status"] == "Canceled"
	})
	list, _ := w.do("GET", "executions?identifier=abcd", "").json(t)["value"].([]any)
	if len(list) != 3 || list[0].(map[string]any)["id"] != "op-1" ||
		list[1].(map[string]any)["status"] != "Failed" {
		t.Errorf("the list: %v", list)
	}
	for _, path := range []string{"executions/none?identifier=abcd",
		"executions/op-1?identifier=other"} {
		if got := w.do("GET", path, ""); got.status != 404 ||
			got.header.Get("X-Ms-Error-Code") != "ExecutionNotFound" {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if got := w.do("POST", "code/execute?identifier=abcd",
		`{"code":"1","executionType":"asynchronous"}`); got.status != 400 {
		t.Errorf("on the old path: %d %s", got.status, got.body)
	}
	wait(t, func() bool { acquired, released := w.counts(); return acquired == released })
}

// Who asks for an execution whose session was lost is told so, once, and not that there never was
// one.
func TestExecutionOfALostSession(t *testing.T) {
	w, _ := backgroundWorld(t)
	w.mu.Lock()
	w.lost = map[sandpool.Identifier]error{"abcd": sandpool.Errorf(sandpool.Ended, "", "",
		"out of memory")}
	w.mu.Unlock()
	for _, want := range []string{"410 SessionEnded", "404 ExecutionNotFound"} {
		got := w.do("GET", "executions/op-1?identifier=abcd", "")
		if answer := fmt.Sprint(got.status, " ", got.header.Get("X-Ms-Error-Code")); answer !=
			want {
			t.Errorf("answer %s %s, want %s", answer, got.body, want)
		}
	}
}

// Who wants a stream gets one, also when its session was lost before anything has run.
func TestStreamOfALostSession(t *testing.T) {
	w, _ := backgroundWorld(t)
	w.full = sandpool.Errorf(sandpool.Ended, "", "", "out of memory")
	for _, form := range []string{"text/event-stream", "application/x-ndjson"} {
		got := w.do("POST", "executions?identifier=abcd", `{"code":"1"}`, "Accept", form)
		if kind := got.header.Get("Content-Type"); got.status != 200 ||
			!strings.HasPrefix(kind, form) {
			t.Fatalf("%s: %d %s %s", form, got.status, kind, got.body)
		}
		list := events(t, strings.NewReader(got.body), form == "text/event-stream", 0, 0)
		if len(list) != 2 || list[0].Type != api.EventStderr ||
			!strings.Contains(list[0].Text, "out of memory. The session's variables") ||
			list[1].Type != api.EventResult || list[1].Status != api.StatusFailed {
			t.Errorf("%s: %+v", form, list)
		}
		text := fmt.Sprint(list[len(list)-1].Execution)
		if !strings.Contains(text, "stateLost:true") {
			t.Errorf("%s: the end is %s", form, text)
		}
	}
}

// events reads a stream to its end, or until it has n events, which it checks to be numbered.
func events(t *testing.T, body io.Reader, sse bool, after int64,
	n int) (list []api.ExecutionEvent) {
	t.Helper()
	lines := bufio.NewScanner(body)
	for (n == 0 || len(list) < n) && lines.Scan() {
		text := lines.Text()
		if sse {
			data, ok := strings.CutPrefix(text, "data: ")
			if !ok {
				continue
			}
			text = data
		}
		var ev api.ExecutionEvent
		if err := json.Unmarshal([]byte(text), &ev); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if ev.Sequence != after+int64(len(list))+1 {
			t.Errorf("event %d has the number %d", after+int64(len(list))+1, ev.Sequence)
		}
		list = append(list, ev)
	}
	return list
}

// TestLive: a stream says what happens while it does, and goes on where a reader was cut off.
func TestLive(t *testing.T) {
	for _, accept := range []string{"text/event-stream", "application/x-ndjson"} {
		sse := accept == "text/event-stream"
		w, r := backgroundWorld(t)
		open := func(method, path, body string, headers ...string) *http.Response {
			req, err := http.NewRequestWithContext(t.Context(), method, w.url+endpoint+"/"+path,
				strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", accept)
			for i := 0; i+1 < len(headers); i += 2 {
				req.Header.Set(headers[i], headers[i+1])
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			return resp
		}
		resp := open("POST", "executions?identifier=abcd", `{"code":"print wait show print"}`,
			"Operation-Id", "op")
		if kind := resp.Header.Get("Content-Type"); resp.StatusCode != 200 ||
			!strings.HasPrefix(kind, accept) || resp.Header.Get("Operation-Location") == "" {
			t.Fatalf("answer %d of type %s", resp.StatusCode, kind)
		}
		first := events(t, resp.Body, sse, 0, 2)
		resp.Body.Close() // cut off
		if first[0].Status != "Running" || first[1].Text != "line\n" {
			t.Errorf("first: %+v", first)
		}
		r.ticks <- struct{}{}
		resp = open("GET", "executions/op?identifier=abcd", "", "Last-Event-ID", "2")
		rest := events(t, resp.Body, sse, 2, 0)
		resp.Body.Close()
		if len(rest) != 3 || rest[0].Type != "display" || rest[0].Data["text/html"] != "<b>" ||
			rest[0].DisplayID != "d" || rest[1].Text != "line\n" {
			t.Fatalf("the rest: %+v", rest)
		}
		result, _ := rest[2].Execution.(map[string]any)
		inner, _ := result["result"].(map[string]any)
		if rest[2].Type != "result" || rest[2].Status != "Succeeded" ||
			inner["executionResult"] != 42.0 || inner["stdout"] != "" {
			t.Errorf("the end: %+v", rest[2])
		}
		resp = open("GET", "executions/op?identifier=abcd&after=9", "")
		resp.Body.Close()
		if resp.StatusCode != 400 {
			t.Errorf("after the end: %d", resp.StatusCode)
		}
		wait(t, func() bool { acquired, released := w.counts(); return acquired == released })
	}
}
