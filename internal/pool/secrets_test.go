package pool_test

import (
	"testing"

	"github.com/sandpool/sandpool"
)

func TestSecrets(t *testing.T) {
	within(t, func(w *world) {
		p := spec(1, 5)
		p.Spec.Kind = sandpool.CustomContainer
		p.Spec.Container = &sandpool.Container{
			Env: []sandpool.EnvVar{{Name: "KEY", SecretRef: "key"}}}
		text := func(s string) sandpool.Secret { return sandpool.NewSecret(s) }
		put := func(secrets sandpool.Secrets, revision int64, key, other string) {
			t.Helper()
			got, err := w.Put(w.Context(), p, secrets)
			if err != nil {
				t.Fatalf("Put: %v", err)
			}
			w.settle()
			if got.Revision != revision {
				t.Errorf("revision %d, want %d", got.Revision, revision)
			}
			stored, err := w.store.Secrets(w.Context(), python)
			w.must(err)
			if stored["key"].Reveal() != key || stored["other"].Reveal() != other ||
				len(stored) != len(got.Spec.Secrets) {
				t.Errorf("the store has %q and %q of %d, want %q and %q", stored["key"].Reveal(),
					stored["other"].Reveal(), len(stored), key, other)
			}
		}
		put(sandpool.Secrets{"key": text("a"), "other": text("b")}, 1, "a", "b")
		put(nil, 1, "a", "b")
		put(sandpool.Secrets{"key": text("a"), "other": {}}, 1, "a", "b")
		put(sandpool.Secrets{"key": {}, "other": text("c")}, 1, "a", "c") // no sandbox has it
		w.restart()
		put(sandpool.Secrets{"key": text("z"), "other": {}}, 2, "z", "c")
		put(sandpool.Secrets{"key": {}}, 2, "z", "")
		_, err := w.Put(w.Context(), p, sandpool.Secrets{"key": {}, "new": {}})
		if sandpool.ClassOf(err) != sandpool.Invalid {
			t.Errorf("Put of a secret without a value: %v", err)
		}
		w.must(w.Delete(w.Context(), python))
		left, err := w.store.Secrets(w.Context(), python)
		if err != nil || len(left) != 0 {
			t.Errorf("a pool that is being deleted has %d secrets, %v", len(left), err)
		}
		w.settle()
	})
}

// An engine has the values of the secrets that requests get, from a sandbox's start on, when one
// changes, and after a restart; the pool's spec never has, and no sandbox becomes stale by them.
func TestCredentials(t *testing.T) {
	within(t, func(w *world) {
		p := spec(1, 5)
		p.Spec.Network = sandpool.Network{Status: sandpool.EgressEnabled,
			Credentials: []sandpool.Credential{{URL: "http://api.example.com", Header: "X-Key",
				SecretRef: "key"}}}
		put := func(value string) {
			t.Helper()
			got, err := w.Put(w.Context(), p,
				sandpool.Secrets{"key": sandpool.NewSecret(value)})
			w.must(err)
			if got.Revision != 1 || !got.Spec.Network.Credentials[0].Value.IsZero() {
				t.Errorf("the pool is %+v", got)
			}
		}
		put("first")
		w.settle()
		lease := w.acquire("a", sandpool.ClaimReady)
		lease.Release()
		seen := func(want string) {
			t.Helper()
			rows, err := w.Sandboxes(w.Context(), python)
			w.must(err)
			if len(rows) != 2 {
				t.Errorf("there are %d sandboxes", len(rows))
			}
			for _, row := range rows {
				list := w.fake.Network(row.ID).Credentials
				if len(list) != 1 || list[0].Value.Reveal() != want {
					t.Errorf("the engine has %v for %s, not %q", list, row.ID, want)
				}
			}
		}
		w.settle()
		seen("first")
		put("second")
		seen("second")
		w.restart()
		w.settle()
		seen("second")
		put("third")
		seen("third")
		w.must(w.Delete(w.Context(), python))
		w.settle()
	})
}
