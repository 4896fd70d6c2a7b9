package egress_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/erofs"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor"
)

// rig is an engine with a program, and the same program as a process of the host, which has a plain
// pair of links to the servers outside.
type rig struct {
	engine   *gvisor.Engine
	template sandbox.Template
	native   *exec.Cmd
	n        int
}

const nativeAddr = "127.0.0.1:8099"

func newRig(b *testing.B) *rig {
	b.Helper()
	newWorld(b)
	path := buildApp(b)
	program, err := erofs.HostFile("app", 0o755, path)
	must(b, err)
	images, err := image.Open(filepath.Join(b.TempDir(), "images"))
	must(b, err)
	img, err := images.Put(b.Context(), "app", []erofs.Entry{program})
	must(b, err)
	log := slog.New(slog.NewTextHandler(b.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	e, err := gvisor.New(
		log,
		gvisor.Config{Root: b.TempDir(),
			Resolvers: []netip.AddrPort{netip.MustParseAddrPort(resolver + ":53")}},
	)
	must(b, err)
	b.Cleanup(func() { must(b, e.Close()) })
	native := exec.Command(path)
	native.Env = append(os.Environ(), "LISTEN="+nativeAddr)
	must(b, native.Start())
	b.Cleanup(func() { _ = native.Process.Kill(); _ = native.Wait() })
	return &rig{engine: e, native: native, template: sandbox.Template{
		Root: img.Root(), Args: []string{"/app"}, Dir: "/", Start: sandbox.Restore, HostFiles: sandbox.AllHostFiles,
		Ready:  sandpool.Probe{HTTP: sandpool.HTTPProbe{Port: 8080, Path: "/raw"}},
		Limits: sandpool.Resources{CPU: 2, Memory: 1 << 30, PIDs: 100, Disk: 1 << 30}}}
}

// start restores a sandbox, and says how long that took.
func (r *rig) start(b *testing.B, n sandpool.Network) (sandbox.Handle, time.Duration) {
	b.Helper()
	r.template.Network = n
	p, err := r.engine.Prepare(b.Context(), r.template, nil)
	must(b, err)
	r.n++
	began := time.Now()
	h, err := r.engine.Start(b.Context(), sandbox.ID(fmt.Sprintf("bench%d", r.n)), p)
	must(b, err)
	return h, time.Since(began)
}

func (r *rig) stop(b *testing.B, h sandbox.Handle) {
	b.Helper()
	must(b, r.engine.Stop(context.WithoutCancel(b.Context()), h))
}

// measure has the program measure, in the sandbox or natively.
func (r *rig) measure(b *testing.B, h sandbox.Handle, query url.Values) (took []float64) {
	b.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	to := "http://" + nativeAddr
	if h.ID != "" {
		to = "http://app"
		c.Transport = &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return r.engine.Dial(ctx, h, 8080)
			},
		}
	}
	resp, err := c.Get(to + "/measure?" + query.Encode())
	must(b, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(b, err)
	if err := json.Unmarshal(text, &took); err != nil {
		b.Fatalf("%v: %s", err, text)
	}
	slices.Sort(took)
	return took
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// BenchmarkEgress measures what a network costs: a restore with one and without, in turn; a request
// to a server outside, from a sandbox and from a process of the host; the first use of an allowed
// name against
// a further one; and a gigabyte each way. make bench runs it.
func BenchmarkEgress(b *testing.B) {
	r := newRig(b)
	on := sandpool.Network{
		Status: sandpool.EgressEnabled,
		Allow:  []string{"*.example.com:80", index + ":80"},
	}
	b.Run("restore", func(b *testing.B) { r.restores(b, on) })
	h, _ := r.start(b, on)
	defer r.stop(b, h)
	b.Run("request", func(b *testing.B) { r.requests(b, h) })
	b.Run("gigabyte", func(b *testing.B) { r.gigabytes(b, h) })
}

func (r *rig) restores(b *testing.B, on sandpool.Network) {
	const rounds = 40
	var without, with []float64
	for i := range rounds + 2 {
		for _, n := range []sandpool.Network{{Status: sandpool.EgressDisabled}, on} {
			h, took := r.start(b, n)
			r.stop(b, h)
			if i < 2 { // the first ones make the snapshot and the gateway
				continue
			}
			if n.Enabled() {
				with = append(with, took.Seconds()*1000)
			} else {
				without = append(without, took.Seconds()*1000)
			}
		}
	}
	b.ReportMetric(median(without), "without-p50-ms")
	b.ReportMetric(median(with), "with-p50-ms")
	b.ReportMetric(100*(median(with)/median(without)-1), "more-%")
	b.ReportMetric(0, "ns/op")
}

func (r *rig) requests(b *testing.B, h sandbox.Handle) {
	ask := func(h sandbox.Handle, kind, to string) float64 {
		return 1e6 * median(r.measure(b, h, url.Values{"kind": {kind}, "url": {to}, "n": {"300"}}))
	}
	b.ReportMetric(ask(h, "get", "http://"+index+"/hello"), "sandbox-p50-us")
	b.ReportMetric(ask(sandbox.Handle{}, "get", "http://"+index+"/hello"), "native-p50-us")
	// A connection of its own each time: to an address, to a name that is known, and to one that
	// nobody has asked for.
	b.ReportMetric(ask(h, "name", "http://"+index+"/hello"), "address-p50-us")
	b.ReportMetric(ask(h, "name", "http://index.example.com/hello"), "known-name-p50-us")
	b.ReportMetric(ask(h, "name", "http://*.example.com/hello"), "first-name-p50-us")
	b.ReportMetric(0, "ns/op")
}

// gigabytes reports MB a second each way, and the processor's seconds of the sandbox and of the
// process for a gigabyte in and one out: by the sandbox's link, by streams into it, which is how
// requests are forwarded, and natively.
func (r *rig) gigabytes(b *testing.B, h sandbox.Handle) {
	const size = "1073741824"
	move := func(h sandbox.Handle) (down, up float64) {
		down = median(
			r.measure(
				b,
				h,
				url.Values{"kind": {"down"}, "url": {"http://" + index + "/gigabyte"}, "n": {"1"}},
			),
		)
		up = median(
			r.measure(
				b,
				h,
				url.Values{
					"kind":  {"up"},
					"url":   {"http://" + index + "/large"},
					"n":     {"1"},
					"bytes": {size},
				},
			),
		)
		return 1073.7 / down, 1073.7 / up
	}
	used := func() float64 {
		s, err := r.engine.Stats(b.Context(), h)
		must(b, err)
		return s.CPUTime.Seconds()
	}
	before := used()
	down, up := move(h)
	b.ReportMetric(used()-before, "sandbox-cpu-s")
	b.ReportMetric(down, "sandbox-in-MB/s")
	b.ReportMetric(up, "sandbox-out-MB/s")
	before = used()
	b.ReportMetric(r.stream(b, h, "/take", size), "stream-in-MB/s")
	b.ReportMetric(r.stream(b, h, "/give?bytes="+size, "0"), "stream-out-MB/s")
	b.ReportMetric(used()-before, "stream-cpu-s")
	was := processTime(b, r.native.Process.Pid)
	down, up = move(sandbox.Handle{})
	b.ReportMetric(processTime(b, r.native.Process.Pid)-was, "native-cpu-s")
	b.ReportMetric(down, "native-in-MB/s")
	b.ReportMetric(up, "native-out-MB/s")
	b.ReportMetric(0, "ns/op")
}

// stream is how many MB a second a gigabyte takes through a stream into the sandbox, as a body of
// so many bytes or as an answer.
func (r *rig) stream(b *testing.B, h sandbox.Handle, path, body string) float64 {
	b.Helper()
	conn, err := r.engine.Dial(b.Context(), h, 8080)
	must(b, err)
	defer conn.Close()
	began := time.Now()
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: app\r\nConnection: close\r\n"+
		"Content-Length: %s\r\n\r\n", path, body)
	must(b, err)
	block := make([]byte, 1<<20)
	size, err := strconv.Atoi(body)
	must(b, err)
	for left := size; left > 0; left -= len(block) {
		_, err := conn.Write(block)
		must(b, err)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, conn, block)
	must(b, err)
	if n+int64(size) < 1<<30 {
		b.Fatalf("%s: %d bytes are there and back", path, n+int64(size))
	}
	return 1073.7 / time.Since(began).Seconds()
}

// processTime is what a process has used, in seconds (proc(5), fields 14 and 15 of stat, in ticks).
func processTime(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(b, err)
	rest := text[slices.Index(text, ')')+2:]
	var user, system float64
	var skip string
	_, err = fmt.Sscan(
		string(rest),
		&skip,
		&skip,
		&skip,
		&skip,
		&skip,
		&skip,
		&skip,
		&skip,
		&skip,
		&skip,
		&skip,
		&user,
		&system,
	)
	must(b, err)
	const ticks = 100
	return (user + system) / ticks
}
