package gvisor

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// BenchmarkImage measures restores of a real image with the agent: set
// GVISOR_BENCH_IMAGE and GVISOR_BENCH_AGENT to the two EROFS files. With GVISOR_BENCH_ROOT the
// snapshot is kept there for the next run.
func BenchmarkImage(b *testing.B) {
	root, agent := os.Getenv("GVISOR_BENCH_IMAGE"), os.Getenv("GVISOR_BENCH_AGENT")
	if root == "" || agent == "" {
		need.Except(b, need.OnRequest, "GVISOR_BENCH_IMAGE and GVISOR_BENCH_AGENT name no image")
	}
	for _, workers := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			benchmarkStart(b, workers, sandbox.Template{
				Root:   sandbox.Image{Digest: root, Reference: root},
				Layers: []sandbox.Layer{{Digest: agent, Path: agent, Target: "/opt/sandpool"}},
				Args:   []string{"/opt/sandpool/sandpool-agent"},
				Env:    []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "HOME=/root"},
				Ready:  sandpool.Probe{HTTP: sandpool.HTTPProbe{Port: 7077, Path: "/ready"}},
				Start:  sandbox.Restore,

				Capabilities: []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL",
					"CAP_SETGID", "CAP_SETUID"},

				Limits: sandpool.Resources{CPU: 2, Memory: 1 << 30, PIDs: 512, Disk: 1 << 30},
			})
		})
	}
}

// BenchmarkStart measures restores beside each other, and how many processor
// seconds each takes (the server's, the sandbox's and their children's).
func BenchmarkStart(b *testing.B) {
	for _, size := range []string{"0", "64"} {
		for _, workers := range []int{1, 2, 4} {
			b.Run(fmt.Sprintf("megabytes=%s/workers=%d", size, workers), func(b *testing.B) {
				tmpl := template(b, sandbox.Restore)
				tmpl.Env = append(tmpl.Env, "GUEST_MEGABYTES="+size)
				tmpl.Limits.CPU = 2
				benchmarkStart(b, workers, tmpl)
			})
		}
	}
}

func benchmarkStart(b *testing.B, workers int, tmpl sandbox.Template) {
	root := os.Getenv("GVISOR_BENCH_ROOT")
	if root == "" {
		root = b.TempDir()
	}
	e := openAt(b, root)
	p := prepare(b, e, tmpl)
	var n, nanos, memory atomic.Int64
	before := children(b)
	b.ResetTimer()
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
				begin := time.Now()
				h, err := e.Start(b.Context(), sandbox.ID(fmt.Sprintf("b%d", i)), p)
				nanos.Add(int64(time.Since(begin)))
				if err != nil {
					b.Error(err)
					return
				}
				if s, err := e.Stats(b.Context(), h); err == nil {
					memory.Store(s.Memory)
				}
				if err := e.Stop(b.Context(), h); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wait.Wait()
	b.StopTimer()
	b.ReportMetric(float64(memory.Load())/(1<<20), "MB")
	b.ReportMetric(float64(children(b)-before)/float64(b.N)/1e6, "cpu-ms/op")
	b.ReportMetric(float64(nanos.Load())/float64(b.N)/1e6, "start-ms")
}

// BenchmarkDial measures a new stream with one request on it, and a request on
// a stream that is open.
func BenchmarkDial(b *testing.B) {
	e := open(b)
	h := start(b, e, prepare(b, e, template(b, sandbox.Restore)), "dial")
	for _, reuse := range []bool{false, true} {
		b.Run(fmt.Sprintf("reuse=%t", reuse), func(b *testing.B) {
			client := &http.Client{Transport: &http.Transport{
				DisableKeepAlives: !reuse,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return e.Dial(ctx, h, 8080)
				},
			}}
			for b.Loop() {
				resp, err := client.Get("http://guest/ready")
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
		})
	}
}

// children returns the processor time in nanoseconds of this process and of its children that have
// ended.
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
