package gvisor

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sandpool/sandpool/internal/sandbox"
)

// BenchmarkStart measures restores beside each other, and how many processor
// seconds each takes (the server's, the sandbox's and their children's).
func BenchmarkStart(b *testing.B) {
	for _, size := range []string{"0", "64"} {
		for _, workers := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("megabytes=%s/workers=%d", size, workers), func(b *testing.B) {
				e := open(b)
				tmpl := template(b, sandbox.Restore)
				tmpl.Env = append(tmpl.Env, "GUEST_MEGABYTES="+size)
				tmpl.Limits.CPU = 2
				p := prepare(b, e, tmpl)
				var n atomic.Int64
				before := children(b)
				b.SetParallelism(workers)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						h := start(b, e, p, sandbox.ID(fmt.Sprintf("b%d", n.Add(1))))
						if err := e.Stop(b.Context(), h); err != nil {
							b.Error(err)
						}
					}
				})
				b.StopTimer()
				b.ReportMetric(float64(children(b)-before)/float64(b.N)/1e6, "cpu-ms/op")
			})
		}
	}
}

// children returns the processor time in nanoseconds of this process and of its children that have ended.
func children(b *testing.B) int64 {
	var sum int64
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			b.Fatal(err)
		}
		sum += u.Utime.Nano() + u.Stime.Nano()
	}
	return sum
}
