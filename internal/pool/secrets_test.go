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
