package sqlite_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

// BenchmarkClaim claims ready sandboxes out of a hundred, and reports the median.
func BenchmarkClaim(b *testing.B) {
	s, ctx := open(b, filepath.Join(b.TempDir(), "state.db")), b.Context()
	id := sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "n"}
	if err := s.PutPool(ctx, sandpool.Pool{ID: id, State: sandpool.Succeeded}); err != nil {
		b.Fatal(err)
	}
	const ready = 100
	var times []time.Duration
	refill := func(round int) {
		for i := range ready {
			box := sandpool.SandboxID(fmt.Sprintf("b%d-%d", round, i))
			if err := s.Insert(ctx, sandpool.Sandbox{ID: box, Pool: id, State: sandpool.Starting}); err != nil {
				b.Fatal(err)
			}
			if _, err := s.Started(ctx, box, []byte("handle"), time.Now()); err != nil {
				b.Fatal(err)
			}
		}
	}
	for n := 0; b.Loop(); n++ {
		if n%ready == 0 {
			b.StopTimer()
			refill(n)
			b.StartTimer()
		}
		start := time.Now()
		box, outcome, err := s.Claim(ctx, sandpool.ClaimRequest{Pool: id, Identifier: sandpool.Identifier(fmt.Sprintf("user-%d", n)),
			Max: ready + 1, Now: start, NewID: "never"})
		times = append(times, time.Since(start))
		if err != nil || outcome != sandpool.ClaimReady {
			b.Fatalf("Claim = %s, %v", outcome, err)
		}
		b.StopTimer()
		if err := s.Remove(ctx, box.ID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "µs-p99")
}

// BenchmarkTouch writes the last use of 100 sessions.
func BenchmarkTouch(b *testing.B) {
	s, ctx := open(b, filepath.Join(b.TempDir(), "state.db")), b.Context()
	used := map[sandpool.SandboxID]time.Time{}
	for i := range 100 {
		used[sandpool.SandboxID(fmt.Sprint(i))] = time.Now()
	}
	for b.Loop() {
		if err := s.Touch(ctx, used); err != nil {
			b.Fatal(err)
		}
	}
}
