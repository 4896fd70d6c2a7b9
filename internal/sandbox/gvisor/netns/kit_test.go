package netns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// inside says that the process is in a network of its own, which the tests take for the host's.
const inside = "SANDPOOL_TEST_HOST"

// TestMain runs the tests in namespaces of their own: no packet of theirs meets a network, and no
// rule of theirs the machine's.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdout, os.Stderr, append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		Pdeathsig: unix.SIGKILL}
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

// Addresses of the world beyond the host.
var (
	hostAddr   = netip.MustParseAddr("192.0.2.2") // the host's own
	routerAddr = netip.MustParseAddr("192.0.2.1") // the world's nearest
	public     = netip.MustParseAddr("93.184.216.34")
	other      = netip.MustParseAddr("8.8.8.8")
	metadata   = netip.MustParseAddr("169.254.169.254")
	azure      = netip.MustParseAddr("168.63.129.16")
	private    = netip.MustParseAddr("10.1.2.3")
	resolver   = netip.MustParseAddr("9.9.9.9")
)

// world is a namespace with servers, behind the host.
type world struct {
	t     *testing.T
	ns    *os.File
	mu    sync.Mutex
	names map[string]record
	asked []string
}

type record struct {
	ttl   uint32
	alias string
	addrs []netip.Addr
}

// newWorld makes it. Every address of it answers TCP and UDP on the ports 80, 443, 53 and 853 by
// saying who is asked.
func newWorld(t *testing.T) *world {
	t.Helper()
	need.Root(t)
	w := &world{t: t, names: map[string]record{}}
	w.ns = namespace(t)
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, os.WriteFile(forwarding, []byte("1"), 0))
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "world", TxQLen: -1}, PeerName: "host",
		PeerNamespace: netlink.NsFd(w.ns.Fd())}
	must(t, netlink.LinkAdd(pair))
	t.Cleanup(func() { must(t, netlink.LinkDel(pair)) })
	must(t, netlink.AddrAdd(pair, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(hostAddr, 24))}))
	must(t, netlink.LinkSetUp(pair))
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: pair.Attrs().Index, Gw: routerAddr.AsSlice(),
		Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0"))}))
	must(t, within(w.ns, func() error {
		host, err := netlink.LinkByName("host")
		must(t, err)
		must(t,
			netlink.AddrAdd(host, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(routerAddr, 24))}))
		must(t, netlink.LinkSetUp(host))
		lo, err := netlink.LinkByName("lo")
		must(t, err)
		for _, a := range []netip.Addr{public, other, metadata, azure, private, resolver} {
			must(t, netlink.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, 32))}))
		}
		return netlink.LinkSetUp(lo)
	}))
	for _, port := range []int{80, 443, 853, 5353} {
		w.listen(w.ns, port)
	}
	w.serveNames()
	return w
}

// namespace returns a network namespace that ends with the test.
func namespace(t *testing.T) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ns")
	ns, err := makeNamespace(path)
	must(t, err)
	t.Cleanup(func() { ns.Close(); must(t, dropNamespace(path)) })
	return ns
}

// listen answers on a port of every address of ns.
func (w *world) listen(ns *os.File, port int) {
	w.t.Helper()
	must(w.t, within(ns, func() error {
		tcp, err := listenReuse(netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port)))
		must(w.t, err)
		w.t.Cleanup(func() { tcp.Close() })
		go func() {
			for {
				c, err := tcp.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					fmt.Fprintf(c, "%s\n", c.RemoteAddr())
					_, _ = io.Copy(c, c)
				}()
			}
		}()
		list, err := localAddresses()
		must(w.t, err)
		for _, a := range list { // an answer must come from the address that was asked
			udp, err := net.ListenPacket("udp4", netip.AddrPortFrom(a, uint16(port)).String())
			must(w.t, err)
			w.t.Cleanup(func() { udp.Close() })
			go func() {
				buf := make([]byte, 2048)
				for {
					_, from, err := udp.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = udp.WriteTo([]byte(from.String()), from)
				}
			}()
		}
		return nil
	}))
}

// serveNames is the world's name server.
func (w *world) serveNames() {
	must(w.t, within(w.ns, func() error {
		udp, err := net.ListenPacket("udp4", netip.AddrPortFrom(resolver, 53).String())
		must(w.t, err)
		w.t.Cleanup(func() { udp.Close() })
		go func() {
			buf := make([]byte, 2048)
			for {
				n, from, err := udp.ReadFrom(buf)
				if err != nil {
					return
				}
				var m dnsmessage.Message
				if m.Unpack(buf[:n]) == nil {
					if answer, err := w.answer(m).Pack(); err == nil {
						_, _ = udp.WriteTo(answer, from)
					}
				}
			}
		}()
		return nil
	}))
}

func (w *world) answer(m dnsmessage.Message) *dnsmessage.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := m.Questions[0]
	w.asked = append(w.asked, q.Name.String())
	m.Response = true
	at := q.Name
	for {
		r, ok := w.names[at.String()]
		if !ok {
			m.RCode = dnsmessage.RCodeNameError
			return &m
		}
		h := dnsmessage.ResourceHeader{Name: at, Class: dnsmessage.ClassINET, TTL: r.ttl}
		if r.alias == "" {
			for _, a := range r.addrs {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h,
					Body: &dnsmessage.AResource{A: a.As4()}})
			}
			return &m
		}
		next := dnsmessage.MustNewName(r.alias)
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: h,
			Body: &dnsmessage.CNAMEResource{CNAME: next}})
		at = next
	}
}

// set gives a name its addresses.
func (w *world) set(name string, r record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names[name+"."] = r
}

func (w *world) questions() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.asked...)
}

// openNet opens the package's subject on dir.
func openNet(t *testing.T, dir string, private ...netip.Prefix) *Net {
	t.Helper()
	dirs := map[sandbox.ID]string{}
	entries, _ := os.ReadDir(filepath.Join(dir, "boxes"))
	for _, e := range entries {
		dirs[sandbox.ID(e.Name())] = filepath.Join(dir, "boxes", e.Name())
	}
	n, err := Open(slog.New(slog.NewTextHandler(t.Output(), nil)), Config{Dir: dir,
		Resolvers: []netip.AddrPort{netip.AddrPortFrom(resolver, 53)}, Private: private}, dirs)
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	return n
}

// box is a process that stands for a sandbox. Its kernel is Linux, and whoever is in it is root
// there and has the raw link: what breaks out of gVisor's kernel has no more.
type box struct {
	t    *testing.T
	net  *Net
	id   sandbox.ID
	dir  string
	cmd  *exec.Cmd
	ns   *os.File
	link *Link
}

func (w *world) join(n *Net, id string, want sandpool.Network) *box {
	t := w.t
	t.Helper()
	b := &box{t: t, net: n, id: sandbox.ID(id), dir: filepath.Join(n.cfg.Dir, "boxes", id)}
	must(t, os.MkdirAll(b.dir, 0o700))
	b.cmd = exec.Command("sleep", "infinity")
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: 0}
	must(t, b.cmd.Start())
	var err error
	b.ns, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", b.cmd.Process.Pid))
	must(t, err)
	t.Cleanup(b.stop)
	b.link, err = n.Join(b.id, b.dir, b.cmd.Process.Pid, want)
	must(t, err)
	must(t, b.link.Socket.Close())
	must(t, within(b.ns, func() error {
		eth, err := netlink.LinkByName(insideName)
		must(t, err)
		must(t,
			netlink.AddrAdd(eth, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(b.link.Addr, 32))}))
		must(t, netlink.NeighSet(&netlink.Neigh{LinkIndex: eth.Attrs().Index, Family: unix.AF_INET,
			State: netlink.NUD_PERMANENT,
			IP:    b.link.Gateway.AsSlice(), HardwareAddr: b.link.GatewayHW}))
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index,
			Scope: netlink.SCOPE_LINK, Dst: ipNet(netip.PrefixFrom(b.link.Gateway, 32))}))
		return netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index,
			Gw: b.link.Gateway.AsSlice(), Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0"))})
	}))
	return b
}

// kill ends the process alone.
func (b *box) kill() {
	if b.cmd.ProcessState == nil {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
		_ = b.ns.Close()
	}
}

// stop does what the engine does.
func (b *box) stop() {
	b.t.Helper()
	b.kill()
	if err := b.net.Leave(b.id); err != nil {
		b.t.Error(err)
	}
	must(b.t, os.RemoveAll(b.dir))
}

// patience ends a try that nobody answers. What must not arrive is waited for less.
const (
	patience   = 30 * time.Second
	impatience = 300 * time.Millisecond
)

// dial opens a connection from the box.
func (b *box) dial(network string, to netip.AddrPort) (conn net.Conn, err error) {
	_ = within(b.ns, func() error {
		conn, err = (&net.Dialer{Timeout: patience}).Dial(network, to.String())
		return nil
	})
	return conn, err
}

// reach says what came back from there: the address that it saw, or "" for nothing.
func (b *box) reach(network string, to netip.AddrPort) string {
	conn, err := b.dial(network, to)
	if err != nil {
		return ""
	}
	defer conn.Close()
	wait := patience
	if network == "udp4" {
		_, _ = conn.Write([]byte("hello"))
		wait = impatience * 4
	}
	_ = conn.SetDeadline(time.Now().Add(wait))
	buf := make([]byte, 256)
	n, err := conn.Read(buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// tcp reports whether a TCP connection is answered.
func (b *box) tcp(to netip.Addr, port uint16) bool {
	return b.reach("tcp4", netip.AddrPortFrom(to, port)) != ""
}

func (b *box) udp(to netip.Addr, port uint16) bool {
	return b.reach("udp4", netip.AddrPortFrom(to, port)) != ""
}

// resolve asks the gateway for a name's addresses.
func (b *box) resolve(name string) ([]netip.Addr, dnsmessage.RCode) {
	b.t.Helper()
	return b.ask("udp4", name, dnsmessage.TypeA)
}

func (b *box) ask(network, name string,
	typ dnsmessage.Type) (found []netip.Addr, _ dnsmessage.RCode) {
	b.t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: typ,
			Class: dnsmessage.ClassINET}}}
	packed, err := m.Pack()
	must(b.t, err)
	conn, err := b.dial(network, netip.AddrPortFrom(Gateway(), 53))
	must(b.t, err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 4096)
	n := 0
	if network == "tcp4" {
		_, err = conn.Write(append([]byte{byte(len(packed) >> 8), byte(len(packed))}, packed...))
		must(b.t, err)
		_, err = io.ReadFull(conn, buf[:2])
		must(b.t, err)
		n, err = io.ReadFull(conn, buf[:int(buf[0])<<8|int(buf[1])])
	} else {
		_, err = conn.Write(packed)
		must(b.t, err)
		n, err = conn.Read(buf)
	}
	must(b.t, err)
	must(b.t, m.Unpack(buf[:n]))
	for _, a := range m.Answers {
		found = append(found, netip.AddrFrom4(a.Body.(*dnsmessage.AResource).A))
	}
	return found, m.RCode
}

func enabled(allow ...string) sandpool.Network {
	return sandpool.Network{Status: sandpool.EgressEnabled, Allow: allow}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// remains lists everything of the package that the host has.
func remains(t *testing.T, dir string) (found []string) {
	t.Helper()
	links, err := netlink.LinkList()
	must(t, err)
	for _, l := range links {
		found = append(found, "link "+l.Attrs().Name)
	}
	conn, err := nftables.New()
	must(t, err)
	tables, err := conn.ListTables()
	must(t, err)
	for _, table := range tables {
		found = append(found, "table "+table.Name)
	}
	routes, err := netlink.RouteList(nil, unix.AF_INET)
	must(t, err)
	for _, r := range routes {
		found = append(found, "route "+r.String())
	}
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	must(t, err)
	for _, f := range flows {
		if src, _ := netip.AddrFromSlice(f.Forward.SrcIP.To4()); src.IsLinkLocalUnicast() {
			found = append(found, "connection "+f.String())
		}
	}
	for _, name := range []string{"gateway"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			found = append(found, "file "+name)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	return append(found, fmt.Sprintf("%d mounts of namespaces", countOf(string(mounts), " nsfs ")))
}

func countOf(s, sub string) (n int) {
	for i := 0; i+len(sub) <= len(s); i++ {
		if s[i:i+len(sub)] == sub {
			n++
		}
	}
	return n
}

// openOwn opens the namespace of the process.
func openOwn() (*os.File, error) { return os.Open("/proc/self/ns/net") }

// deadline is the time after d.
func deadline(d time.Duration) time.Time { return time.Now().Add(d) }

// listenReuse listens beside others on the same port: who listens at one address goes before.
func listenReuse(at netip.AddrPort) (net.Listener, error) {
	c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var set error
		err := raw.Control(
			func(fd uintptr) {
				set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			},
		)
		return errors.Join(err, set)
	}}
	return c.Listen(context.Background(), "tcp4", at.String())
}

func linkLo() (netlink.Link, error) { return netlink.LinkByName("lo") }

func addAddress(l netlink.Link, a netip.Addr) error {
	return netlink.AddrAdd(l, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, 32))})
}
