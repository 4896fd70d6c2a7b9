package custom_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/internal/proxy"
	"github.com/sandpool/sandpool/internal/quiet"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor"
)

// A way is one path from a client to the same program.
type way struct {
	name string
	dial func() (net.Conn, error)
	path string // before that of a request
	head string // further fields
	// used is the processor time that the program has used, and what is before it; nil if nobody
	// knows it, or if it is this process.
	used func() time.Duration
}

// BenchmarkForward compares ways to the program of testdata/protocols, in turn: in a sandbox, by
// the bare stream, by the proxy alone and by the whole server; and as a process of this machine,
// with nothing in front, with nginx and with Go's ReverseProxy. make bench runs it.
func BenchmarkForward(b *testing.B) {
	all := ways(b)
	b.Run("latency", func(b *testing.B) { latency(b, all) })
	b.Run("throughput", func(b *testing.B) { throughput(b, all) })
	b.Run("gigabyte", func(b *testing.B) { bulk(b, all) })
}

// ways starts what is compared.
func ways(b *testing.B) []way {
	b.Helper()
	k := newKit(b)
	hub := ocitest.NewHub(b)
	program := build(b, "./testdata/protocols")
	text, err := os.ReadFile(program)
	if err != nil {
		b.Fatal(err)
	}
	hub.Push("protocols:1",
		ocitest.Image{Layers: []string{ocitest.Layer(b, ocitest.File("app", 0o755, string(text)))},
			Config: v1.Config{Entrypoint: []string{"/app"}, User: "1000"}})
	p := container(hub.Host() + "/protocols:1")
	cpu := 2.0
	p.Properties.CustomContainerTemplate.Containers[0].Resources =
		&api.ContainerResources{CPU: &cpu}
	k.makePool(b, "protocols", p)
	box := startBox(b, filepath.Join(k.dir, "images"))
	native, process := native(b, program)
	front, workers := nginx(b, native)
	return []way{
		{name: "sandbox, bare stream", used: box.used, dial: func() (net.Conn, error) {
			return box.Dial(context.Background(), 8080)
		}},
		{name: "sandbox, our proxy", used: box.used, dial: tcp(box.front(b))},
		{name: "sandbox, our server", dial: tcp(strings.TrimPrefix(k.Endpoint(), "http://")),
			path: strings.TrimPrefix(k.PoolEndpoint("protocols"), k.Endpoint()),
			head: "X-Ms-Session-Identifier: bench\r\nAuthorization: Bearer " + k.token + "\r\n"},
		{name: "process, bare", used: process, dial: tcp(native)},
		{name: "process, nginx", dial: tcp(front),
			used: func() time.Duration { return process() + workers() }},
		{name: "process, ReverseProxy", used: process, dial: tcp(reverse(b, native))},
	}
}

// tcp connects to addr. As with the bare stream, what the caller reads and writes does not wake
// Go's monitor thread, whose work would otherwise count for the ways by TCP alone.
func tcp(addr string) func() (net.Conn, error) {
	return func() (net.Conn, error) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		return quiet.FromTCP(conn.(*net.TCPConn))
	}
}

// box is a sandbox of the image, without a server.
type box struct {
	engine *gvisor.Engine
	handle sandbox.Handle
	ctx    context.Context
}

func startBox(b *testing.B, images string) *box {
	b.Helper()
	store, err := image.Open(images)
	if err != nil {
		b.Fatal(err)
	}
	list, err := store.List()
	if err != nil || len(list) != 1 {
		b.Fatalf("images %v, %v", list, err)
	}
	engine, err := gvisor.New(slog.New(slog.DiscardHandler),
		gvisor.Config{Root: b.TempDir(), CgroupParent: "sandpool-bench"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = engine.Close() })
	prepared, err := engine.Prepare(b.Context(), sandbox.Template{
		Root: list[0].Root(), Args: []string{"/app"}, Capabilities: sandbox.DefaultCapabilities(),
		HostFiles: sandbox.AllHostFiles, Start: sandbox.Boot,
		Ready: sandpool.Probe{TCP: sandpool.TCPProbe{Port: 8080}, Timeout: time.Second,
			Period: 100 * time.Millisecond, Failures: 100},
		Limits:  sandpool.Resources{CPU: 2, Memory: 512 << 20, PIDs: 512, Disk: 64 << 20},
		Network: sandpool.Network{Status: sandpool.EgressDisabled},
	}, nil)
	if err != nil {
		b.Fatal(err)
	}
	h, err := engine.Start(b.Context(), "bench", prepared)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := engine.Stop(context.WithoutCancel(b.Context()), h); err != nil {
			b.Error(err)
		}
	})
	return &box{engine: engine, handle: h, ctx: b.Context()}
}

// Sandbox, Context and Dial are proxy.Session.
func (x *box) Sandbox() sandpool.Sandbox { return sandpool.Sandbox{ID: "bench"} }

func (x *box) Context() context.Context { return x.ctx }

func (x *box) Dial(ctx context.Context, port int) (net.Conn, error) {
	return x.engine.Dial(ctx, x.handle, port)
}

// used is the processor time of the sandbox.
func (x *box) used() time.Duration {
	s, err := x.engine.Stats(x.ctx, x.handle)
	if err != nil {
		return 0
	}
	return s.CPUTime
}

// front is the proxy before the box, in a server that does nothing else.
func (x *box) front(b *testing.B) string {
	b.Helper()
	p := proxy.New(proxy.Options{})
	b.Cleanup(p.Close)
	l := quiet.Listener{TCPListener: listen(b).(*net.TCPListener)} // as our server's
	return serve(b, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := proxy.Target{Port: 8080, Path: proxy.RawPath(r)}
		if q, err := proxy.Check(w, r, to); err == nil {
			_ = p.Serve(q, x)
		}
	}))
}

func listen(b *testing.B) net.Listener {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return l
}

func serve(b *testing.B, l net.Listener, h http.Handler) string {
	srv := &http.Server{Handler: h}
	go srv.Serve(l) //nolint:errcheck // it ends with the benchmark
	b.Cleanup(func() { _ = srv.Close() })
	return l.Addr().String()
}

// native runs the program on this machine; it listens on port 8080 of a loopback address of its
// own. used is the processor time that it has used.
func native(b *testing.B, program string) (addr string, used func() time.Duration) {
	b.Helper()
	used = run(b, exec.Command(program, "127.0.7.7:8080"), unix.SIGKILL)
	return awaitPort(b, "127.0.7.7:8080"), used
}

// run runs a program. used is the processor time that it and its children have used.
func run(b *testing.B, cmd *exec.Cmd, end unix.Signal) (used func() time.Duration) {
	b.Helper()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(end)
		_ = cmd.Wait()
	})
	return func() time.Duration { return usedBy(cmd.Process.Pid) }
}

// usedBy is the processor time that a process and its children have used, in all their threads that
// are still there. It is exact, where stat(5) counts in hundredths of a second.
func usedBy(pid int) (sum time.Duration) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, thread := range threads {
		var ran time.Duration
		if text, err := os.ReadFile(thread); err == nil {
			_, _ = fmt.Sscan(string(text), &ran) // a thread that has just ended counts as none
		}
		sum += ran
	}
	children, _ := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output() // none is an error
	for _, child := range strings.Fields(string(children)) {
		if n, err := strconv.Atoi(child); err == nil {
			sum += usedBy(n)
		}
	}
	return sum
}

func awaitPort(b *testing.B, addr string) string {
	b.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-look.C {
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			return addr
		}
	}
	b.Fatalf("nothing listens on %s", addr)
	return ""
}

const nginxProxy = `daemon off; user root; worker_processes 2; pid %[1]s/pid; error_log %[1]s/log;
events { worker_connections 1024; }
http {
  access_log off; client_max_body_size 0; keepalive_requests 100000000;
  client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p;
  fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  upstream container { server %[2]s; keepalive 64; keepalive_requests 100000000; }
  server {
    listen 127.0.7.8:8080;
    location / {
      proxy_pass http://container; proxy_http_version 1.1; proxy_set_header Connection '';
      proxy_buffering off; proxy_request_buffering off; proxy_set_header Host $http_host;
    }
  }
}`

func nginx(b *testing.B, to string) (addr string, used func() time.Duration) {
	b.Helper()
	dir := b.TempDir()
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxProxy, dir, to), 0o600); err != nil {
		b.Fatal(err)
	}
	used = run(b, exec.Command("nginx", "-p", dir, "-c", conf), unix.SIGTERM)
	return awaitPort(b, "127.0.7.8:8080"), used
}

func reverse(b *testing.B, to string) string {
	b.Helper()
	return serve(b, listen(b), &httputil.ReverseProxy{FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: to})
			r.SetXForwarded()
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}})
}

// A caller sends requests on one connection.
type caller struct {
	way
	conn  net.Conn
	r     *bufio.Reader
	block []byte // what is written and read at once, at most
}

func (w way) caller(b *testing.B) *caller {
	b.Helper()
	conn, err := w.dial()
	if err != nil {
		b.Fatal(w.name, err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return &caller{w, conn, bufio.NewReaderSize(conn, 256<<10), make([]byte, 256<<10)}
}

// call sends a request, whose body is so many zeros, and reads the answer.
func (c *caller) call(method, path string, size int64) error {
	head := method + " " + c.path + path +
		" HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench/1\r\nAccept: */*\r\n" + c.head
	if method == "POST" {
		head += fmt.Sprintf("Content-Length: %d\r\n", size)
	}
	if _, err := io.WriteString(c.conn, head+"\r\n"); err != nil {
		return err
	}
	for left := size; left > 0; left -= int64(len(c.block)) {
		if _, err := c.conn.Write(c.block[:min(left, int64(len(c.block)))]); err != nil {
			return err
		}
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, c.block)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", resp.Status)
	}
	return err
}

// latency reports the median of a small request on a connection that is kept, in microseconds.
func latency(b *testing.B, all []way) {
	callers, took := make([]*caller, len(all)), make([][]float64, len(all))
	for i, w := range all {
		callers[i] = w.caller(b)
	}
	for n := range 3000 * b.N {
		for i, c := range callers {
			begin := time.Now()
			if err := c.call("GET", "/reported?x=1", 0); err != nil {
				b.Fatal(c.name, err)
			}
			if n >= 100 {
				took[i] = append(took[i], float64(time.Since(begin))/1000)
			}
		}
	}
	for i, w := range all {
		slices.Sort(took[i])
		b.Logf("%-24s p50 %6.0f µs  p99 %6.0f µs", w.name, middle(took[i]),
			took[i][len(took[i])*99/100])
		b.ReportMetric(middle(took[i]), unit(w, "µs"))
	}
}

func unit(w way, of string) string {
	return strings.NewReplacer(", ", "-", " ", "-").Replace(w.name) + "-" + of
}

// throughput reports small requests a second with 16 connections: medians of rounds in which each
// way has its turn, after one that only warms up.
func throughput(b *testing.B, all []way) {
	const rounds = 9
	rates, ours, theirs := make([][]float64, len(all)), make([][]float64, len(all)),
		make([][]float64, len(all))
	for round := range 1 + rounds {
		for i, w := range all {
			self, guest := processorTime(w)
			total := crowd(b, w)
			if round == 0 || b.Failed() {
				continue
			}
			self2, guest2 := processorTime(w)
			rates[i] = append(rates[i], total)
			ours[i] = append(ours[i], float64((self2-self).Microseconds())/total)
			theirs[i] = append(theirs[i], float64((guest2-guest).Microseconds())/total)
		}
	}
	for i, w := range all {
		for _, of := range [][]float64{rates[i], ours[i], theirs[i]} {
			slices.Sort(of)
		}
		b.Logf("%-24s %6.0f/s, processor time of a request: %.0f µs here, %.0f µs elsewhere",
			w.name, middle(rates[i]), middle(ours[i]), middle(theirs[i]))
		b.ReportMetric(middle(rates[i]), unit(w, "per-s"))
	}
}

// crowd sends small requests on 16 connections for a second, and returns how many were answered.
func crowd(b *testing.B, w way) float64 {
	const connections = 16
	var wg sync.WaitGroup
	counts := make([]int, connections)
	end := time.Now().Add(time.Second)
	for j := range connections {
		c := w.caller(b)
		wg.Go(func() {
			for time.Now().Before(end) {
				if err := c.call("GET", "/reported?x=1", 0); err != nil {
					b.Error(w.name, err)
					return
				}
				counts[j]++
			}
		})
	}
	wg.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total)
}

// processorTime is what this process and the way's program have used.
func processorTime(w way) (self, guest time.Duration) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err == nil {
		self = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	if w.used != nil {
		guest = w.used()
	}
	return self, guest
}

// bulk reports how fast a gigabyte goes each way, in MB/s.
func bulk(b *testing.B, all []way) {
	const size = 1 << 30
	for _, w := range all {
		c := w.caller(b)
		begin := time.Now()
		if err := c.call("GET", fmt.Sprintf("/bulk?bytes=%d", size), 0); err != nil {
			b.Fatal(w.name, err)
		}
		down := size / 1e6 / time.Since(begin).Seconds()
		begin = time.Now()
		if err := c.call("POST", "/bulk", size); err != nil {
			b.Fatal(w.name, err)
		}
		up := size / 1e6 / time.Since(begin).Seconds()
		b.Logf("%-24s %5.0f MB/s down, %5.0f up", w.name, down, up)
		b.ReportMetric(down, unit(w, "down-MB/s"))
		b.ReportMetric(up, unit(w, "up-MB/s"))
	}
}
