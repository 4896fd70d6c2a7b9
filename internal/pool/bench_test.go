package pool_test

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pool"
)

// BenchmarkAcquireExisting is the hot path: a request of a session that lives.
func BenchmarkAcquireExisting(b *testing.B) {
	m, _ := inRealTime(b, spec(0, 1))
	for b.Loop() {
		l, err := m.Acquire(b.Context(), python, "user-1")
		if err != nil {
			b.Fatal(err)
		}
		l.Release()
	}
}

// BenchmarkAcquireReady claims ready sandboxes, while the pool refills behind it.
func BenchmarkAcquireReady(b *testing.B) {
	m, _ := inRealTime(b, spec(100, 300))
	var times []time.Duration
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		awaitReady(b, m, 10)
		b.StartTimer()
		identifier := sandpool.Identifier(fmt.Sprintf("user-%d", n))
		began := time.Now()
		l, err := m.Acquire(b.Context(), python, identifier)
		times = append(times, time.Since(began))
		if err != nil || l.Claim().Outcome != sandpool.ClaimReady {
			b.Fatal(err)
		}
		b.StopTimer()
		l.Release()
		if err := m.StopSession(b.Context(), python, identifier); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "µs-p99")
}

// BenchmarkAcquireBurst claims a hundred ready sandboxes at once. It reports the processor
// time of one claim, with what it leaves to the manager's loop, and how long the claims waited.
func BenchmarkAcquireBurst(b *testing.B) {
	const ready = 100
	m, _ := inRealTime(b, spec(ready, ready+1))
	var used time.Duration
	var times []time.Duration
	for round := 0; b.Loop(); round++ {
		b.StopTimer()
		awaitReady(b, m, ready)
		before := cpuTime(b)
		b.StartTimer()
		leases, took := acquireAll(b, m, round, ready)
		b.StopTimer()
		awaitIdle(b)
		used += cpuTime(b) - before
		times = append(times, took...)
		for i, l := range leases {
			l.Release()
			if err := m.StopSession(b.Context(), python, burstUser(round, i)); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
	}
	slices.Sort(times)
	b.ReportMetric(float64(used.Microseconds())/float64(len(times)), "cpu-µs/claim")
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(times[len(times)-1].Microseconds()), "µs-max")
}

func burstUser(round, i int) sandpool.Identifier {
	return sandpool.Identifier(fmt.Sprintf("user-%d-%d", round, i))
}

// acquireAll claims n sandboxes at once, and returns when each claim was answered.
func acquireAll(b *testing.B, m *pool.Manager, round, n int) ([]*pool.Lease, []time.Duration) {
	leases, took := make([]*pool.Lease, n), make([]time.Duration, n)
	var callers sync.WaitGroup
	began := time.Now()
	for i := range n {
		callers.Go(func() {
			l, err := m.Acquire(b.Context(), python, burstUser(round, i))
			leases[i], took[i] = l, time.Since(began)
			if err != nil || l.Claim().Outcome != sandpool.ClaimReady {
				b.Errorf("claim: %v", err)
			}
		})
	}
	callers.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return leases, took
}

// awaitReady returns when n sandboxes are ready and none starts or stops.
func awaitReady(b *testing.B, m *pool.Manager, n int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		s, err := m.Status(b.Context(), python)
		switch {
		case err != nil:
			b.Fatal(err)
		case s.Ready >= n && (s.Starting+s.Stopping == 0 || n < 100):
			return
		}
		<-tick.C
	}
}

// awaitIdle returns when what the claims left to do has been done.
func awaitIdle(b *testing.B) {
	for last := cpuTime(b); ; {
		<-time.After(5 * time.Millisecond)
		now := cpuTime(b)
		if now-last < 500*time.Microsecond {
			return
		}
		last = now
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
