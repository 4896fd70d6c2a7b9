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
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
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

// open opens the package's subject on dir.
func (w *world) open(t *testing.T, dir string, private ...netip.Prefix) *Net {
	t.Helper()
	dirs := map[sandbox.ID]string{}
	entries, _ := os.ReadDir(filepath.Join(dir, "boxes"))
	for _, e := range entries {
		dirs[sandbox.ID(e.Name())] = filepath.Join(dir, "boxes", e.Name())
	}
	n, err := Open(slog.New(slog.NewTextHandler(t.Output(), nil)), Config{Dir: dir,
		Resolvers: []netip.AddrPort{nameServer()}, Private: private, IPv6: w.ipv6()}, dirs)
	must(t, err)
	t.Cleanup(func() { must(t, n.Close()) })
	return n
}

// box is a process that stands for a sandbox. Its kernel is Linux, and whoever is in it is root
// there and has the raw link: what breaks out of gVisor's kernel has no more.
type box struct {
	t    *testing.T
	w    *world
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
	b := &box{t: t, w: w, net: n, id: sandbox.ID(id), dir: filepath.Join(n.cfg.Dir, "boxes", id)}
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
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index,
			Gw: b.link.Gateway.AsSlice(), Dst: ipNet(anywhere(b.link.Gateway))}))
		if b.link.Addr6.IsValid() {
			b.useIPv6(eth)
		}
		return nil
	}))
	return b
}

// useIPv6 has the box's kernel use the addresses of the link, which the package keeps it from.
func (b *box) useIPv6(eth netlink.Link) {
	b.t.Helper()
	must(b.t, apply([]setting{{"ipv6/conf/" + insideName + "/disable_ipv6", "0"}}))
	addOn(b.t, eth, b.link.Addr6, 128)
	must(b.t, netlink.NeighSet(neighbour(eth, b.link.Gateway6, b.link.GatewayHW)))
	must(b.t, netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index,
		Scope: netlink.SCOPE_LINK, Dst: ipNet(netip.PrefixFrom(b.link.Gateway6, 128))}))
	must(b.t, netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index,
		Gw: b.link.Gateway6.AsSlice(), Dst: ipNet(anywhere(b.link.Gateway6))}))
	until(b.t, func() bool { // the kernel takes what comes to the address a little later
		list, err := netlink.RouteListFiltered(unix.AF_INET6,
			&netlink.Route{Table: unix.RT_TABLE_LOCAL, Dst: ipNet(netip.PrefixFrom(b.link.Addr6,
				128))}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
		must(b.t, err)
		return len(list) > 0
	})
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
	if network == "udp" {
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
	return b.reach("tcp", netip.AddrPortFrom(to, port)) != ""
}

func (b *box) udp(to netip.Addr, port uint16) bool {
	return b.reach("udp", netip.AddrPortFrom(to, port)) != ""
}

// resolve asks the gateway for a name's addresses in the world's family.
func (b *box) resolve(name string) ([]netip.Addr, dnsmessage.RCode) {
	b.t.Helper()
	if b.w.ipv6() {
		return b.ask("udp", name, dnsmessage.TypeAAAA)
	}
	return b.ask("udp", name, dnsmessage.TypeA)
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
	if network == "tcp" {
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
		switch r := a.Body.(type) {
		case *dnsmessage.AResource:
			found = append(found, netip.AddrFrom4(r.A))
		case *dnsmessage.AAAAResource:
			found = append(found, netip.AddrFrom16(r.AAAA))
		}
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
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := netlink.RouteList(nil, family)
		must(t, err)
		for _, r := range routes {
			if r.Dst != nil && r.Dst.IP.IsLinkLocalUnicast() && family == unix.AF_INET6 {
				continue // the kernel adds it to a link some time after the link is up
			}
			found = append(found, "route "+r.String())
		}
		neighbours, err := netlink.NeighList(0, family)
		must(t, err)
		for _, e := range neighbours {
			if e.State == netlink.NUD_PERMANENT {
				found = append(found, "neighbour "+e.String())
			}
		}
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.InetFamily(family))
		must(t, err)
		for _, f := range flows {
			if src := addrOf(f.Forward.SrcIP); src.IsLinkLocalUnicast() || prefix6().Contains(src) {
				found = append(found, "connection "+f.String())
			}
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
	return c.Listen(context.Background(), "tcp", at.String())
}

func linkLo() (netlink.Link, error) { return netlink.LinkByName("lo") }
