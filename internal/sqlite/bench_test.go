package sqlite_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sqlite"
)

// BenchmarkClaim claims ready sandboxes out of a hundred, and reports the median.
func BenchmarkClaim(b *testing.B) {
	s, ctx := open(b, filepath.Join(b.TempDir(), "state.db")), b.Context()
	id := putBenchPool(b, s)
	const ready = 100
	var times []time.Duration
	for n := 0; b.Loop(); n++ {
		if n%ready == 0 {
			b.StopTimer()
			insertReady(b, s, id, n, ready)
			b.StartTimer()
		}
		start := time.Now()
		box, outcome, err := s.Claim(ctx, sandpool.ClaimRequest{Pool: id, Epoch: 1,
			Identifier: sandpool.Identifier(fmt.Sprintf("user-%d", n)),
			Max:        ready + 1, Now: start, NewID: "never"})
		times = append(times, time.Since(start))
		if err != nil || outcome != sandpool.ClaimReady {
			b.Fatalf("Claim = %s, %v", outcome, err)
		}
		b.StopTimer()
		if err := s.Remove(ctx, box.ID, 1); err != nil {
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
	var used []sandpool.Use
	for i := range 100 {
		used = append(used, sandpool.Use{ID: sandpool.SandboxID(fmt.Sprint(i)), At: time.Now(),
			Epoch: 1})
	}
	for b.Loop() {
		if err := s.Touch(ctx, used); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkClaimBurst claims a hundred ready sandboxes from a hundred goroutines, and reports
// the processor time of a claim.
func BenchmarkClaimBurst(b *testing.B) {
	s, ctx := open(b, filepath.Join(b.TempDir(), "state.db")), b.Context()
	id := putBenchPool(b, s)
	const ready = 100
	var used time.Duration
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		insertReady(b, s, id, n, ready)
		before := cpuTime(b)
		b.StartTimer()
		var callers sync.WaitGroup
		for i := range ready {
			callers.Go(func() {
				_, outcome, err := s.Claim(ctx, sandpool.ClaimRequest{Pool: id, Epoch: 1,
					Identifier: sandpool.Identifier(fmt.Sprintf("user-%d-%d", n, i)),
					Max:        ready + 1, Now: time.Now(), NewID: "never"})
				if err != nil || outcome != sandpool.ClaimReady {
					b.Errorf("Claim = %s, %v", outcome, err)
				}
			})
		}
		callers.Wait()
		b.StopTimer()
		used += cpuTime(b) - before
		if b.Failed() {
			b.FailNow()
		}
		for i := range ready {
			if err := s.Remove(ctx, benchBox(n, i), 1); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(used.Microseconds())/float64(b.N*ready), "cpu-µs/claim")
}

func putBenchPool(b *testing.B, s *sqlite.Store) sandpool.PoolID {
	id := sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "n"}
	if _, err := s.CreatePool(b.Context(), sandpool.Pool{ID: id, State: sandpool.Succeeded}, nil,
		"bench"); err != nil {
		b.Fatal(err)
	}
	return id
}

func benchBox(round, i int) sandpool.SandboxID {
	return sandpool.SandboxID(fmt.Sprintf("b%d-%d", round, i))
}

// insertReady makes n ready sandboxes.
func insertReady(b *testing.B, s *sqlite.Store, id sandpool.PoolID, round, n int) {
	for i := range n {
		box := benchBox(round, i)
		if err := s.Insert(b.Context(), sandpool.Sandbox{ID: box, Pool: id,
			State: sandpool.Starting}, 1); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Started(b.Context(), box, []byte("handle"), time.Now(), 1); err != nil {
			b.Fatal(err)
		}
	}
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
