package turn

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// TestTake: one key has one holder at a time, another key does not wait for it, a waiter leaves
// with its context and its cause, and nothing is kept of keys that nobody uses.
func TestTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Keys[string]
		first, err := s.Take(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		other, err := s.Take(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		other()

		gone := errors.New("gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		left := make(chan error)
		go func() {
			_, err := s.Take(ctx, "a")
			left <- err
		}()
		next := make(chan func(), 1)
		go func() {
			release, err := s.Take(t.Context(), "a")
			if err != nil {
				t.Error(err)
			}
			next <- release
		}()
		synctest.Wait()
		cancel(gone)
		if err := <-left; !errors.Is(err, gone) {
			t.Errorf("who gave up has %v", err)
		}
		synctest.Wait()
		if len(next) > 0 {
			t.Error("two hold one key")
		}
		first()
		(<-next)()
		if len(s.held) > 0 {
			t.Errorf("%d keys are kept", len(s.held))
		}
	})
}
