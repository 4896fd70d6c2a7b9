package gateway

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// TestEnvelopes checks each path's envelope, byte for byte.
func TestEnvelopes(t *testing.T) {
	w := newWorld(t, Options{})
	w.execute = func(_ context.Context, _ *lease, r agent.ExecuteRequest) (agent.ExecuteResult,
		error) {
		if r.Code == "boom" {
			return agent.ExecuteResult{Outcome: agent.Failed, Stdout: "before\n",
				Duration: 3 * time.Millisecond,
				Error: &agent.ExecutionError{Name: "ValueError", Message: "no",
					Traceback: "Traceback…\nValueError: no"}}, nil
		}
		return agent.ExecuteResult{Outcome: agent.OK, Stdout: "hi <b>\n", HasValue: true, Text: "2",
			Duration: 9 * time.Millisecond}, nil
	}
	old := `"status":"Success","stdout":"hi \u003cb\u003e\n","stderr":"","result":2,"executionResult":2,"executionTimeInMilliseconds":9`
	failed := `"stdout":"before\n","stderr":"Traceback…\nValueError: no",`
	extras := `,"executionTimeInMilliseconds":3,"errorName":"ValueError","errorMessage":"no"`
	for _, tt := range []struct{ name, path, body, want string }{
		{"old", "code/execute?api-version=2024-02-02-preview&identifier=chat-42ab",
			`{"properties":{"codeInputType":"inline","executionType":"synchronous","code":"1+1"}}`,
			`{"$id":"1","properties":{"$id":"2",` + old + `}}`},
		{"old, failed", "code/execute?identifier=chat-42ab", `{"properties":{"code":"boom"}}`,
			`{"$id":"1","properties":{"$id":"2","status":"Failure",` + failed +
				`"result":"","executionResult":""` + extras + `}}`},
		{"legacy", "python/execute?identifier=chat-42ab",
			`{"properties":{"identifier":"chat-42ab","pythonCode":"1+1"}}`,
			`{"$id":"1",` + old + `,"properties":{"$id":"2",` + old + `}}`},
		{"legacy, identifier in the body alone", "python/execute?api-version=2024-02-02-preview",
			`{"properties":{"identifier":"chat-42ab","pythonCode":"1+1"}}`,
			`{"$id":"1",` + old + `,"properties":{"$id":"2",` + old + `}}`},
		{"plain", "execute?identifier=chat-42ab", `{"code":"1+1"}`,
			`{"$id":"1",` + old + `,"properties":{"$id":"2",` + old + `}}`},
		{"new", "executions?api-version=2025-10-02-preview&identifier=chat-42ab",
			`{"codeInputType":"Inline","executionType":"Synchronous","code":"1+1","timeoutInSeconds":60}`,
			`{"$id":"1","id":"op-1","identifier":"chat-42ab","sessionId":"sbchat-42ab","executionType":"Synchronous","status":"Succeeded","result":{"$id":"2","stdout":"hi \u003cb\u003e\n","stderr":"","executionResult":2,"executionTimeInMilliseconds":9}}`},
		{"new, wrapped", "executions?identifier=chat-42ab", `{"properties":{"code":"1+1"}}`,
			`{"$id":"1","id":"op-1","identifier":"chat-42ab","sessionId":"sbchat-42ab","executionType":"Synchronous","status":"Succeeded","result":{"$id":"2","stdout":"hi \u003cb\u003e\n","stderr":"","executionResult":2,"executionTimeInMilliseconds":9}}`},
		{"new, failed", "executions?identifier=chat-42ab", `{"code":"boom"}`,
			`{"$id":"1","id":"op-1","identifier":"chat-42ab","sessionId":"sbchat-42ab","executionType":"Synchronous","status":"Failed","result":{"$id":"2",` + failed + `"executionResult":""` + extras + `},"error":{"error":{"code":"ValueError","message":"no"}}}`},
		{"identifier in the path", "identifier/chat-42ab/executions", `{"code":"1+1"}`,
			`{"$id":"1","id":"op-1","identifier":"chat-42ab","sessionId":"sbchat-42ab","executionType":"Synchronous","status":"Succeeded","result":{"$id":"2","stdout":"hi \u003cb\u003e\n","stderr":"","executionResult":2,"executionTimeInMilliseconds":9}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := w.do("POST", tt.path, tt.body, "operation-id", "op-1")
			if got.status != 200 {
				t.Fatalf("status %d: %s", got.status, got.body)
			}
			if diff := cmp.Diff(tt.want, got.body); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
	if acquired, released := w.counts(); acquired == 0 || acquired != released {
		t.Errorf("acquired %d leases, released %d", acquired, released)
	}
}

// TestEnds checks that whatever ends an execution is a 200 that says why.
func TestEnds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		result agent.ExecuteResult
		stderr []string
		lost   bool
	}{
		{"interrupted", agent.ExecuteResult{Outcome: agent.TimeoutInterrupted, Stderr: "warning"},
			[]string{"warning\n", "Request timed out waiting for code execution to complete", "2 s",
				"interrupted", "kept"}, false},
		{"restarted", agent.ExecuteResult{Outcome: agent.TimeoutRestarted, KernelRestarted: true},
			[]string{"Request timed out waiting for code execution to complete", "restarted",
				"lost"}, true},
		{"kernel died", agent.ExecuteResult{Outcome: agent.KernelDied, KernelRestarted: true},
			[]string{"Execution aborted", "lost"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, Options{})
			w.returns(tt.result)
			got := w.do("POST", "executions?identifier=abcd", `{"code":"x","timeoutInSeconds":2}`)
			m := got.json(t)
			result, _ := m["result"].(map[string]any)
			if got.status != 200 || m["status"] != "Failed" || result["executionResult"] != "" {
				t.Fatalf("answer %d %s", got.status, got.body)
			}
			for _, want := range tt.stderr {
				if !strings.Contains(result["stderr"].(string), want) {
					t.Errorf("stderr %q lacks %q", result["stderr"], want)
				}
			}
			if lost, _ := result["stateLost"].(bool); lost != tt.lost {
				t.Errorf("stateLost = %v, want %v", lost, tt.lost)
			}
		})
	}
}

// TestSessionEndsDuringExecution checks that the connection may break before or
// after the pool learns of the end, and that the next call gets a new session.
func TestSessionEndsDuringExecution(t *testing.T) {
	for _, breaksFirst := range []bool{true, false} {
		w := newWorld(t, Options{})
		first := true
		w.execute = func(ctx context.Context, l *lease,
			_ agent.ExecuteRequest) (agent.ExecuteResult, error) {
			if !first {
				return agent.ExecuteResult{Outcome: agent.OK}, nil
			}
			first = false
			end := func() {
				w.end(l.session.Identifier, sandpool.Errorf(sandpool.Ended, "", "identifier",
					"The session went over its memory limit of 512 MiB."))
			}
			if breaksFirst {
				go end()
				return agent.ExecuteResult{}, io.ErrUnexpectedEOF
			}
			end()
			<-ctx.Done()
			return agent.ExecuteResult{}, context.Cause(ctx)
		}
		got := w.do("POST", "code/execute?identifier=abcd", `{"code":"x = 'a' * 10**12"}`)
		props, _ := got.json(t)["properties"].(map[string]any)
		if got.status != 200 || props["status"] != "Failure" ||
			!strings.Contains(props["stderr"].(string), "Execution aborted: The session went "+
				"over its memory limit of 512 MiB. The session's variables and files are lost.") {
			t.Fatalf("breaksFirst %v: answer %d %s", breaksFirst, got.status, got.body)
		}
		if got := w.do("POST", "code/execute?identifier=abcd", `{"code":"1"}`); got.status != 200 ||
			!strings.Contains(got.body, "Success") {
			t.Errorf("the next call: %d %s", got.status, got.body)
		}
		if acquired, released := w.counts(); acquired != released {
			t.Errorf("acquired %d leases, released %d", acquired, released)
		}
	}
}

// TestCallerLeaves checks that a caller who goes away stops the code and gives the lease back.
func TestCallerLeaves(t *testing.T) {
	w := newWorld(t, Options{})
	running, stopped := make(chan struct{}), make(chan error, 1)
	w.execute = func(ctx context.Context, _ *lease, _ agent.ExecuteRequest) (agent.ExecuteResult,
		error) {
		close(running)
		<-ctx.Done()
		stopped <- ctx.Err()
		return agent.ExecuteResult{}, ctx.Err()
	}
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-running; leave() }()
	_, err := post(ctx, w.url+endpoint+"/executions?identifier=abcd", `{"code":"while True: pass"}`)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the call ended with %v", err)
	}
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		t.Errorf("the execution ended with %v", err)
	}
	wait(t, func() bool { _, released := w.counts(); return released == 1 })
}

func TestFull(t *testing.T) {
	w := newWorld(t, Options{})
	w.full = sandpool.Errorf(sandpool.Full, "SessionPoolMaxSessionsReached", "identifier",
		"The pool has its maximum of 2 sessions.")
	got := w.do("POST", "executions?identifier=abcd", `{"code":"1"}`)
	if got.status != 404 || got.header.Get("Retry-After") == "" ||
		got.header.Get("X-Ms-Error-Code") != "SessionPoolMaxSessionsReached" ||
		!strings.Contains(got.body, "The pool has its maximum of 2 sessions.") {
		t.Errorf("answer %d %v %s", got.status, got.header, got.body)
	}
}

// A session that was lost since its last call is an aborted execution too: nothing has run.
func TestLostBetweenCalls(t *testing.T) {
	w := newWorld(t, Options{})
	w.full = sandpool.Errorf(sandpool.Ended, "", "",
		"out of memory: the sandbox used more than its limit of 1 GiB")
	got := w.do("POST", "executions?identifier=abcd", `{"code":"1"}`)
	if got.status != 200 || !strings.Contains(got.body, "Execution aborted: out of memory: the "+
		"sandbox used more than its limit of 1 GiB. The session's variables and files are lost.") {
		t.Errorf("answer %d %s", got.status, got.body)
	}
	if got := w.do("GET", "files?identifier=abcd", ""); got.status != 410 {
		t.Errorf("a call for files: answer %d %s", got.status, got.body)
	}
}

func TestHeaders(t *testing.T) {
	w := newWorld(t, Options{})
	got := w.do("POST", "executions?identifier=abcd", `{"code":"1"}`, "operation-id", "my op\t")
	for _, name := range []string{"X-Ms-Overall-Execution-Time", "X-Ms-Preparation-Time",
		"X-Ms-Allocation-Time",
		"X-Ms-Execution-Request-Time", "X-Ms-Execution-Read-Response-Time",
		"X-Ms-Container-Execution-Duration"} {
		if v := got.header.Get(name); v == "" || strings.Trim(v, "0123456789") != "" {
			t.Errorf("%s is %q, want whole milliseconds", name, v)
		}
	}
	if v := got.header.Get("Server-Timing"); !strings.Contains(v,
		"claim;dur=0.213, start;dur=0.000,") || !strings.Contains(v, "execute;dur=") {
		t.Errorf("Server-Timing is %q", v)
	}
	if v := got.header.Get("X-Ms-Session-Guid"); v != "sbabcd" {
		t.Errorf("X-Ms-Session-Guid is %q", v)
	}
	if v := got.header.Get("Operation-Id"); v == "" || strings.Contains(v, " ") ||
		got.json(t)["id"] != v {
		t.Errorf("Operation-Id is %q, the body says %v", v, got.json(t)["id"])
	}
}
