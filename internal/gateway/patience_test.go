package gateway

import (
	"context"
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
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/interpreter"
)

// mute is an interpreter in a sandbox that takes calls and never answers.
type mute struct {
	fakeAgent
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

func (m *mute) List(ctx context.Context, _ string, _ bool, _ agent.Room) ([]agent.FileInfo, error) {
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
		return &agent.Content{Status: 200, Body: io.NopCloser(io.MultiReader(strings.NewReader("a"),
			unending{ctx}))}, nil
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
func offline(t *testing.T, connect func(interpreter.Session) interpreter.Agent) (*world, *Gateway) {
	t.Helper()
	w := &world{t: t, sessions: map[sandpool.Identifier]*lease{}, files: map[string][]byte{},
		within: interpreter.New(interpreter.Options{Connect: connect})}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	g, err := New(log, w, w.within, Options{})
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
		{"execute", "POST", `{"code":"1","timeoutInSeconds":10}`, executeAs(wire.New), mute{},
			10*time.Second + 220*time.Second + 30*time.Second},
		{"list", "GET", "", (*Gateway).listFiles, mute{}, 60 * time.Second},
		{"stat", "GET", "", (*Gateway).statFile, mute{}, 60 * time.Second},
		{"delete", "DELETE", "", (*Gateway).deleteFile, mute{}, 60 * time.Second},
		{"open", "GET", "", (*Gateway).fileContent, mute{}, 60 * time.Second},
		{"download", "GET", "", (*Gateway).fileContent, mute{opens: true}, 30 * time.Second},
		{"upload not read", "POST", form, uploadAs(false), mute{}, 60 * time.Second},
		{"upload not answered", "POST", form, uploadAs(false), mute{takes: 1 << 20},
			60 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, g := offline(t, func(interpreter.Session) interpreter.Agent { return &tt.in })
				r := httptest.NewRequestWithContext(t.Context(), tt.method, "/?identifier=abcd",
					strings.NewReader(tt.body))
				r.Header.Set("Content-Type", kind)
				c := &call{w: httptest.NewRecorder(), r: r, pool: python(),
					query: arm.Query{Raw: r.URL.RawQuery}, name: "a"}
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
