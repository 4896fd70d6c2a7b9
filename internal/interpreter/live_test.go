package interpreter

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// recorder is the agent of a session that has records on its link, and can be asked nothing else.
type recorder struct {
	ordered
	c *agent.Client
}

func (r recorder) Run(ctx context.Context, req agent.StartRequest) (*agent.Live, error) {
	return r.c.Run(ctx, req)
}

// recording returns an interpreter whose agent says what the code has of these words: a record for
// "text", the last one for "over", a refusal for "no". It leaves at "gone".
func recording(t *testing.T) *Interpreter {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		frames := agent.NewFrameReader(far, 1<<20)
		for {
			var req agent.StartRequest
			if frames.Next(&req) != nil {
				return
			}
			for i, word := range strings.Fields(req.Code) {
				a := agent.Answer{Record: &agent.Record{Number: int64(i + 1)}}
				switch word {
				case "gone":
					return
				case "no":
					a = agent.Answer{Fault: agent.FaultOf(sandpool.Errorf(sandpool.Conflict, "",
						"", "there is one"))}
				case "text":
					a.Record.Stdout = "a"
				case "over":
					a.Record.Execution = &agent.Execution{State: agent.ExecutionEnded,
						Outcome: agent.OK, Result: &agent.ExecuteResult{Outcome: agent.OK}}
				}
				frame, err := agent.EncodeFrame(a)
				if err != nil {
					t.Error(err)
				}
				if _, err := far.Write(frame); err != nil {
					return
				}
			}
		}
	}()
	c := agent.NewClient(func(context.Context, int) (net.Conn, error) {
		return nil, errors.New("there is the channel alone")
	}, "")
	c.Attach(near)
	t.Cleanup(func() {
		c.Close()
		_ = near.Close()
		<-done
	})
	s := newSession(t, "box")
	set := New(Options{Connect: func(Session) Agent { return recorder{ordered{s: s}, c} }})
	t.Cleanup(func() { s.end(nil) })
	return set.Of(s)
}

// TestRun: an execution's records come with its start, and a reader that leaves has no part in how
// it ends.
func TestRun(t *testing.T) { synctest.Test(t, testRun) }

func testRun(t *testing.T) {
	in := recording(t)
	left := errors.New("left")
	for _, tt := range []struct {
		code   string
		leave  int64 // after so many
		want   int64 // records
		fails  error
		nobody bool // it was not begun
	}{
		{code: "text text over", want: 3},
		{code: "text text over", leave: 1, want: 1, fails: left},
		{code: "no", nobody: true},
		{code: "text over", want: 2},
	} {
		var got int64
		sent := false
		run, err := in.Run(t.Context(), "e", Execution{Sent: func() { sent = true },
			ExecuteRequest: agent.ExecuteRequest{Code: tt.code}}, func(r agent.Record,
			_ bool) (func() error, error) {
			got++
			return func() error {
				if got == tt.leave {
					return left
				}
				return nil
			}, nil
		})
		if tt.nobody {
			if run != nil || sandpool.ClassOf(err) != sandpool.Conflict {
				t.Errorf("%s: %+v, %v", tt.code, run, err)
			}
			continue
		}
		if !errors.Is(err, tt.fails) || got != tt.want || !sent ||
			(run.Ended() == nil) != (tt.fails != nil) {
			t.Fatalf("%s: %d records, %v", tt.code, got, err)
		}
		if e, err := run.Wait(t.Context()); err != nil || e.Outcome != agent.OK ||
			e.Result != nil {
			t.Errorf("%s: it ended with %+v, %v", tt.code, e, err)
		}
	}
	run, err := in.Run(t.Context(), "e", Execution{ExecuteRequest: agent.ExecuteRequest{
		Code: "text gone"}}, func(agent.Record, bool) (func() error, error) {
		return func() error { return nil }, nil
	})
	if run == nil || run.Ended() != nil || sandpool.ClassOf(err) != sandpool.Unavailable {
		t.Errorf("an agent that is gone: %+v, %v", run, err)
	}
}
