package sandboxtest_test

import (
	"errors"
	"net/http"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var template = sandbox.Template{
	Args:   []string{"/agent"},
	Ready:  sandpool.Probe{HTTP: sandpool.HTTPProbe{Port: 8080, Path: "/healthz"}},
	Start:  sandbox.Restore,
	Limits: sandpool.Resources{CPU: 1, Memory: 1 << 30, PIDs: 64, Disk: 1 << 30},
}

func TestFake(t *testing.T) {
	for _, mode := range []sandbox.StartMode{sandbox.Restore, sandbox.Boot} {
		t.Run(string(mode), func(t *testing.T) {
			sandboxtest.Run(t, func(t *testing.T) sandboxtest.Target {
				return target(t, sandboxtest.New(nil), mode)
			})
		})
	}
}

func target(t *testing.T, fake *sandboxtest.Fake, mode sandbox.StartMode) sandboxtest.Target {
	t.Cleanup(fake.Close)
	started := template
	started.Start = mode
	return sandboxtest.Target{
		Runtime:  fake,
		Template: started,
		Reopen:   func(*testing.T) sandbox.Runtime { return fake.Reopen() },
		Crash: func(_ *testing.T, id sandbox.ID) {
			fake.End(id, sandbox.Exit{Reason: sandbox.OutOfMemory, Code: 137})
		},
		Leave: func(_ *testing.T, id sandbox.ID) { fake.Leave(id) },
		Input: fake.Input,
		Self:  fake.Self,
		Quit: func(_ *testing.T, h sandbox.Handle, code int) {
			fake.End(h.ID, sandbox.Exit{Reason: sandbox.Exited, Code: code})
		},
		Say: func(_ *testing.T, h sandbox.Handle, toErr bool, text string) {
			fake.Say(h.ID, toErr, text)
		},
		Exit: func(code int) []string { return []string{"/exit", strconv.Itoa(code)} },
	}
}

func TestFakeNetwork(t *testing.T) {
	sandboxtest.RunNetwork(t, func(t *testing.T) sandboxtest.NetworkTarget {
		fake := sandboxtest.New(nil)
		return sandboxtest.NetworkTarget{Target: target(t, fake, sandbox.Restore),
			One: "192.0.2.1:80", Other: "192.0.2.2:80", Hold: fake.Hold, Carries: fake.Carries}
	})
}

// The suite must hold for an engine that takes its time, too.
func TestSlowFake(t *testing.T) {
	sandboxtest.Run(t, func(t *testing.T) sandboxtest.Target {
		fake := sandboxtest.New(nil)
		fake.Order(sandboxtest.Start, -1, sandboxtest.Fault{After: 30 * time.Millisecond})
		return target(t, fake, sandbox.Restore)
	})
}

func TestOrder(t *testing.T) {
	fake := sandboxtest.New(nil)
	defer fake.Close()
	ctx, broken := t.Context(), errors.New("broken")
	fake.Order(sandboxtest.Start, 1, sandboxtest.Fault{Err: broken})
	fake.Order(sandboxtest.Start, 1, sandboxtest.Fault{Err: broken, Leave: true})
	fake.Order(sandboxtest.Start, 1, sandboxtest.Fault{
		Exit: &sandbox.Exit{Reason: sandbox.OutOfMemory}})
	p, err := fake.Prepare(ctx, template, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		err  error
		left int
	}{{broken, 0}, {broken, 1}, {nil, 2}} {
		_, err := fake.Start(ctx, sandbox.ID([]string{"a", "b", "c"}[i]), p)
		list, listErr := fake.List(ctx)
		if !errors.Is(err, want.err) || listErr != nil || len(list) != want.left {
			t.Errorf("start %d: %v, List %v, %v; want %v and %d listed", i, err, list, listErr,
				want.err, want.left)
		}
	}
	if exit, err := fake.Wait(ctx, sandbox.Handle{ID: "c"}); err != nil ||
		exit.Reason != sandbox.OutOfMemory {
		t.Errorf("Wait = %+v, %v", exit, err)
	}
	if n := fake.Count(sandboxtest.Start); n != 3 {
		t.Errorf("Count = %d, want 3", n)
	}
}

func TestHandlerKnowsItsSandbox(t *testing.T) {
	fake := sandboxtest.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id, port := sandboxtest.SandboxOf(r.Context()); port != 8080 || id == "" {
			w.WriteHeader(http.StatusTeapot)
		}
	}), 9090)
	defer fake.Close()
	p, err := fake.Prepare(t.Context(), template, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := fake.Start(t.Context(), "one", p)
	if err != nil {
		t.Fatal(err)
	}
	for port, want := range map[int]int{8080: http.StatusOK, 9090: http.StatusTeapot} {
		conn, err := fake.Dial(t.Context(), h, port)
		if err != nil {
			t.Fatal(err)
		}
		if got := get(t, conn); got != want {
			t.Errorf("port %d answers %d, want %d", port, got, want)
		}
	}
	if _, err := fake.Dial(t.Context(), h, 1); sandpool.ClassOf(err) != sandpool.Unavailable {
		t.Errorf("Dial of a closed port: %v", err)
	}
}
