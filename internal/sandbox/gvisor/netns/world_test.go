package netns

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/need"
)

// side is the world beyond the host in one family.
type side struct {
	host, router      netip.Addr // the host's own, and the world's nearest
	public, other     netip.Addr
	metadata, azure   netip.Addr // services of clouds
	private, resolver netip.Addr
	edge, late        netip.Addr // public ones that nobody has at first
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func sideOf(a []netip.Addr) side {
	return side{a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]}
}

func side4() side {
	return sideOf(addrs("192.0.2.2", "192.0.2.1", "93.184.216.34", "8.8.8.8", "169.254.169.254",
		"168.63.129.16", "10.1.2.3", "9.9.9.9", "151.101.1.1", "93.184.217.1"))
}

func side6() side {
	return sideOf(addrs("2001:db8::2", "2001:db8::1", "2a00:1450::34", "2606:4700::8",
		"fd00:ec2::254", "fd20:ce::254", "fd12:3456:789a::3", "2620:fe::fe", "2a04:4e42::1",
		"2a00:1450::99"))
}

// nameServer is the world's, in IPv4.
func nameServer() netip.AddrPort { return netip.AddrPortFrom(side4().resolver, 53) }

// world is a namespace with servers, behind the host, in both families. The side of one is its
// own, and the network that is opened in it has IPv6 if that is it.
type world struct {
	side
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

// both runs a test in IPv4, on a network without IPv6, and in IPv6.
func both(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, family := range []struct {
		name string
		side side
	}{{"IPv4", side4()}, {"IPv6", side6()}} {
		t.Run(family.name, func(t *testing.T) { test(t, newWorld(t, family.side)) })
	}
}

func (w *world) ipv6() bool { return w.host.Is6() }

// at is an address and a port, as policies have them.
func at(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }

// own is the address of a sandbox in the world's family.
func (w *world) own(l *Link) netip.Addr {
	if w.ipv6() {
		return l.Addr6
	}
	return l.Addr
}

// family is the world's.
func (w *world) family() *family {
	if w.ipv6() {
		return family6()
	}
	return family4()
}

// newWorld makes it. Every address of it answers TCP and UDP on the ports 80, 443, 53 and 853 by
// saying who is asked.
func newWorld(t *testing.T, of side) *world {
	t.Helper()
	need.Root(t)
	w := &world{side: of, t: t, names: map[string]record{}}
	w.ns = namespace(t)
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, os.WriteFile(forwarding, []byte("1"), 0))
	must(t, os.WriteFile(forwarding6, []byte("1"), 0))
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "world", TxQLen: -1}, PeerName: "host",
		PeerNamespace: netlink.NsFd(w.ns.Fd())}
	must(t, netlink.LinkAdd(pair))
	t.Cleanup(func() { must(t, netlink.LinkDel(pair)) })
	must(t, apply([]setting{{"ipv6/conf/world/accept_dad", "0"}}))
	must(t, netlink.LinkSetUp(pair))
	for _, s := range []side{side4(), side6()} {
		addOn(t, pair, s.host, s.host.BitLen()*3/4)
	}
	must(t, within(w.ns, func() error {
		must(t, apply([]setting{{"ipv6/conf/host/accept_dad", "0"}}))
		host, err := netlink.LinkByName("host")
		must(t, err)
		must(t, netlink.LinkSetUp(host))
		lo, err := netlink.LinkByName("lo")
		must(t, err)
		must(t, netlink.LinkSetUp(lo))
		for _, s := range []side{side4(), side6()} {
			addOn(t, host, s.router, s.router.BitLen()*3/4)
			for _, a := range []netip.Addr{s.public, s.other, s.metadata, s.azure, s.private,
				s.resolver} {
				addOn(t, lo, a, a.BitLen())
			}
		}
		return nil
	}))
	for _, s := range []side{side4(), side6()} {
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: pair.Attrs().Index,
			Gw: s.router.AsSlice(), Dst: ipNet(anywhere(s.router))}))
	}
	for _, port := range []int{80, 443, 853, 5353} {
		w.listen(w.ns, port)
	}
	w.serveNames()
	return w
}

// anywhere is every address of the family of a.
func anywhere(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.MustParsePrefix("0.0.0.0/0")
	}
	return netip.MustParsePrefix("::/0")
}

func addOn(t testing.TB, l netlink.Link, a netip.Addr, bits int) {
	t.Helper()
	must(t, netlink.AddrAdd(l, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, bits)),
		Flags: map[bool]int{true: unix.IFA_F_NODAD}[a.Is6()]}))
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
		tcp, err := listenReuse(netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port)))
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
			if a.Is6() && (a.IsLinkLocalUnicast() || a.IsLoopback()) {
				continue
			}
			udp, err := net.ListenPacket("udp", netip.AddrPortFrom(a, uint16(port)).String())
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
		udp, err := net.ListenPacket("udp4", nameServer().String())
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
				var body dnsmessage.ResourceBody = &dnsmessage.AAAAResource{AAAA: a.As16()}
				typ := dnsmessage.TypeAAAA
				if a.Is4() {
					body, typ = &dnsmessage.AResource{A: a.As4()}, dnsmessage.TypeA
				}
				if typ == q.Type {
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: body})
				}
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
