package pool_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
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
		for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
			if s, err := m.Status(b.Context(), python); err != nil {
				b.Fatal(err)
			} else if s.Ready > 10 {
				tick.Stop()
				break
			}
		}
		b.StartTimer()
		identifier := sandpool.Identifier(fmt.Sprintf("user-%d", n))
		began := time.Now()
		l, err := m.Acquire(b.Context(), python, identifier)
		times = append(times, time.Since(began))
		if err != nil || l.Outcome() != sandpool.ClaimReady {
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
