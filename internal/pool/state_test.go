package pool

import (
	"testing"
	"time"
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
