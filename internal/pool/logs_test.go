package pool_test

import (
	"context"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

func TestLogs(t *testing.T) {
	within(t, func(w *world) {
		plain := w.guest.Template
		w.guest.Template = func(ctx context.Context, p sandpool.Pool,
			s sandpool.Secrets) (sandbox.Template, error) {
			t, err := plain(ctx, p, s)
			t.Logs = true
			return t, err
		}
		w.put(container(1, 5))
		l := w.acquire("user-1", sandpool.ClaimReady)
		l.Release()
		id := l.Sandbox().ID
		w.fake.Say(id, true, "it works")
		want := func(page sandbox.LogPage, err error) {
			t.Helper()
			if err != nil || !strings.HasSuffix(string(page.Lines), "stderr F it works\n") {
				t.Errorf("the log is %q, %v", page.Lines, err)
			}
		}
		want(w.SessionLog(w.Context(), python, "user-1", "", sandbox.LogQuery{}))
		want(w.SandboxLog(w.Context(), python, id, sandbox.LogQuery{}))
		w.must(w.StopSession(w.Context(), python, "user-1"))
		w.settle()
		want(w.SessionLog(w.Context(), python, "user-1", "", sandbox.LogQuery{}))
		want(w.SandboxLog(w.Context(), python, id, sandbox.LogQuery{}))
		w.acquire("user-1", sandpool.ClaimReady).Release()
		if page, err := w.SessionLog(w.Context(), python, "user-1", "",
			sandbox.LogQuery{}); err != nil || len(page.Lines) > 0 {
			t.Errorf("the log of the next session is %q, %v", page.Lines, err)
		}
		// the earlier one's
		want(w.SessionLog(w.Context(), python, "user-1", id, sandbox.LogQuery{}))
		other := sandpool.PoolID{Subscription: "sub", ResourceGroup: "group", Name: "other"}
		p := container(0, 5)
		p.ID = other
		w.put(p)
		for _, err := range []error{
			second(w.SessionLog(w.Context(), python, "user-2", "", sandbox.LogQuery{})),
			second(w.SessionLog(w.Context(), python, "", "", sandbox.LogQuery{})),
			// another session's
			second(w.SessionLog(w.Context(), python, "user-2", id, sandbox.LogQuery{})),
			second(w.SandboxLog(w.Context(), python, "unknown", sandbox.LogQuery{})),
			second(w.SandboxLog(w.Context(), other, id, sandbox.LogQuery{})), // another pool's
		} {
			if sandpool.ClassOf(err) != sandpool.NotFound {
				t.Errorf("the log of what there is not: %v", err)
			}
		}
	})
}

func second[T any](_ T, err error) error { return err }
