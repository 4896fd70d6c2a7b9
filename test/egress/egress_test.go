// Package egress_test tries the network of sessions from inside: a real server with real sandboxes,
// in network namespaces that the test makes, so that no packet of it meets a network. How the
// gateway bears forged packets, changes and crashes is tested where it is, in the engine's package
// netns.
package egress_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/server"
	"github.com/sandpool/sandpool/test/leaks"
)

// inside says that the process is in a network of its own, which stands for the host's.
const inside = "SANDPOOL_TEST_HOST"

func TestMain(m *testing.M) {
	server.HandOver()
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdout, os.Stderr, append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// The world beyond the host: an index of packages at a public address, and what must not be
// reached.
const (
	hostAddr  = "192.0.2.2"
	worldAddr = "192.0.2.1"
	index     = "93.184.216.34"
	apiHost   = "93.184.216.40"
	elsewhere = "8.8.8.8"
	metadata  = "169.254.169.254"
	private   = "10.1.2.3"
	resolver  = "9.9.9.9"

	hostAddr6  = "2001:db8::2"
	worldAddr6 = "2001:db8::1"
	index6     = "2a00:1450::34"
	elsewhere6 = "2606:4700::8"
	metadata6  = "fd00:ec2::254"
	private6   = "fd12:3456:789a::3"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func network(s string) *net.IPNet {
	ip, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	return &net.IPNet{IP: ip, Mask: n.Mask}
}

// newWorld makes the world on a thread that stays there, and serves HTTP and names in it, and then
// does more there.
func newWorld(t testing.TB, more ...func() error) {
	t.Helper()
	// That of this thread: the first one of the process may have ended in an earlier world.
	host, err := os.Open("/proc/thread-self/ns/net")
	must(t, err)
	defer host.Close()
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0))
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	made := make(chan error)
	go func() { // its thread ends with it, and is never used for anything else
		runtime.LockOSThread()
		err := world(t, host)
		for _, do := range more {
			if err == nil {
				err = do()
			}
		}
		made <- err
	}()
	must(t, <-made)
	link, err := netlink.LinkByName("world")
	must(t, err)
	t.Cleanup(func() { must(t, netlink.LinkDel(link)) })
	must(t, netlink.AddrAdd(link, &netlink.Addr{IPNet: network(hostAddr + "/24")}))
	must(t, netlink.LinkSetUp(link))
	must(t, netlink.AddrAdd(link, address6(hostAddr6+"/64")))
	for to, by := range map[string]string{"0.0.0.0/0": worldAddr, "::/0": worldAddr6} {
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index,
			Gw: net.ParseIP(by), Dst: network(to)}))
	}
}

// address6 is one that is used at once, without a search for others who have it.
func address6(s string) *netlink.Addr {
	return &netlink.Addr{IPNet: network(s), Flags: unix.IFA_F_NODAD}
}

func world(t testing.TB, host *os.File) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "host", TxQLen: -1}, PeerName: "world",
		PeerNamespace: netlink.NsFd(host.Fd())}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return h.LinkAdd(pair) },
		func() error { return h.AddrAdd(pair, &netlink.Addr{IPNet: network(worldAddr + "/24")}) },
		func() error { return h.LinkSetUp(pair) },
		func() error { return h.AddrAdd(pair, address6(worldAddr6+"/64")) },
		func() error { return h.LinkSetUp(lo) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	for _, a := range []string{index, apiHost, elsewhere, metadata, private, resolver} {
		if err := h.AddrAdd(lo, &netlink.Addr{IPNet: network(a + "/32")}); err != nil {
			return err
		}
	}
	for _, a := range []string{index6, elsewhere6, metadata6, private6} {
		if err := h.AddrAdd(lo, address6(a+"/128")); err != nil {
			return err
		}
	}
	tcp, err := net.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp4", resolver+":53")
	if err != nil {
		return err
	}
	t.Cleanup(func() { tcp.Close(); udp.Close() })
	go func() { _ = http.Serve(tcp, pages()) }()
	go serveNames(udp)
	return nil
}

// pages is an index with one package, and a redirect to the metadata service.
func pages() http.Handler {
	mux := http.NewServeMux()
	for _, serve := range []func(*http.ServeMux){serveNPM, serveGit, serveApt, serveLarge} {
		serve(mux)
	}
	const wheel = "tiny-1.0-py3-none-any.whl"
	mux.HandleFunc("/simple/tiny/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<a href="/files/%s">%s</a>`, wheel, wheel)
	})
	mux.HandleFunc("/files/"+wheel, func(w http.ResponseWriter, _ *http.Request) {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for name, text := range map[string]string{
			"tiny.py":                     "answer = 42\n",
			"tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
			"tiny-1.0.dist-info/WHEEL":    "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
			"tiny-1.0.dist-info/RECORD":   "tiny.py,,\ntiny-1.0.dist-info/METADATA,,\ntiny-1.0.dist-info/WHEEL,,\ntiny-1.0.dist-info/RECORD,,\n",
		} {
			if f, err := z.Create(name); err == nil {
				_, _ = f.Write([]byte(text))
			}
		}
		_ = z.Close()
		_, _ = w.Write(b.Bytes())
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+metadata+"/latest", http.StatusFound)
	})
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprint(w, "hello "+from)
	})
	return mux
}

// anyName reports whether a name is one of those without end: n and a number below example.com.
func anyName(name string) bool {
	return len(name) > 1 && name[0] == 'n' && name[1] >= '0' && name[1] <= '9' && strings.HasSuffix(name, ".example.com.")
}

func serveNames(conn net.PacketConn) {
	names := map[string]string{"index.example.com.": index, "inner.example.com.": private,
		"meta.example.com.": metadata, "api.example.com.": apiHost,
		"other.example.org.": elsewhere}
	names6 := map[string]string{"index.example.com.": index6, "inner.example.com.": private6,
		"meta.example.com.": metadata6, "other.example.org.": elsewhere6,
		"six.example.com.": index6, "mapped.example.com.": "::ffff:" + metadata,
		"nat64.example.com.": "64:ff9b::a9fe:a9fe", "to4.example.com.": "2002:a9fe:a9fe::1"}
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response = true
		asked := m.Questions[0]
		a6, ok6 := names6[asked.Name.String()]
		a, ok := names[asked.Name.String()]
		if ok6 && asked.Type == dnsmessage.TypeAAAA {
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{
				Name: asked.Name, Class: dnsmessage.ClassINET, TTL: 60},
				Body: &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(a6).As16()}}}
		}
		if !ok && anyName(m.Questions[0].Name.String()) {
			a, ok = index, true
		}
		if ok && asked.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{
				Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60},
				Body: &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()}}}
		} else if !ok && !ok6 {
			m.RCode = dnsmessage.RCodeNameError
		}
		if answer, err := m.Pack(); err == nil {
			_, _ = conn.WriteTo(answer, from)
		}
	}
}

// newServer serves on the host's loopback and at its address.
func newServer(t *testing.T, settings ...func(*server.Config)) *client.Client {
	t.Helper()
	dir := t.TempDir()
	agent := filepath.Join(dir, "sandpool-agent")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", agent,
		"../../cmd/sandpool-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	cfg := server.DefaultConfig()
	cfg.DataDir, cfg.Listen, cfg.Agent = filepath.Join(dir, "data"), "0.0.0.0:0", agent
	cfg.ImageDir, cfg.OnExit = filepath.Join(need.Data(t), "images"), server.StopSandboxes
	cfg.Network.Resolvers = []string{resolver}
	for _, set := range settings {
		set(&cfg)
	}
	before, err := leaks.Count(cfg.DataDir)
	must(t, err)
	srv, err := server.New(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)), cfg)
	must(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ran, srv.Close()); err != nil {
			t.Errorf("the server ended: %v", err)
		}
		after, err := leaks.Count(cfg.DataDir)
		must(t, err)
		for _, line := range after.Diff(before) {
			t.Errorf("left behind: %s", line)
		}
		if links, err := netlink.LinkList(); err != nil || len(links) != 2 {
			t.Errorf("the host has %d links, %v", len(links), err)
		}
	})
	_, port, err := net.SplitHostPort(strings.TrimPrefix(srv.URL(), "http://"))
	must(t, err)
	c, err := client.New(client.Config{Endpoint: "http://127.0.0.1:" + port,
		Token: srv.AdminToken()})
	must(t, err)
	t.Cleanup(c.CloseIdle)
	return c
}

func pool(status string, e *api.Egress) api.SessionPool {
	most, ready := 10, 1
	return api.SessionPool{Location: "local", Properties: &api.SessionPoolProperties{
		ContainerType: string(sandpool.PythonLTS),
		ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
			ReadySessionInstances: &ready},
		SessionNetworkConfiguration: &api.SessionNetworkConfiguration{Status: status},
		Sandpool:                    &api.SandpoolSettings{Egress: e},
	}}
}

// try is Python that says what a connection becomes.
const try = `
import socket, urllib.request
def get(url):
    try: return urllib.request.urlopen(url, timeout=30).read().decode()
    except Exception as e: return 'no: %r' % e
def tcp(host, port=80):
    try: socket.create_connection((host, port), 30).close(); return True
    except OSError: return False
def raw(*kind):
    try: socket.socket(*kind).close(); return True
    except OSError: return False
`

func prints(t *testing.T, c *client.Client, pool, id, code string) string {
	t.Helper()
	got, err := c.Execute(t.Context(), pool, id, client.Run{Code: code, Timeout: 2 * time.Minute})
	must(t, err)
	if got.Failed() {
		t.Fatalf("%q fails: %+v", code, got.Execution)
	}
	return strings.TrimSpace(got.Result.Stdout)
}

func TestSessions(t *testing.T) {
	need.Data(t)
	newWorld(t)
	c := newServer(t)
	put := func(name string, p api.SessionPool) {
		t.Helper()
		_, err := c.PutPool(t.Context(), name, p)
		must(t, err)
	}
	put("public", pool("EgressEnabled", nil))
	put("index-only", pool("EgressEnabled", &api.Egress{Allow: []string{"*.example.com:80"}}))
	put("nothing", pool("EgressDisabled", nil))

	t.Run("everything public", func(t *testing.T) {
		if got := prints(t, c, "public", "public-1",
			try+"print(get('http://index.example.com/hello'))"); got != "hello "+hostAddr {
			t.Errorf("a public server answers %q", got)
		}
		for _, to := range []string{hostAddr, worldAddr, metadata, private, "198.18.0.1",
			"198.18.0.17", "198.18.0.18", "198.18.0.19", "inner.example.com", "meta.example.com",
			"0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "::ffff:" + metadata,
			"64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "fd00:ec2::254", "168.63.129.16"} {
			if got := prints(t, c, "public", "public-1",
				fmt.Sprintf("print(tcp(%q))", to)); got != "False" {
				t.Errorf("%s: reached is %s", to, got)
			}
		}
		if got := prints(t, c, "public", "public-1",
			"print(get('http://index.example.com/redirect'))"); !strings.HasPrefix(got, "no:") {
			t.Errorf("a redirect to the metadata service is followed: %q", got)
		}
		if got := prints(t, c, "public", "public-1",
			"print([raw(socket.AF_INET, socket.SOCK_RAW, 1), raw(socket.AF_PACKET, socket.SOCK_RAW, 0)])"); got != "[False, False]" {
			t.Errorf("raw sockets are %s", got)
		}
	})
	t.Run("a package index only", func(t *testing.T) {
		got := prints(t, c, "index-only", "index-1",
			"%pip install --quiet --disable-pip-version-check --index-url http://index.example.com/simple --trusted-host index.example.com tiny\nimport tiny\nprint('the answer is', tiny.answer)")
		if !strings.Contains(got, "the answer is 42") {
			t.Errorf("pip says %q", got)
		}
		if got := prints(t, c, "index-only", "index-1", try+fmt.Sprintf(
			"print(tcp(%q), tcp('other.example.org'), tcp(%q), tcp('inner.example.com'))",
			elsewhere, metadata)); got != "False False False False" {
			t.Errorf("what the policy does not name: reached is %s", got)
		}
		status, err := c.PoolStatus(t.Context(), "index-only")
		for end := time.Now().Add(time.Minute); err == nil && status.Egress.Packets == 0 &&
			time.Now().Before(end); {
			status, err = c.PoolStatus(t.Context(), "index-only") // counts are read now and then
		}
		must(t, err)
		if e := status.Egress; e.Packets == 0 || e.Names == 0 || len(e.Recent) == 0 {
			t.Errorf("the refusals are %+v", e)
		}
		for to, want := range map[string]bool{"index.example.com:80": true,
			"index.example.com:443": false, "other.example.org:80": false,
			"inner.example.com:80": false} {
			if p, err := c.Egress(t.Context(), "index-only", to, "tcp"); err != nil ||
				p.Test.Allowed != want || p.Test.Reason == "" {
				t.Errorf("%s: %+v, %v", to, p.Test, err)
			}
		}
	})
	t.Run("a policy that changes", func(t *testing.T) {
		prints(t, c, "index-only", "index-1",
			"s = socket.create_connection(('index.example.com', 80), 30)")
		_, err := c.PatchPool(t.Context(), "index-only",
			api.SessionPool{Properties: &api.SessionPoolProperties{
				Sandpool: &api.SandpoolSettings{
					Egress: &api.Egress{Allow: []string{"other.example.org"}}}}})
		must(t, err)
		got := prints(t, c, "index-only", "index-1", `
try:
    s.sendall(b'GET /hello HTTP/1.0\r\n\r\n'); s.settimeout(30); print('got', s.recv(10))
except OSError as e: print('ended')
print(tcp('index.example.com'), get('http://other.example.org/hello'))`)
		if got != "ended\nFalse hello "+hostAddr {
			t.Errorf("after the change the session says %q", got)
		}
	})
	t.Run("no network", func(t *testing.T) {
		if got := prints(t, c, "nothing", "nothing-1", try+
			fmt.Sprintf("print(tcp(%q), tcp('index.example.com'), tcp('198.18.0.1', 53), tcp(%q))",
				index, hostAddr)); got != "False False False False" {
			t.Errorf("without a network: reached is %s", got)
		}
	})
}
