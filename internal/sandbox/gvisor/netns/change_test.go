package netns

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
)

// talk opens a connection and says how to see that it still carries.
func (b *box) talk(to netip.AddrPort) (carries func() bool) {
	b.t.Helper()
	conn, err := b.dial("tcp", to)
	must(b.t, err)
	b.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 256)
	if _, err := conn.Read(buf); err != nil {
		b.t.Fatal(err)
	}
	return func() bool {
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Write([]byte("still there?")); err != nil {
			return false
		}
		_, err := io.ReadFull(conn, make([]byte, 12))
		return err == nil
	}
}

// A change of the policy holds at once: what it no longer allows ends, in both directions, and the
// rest goes on.
func TestChangeUnderConnections(t *testing.T) { both(t, tryChangeUnderConnections) }

func tryChangeUnderConnections(t *testing.T, w *world) {
	n := w.open(t, t.TempDir())
	w.set("a.example.com", record{ttl: 1, addrs: []netip.Addr{w.public}})
	b := w.join(n, "box", enabled("*.example.com", w.other.String()))
	b.resolve("a.example.com")
	named := b.talk(netip.AddrPortFrom(w.public, 80))
	plain := b.talk(netip.AddrPortFrom(w.other, 80))
	if !named() || !plain() {
		t.Fatal("connections carry nothing")
	}
	change := func(want sandpool.Network) {
		t.Helper()
		must(t, n.Change(b.id, b.dir, want))
	}
	change(enabled("*.example.com", w.other.String(), "1.1.1.1"))
	if !named() || !plain() {
		t.Error("a change that allows more has ended connections")
	}
	change(enabled(w.other.String()))
	if named() || !plain() {
		t.Error("after its name was taken back a connection carries, or another does not")
	}
	if b.tcp(w.public, 80) || len(first(b.resolve("a.example.com"))) > 0 {
		t.Error("the name or its address is still open")
	}
	change(enabled("*.example.com"))
	if plain() || b.tcp(w.other, 80) {
		t.Error("after its address was taken back a connection carries")
	}
	b.resolve("a.example.com")
	again := b.talk(netip.AddrPortFrom(w.public, 80))
	change(sandpool.Network{})
	if again() || b.tcp(w.public, 80) || b.udp(w.public, 80) ||
		len(first(b.resolve("a.example.com"))) > 0 {
		t.Error("without a network something is reached")
	}
}

func first[A, B any](a A, _ B) A { return a }

// What a server goes on sending into a connection that was taken back does not arrive.
func TestChangeStopsWhatComesIn(t *testing.T) { both(t, tryChangeStopsWhatComesIn) }

func tryChangeStopsWhatComesIn(t *testing.T, w *world) {
	n := w.open(t, t.TempDir())
	b := w.join(n, "box", enabled(w.public.String()))
	var l net.Listener
	must(t, within(w.ns, func() (err error) {
		l, err = net.Listen("tcp", at(w.public, 7000))
		return err
	}))
	defer l.Close()
	conn, err := b.dial("tcp", netip.AddrPortFrom(w.public, 7000))
	must(t, err)
	defer conn.Close()
	server, err := l.Accept()
	must(t, err)
	defer server.Close()
	must(t, n.Change(b.id, b.dir, enabled(w.other.String())))
	_, err = server.Write([]byte("late"))
	must(t, err)
	_ = conn.SetReadDeadline(time.Now().Add(impatience))
	if got, err := conn.Read(make([]byte, 8)); got > 0 || err == nil {
		t.Errorf("%d bytes have arrived", got)
	}
}

// A sandbox that writes frames of its own makes the gateway believe nothing.
func TestForgedFrames(t *testing.T) {
	w := newWorld(t, side4())
	n := w.open(t, t.TempDir())
	b, neighbour := w.join(n, "a", enabled()), w.join(n, "b", enabled())
	seen := w.capture(w.ns, "host")
	toNeighbour := w.capture(neighbour.ns, insideName)
	inside, outside := b.link.Hardware, b.link.GatewayHW
	for _, src := range []netip.Addr{neighbour.link.Addr, w.host, w.router, Gateway(),
		n.gate.up.near, w.metadata, w.other} {
		b.send(frame(outside, inside, 0x0800,
			ipv4(src, w.public, unix.IPPROTO_UDP, 0, udpTo(80, "forged"))))
	}
	b.send(frame(outside, inside, 0x0800, ipv4(b.link.Addr, neighbour.link.Addr, unix.IPPROTO_UDP,
		0, udpTo(80, "forged"))))
	b.send(frame(outside, inside, 0x0800,
		ipv4(b.link.Addr, w.private, unix.IPPROTO_UDP, 0, udpTo(80, "forged"))))
	b.send(frame(outside, inside, 0x0800, ipv4(b.link.Addr, w.public, unix.IPPROTO_ICMP,
		0, append([]byte{8, 0, 0, 0, 0, 0, 0, 0}, "forged"...))))
	b.send(frame(outside, inside, 0x0800, ipv4(b.link.Addr, w.public, 47, 0, []byte("forged"))))
	// Fragments whose second part says nothing of a port, and a first one that is too short to.
	b.send(frame(outside, inside, 0x0800, ipv4(b.link.Addr, w.private, unix.IPPROTO_UDP, 0x2000,
		udpTo(80, "forged.."))))
	b.send(frame(outside, inside, 0x0800,
		ipv4(b.link.Addr, w.private, unix.IPPROTO_UDP, 2, []byte("forged"))))
	b.send(frame(outside, inside, 0x0800, ipv4(b.link.Addr, w.public, unix.IPPROTO_UDP, 0x2000,
		[]byte{0, 53, 0, 53, 0, 20, 0, 0})))
	// IPv6, a VLAN, and a neighbour's hardware address.
	b.send(frame(outside, inside, 0x86dd,
		append([]byte{0x60, 0, 0, 0, 0, 6, 59, 64}, append(make([]byte, 32), "forged"...)...)))
	b.send(frame(outside, inside, 0x8100, append([]byte{0, 1, 8, 0},
		ipv4(b.link.Addr, w.public, unix.IPPROTO_UDP, 0, udpTo(80, "forged"))...)))
	b.send(frame(neighbour.link.Hardware, inside, 0x0800,
		ipv4(b.link.Addr, neighbour.link.Addr, unix.IPPROTO_UDP, 0, udpTo(80, "forged"))))
	// "The neighbour's address, and the gateway's, are at my hardware address" (RFC 826).
	for _, claim := range []netip.Addr{neighbour.link.Addr, Gateway(), w.host} {
		arp := append([]byte{0, 1, 8, 0, 6, 4, 0, 2}, inside...)
		arp = append(append(append(arp, claim.AsSlice()...), outside...), Gateway().AsSlice()...)
		b.send(frame(outside, inside, 0x0806, arp))
		b.send(frame(net.HardwareAddr{255, 255, 255, 255, 255, 255}, inside, 0x0806, arp))
	}
	// A packet in order comes last, so that those before it have been seen or have not.
	b.send(frame(outside, inside, 0x0800,
		ipv4(b.link.Addr, w.public, unix.IPPROTO_UDP, 0, udpTo(80, "honest"))))
	until(t, func() bool { return bytes.Contains(seen(), []byte("honest")) })
	if bytes.Contains(seen(), []byte("forged")) {
		t.Error("a forged packet has left the gateway")
	}
	if bytes.Contains(toNeighbour(), []byte("forged")) {
		t.Error("a forged packet has reached a neighbour")
	}
	if !neighbour.tcp(w.public, 80) || !b.tcp(w.public, 80) {
		t.Error("somebody is cut off by forged claims")
	}
	must(t, within(n.gate.ns, func() error {
		list, err := netlink.NeighList(0, unix.AF_INET)
		must(t, err)
		for _, e := range list {
			if a, _ := netip.AddrFromSlice(e.IP.To4()); a == neighbour.link.Addr &&
				e.HardwareAddr.String() != neighbour.link.Hardware.String() {
				t.Errorf("the gateway believes that %s is at %s", a, e.HardwareAddr)
			}
		}
		return nil
	}))
}

// send writes frames to the box's link as its kernel would.
func (b *box) send(frames ...[]byte) {
	b.t.Helper()
	must(b.t, within(b.ns, func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		must(b.t, err)
		defer unix.Close(fd)
		eth, err := netlink.LinkByName(insideName)
		must(b.t, err)
		for _, data := range frames {
			must(b.t, unix.Sendto(fd, data, 0, &unix.SockaddrLinklayer{Ifindex: eth.Attrs().Index}))
		}
		return nil
	}))
}

// packet is a frame with a packet of the box to dst, in the family of that.
func (b *box) packet(dst netip.Addr, proto byte, payload []byte) []byte {
	if dst.Is6() {
		return frame(b.link.GatewayHW, b.link.Hardware, 0x86dd,
			ipv6(b.link.Addr6, dst, proto, payload))
	}
	return frame(b.link.GatewayHW, b.link.Hardware, 0x0800,
		ipv4(b.link.Addr, dst, proto, 0, payload))
}

func frame(to, from net.HardwareAddr, kind uint16, payload []byte) []byte {
	return append(append(append(append([]byte(nil), to...), from...), byte(kind>>8),
		byte(kind)), payload...)
}

// ipv4 makes a packet; fragment is the field with flags and offset.
func ipv4(src, dst netip.Addr, proto byte, fragment uint16, payload []byte) []byte {
	h := make([]byte, 20, 20+len(payload))
	size := 20 + len(payload)
	h[0], h[2], h[3], h[4], h[6], h[7], h[8],
		h[9] = 0x45, byte(size>>8), byte(size), 9, byte(fragment>>8), byte(fragment), 64, proto
	copy(h[12:], src.AsSlice())
	copy(h[16:], dst.AsSlice())
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(h[i])<<8 | uint32(h[i+1])
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	h[10], h[11] = byte(^sum>>8), byte(^sum)
	return append(h, payload...)
}

func udpTo(port uint16, text string) []byte {
	n := 8 + len(text)
	return append([]byte{0x30, 0x39, byte(port >> 8), byte(port), byte(n >> 8), byte(n), 0,
		0}, text...)
}

// capture returns what has come in on a link.
func (w *world) capture(ns *os.File, name string) (seen func() []byte) {
	fd := -1
	must(w.t, within(ns, func() (err error) {
		link, err := netlink.LinkByName(name)
		must(w.t, err)
		const everything = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK,
			everything); err != nil {
			return err
		}
		must(w.t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20))
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything,
			Ifindex: link.Attrs().Index})
	}))
	w.t.Cleanup(func() { unix.Close(fd) })
	var all []byte
	buf := make([]byte, 65536)
	return func() []byte {
		for {
			n, from, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				return all
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING {
				all = append(all, buf[:n]...)
			}
		}
	}
}

// until waits for a condition.
func until(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
	}
}

// One sandbox has no more connections than its policy says, whatever it opens, and others still
// have theirs.
func TestConnectionLimit(t *testing.T) { both(t, tryConnectionLimit) }

func tryConnectionLimit(t *testing.T, w *world) {
	n := w.open(t, t.TempDir())
	limited := enabled()
	limited.Connections = 5
	b, neighbour := w.join(n, "a", limited), w.join(n, "b", limited)
	open := 0
	for range 12 {
		if conn, err := b.dial("tcp", netip.AddrPortFrom(w.public, 80)); err == nil {
			defer conn.Close()
			open++
		}
	}
	if open != 5 || !neighbour.tcp(w.public, 80) {
		t.Errorf("%d connections of 5 are open, or a neighbour has none", open)
	}
}

// Bytes over the bandwidth are dropped, and those within it arrive.
func TestBandwidth(t *testing.T) { both(t, tryBandwidth) }

func tryBandwidth(t *testing.T, w *world) {
	n := w.open(t, t.TempDir())
	slow := enabled()
	slow.Bandwidth = 64 << 10
	b := w.join(n, "a", slow)
	seen := w.capture(w.ns, "host")
	burst := udpTo(80, string(bytes.Repeat([]byte("x"), 1000)))
	const packets = 4000 // 4 MB, where 256 KiB and 64 KiB a second are allowed
	began := time.Now()
	b.send(slices.Repeat([][]byte{b.packet(w.public, unix.IPPROTO_UDP, burst)}, packets)...)
	allowed := 2 * (256<<10 + int(time.Since(began).Seconds()+1)*64<<10)
	if got := bytes.Count(seen(), []byte("x")); got < 100<<10 || got > allowed {
		t.Errorf("%d bytes have left, of %d that were sent and at most %d that are allowed",
			got, packets*1000, allowed)
	}
	if !b.tcp(w.public, 80) { // its own packets are few
		t.Error("a small connection does not work")
	}
}

// Everything that sandboxes have had is gone after them: of those that were stopped, of those that
// ended by themselves, and of those that a dead server left.
func TestNothingIsLeft(t *testing.T) { both(t, tryNothingIsLeft) }

func tryNothingIsLeft(t *testing.T, w *world) {
	dir := t.TempDir()
	conn, err := nftables.New()
	must(t, err)
	theirs := conn.AddTable(&nftables.Table{Name: "theirs", Family: nftables.TableFamilyINet})
	must(t, conn.Flush())
	defer func() { conn.DelTable(theirs); must(t, conn.Flush()) }()
	before := remains(t, dir)
	w.set("a.example.com", record{ttl: 300, addrs: []netip.Addr{w.public}})
	n := w.open(t, dir)
	var boxes []*box
	for i := range 20 {
		policy := enabled("*.example.com:80", fmt.Sprint(netip.MustParsePrefix([]string{"8.8.8.8/31", "2606:4700::8/127", "1.1.1.1/32"}[i%3]).Masked()))
		policy.Bandwidth = int64(i%2) << 20
		b := w.join(n, fmt.Sprintf("box-%d", i), policy)
		b.resolve("a.example.com")
		if !b.tcp(w.public, 80) {
			t.Fatalf("box %d does not reach a server", i)
		}
		b.tcp(w.private, 80) // is refused, which is counted
		boxes = append(boxes, b)
	}
	for _, b := range boxes[:5] {
		b.stop()
	}
	for _, b := range boxes[5:10] {
		b.kill()
	}
	// The server dies: what it had in memory is gone, and nothing was given back.
	must(t, n.gate.close())
	n.gate, n.closed = nil, true
	still := boxes[15].talk
	for _, b := range boxes[10:12] {
		b.kill()
	}
	next := w.open(t, dir)
	for _, b := range boxes {
		b.net = next
	}
	if !boxes[15].tcp(w.public, 80) || boxes[15].tcp(w.other, 443) &&
		boxes[15].link.Addr == boxes[16].link.Addr || still == nil {
		t.Error("a sandbox that was adopted does not reach what its name has opened")
	}
	if boxes[15].tcp(w.private, 80) {
		t.Error("a sandbox that was adopted reaches what its policy does not allow")
	}
	for _, b := range boxes[5:] {
		b.stop()
	}
	rest := map[string]int{}
	table := next.gate.table
	sets := []*nftables.Set{table.policy, table.marks, table.live, table.refused, table.up,
		table.down}
	for _, f := range table.families() {
		sets = append(sets, f.named, f.namedAny)
	}
	for _, s := range sets {
		list, err := next.gate.table.conn.GetSetElements(s)
		must(t, err)
		rest[s.Name] = len(list)
	}
	chains, err := next.gate.table.conn.ListChains()
	must(t, err)
	flows, err := next.gate.links.ConntrackTableList(netlink.ConntrackTable,
		netlink.InetFamily(w.family().proto))
	must(t, err)
	links, err := next.gate.links.LinkList()
	must(t, err)
	static := map[bool]int{false: 9, true: 11}[w.ipv6()]
	if len(chains) != static || len(flows) != 0 || len(links) != 2 ||
		slices.ContainsFunc(maps(rest), func(n int) bool {
			return n != 0
		}) {
		t.Errorf("left are %d chains, %d connections, %d links, elements %v", len(chains),
			len(flows), len(links), rest)
	}
	must(t, next.Close())
	if after := remains(t, dir); !slices.Equal(before, after) {
		t.Errorf("the host has\n%q\nand had\n%q", after, before)
	}
}

func maps(m map[string]int) (list []int) {
	for _, n := range m {
		list = append(list, n)
	}
	return list
}

// Whoever removes the host's rules, or all rules, opens nothing; and they come back.
func TestForeignReload(t *testing.T) { both(t, tryForeignReload) }

func tryForeignReload(t *testing.T, w *world) {
	n := w.open(t, t.TempDir())
	b := w.join(n, "a", enabled())
	own, err := openOwn()
	must(t, err)
	defer own.Close()
	w.listen(own, 81)
	conn, err := nftables.New()
	must(t, err)
	conn.FlushRuleset()
	must(t, conn.Flush())
	for _, to := range []netip.Addr{w.host, w.router, w.private, w.metadata, n.gate.up.far,
		n.gate.up.far6} {
		if b.tcp(to, 81) || b.tcp(to, 80) || b.udp(to, 80) {
			t.Errorf("%s is reached", to)
		}
	}
	until(t, func() bool { return b.tcp(w.public, 80) })
	// An address that the host gets later is closed as well.
	late := w.late
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	addOn(t, lo, late, late.BitLen())
	defer func() {
		must(t, netlink.AddrDel(lo,
			&netlink.Addr{IPNet: ipNet(netip.PrefixFrom(late, late.BitLen()))}))
	}()
	until(t, func() bool { return n.gate.Own(late) })
	conn.FlushRuleset()
	must(t, conn.Flush())
	if b.tcp(late, 81) {
		t.Error("a new address of the host is reached")
	}
}

// Names cannot make the gateway hold more than it says, and say so.
func TestTooManyNames(t *testing.T) { both(t, tryTooManyNames) }

func tryTooManyNames(t *testing.T, w *world) {
	n := w.open(t, t.TempDir())
	b := w.join(n, "a", enabled("*.example.com"))
	var many []netip.Addr
	for i := range 2 * maxLearned {
		a := w.public.AsSlice()
		a[len(a)-2], a[len(a)-1] = byte(i>>8), byte(i)
		next, _ := netip.AddrFromSlice(a)
		many = append(many, next)
	}
	if err := n.gate.Open(b.link.Addr, "a.example.com", many, time.Minute); err == nil ||
		len(n.shares["a"].learned) > 0 {
		t.Errorf("%d addresses are open, %v", len(n.shares["a"].learned), err)
	}
	must(t, n.gate.Open(b.link.Addr, "a.example.com", many[:maxLearned], time.Minute))
	must(t, n.gate.Open(b.link.Addr, "a.example.com", nil, time.Minute))
	if err := n.gate.Open(b.link.Addr, "b.example.com", many[maxLearned:][:1],
		time.Minute); err == nil {
		t.Error("one more is open")
	}
}

// A server that comes back to thousands of sandboxes writes the rules of all of them.
func TestManyShares(t *testing.T) {
	w := newWorld(t, side4())
	n := w.open(t, t.TempDir())
	must(t, n.ensure())
	var shares []*share
	for i := range uint16(3000) {
		s := newShare("x")
		s.Addr = addressOf(firstIndex + i)
		must(t, s.setNetwork(enabled(fmt.Sprintf("8.8.8.%d", i%50))))
		shares = append(shares, s)
	}
	must(t, n.gate.table.rebuild(shares, nil, nil))
	list, err := n.gate.table.conn.GetSetElements(n.gate.table.policy)
	must(t, err)
	if len(list) != len(shares) {
		t.Errorf("the rules of %d sandboxes are there", len(list))
	}
}
