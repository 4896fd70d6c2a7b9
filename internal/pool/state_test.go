package pool

import (
	"fmt"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestBackoff(t *testing.T) {
	var b backoff
	if !b.next().IsZero() {
		t.Error("nothing failed, and yet there is a wait")
	}
	for i, want := range []int{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		b.fail(epoch)
		if got := b.next().Sub(epoch); got != time.Duration(want)*time.Second {
			t.Errorf("after %d failures the wait is %s, want %d s", i+1, got, want)
		}
	}
	// Who fails may ask for a longer wait, up to the longest.
	for said, want := range map[time.Duration]time.Duration{0: time.Second, 20 * time.Second: 20 *
		time.Second, time.Hour: lastRetry} {
		b.reset()
		b.failBy(fmt.Errorf("image: %w", &sandpool.Error{RetryAfter: said}), epoch)
		if got := b.next().Sub(epoch); got != want {
			t.Errorf("after a failure that asks for %v the wait is %v, want %v", said, got, want)
		}
	}
	b.failures = 1 << 40
	if got := b.next().Sub(epoch); got != lastRetry {
		t.Errorf("after very many failures the wait is %s", got)
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[int64]string{512: "512 bytes", 1 << 30: "1 GiB",
		3 << 29: "1.5 GiB", 200 << 20: "200 MiB"} {
		if got := size(bytes); got != want {
			t.Errorf("size(%d) = %q, want %q", bytes, got, want)
		}
	}
}
