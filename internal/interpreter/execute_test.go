package interpreter

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/budget"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// session is one whose sandbox answers executions as a test orders.
type session struct {
	id      sandpool.SandboxID
	ctx     context.Context
	end     context.CancelCauseFunc
	execute func(ctx context.Context, r agent.ExecuteRequest) (agent.ExecuteResult, error)
}

func newSession(t *testing.T, id sandpool.SandboxID) *session {
	t.Helper()
	s := &session{id: id}
	s.ctx, s.end = context.WithCancelCause(t.Context())
	return s
}

func (s *session) Sandbox() sandpool.Sandbox { return sandpool.Sandbox{ID: s.id} }
func (s *session) Context() context.Context  { return s.ctx }
func (s *session) Dial(context.Context, int) (net.Conn, error) {
	return nil, errors.New("nobody is there")
}

// returns orders executions to end with res.
func (s *session) returns(res agent.ExecuteResult) {
	s.execute = func(context.Context, agent.ExecuteRequest) (agent.ExecuteResult, error) {
		return res, nil
	}
}

// ordered is the agent of a session. It knows no files.
type ordered struct {
	Agent
	s *session
}

func (o ordered) Execute(ctx context.Context, r agent.ExecuteRequest) (agent.ExecuteResult, error) {
	res, err := o.s.execute(ctx, r)
	if frame, _ := agent.EncodeFrame(res); err == nil && r.Room != nil &&
		len(frame) > agent.LargeAnswer {
		err = r.Room.Take(ctx, int64(len(frame)))
	}
	return res, err
}

// List returns nothing, which takes as much room as the longest list.
func (o ordered) List(ctx context.Context, _ string, _ bool,
	room agent.Room) ([]agent.FileInfo, error) {
	return nil, room.Take(ctx, poolRoom)
}

func (o ordered) Close() {}

// newSet returns a Set of sessions whose agents answer as ordered.
func newSet() *Set {
	return New(Options{Connect: func(s Session) Agent { return ordered{s: s.(*session)} }})
}

// TestForgetEnded checks that a sandbox has one interpreter, and that nothing is kept of a
// session that ended.
func TestForgetEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, s := newSet(), newSession(t, "box")
		if first := set.Of(s); first != set.Of(s) {
			t.Error("one sandbox has two interpreters")
		}
		s.end(context.Canceled)
		synctest.Wait()
		if len(set.known) != 0 {
			t.Error("the interpreter of a session that ended is kept")
		}
	})
}

// TestQueuedExecution checks that an execution which waits for its session's other cell
// has time for both.
func TestQueuedExecution(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, s := newSet(), newSession(t, "box")
		s.execute = func(ctx context.Context, _ agent.ExecuteRequest) (agent.ExecuteResult, error) {
			select {
			case <-time.After(220*time.Second + 10*time.Second):
				return agent.ExecuteResult{Outcome: agent.OK, Stdout: "done"}, nil
			case <-ctx.Done():
				return agent.ExecuteResult{}, ctx.Err()
			}
		}
		res, err := set.Of(s).Execute(t.Context(),
			Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1", Timeout: 10 * time.Second}})
		if err != nil || res.Stdout != "done" {
			t.Fatalf("result %+v, error %v", res, err)
		}
		res.Release()
		s.end(nil)
	})
}

// TestExplain checks what the errors of calls mean.
func TestExplain(t *testing.T) {
	ended := sandpool.Errorf(sandpool.Ended, "", "", "out of memory")
	gone := errors.New("gone")
	for _, tt := range []struct {
		name    string
		err     error // of the agent; nil means that the call waits
		leaves  bool  // the caller does, with gone
		ends    bool  // the session does, with ended, a second later
		want    error
		class   sandpool.Class
		seconds time.Duration
	}{
		{"the agent refuses", sandpool.Errorf(sandpool.Conflict, "", "", "no"), false, true, nil,
			sandpool.Conflict, 0},
		{"the connection breaks before the news", io.ErrUnexpectedEOF, false, true, ended,
			sandpool.Ended, 1},
		{"the connection breaks", io.ErrUnexpectedEOF, false, false, nil, sandpool.Unavailable, 3},
		{"the session ends", nil, false, true, ended, sandpool.Ended, 1},
		{"the caller leaves", nil, true, false, gone, sandpool.Internal, 1},
		{"silence", nil, false, false, nil, sandpool.Unavailable, 1 + 220 + 30},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set, s := newSet(), newSession(t, "box")
				s.execute = func(ctx context.Context, _ agent.ExecuteRequest) (agent.ExecuteResult,
					error) {
					if tt.err != nil {
						return agent.ExecuteResult{}, tt.err
					}
					<-ctx.Done()
					return agent.ExecuteResult{}, ctx.Err()
				}
				ctx, leave := context.WithCancelCause(t.Context())
				time.AfterFunc(time.Second, func() {
					if tt.ends {
						s.end(ended)
					}
					if tt.leaves {
						leave(gone)
					}
				})
				started := time.Now()
				_, err := set.Of(s).Execute(ctx,
					Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1",
						Timeout: time.Second}})
				if err == nil || tt.want != nil && !errors.Is(err, tt.want) ||
					sandpool.ClassOf(err) != tt.class {
					t.Errorf("error %v of class %v", err, sandpool.ClassOf(err))
				}
				if took := time.Since(started); took != tt.seconds*time.Second {
					t.Errorf("took %v, want %v s", took, int64(tt.seconds))
				}
				leave(nil)
				s.end(nil)
			})
		})
	}
}

// TestRoomForListings: few long lists are in work at the same time.
func TestRoomForListings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, s := newSet(), newSession(t, "box")
		defer s.end(nil)
		var releases []func()
		for range allRoom / poolRoom {
			_, release, err := set.Of(s).List(t.Context(), "", true)
			if err != nil {
				t.Fatal(err)
			}
			releases = append(releases, release)
		}
		started := time.Now()
		_, _, err := set.Of(s).List(t.Context(), "", true)
		if sandpool.ClassOf(err) != sandpool.Unavailable || time.Since(started) != roomTime ||
			!strings.Contains(err.Error(), "subdirectory") {
			t.Errorf("one list more: %v after %v", err, time.Since(started))
		}
		for _, release := range releases {
			release()
		}
		if set.work.Share(budget.Holder{}).Try(allRoom) != nil {
			t.Error("room is missing at the end")
		}
	})
}

// TestRoom checks that few big answers are in work at the same time, that small
// ones never wait, and that room is given back.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set, s := newSet(), newSession(t, "box")
		defer s.end(nil)
		big := agent.ExecuteResult{Outcome: agent.OK, Stdout: strings.Repeat("x", 30<<20)}
		request := Execution{ExecuteRequest: agent.ExecuteRequest{Code: "1", Timeout: time.Second}}
		run := func(res agent.ExecuteResult) (Result, error) {
			s.returns(res)
			return set.Of(s).Execute(t.Context(), request)
		}
		first, err := run(big)
		if err != nil {
			t.Fatal(err)
		}
		second, err := run(big)
		if err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		if _, err := run(big); sandpool.ClassOf(err) != sandpool.Unavailable ||
			time.Since(started) != roomTime {
			t.Errorf("a third big answer: %v after %v", err, time.Since(started))
		}
		started = time.Now()
		small, err := run(agent.ExecuteResult{Outcome: agent.OK, Stdout: strings.Repeat("x",
			agent.LargeAnswer-100)})
		if err != nil || time.Since(started) != 0 {
			t.Errorf("a small answer: %v after %v", err, time.Since(started))
		}
		small.Release()
		first.Release()
		third, err := run(big)
		if err != nil {
			t.Fatalf("room was not given back: %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		time.AfterFunc(time.Second, func() { cancel(gone) })
		if _, err := set.Of(s).Execute(ctx, request); !errors.Is(err, gone) {
			t.Errorf("a caller that left while it waited: %v", err)
		}
		second.Release()
		third.Release()
		if set.work.Share(budget.Holder{}).Try(allRoom) != nil {
			t.Error("room is missing at the end")
		}
	})
}
