package netns

import (
	"bytes"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// extension is an extension header without content, of eight bytes, before another one.
func extension(next byte, payload []byte) []byte {
	return append([]byte{next, 0, 1, 4, 0, 0, 0, 0}, payload...)
}

// routed is a routing header of type 0, which leads on to an address (RFC 2460).
func routed(next byte, to netip.Addr, payload []byte) []byte {
	return slices.Concat([]byte{next, 2, 0, 1, 0, 0, 0, 0}, to.AsSlice(), payload)
}

// part is a fragment header; place is its field with offset and flag.
func part(next byte, place uint16, payload []byte) []byte {
	return append([]byte{next, 0, byte(place >> 8), byte(place), 0, 0, 0, 9}, payload...)
}

// claim is a message of neighbour discovery about an address (RFC 4861).
func claim(kind byte, about netip.Addr, at []byte) []byte {
	option := byte(1) // the sender's
	if kind == 136 {
		option = 2 // the target's
	}
	return slices.Concat([]byte{kind, 0, 0, 0, 0xe0, 0, 0, 0}, about.AsSlice(), []byte{option, 1},
		at, []byte("forged"))
}

// A sandbox with IPv6 that writes frames of its own makes the gateway believe nothing: foreign
// sources, extension headers, fragments, and all that is said by neighbour discovery.
func TestForgedIPv6(t *testing.T) {
	w := newWorld(t, side6())
	n := w.open(t, t.TempDir())
	b, neighbour := w.join(n, "a", enabled()), w.join(n, "b", enabled())
	seen := w.capture(w.ns, "host")
	toNeighbour := w.capture(neighbour.ns, insideName)
	inside, outside := b.link.Hardware, b.link.GatewayHW
	own, datagram := b.link.Addr6, udpTo(80, "forged")
	send := func(src, dst netip.Addr, next byte, payload []byte) {
		b.send(frame(outside, inside, 0x86dd, ipv6(src, dst, next, payload)))
	}
	for _, src := range append(addrs("::", "::1", "fe80::5a", "ff02::1", "64:ff9b::1"),
		neighbour.link.Addr6, w.host, w.router, Gateway6(), n.gate.up.near6, n.gate.up.far6,
		w.metadata, w.other) {
		send(src, w.public, unix.IPPROTO_UDP, datagram)
	}
	for _, dst := range append(addrs("ff02::1", "ff0e::1", "::ffff:8.8.8.8", "fe80::1"),
		neighbour.link.Addr6, w.private, w.metadata, w.host, n.gate.up.far6) {
		send(own, dst, unix.IPPROTO_UDP, datagram)
	}
	for _, next := range []byte{0, 60, 43, 135, 139, 140} { // options, routing, mobility, HIP, shim
		send(own, w.public, next, extension(unix.IPPROTO_UDP, datagram))
		send(own, w.public, next, extension(60, extension(unix.IPPROTO_UDP, datagram)))
	}
	send(own, w.public, 43, routed(unix.IPPROTO_UDP, w.private, datagram))
	for _, next := range []byte{4, 41, 47, 50, 51, 59, 132, 255} { // tunnels, IPsec, nothing, SCTP
		send(own, w.public, next, []byte("forged, and long enough for a header"))
	}
	for _, kind := range []byte{1, 2, 3, 4, 128, 129} {
		send(own, w.public, unix.IPPROTO_ICMPV6,
			slices.Concat([]byte{kind, 0, 0, 0, 0, 0, 5, 0}, []byte("forged"), make([]byte, 48)))
	}
	// Fragments: of what is closed, one without the first, and a first one that is too short for a
	// port.
	send(own, w.private, 44, part(unix.IPPROTO_UDP, 0, datagram))
	send(own, w.private, 44, part(unix.IPPROTO_UDP, 1, udpTo(80, "forged..")))
	send(own, w.public, 44, part(unix.IPPROTO_UDP, 16, []byte("forged..")))
	send(own, w.public, 44, part(unix.IPPROTO_UDP, 1, []byte{0, 53, 0, 53, 0, 20, 0, 0}))
	send(own, w.public, 44, part(60, 0, extension(unix.IPPROTO_UDP, datagram)))
	// "The neighbour's address, and the gateway's, are at mine; I am a router."
	for _, about := range append(addrs("fe80::1"), neighbour.link.Addr6, Gateway6(), w.host,
		n.gate.up.far6) {
		for _, src := range []netip.Addr{own, netip.MustParseAddr("fe80::5a")} {
			for _, kind := range []byte{133, 134, 135, 136, 137} {
				for _, dst := range append(addrs("ff02::1", "ff02::2"), Gateway6(),
					neighbour.link.Addr6) {
					send(src, dst, unix.IPPROTO_ICMPV6, claim(kind, about, inside))
				}
			}
		}
	}
	b.send(b.packet(w.public, unix.IPPROTO_UDP, udpTo(80, "honest")))
	until(t, func() bool { return bytes.Contains(seen(), []byte("honest")) })
	if bytes.Contains(seen(), []byte("forged")) {
		t.Error("a forged packet has left the gateway")
	}
	if bytes.Contains(toNeighbour(), []byte("forged")) {
		t.Error("a forged packet has reached a neighbour")
	}
	if !neighbour.tcp(w.public, 80) || !b.tcp(w.public, 80) || neighbour.tcp(b.link.Addr6, 80) {
		t.Error("somebody is cut off by forged claims, or reaches a neighbour")
	}
	w.believes(n, b, neighbour)
	until(t, func() bool { // the others are told of, by who has sent them
		r, err := n.Refusals(t.Context(), b.id)
		must(t, err)
		return r.Packets > 20 && len(r.Recent) > 0
	})
	if r, err := n.Refusals(t.Context(), neighbour.id); err != nil || r.Packets > 1 {
		t.Errorf("the neighbour was refused %+v, %v", r, err)
	}
}

// believes fails if the gateway knows other neighbours than it was given, or routes by routers.
func (w *world) believes(n *Net, boxes ...*box) {
	w.t.Helper()
	known := []string{n.gate.up.far6.String()}
	for _, b := range boxes {
		known = append(known, b.link.Addr6.String())
	}
	list, err := n.gate.links.NeighList(0, unix.AF_INET6)
	must(w.t, err)
	for _, e := range list {
		at := addrOf(e.IP)
		i := slices.IndexFunc(boxes, func(b *box) bool { return b.link.Addr6 == at })
		if !at.IsMulticast() && !slices.Contains(known, at.String()) ||
			i >= 0 && e.HardwareAddr.String() != boxes[i].link.Hardware.String() {
			w.t.Errorf("the gateway believes that %s is at %s", e.IP, e.HardwareAddr)
		}
	}
	routes, err := n.gate.links.RouteList(nil, unix.AF_INET6)
	must(w.t, err)
	for _, r := range routes {
		if r.Gw != nil && addrOf(r.Gw) != n.gate.up.far6 {
			w.t.Errorf("the gateway has the route %s", r)
		}
	}
}

// Fragments of what is allowed arrive, whole.
func TestFragmentsIPv6(t *testing.T) {
	w := newWorld(t, side6())
	n := w.open(t, t.TempDir())
	b := w.join(n, "a", enabled(at(w.public, 80)+"/udp"))
	seen := w.capture(w.ns, "host")
	whole := udpTo(80, strings.Repeat("honest..", 4))
	sum := checksum(b.link.Addr6, w.public, unix.IPPROTO_UDP, whole)
	whole[6], whole[7] = byte(sum>>8), byte(sum)
	b.send(b.packet(w.public, 44, part(unix.IPPROTO_UDP, 24, whole[24:])),
		b.packet(w.public, 44, part(unix.IPPROTO_UDP, 1, whole[:24])))
	until(t, func() bool { return bytes.Count(seen(), []byte("honest..")) == 4 })
}

// checksum is that of a packet of IPv6 (RFC 8200, 8.1).
func checksum(src, dst netip.Addr, next byte, payload []byte) uint16 {
	all := slices.Concat(src.AsSlice(), dst.AsSlice(), []byte{0, 0, byte(len(payload) >> 8),
		byte(len(payload)), 0, 0, 0, next}, payload, make([]byte, len(payload)%2))
	sum := uint32(0)
	for i := 0; i < len(all); i += 2 {
		sum += uint32(all[i])<<8 | uint32(all[i+1])
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// A narrow link behind the host is found by what its router says of it.
func TestNarrowPath(t *testing.T) { both(t, narrowPath) }

func narrowPath(t *testing.T, w *world) {
	n := w.open(t, t.TempDir())
	b := w.join(n, "a", enabled())
	link, err := netlink.LinkByName("world")
	must(t, err)
	must(t, netlink.LinkSetMTU(link, 1280))
	conn, err := b.dial("tcp", netip.AddrPortFrom(w.public, 80))
	must(t, err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	sent := bytes.Repeat([]byte("x"), 200<<10)
	go func() { _, _ = conn.Write(sent) }()
	if _, err := io.CopyN(io.Discard, conn, int64(len(sent))); err != nil {
		t.Errorf("not all comes back: %v", err)
	}
}

// reopen is a server that has died and one that comes after it.
func (w *world) reopen(n *Net, ipv6 bool, boxes ...*box) *Net {
	w.t.Helper()
	must(w.t, n.gate.close())
	n.gate, n.closed = nil, true
	if w.side = side4(); ipv6 {
		w.side = side6()
	}
	next := w.open(w.t, n.cfg.Dir)
	for _, b := range boxes {
		b.net = next
	}
	return next
}

// A server that is started without IPv6 takes it from sandboxes that have it, and one that is
// started with it gives it back to them, and to no others.
func TestSwitchedIPv6(t *testing.T) {
	w := newWorld(t, side6())
	dir := t.TempDir()
	before := remains(t, dir)
	n := w.open(t, dir)
	b := w.join(n, "a", enabled())
	w.set("a.example.com", record{ttl: 300, addrs: []netip.Addr{side4().public, side6().public}})
	if !b.tcp(side6().public, 80) || !b.tcp(side4().public, 80) {
		t.Fatal("a sandbox lacks a family")
	}
	n = w.reopen(n, false, b)
	plain := w.join(n, "b", enabled())
	if got, _ := b.ask("udp", "a.example.com", 28); len(got) > 0 || b.udp(side6().public, 80) {
		t.Errorf("without IPv6 a name has %v, or its address is reached", got)
	}
	if !b.tcp(side4().public, 80) || plain.link.Addr6.IsValid() {
		t.Error("without IPv6 there is no IPv4, or an address of IPv6")
	}
	conn, err := nftables.New()
	must(t, err)
	if table, err := conn.ListTableOfFamily(n.gate.host.name,
		nftables.TableFamilyIPv6); err == nil && table != nil {
		t.Error("without IPv6 the host has rules for it")
	}
	n = w.reopen(n, true, b, plain)
	if !b.tcp(side6().public, 80) || !b.tcp(side4().public, 80) {
		t.Error("with IPv6 again a sandbox lacks a family")
	}
	if got, _ := b.ask("udp", "a.example.com", 28); len(got) != 1 {
		t.Errorf("with IPv6 a name has %v", got)
	}
	if got, _ := plain.ask("udp", "a.example.com", 28); len(got) > 0 {
		t.Errorf("a sandbox without IPv6 is told %v", got)
	}
	plain.stop()
	b.stop()
	must(t, n.Close())
	if after := remains(t, dir); !slices.Equal(before, after) {
		t.Errorf("the host has\n%q\nand had\n%q", after, before)
	}
}

// A server that has died between the making of a sandbox's link and its setting up is followed by
// one that starts, and takes the sandbox away.
func TestHalfJoined(t *testing.T) { both(t, tryHalfJoined) }

func tryHalfJoined(t *testing.T, w *world) {
	dir := t.TempDir()
	before := remains(t, dir)
	n := w.open(t, dir)
	b, half := w.join(n, "a", enabled()), w.join(n, "b", enabled())
	link, err := n.gate.links.LinkByName(n.shares[half.id].link())
	must(t, err)
	must(t, n.gate.links.LinkSetDown(link))
	n = w.reopen(n, w.ipv6(), b, half)
	if !b.tcp(w.public, 80) || half.udp(w.public, 443) {
		t.Error("a sandbox reaches nothing, or the one without a link something")
	}
	half.stop()
	b.stop()
	must(t, n.Close())
	if after := remains(t, dir); !slices.Equal(before, after) {
		t.Errorf("the host has\n%q\nand had\n%q", after, before)
	}
}

// A sandbox has as many connections as its policy says in both families together.
func TestLimitOfBothFamilies(t *testing.T) {
	w := newWorld(t, side6())
	n := w.open(t, t.TempDir())
	limited := enabled()
	limited.Connections = 6
	b := w.join(n, "a", limited)
	open := 0
	for i := range 16 {
		to := side4().public
		if i%2 == 0 {
			to = side6().public
		}
		if conn, err := b.dial("tcp", netip.AddrPortFrom(to, 80)); err == nil {
			defer conn.Close()
			open++
		}
	}
	if open != limited.Connections {
		t.Errorf("%d connections are open, of %d", open, limited.Connections)
	}
}
