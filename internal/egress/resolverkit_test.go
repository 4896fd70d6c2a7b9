package egress

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sandpool/sandpool"
)

// dns is a server that a resolver asks.
type dns struct {
	t    *testing.T
	addr netip.AddrPort

	mu    sync.Mutex // guards what follows
	asked []string   // the names, with "tcp " before them if they came by that
	say   func(network string, q dnsmessage.Message) []dnsmessage.Message
}

// listenBoth listens at one port by UDP and by TCP. One that is free for UDP may be somebody's by
// TCP, so it tries several.
func listenBoth(t *testing.T) (udp net.PacketConn, tcp net.Listener) {
	t.Helper()
	var err error
	for range 100 {
		udp, err = net.ListenPacket("udp4", "127.0.0.1:0")
		must(t, err)
		if tcp, err = net.Listen("tcp4", udp.LocalAddr().String()); err == nil {
			return udp, tcp
		}
		udp.Close()
	}
	t.Fatal(err)
	return nil, nil
}

func newDNS(t *testing.T,
	say func(network string, q dnsmessage.Message) []dnsmessage.Message) *dns {
	t.Helper()
	udp, tcp := listenBoth(t)
	d := &dns{t: t, addr: udp.LocalAddr().(*net.UDPAddr).AddrPort(), say: say}
	var wait sync.WaitGroup
	t.Cleanup(func() { udp.Close(); tcp.Close(); wait.Wait() })
	wait.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, answer := range d.answers("udp", buf[:n]) {
				_, _ = udp.WriteTo(answer, from)
			}
		}
	})
	wait.Go(func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			question, _ := readTCP(conn)
			for _, answer := range d.answers("tcp", question) {
				_, _ = conn.Write(withSize(answer))
			}
			_ = conn.Close()
		}
	})
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func withSize(message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

func readTCP(conn net.Conn) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(conn, message)
	return message, err
}

func (d *dns) answers(network string, message []byte) (packed [][]byte) {
	var q dnsmessage.Message
	if err := q.Unpack(message); err != nil || len(q.Questions) != 1 {
		d.t.Errorf("the resolver asks %x: %v", message, err)
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	name := strings.TrimSuffix(q.Questions[0].Name.String(), ".")
	if network == "tcp" {
		name = "tcp " + name
	}
	d.asked = append(d.asked, name)
	q.Response, q.RecursionAvailable = true, true
	for _, m := range d.say(network, q) {
		data, err := m.Pack()
		if err != nil {
			d.t.Error(err)
		}
		packed = append(packed, data)
	}
	return packed
}

// since returns what was asked and forgets it.
func (d *dns) since() (asked []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	asked, d.asked = d.asked, nil
	return asked
}

func header(owner string, ttl uint32) dnsmessage.ResourceHeader {
	return dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(owner),
		Class: dnsmessage.ClassINET, TTL: ttl}
}

func a(owner string, ttl uint32, address string) dnsmessage.Resource {
	return dnsmessage.Resource{Header: header(owner, ttl),
		Body: &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()}}
}

func cname(owner string, ttl uint32, to string) dnsmessage.Resource {
	return dnsmessage.Resource{Header: header(owner, ttl),
		Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to)}}
}

// records answers every question with the same ones.
func records(list ...dnsmessage.Resource) func(string, dnsmessage.Message) []dnsmessage.Message {
	return func(_ string, q dnsmessage.Message) []dnsmessage.Message {
		q.Answers = list
		return []dnsmessage.Message{q}
	}
}

// guest is the engine of a resolver with one policy.
type guest struct {
	t        *testing.T
	resolver *Resolver
	at       string // where it answers, by UDP and TCP
	policy   Policy

	mu      sync.Mutex // guards what follows
	opened  map[string][]netip.Addr
	refused []sandpool.Refusal
}

func (g *guest) Policy(netip.Addr) (Policy, bool) { return g.policy, true }
func (g *guest) Own(netip.Addr) bool              { return false }
func (g *guest) IPv6(netip.Addr) bool             { return false }

func (g *guest) Refused(_ netip.Addr, r sandpool.Refusal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refused = append(g.refused, r)
}

func (g *guest) Open(_ netip.Addr, name string, list []netip.Addr, _ time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened[name] = list
	return nil
}

func newGuest(t *testing.T, servers []netip.AddrPort, allow ...string) *guest {
	t.Helper()
	g := &guest{t: t, policy: policy(t, sandpool.Network{Allow: allow}),
		opened: map[string][]netip.Addr{}}
	g.resolver = NewResolver(slog.New(slog.DiscardHandler), g, NewGround(nil), servers)
	udp, tcp := listenBoth(t)
	g.at = udp.LocalAddr().String()
	done := make(chan error, 1)
	go func() { done <- g.resolver.Serve(udp, tcp) }()
	t.Cleanup(func() { udp.Close(); must(t, <-done) })
	return g
}

// question packs one of a name's addresses.
func question(t testing.TB, name string, change ...func(*dnsmessage.Message)) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name),
			Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	for _, c := range change {
		c(&m)
	}
	data, err := m.Pack()
	must(t, err)
	return data
}

// send asks, and returns the answer; false if there is none, which only takes long by UDP.
func (g *guest) send(network string, message []byte) (m dnsmessage.Message, ok bool) {
	g.t.Helper()
	conn, err := net.Dial(network, g.at)
	must(g.t, err)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 4096)
	if network == "tcp" {
		_, _ = conn.Write(withSize(message))
		buf, err = readTCP(conn)
	} else {
		var n int
		_, _ = conn.Write(message)
		n, err = conn.Read(buf)
		buf = buf[:n]
	}
	if err != nil {
		return m, false
	}
	must(g.t, m.Unpack(buf))
	return m, true
}
