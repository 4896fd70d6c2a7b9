package netns

import (
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
)

// A name whose addresses change between two questions opens what is public of them alone: neither
// the metadata service nor a private network nor the host.
func TestRebinding(t *testing.T) { both(t, tryRebinding) }

func tryRebinding(t *testing.T, w *world) {
	n := w.open(t, t.TempDir())
	b := w.join(n, "a", enabled("*.example.com:80"))
	w.set("a.example.com", record{ttl: 0, addrs: []netip.Addr{w.public}})
	if got, _ := b.resolve("a.example.com"); !slices.Equal(got, []netip.Addr{w.public}) ||
		!b.tcp(w.public, 80) {
		t.Fatalf("a.example.com is %v, or not reached", got)
	}
	bad := []netip.Addr{w.metadata, w.private, w.host, n.gate.up.far,
		netip.MustParseAddr("127.0.0.1"),
		netip.MustParseAddr("0.0.0.0"), Gateway()}
	if w.ipv6() {
		bad = append(addrs("::1", "::", "fe80::1", "ff02::1", "::ffff:169.254.169.254",
			"::169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1",
			"2001:0:5db8:d822:0:0:5601:5601", "2001:10::1", "fec0::1"), w.metadata, w.azure,
			w.private, w.host, n.gate.up.far6, n.gate.up.near6, Gateway6())
	}
	for _, next := range bad {
		w.set("a.example.com", record{ttl: 0, addrs: []netip.Addr{next}})
		if got, _ := b.resolve("a.example.com"); len(got) > 0 {
			t.Errorf("after it changed to %s the answer is %v", next, got)
		}
		w.set("a.example.com", record{ttl: 0, addrs: []netip.Addr{next, w.other}})
		if got, _ := b.resolve("a.example.com"); !slices.Equal(got, []netip.Addr{w.other}) {
			t.Errorf("with %s beside a public address the answer is %v", next, got)
		}
		if !next.IsLoopback() && !next.IsUnspecified() && b.tcp(next, 80) {
			t.Errorf("%s is reached", next)
		}
	}
}

// A name that is allowed by TCP does not open QUIC, DNS over HTTPS of others, or other protocols to
// its addresses.
func TestOtherProtocols(t *testing.T) {
	w := newWorld(t, side4())
	n := w.open(t, t.TempDir())
	w.set("a.example.com", record{ttl: 60, addrs: []netip.Addr{w.public}})
	b := w.join(n, "a", enabled("a.example.com:443"))
	b.resolve("a.example.com")
	if !b.tcp(w.public, 443) {
		t.Fatal("what is allowed is not reached")
	}
	if b.udp(w.public, 443) {
		t.Error("QUIC is open")
	}
	for _, to := range []netip.Addr{w.resolver, w.other} {
		for _, port := range []uint16{53, 443, 853} {
			if b.tcp(to, port) || b.udp(to, port) {
				t.Errorf("a foreign resolver answers at %s:%d", to, port)
			}
		}
	}
	seen := w.capture(w.ns, "host")
	inside, outside := b.link.Hardware, b.link.GatewayHW
	// ICMP, IGMP, tunnels, IPsec, routing, SCTP
	for _, proto := range []byte{1, 2, 4, 41, 47, 50, 51, 58, 88, 89, 132, 255} {
		b.send(frame(outside, inside, 0x0800,
			ipv4(b.link.Addr, w.public, proto, 0, []byte("tunneled, and long enough for one"))))
	}
	if !b.tcp(w.public, 443) { // a round trip later than all of them
		t.Error("what is allowed is not reached any more")
	}
	if strings.Contains(string(seen()), "tunneled") {
		t.Error("another protocol has left the gateway")
	}
}

// Neighbour discovery, router advertisements and mapped or translated forms go nowhere: the gateway
// has no IPv6, and learns none.
func TestIPv6Claims(t *testing.T) {
	w := newWorld(t, side4())
	n := w.open(t, t.TempDir())
	b := w.join(n, "a", enabled())
	seen := w.capture(w.ns, "host")
	own := netip.MustParseAddr("fe80::5a")
	for _, to := range []string{"ff02::1", "ff02::2", "::ffff:169.254.169.254",
		"64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "fd00:ec2::254", "::1"} {
		for _, kind := range []byte{133, 134, 135, 136, 128} {
			icmp := append([]byte{kind, 0, 0, 0, 0xe0, 0, 0, 0}, own.AsSlice()...)
			icmp = append(icmp, 2, 1, 2, 0x5a, 0, 0, 0, 1)
			b.send(frame([]byte{0x33, 0x33, 0, 0, 0, 1}, b.link.Hardware, 0x86dd,
				ipv6(own, netip.MustParseAddr(to), 58, append(icmp, "claimed"...))))
			b.send(frame(b.link.GatewayHW, b.link.Hardware, 0x86dd,
				ipv6(own, netip.MustParseAddr(to), 58, append(icmp, "claimed"...))))
		}
		b.send(frame(b.link.GatewayHW, b.link.Hardware, 0x86dd,
			ipv6(own, netip.MustParseAddr(to), 17, udpTo(80, "claimed"))))
	}
	if !b.tcp(w.public, 80) {
		t.Error("the sandbox has cut itself off")
	}
	if strings.Contains(string(seen()), "claimed") {
		t.Error("a packet of IPv6 has left the gateway")
	}
	must(t, within(n.gate.ns, func() error {
		routes, err := netlink.RouteList(nil, unix.AF_INET6)
		must(t, err)
		neighbours, err := netlink.NeighList(0, unix.AF_INET6)
		must(t, err)
		for _, e := range neighbours {
			if !e.IP.IsMulticast() {
				t.Errorf("the gateway has the neighbour %s", e.IP)
			}
		}
		for _, r := range routes {
			if r.Gw != nil {
				t.Errorf("the gateway has the route %s", r)
			}
		}
		return nil
	}))
}

func ipv6(src, dst netip.Addr, next byte, payload []byte) []byte {
	h := []byte{0x60, 0, 0, 0, byte(len(payload) >> 8), byte(len(payload)), next, 255}
	return append(append(append(h, src.AsSlice()...), dst.AsSlice()...), payload...)
}

// A sandbox that opens flows without end has as many as its policy says, by UDP and by TCP; ports
// and entries for others are left.
func TestExhaustion(t *testing.T) { both(t, tryExhaustion) }

func tryExhaustion(t *testing.T, w *world) {
	n := w.open(t, t.TempDir())
	policy := enabled()
	policy.Connections = 100
	b, neighbour := w.join(n, "a", policy), w.join(n, "b", enabled())
	var frames [][]byte
	for i := range 20000 {
		to := w.public.AsSlice()
		to[len(to)-1] = byte(i)
		dst, _ := netip.AddrFromSlice(to)
		datagram := udpTo(uint16(1024+i/2), "flow")
		datagram[0], datagram[1] = byte(i>>8), byte(i) // the source's port
		frames = append(frames, b.packet(dst, unix.IPPROTO_UDP, datagram))
		syn := append(append([]byte{byte(i >> 8), byte(i), 0, 80}, make([]byte, 8)...), 0x50,
			2, 0xff, 0xff, 0, 0, 0, 0)
		frames = append(frames, b.packet(dst, unix.IPPROTO_TCP, syn))
	}
	b.send(frames...)
	if !neighbour.tcp(w.public, 80) || !neighbour.udp(w.public, 443) {
		t.Error("a neighbour reaches nothing")
	}
	until(t, func() bool { // the rest of the frames is in no queue any more
		flows, err := n.gate.links.ConntrackTableList(netlink.ConntrackTable,
			netlink.InetFamily(w.family().proto))
		must(t, err)
		mine := 0
		for _, f := range flows {
			if addrOf(f.Forward.SrcIP) == w.own(b.link) {
				mine++
			}
		}
		return mine > 0 && mine <= policy.Connections
	})
	limit, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max")
	must(t, err)
	if most, err := strconv.Atoi(strings.TrimSpace(string(limit))); err != nil ||
		most < 10*policy.Connections {
		t.Errorf("the host tracks %s connections", limit)
	}
	b.stop()
	if !neighbour.tcp(w.public, 80) {
		t.Error("after the sandbox has gone a neighbour reaches nothing")
	}
}

// A flow of UDP ends with the policy that allowed it, as a connection does, in both directions.
func TestChangeUnderFlow(t *testing.T) { both(t, tryChangeUnderFlow) }

func tryChangeUnderFlow(t *testing.T, w *world) {
	n := w.open(t, t.TempDir())
	b := w.join(n, "a", enabled(at(w.public, 443)+"/udp", at(w.other, 443)+"/udp"))
	conn, err := b.dial("udp", netip.AddrPortFrom(w.public, 443))
	must(t, err)
	defer conn.Close()
	echo := func() bool {
		_, _ = conn.Write([]byte("hello"))
		_ = conn.SetReadDeadline(deadline(impatience))
		_, err := conn.Read(make([]byte, 64))
		return err == nil
	}
	until(t, echo)
	must(t, n.Change(b.id, b.dir, enabled(at(w.public, 443)+"/udp")))
	until(t, echo)
	must(t, n.Change(b.id, b.dir, enabled(at(w.other, 443)+"/udp")))
	for range 3 {
		if echo() {
			t.Fatal("a flow carries that was taken back")
		}
	}
	must(t, n.Change(b.id, b.dir, sandpool.Network{}))
	if echo() || b.udp(w.other, 443) {
		t.Error("without a network something is reached")
	}
}

// The policy is changed again and again under connections that carry all the time: no reading of
// the old policy's connection comes after a change that took it back has returned.
func TestChangesUnderLoad(t *testing.T) { both(t, tryChangesUnderLoad) }

func tryChangesUnderLoad(t *testing.T, w *world) {
	n := w.open(t, t.TempDir())
	b := w.join(n, "a", enabled(at(w.public, 80)))
	to := map[bool]netip.Addr{true: w.public, false: w.other}
	for i := range 30 {
		allowed := i%2 == 0
		must(t, n.Change(b.id, b.dir, enabled(at(to[allowed], 80))))
		carries := b.talk(netip.AddrPortFrom(to[allowed], 80))
		if !carries() {
			t.Fatalf("change %d: what is allowed does not carry", i)
		}
		if b.tcp(to[!allowed], 80) {
			t.Fatalf("change %d: what was taken back is reached", i)
		}
		must(t, n.Change(b.id, b.dir, enabled(at(to[!allowed], 80))))
		if carries() {
			t.Fatalf("change %d: a connection carries that was taken back", i)
		}
	}
}
