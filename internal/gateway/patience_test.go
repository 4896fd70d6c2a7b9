package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
)

// mute is an interpreter in a sandbox that takes calls and never answers.
type mute struct {
	interpreter
	// opens says that it begins to answer a download; takes is how much of an upload it reads.
	opens bool
	takes int64
}

func (m *mute) Execute(ctx context.Context, _ agent.ExecuteRequest) (agent.ExecuteResult, error) {
	<-ctx.Done()
	return agent.ExecuteResult{}, ctx.Err()
}

func (m *mute) Upload(ctx context.Context, _ string, r io.Reader, _ int64) (agent.FileInfo, error) {
	_, _ = io.CopyN(io.Discard, r, m.takes)
	<-ctx.Done()
	return agent.FileInfo{}, ctx.Err()
}

func (m *mute) List(ctx context.Context, _ string, _ bool) ([]agent.FileInfo, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (m *mute) Stat(ctx context.Context, _ string) (agent.FileInfo, error) {
	<-ctx.Done()
	return agent.FileInfo{}, ctx.Err()
}

func (m *mute) Delete(ctx context.Context, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

func (m *mute) Open(ctx context.Context, _, _ string) (*agent.Content, error) {
	if m.opens {
		return &agent.Content{Status: 200, Body: io.NopCloser(io.MultiReader(strings.NewReader("a"), unending{ctx}))}, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// unending is content that does not come.
type unending struct{ ctx context.Context }

func (u unending) Read([]byte) (int, error) {
	<-u.ctx.Done()
	return 0, u.ctx.Err()
}

// offline returns a gateway without a server, whose sandboxes are what connect returns.
func offline(t *testing.T, connect func(Lease) Interpreter) (*world, *Gateway) {
	t.Helper()
	w := &world{t: t, sessions: map[sandpool.Identifier]*lease{}, files: map[string][]byte{}}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	g, err := New(log, Adapt(w), &arm.Responder{Log: log}, Options{Connect: connect, Metadata: w.metadata})
	if err != nil {
		t.Fatal(err)
	}
	return w, g
}

// python is the pool that tests use.
func python() sandpool.PoolID { return sandpool.PoolID{Name: "python"} }

// TestSilentSandbox checks that a sandbox that never answers holds neither a lease
// nor the caller longer than each call's deadline.
func TestSilentSandbox(t *testing.T) {
	form, kind := fileForm("a", "content")
	for _, tt := range []struct {
		name, method, body string
		serve              func(*Gateway, *call) error
		in                 mute
		want               time.Duration
	}{
		{"execute", "POST", `{"code":"1","timeoutInSeconds":10}`, executeAs(newEnvelope), mute{}, 10*time.Second + 220*time.Second + 30*time.Second},
		{"list", "GET", "", (*Gateway).listFiles, mute{}, 60 * time.Second},
		{"stat", "GET", "", (*Gateway).statFile, mute{}, 60 * time.Second},
		{"delete", "DELETE", "", (*Gateway).deleteFile, mute{}, 60 * time.Second},
		{"open", "GET", "", (*Gateway).fileContent, mute{}, 60 * time.Second},
		{"download", "GET", "", (*Gateway).fileContent, mute{opens: true}, 30 * time.Second},
		{"upload not read", "POST", form, (*Gateway).uploadNew, mute{}, 60 * time.Second},
		{"upload not answered", "POST", form, (*Gateway).uploadNew, mute{takes: 1 << 20}, 60 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, g := offline(t, func(Lease) Interpreter { return &tt.in })
				r := httptest.NewRequestWithContext(t.Context(), tt.method, "/?identifier=abcd", strings.NewReader(tt.body))
				r.Header.Set("Content-Type", kind)
				c := &call{w: httptest.NewRecorder(), r: r, pool: python(), query: query{r.URL.RawQuery}, name: "a"}
				started := time.Now()
				err := tt.serve(g, c)
				if sandpool.ClassOf(err) != sandpool.Unavailable {
					t.Errorf("error %v of class %v", err, sandpool.ClassOf(err))
				}
				if took := time.Since(started); took != tt.want {
					t.Errorf("took %v, want %v", took, tt.want)
				}
				if acquired, released := w.counts(); acquired != 1 || released != 1 {
					t.Errorf("%d leases acquired, %d released", acquired, released)
				}
			})
		})
	}
}

// TestQueuedExecution checks that an execution which waits for its session's other cell
// has time for both.
func TestQueuedExecution(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := offline(t, func(l Lease) Interpreter { return &interpreter{w: l.(*lease).w, l: l.(*lease)} })
		w.execute = func(ctx context.Context, _ *lease, _ agent.ExecuteRequest) (agent.ExecuteResult, error) {
			select {
			case <-time.After(220*time.Second + 10*time.Second):
				return agent.ExecuteResult{Outcome: agent.OK, Stdout: "done"}, nil
			case <-ctx.Done():
				return agent.ExecuteResult{}, ctx.Err()
			}
		}
		a, giveBack, err := g.run(t.Context(), newLease(w, "abcd"), execution{code: "1", timeout: 10 * time.Second})
		if err != nil || a.stdout != "done" {
			t.Fatalf("answer %+v, error %v", a, err)
		}
		giveBack()
	})
}

// TestMetadataTurns checks that a pool that is slow to answer holds up neither other
// pools nor, without end, those who ask about itself.
func TestMetadataTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := offline(t, func(l Lease) Interpreter { return &interpreter{w: l.(*lease).w, l: l.(*lease)} })
		slow, quick := sandpool.Pool{ID: sandpool.PoolID{Name: "slow"}}, sandpool.Pool{ID: python()}
		g.options.Metadata = func(p sandpool.Pool) (agent.Metadata, bool) {
			md, ok := w.metadata(p)
			return md, ok && p.ID == quick.ID
		}
		end, err := g.turns.take(t.Context(), slow.ID)
		if err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		if md, err := g.packages(t.Context(), quick); err != nil || md.Runtime != "python" {
			t.Errorf("the other pool: %v, %v", md, err)
		}
		if took := time.Since(started); took != 0 {
			t.Errorf("the other pool waited %v", took)
		}
		if _, err := g.packages(t.Context(), slow); sandpool.ClassOf(err) != sandpool.Unavailable {
			t.Errorf("the slow pool: %v", err)
		}
		if took := time.Since(started); took != turnTime {
			t.Errorf("the slow pool: waited %v, want %v", took, turnTime)
		}
		end()
		again, err := g.turns.take(t.Context(), slow.ID)
		if err != nil {
			t.Fatalf("the turn was not given back: %v", err)
		}
		again()
	})
}

// TestRoom checks that few big answers are in work at the same time, that small
// ones never wait, and that room is given back.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := offline(t, func(l Lease) Interpreter { return &interpreter{w: l.(*lease).w, l: l.(*lease)} })
		big := agent.ExecuteResult{Outcome: agent.OK, Stdout: strings.Repeat("x", 30<<20)}
		l := newLease(w, "abcd")
		run := func(res agent.ExecuteResult) (func(), error) {
			w.returns(res)
			_, giveBack, err := g.run(t.Context(), l, execution{code: "1", timeout: time.Second})
			return giveBack, err
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
		if _, err := run(big); sandpool.ClassOf(err) != sandpool.Unavailable || time.Since(started) != roomTime {
			t.Errorf("a third big answer: %v after %v", err, time.Since(started))
		}
		started = time.Now()
		small, err := run(agent.ExecuteResult{Outcome: agent.OK, Stdout: strings.Repeat("x", agent.LargeAnswer-100)})
		if err != nil || time.Since(started) != 0 {
			t.Errorf("a small answer: %v after %v", err, time.Since(started))
		}
		small()
		first()
		third, err := run(big)
		if err != nil {
			t.Fatalf("room was not given back: %v", err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		time.AfterFunc(time.Second, func() { cancel(gone) })
		if _, _, err := g.run(ctx, l, execution{code: "1", timeout: time.Second}); !errors.Is(err, gone) {
			t.Errorf("a caller that left while it waited: %v", err)
		}
		second()
		third()
		if !g.room.left.TryAcquire(allRoom) {
			t.Error("room is missing at the end")
		}
	})
}

// TestRoomOfCalls checks that a call gives its room back when its answer is written.
func TestRoomOfCalls(t *testing.T) {
	w := newWorld(t, Options{})
	w.returns(agent.ExecuteResult{Outcome: agent.OK, Stdout: strings.Repeat("x", 50<<20)})
	for range 4 {
		if got := w.do("POST", "executions?identifier=abcd", `{"code":"1"}`); got.status != 200 {
			t.Fatalf("status %d: %.200s", got.status, got.body)
		}
	}
}
