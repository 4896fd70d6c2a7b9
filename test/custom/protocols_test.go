package custom_test

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/internal/server"
)

// suffix gives each pool a host name. Browsers take what is below localhost for this machine.
const suffix = "pools.localhost"

// TestProtocols reaches a container by what web applications speak besides small requests: large
// bodies, gRPC, and a page in a browser.
func TestProtocols(t *testing.T) {
	k := newKit(t, func(c *server.Config) { c.EndpointSuffix = suffix })
	hub := ocitest.NewHub(t)
	program, err := os.ReadFile(build(t, "./testdata/protocols"))
	if err != nil {
		t.Fatal(err)
	}
	hub.Push("protocols:1", ocitest.Image{Layers: []string{
		ocitest.Layer(t, ocitest.File("app", 0o755, string(program)))},
		Config: v1.Config{Entrypoint: []string{"/app"}, User: "1000"}})
	k.makePool(t, "protocols", container(hub.Host()+"/protocols:1"))
	t.Run("a gigabyte", k.gigabyte)
	t.Run("gRPC", k.rpc)
	t.Run("browser", k.browser)
}

// gigabyte sends one in each direction, whole, while the server's memory stays what it was. The
// server is in the test's own process.
func (k *kit) gigabyte(t *testing.T) {
	const size = 1 << 30
	k.do(t, http.MethodGet, "protocols", "bulky", "/reported", nil) // the session begins
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	down := crc32.NewIEEE()
	resp := k.open(t, http.MethodGet, "bulky", fmt.Sprintf("/bulk?bytes=%d", size), nil)
	n, err := io.CopyBuffer(struct{ io.Writer }{down}, resp.Body, make([]byte, 256<<10))
	if err != nil || n != size {
		t.Errorf("down: %d bytes, %v", n, err)
	}
	again := k.open(t, http.MethodGet, "bulky", fmt.Sprintf("/bulk?bytes=%d", size), nil)
	// down and up at once
	status, got := k.do(t, http.MethodPost, "protocols", "bulky", "/bulk", again.Body)
	if want := fmt.Sprintf("%d %x", size, down.Sum(nil)); status != http.StatusOK || got != want {
		t.Errorf("up: %d %q, want %q", status, got, want)
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 32<<20 {
		t.Errorf("3 GB took %d MB of heap", grown>>20)
	}
}

// open begins a request whose answer is read by the caller.
func (k *kit) open(t *testing.T, method, session, path string, body io.Reader) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, k.PoolEndpoint("protocols")+path+
		"&identifier="+session, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+k.token)
	resp, err := k.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// rpc runs the interoperability cases of gRPC's authors, all four forms among them, against their
// own server in a container. A case that fails ends the test program.
func (k *kit) rpc(t *testing.T) {
	name := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+k.token,
			"x-ms-session-identifier", "caller")
	}
	conn, err := grpc.NewClient(strings.TrimPrefix(k.Endpoint(), "http://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("protocols."+suffix),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any,
			cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return call(name(ctx), method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc,
			cc *grpc.ClientConn, method string, stream grpc.Streamer,
			opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return stream(name(ctx), desc, cc, method, opts...)
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	client := testgrpc.NewTestServiceClient(conn)
	for name, do := range map[string]func(context.Context, testgrpc.TestServiceClient,
		...grpc.CallOption){
		"empty unary": interop.DoEmptyUnaryCall, "large unary": interop.DoLargeUnaryCall,
		"client streaming": interop.DoClientStreaming,
		"server streaming": interop.DoServerStreaming,
		"both streaming":   interop.DoPingPong, "empty stream": interop.DoEmptyStream,
		"metadata": interop.DoCustomMetadata, "status": interop.DoStatusCodeAndMessage,
		"deadline": interop.DoTimeoutOnSleepingServer, "cancel": interop.DoCancelAfterFirstResponse,
	} {
		t.Run(name, func(*testing.T) { do(ctx, client) })
	}
}

// browser opens a page of the container, by way of an application's proxy that signs the requests
// in: its relative links, script, form, events and WebSocket find the session that the address has
// named once.
func (k *kit) browser(t *testing.T) {
	to, err := url.Parse(k.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	sign := httptest.NewServer(&httputil.ReverseProxy{FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = to.Scheme, to.Host
			r.Out.Host, r.Out.URL.RawQuery = r.In.Host, r.In.URL.RawQuery
			r.Out.Header.Set("Authorization", "Bearer "+k.token)
		}})
	defer sign.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(sign.URL, "http://"), ":")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "chromium", "--headless=new", "--no-sandbox", "--disable-gpu",
		"--no-first-run",
		"--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
		"--disable-sync",
		"--remote-debugging-port=0", "--user-data-dir="+t.TempDir(), "http://protocols."+suffix+":"+
			port+"/page/?identifier=reader")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: make test-deps installs chromium", err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait()
	}()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	got := ""
	for got == "" && ctx.Err() == nil {
		<-look.C
		got = k.get(t, "protocols", "reader", "/reported")
	}
	for _, want := range []string{"/page/{$} ", "/page/style.css ", "/page/js/app.js ",
		"a=1;2, form, there and back, event, no cookie"} {
		if !strings.Contains(got, want) {
			t.Errorf("the page reports %q; want %q", got, want)
		}
	}
}
