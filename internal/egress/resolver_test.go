package egress

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sandpool/sandpool"
)

// Records are remembered for as long as the shortest of them says, and names that are not there for
// a while.
func TestResolverRemembers(t *testing.T) {
	life := uint32(300)
	d := newDNS(t, func(_ string, q dnsmessage.Message) []dnsmessage.Message {
		switch name := q.Questions[0].Name.String(); name {
		case "a.example.com.":
			q.Answers = []dnsmessage.Resource{a(name, life, "8.8.8.8")}
		case "alias.example.com.":
			q.Answers = []dnsmessage.Resource{cname(name, 20, "x.example.net."),
				a("x.example.net.", 300, "8.8.4.4")}
		case "brief.example.com.":
			q.Answers = []dnsmessage.Resource{a(name, 0, "8.8.8.8")}
		default:
			q.RCode = dnsmessage.RCodeNameError
		}
		return []dnsmessage.Message{q}
	})
	g := newGuest(t, []netip.AddrPort{d.addr}, "*.example.com")
	for name, test := range map[string]struct {
		life  int // seconds
		asked int // by two questions
	}{"a": {300, 1}, "alias": {20, 1}, "brief": {0, 2}, "none": {30, 1}} {
		full := name + ".example.com."
		for _, network := range []string{"udp", "tcp"} {
			m, ok := g.send(network, question(t, strings.ToUpper(full)))
			if !ok || name == "none" && m.RCode != dnsmessage.RCodeNameError {
				t.Fatalf("%s: %+v", name, m)
			}
			if name == "none" {
				continue
			}
			if got := int(m.Answers[0].Header.TTL); got > test.life || got < test.life-5 {
				t.Errorf("%s: the answer lives for %d s, want %d", name, got, test.life)
			}
		}
		if asked := d.since(); len(asked) != test.asked {
			t.Errorf("%s: upstream was asked %q, want %d questions", name, asked, test.asked)
		}
		u := g.resolver.upstream
		u.mu.Lock()
		kept := u.known[query{strings.TrimSuffix(full, "."), dnsmessage.TypeA}]
		u.mu.Unlock()
		if (kept != nil) != (test.life > 0) {
			t.Errorf("%s: it is remembered: %v", name, kept != nil)
		}
		if kept == nil {
			continue
		}
		u.mu.Lock()
		e := kept.Value.(*entry)
		left := time.Until(e.until).Seconds()
		e.until = time.Now() // the record has run out
		u.mu.Unlock()
		if left > float64(test.life) || left < float64(test.life)-5 {
			t.Errorf("%s: it is remembered for %v s, want %d", name, left, test.life)
		}
		g.send("udp", question(t, full))
		if asked := d.since(); len(asked) != 1 {
			t.Errorf("%s: after the record's end upstream was asked %q", name, asked)
		}
	}
}

// However many names code asks for, so many are remembered, the latest ones.
func TestResolverBounds(t *testing.T) {
	u := newUpstream(nil)
	for i := range maxKnown + 100 {
		f := &flight{done: make(chan struct{}), is: answer{life: time.Hour}}
		q := query{fmt.Sprintf("n%d.example.com", i), dnsmessage.TypeA}
		u.land(q, f)
	}
	if len(u.known) != maxKnown || u.order.Len() != maxKnown ||
		u.known[query{"n99.example.com", dnsmessage.TypeA}] != nil ||
		u.known[query{"n100.example.com", dnsmessage.TypeA}] == nil {
		t.Errorf("%d names are remembered, %d in order", len(u.known), u.order.Len())
	}
}

// What answers another question than the one that was asked is not listened to, nor records of
// names that the chain of aliases does not lead to.
func TestResolverForged(t *testing.T) {
	d := newDNS(t, func(_ string, q dnsmessage.Message) []dnsmessage.Message {
		name := q.Questions[0].Name.String()
		forged := func(change func(m *dnsmessage.Message)) dnsmessage.Message {
			m := q
			m.Questions = slices.Clone(q.Questions)
			m.Answers = []dnsmessage.Resource{a(name, 300, "8.8.4.4")}
			change(&m)
			return m
		}
		other := dnsmessage.MustNewName("other.example.com.")
		real := q
		switch name {
		case "loop.example.com.":
			real.Answers = []dnsmessage.Resource{cname(name, 9, "back.example.com."),
				cname("back.example.com.", 9, name), a("other.example.com.", 9, "8.8.4.4")}
		default:
			real.Answers = []dnsmessage.Resource{a("other.example.com.", 300, "8.8.4.4"),
				a(name, 300, "8.8.8.8")}
		}
		return []dnsmessage.Message{
			forged(func(m *dnsmessage.Message) { m.ID++ }),
			forged(func(m *dnsmessage.Message) { m.Response = false }),
			forged(func(m *dnsmessage.Message) { m.Questions[0].Name = other }),
			forged(func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeAAAA }),
			forged(func(m *dnsmessage.Message) { m.Questions = nil }),
			real}
	})
	g := newGuest(t, []netip.AddrPort{d.addr}, "*.example.com")
	m, _ := g.send("udp", question(t, "a.example.com."))
	if len(m.Answers) != 1 || m.Answers[0].Body.GoString() !=
		a("a.example.com.", 1, "8.8.8.8").Body.GoString() {
		t.Errorf("the answer is %v", m.Answers)
	}
	if m, ok := g.send("udp", question(t, "loop.example.com.")); !ok || len(m.Answers) > 0 {
		t.Errorf("aliases without end are answered with %v", m.Answers)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if got := fmt.Sprint(g.opened); got != "map[a.example.com:[8.8.8.8]]" {
		t.Errorf("open are %s", got)
	}
}

// An answer that does not fit a datagram is fetched by TCP, and cut so that it fits one of ours. A
// server that does not know is followed by the next one.
func TestResolverLargeAnswer(t *testing.T) {
	dead := newDNS(t, func(_ string, q dnsmessage.Message) []dnsmessage.Message {
		q.RCode = dnsmessage.RCodeServerFailure
		return []dnsmessage.Message{q}
	})
	d := newDNS(t, func(network string, q dnsmessage.Message) []dnsmessage.Message {
		if network == "udp" {
			q.Truncated = true
			return []dnsmessage.Message{q}
		}
		for i := range 200 {
			q.Answers = append(q.Answers, a(q.Questions[0].Name.String(), 60,
				fmt.Sprintf("8.8.8.%d", i)))
		}
		return []dnsmessage.Message{q}
	})
	g := newGuest(t, []netip.AddrPort{dead.addr, d.addr}, "*.example.com")
	long := strings.Repeat(strings.Repeat("a", 60)+".", 3) + "example.com."
	m, _ := g.send("udp", question(t, long))
	if data, err := m.Pack(); err != nil || len(m.Answers) != maxAnswers || len(data) > 512 {
		t.Errorf("there are %d answers in %d bytes, %v", len(m.Answers), len(data), err)
	}
	name := strings.TrimSuffix(long, ".")
	if got := d.since(); !slices.Equal(got, []string{name, "tcp " + name}) {
		t.Errorf("the second server was asked %q", got)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.opened[name]); n != maxAnswers {
		t.Errorf("%d addresses are open, want those that were answered", n)
	}
}

// What is no question for the addresses of an allowed name is refused, by UDP and by TCP, and
// nobody upstream hears of it.
func TestResolverRefuses(t *testing.T) {
	d := newDNS(t, records(a("a.example.com.", 300, "8.8.8.8")))
	g := newGuest(t, []netip.AddrPort{d.addr}, "*.example.com")
	typ := func(n dnsmessage.Type) func(*dnsmessage.Message) {
		return func(m *dnsmessage.Message) { m.Questions[0].Type = n }
	}
	const silent = dnsmessage.RCode(99)
	secret := strings.Repeat(strings.Repeat("s", 63)+".", 3)
	for what, test := range map[string]struct {
		message []byte
		want    dnsmessage.RCode
	}{
		"a transfer":             {question(t, "a.example.com.", typ(252)), dnsmessage.RCodeRefused},
		"a part of a transfer":   {question(t, "a.example.com.", typ(251)), dnsmessage.RCodeRefused},
		"everything":             {question(t, "a.example.com.", typ(255)), dnsmessage.RCodeRefused},
		"a text":                 {question(t, "a.example.com.", typ(16)), dnsmessage.RCodeSuccess},
		"NULL, as tunnels ask":   {question(t, "a.example.com.", typ(10)), dnsmessage.RCodeSuccess},
		"another name":           {question(t, secret+"example.org."), dnsmessage.RCodeNameError},
		"the apex":               {question(t, "example.com."), dnsmessage.RCodeNameError},
		"no name of a host":      {question(t, "a b.example.com."), dnsmessage.RCodeNameError},
		"a byte that is no name": {question(t, "\xff\x00.example.com."), dnsmessage.RCodeNameError},
		"the root":               {question(t, "."), dnsmessage.RCodeNameError},
		"another class": {question(t, "a.example.com.", func(m *dnsmessage.Message) {
			m.Questions[0].Class = dnsmessage.ClassCHAOS
		}), dnsmessage.RCodeRefused},
		"an update": {question(t, "a.example.com.", func(m *dnsmessage.Message) {
			m.OpCode = 5
		}), dnsmessage.RCodeNotImplemented},
		"two questions": {question(t, "a.example.com.", func(m *dnsmessage.Message) {
			m.Questions = append(m.Questions, m.Questions[0])
		}), dnsmessage.RCodeFormatError},
		"no question": {question(t, "a.example.com.", func(m *dnsmessage.Message) {
			m.Questions = nil
		}), dnsmessage.RCodeFormatError},
		"a name over 255 bytes": {slices.Concat(question(t, ".")[:12],
			[]byte(strings.Repeat("\x3f"+strings.Repeat("s", 63), 4)), []byte{0, 0, 1, 0, 1}),
			dnsmessage.RCodeFormatError},
		"a name that points at itself": {slices.Concat(question(t, ".")[:12],
			[]byte{0xc0, 12, 0, 1, 0, 1}), dnsmessage.RCodeFormatError},
		"an answer": {question(t, "a.example.com.", func(m *dnsmessage.Message) {
			m.Response = true
		}), silent},
		"junk":           {[]byte("junk"), silent},
		"over 512 bytes": {append(question(t, "a.example.com."), make([]byte, 600)...), silent},
	} {
		m, ok := g.send("tcp", test.message)
		if ok != (test.want != silent) || ok && (m.RCode != test.want || len(m.Answers) > 0) {
			t.Errorf("%s by TCP: answered %v with %v %v", what, ok, m.RCode, m.Answers)
		}
		if test.want == silent {
			conn, err := net.Dial("udp", g.at)
			must(t, err)
			_, _ = conn.Write(test.message)
			conn.Close()
		} else if m, ok := g.send("udp", test.message); !ok || m.RCode != test.want {
			t.Errorf("%s by UDP: answered %v with %v", what, ok, m.RCode)
		}
	}
	if asked := d.since(); len(asked) > 0 {
		t.Errorf("upstream was asked %q", asked)
	}
	if m, ok := g.send("udp", question(t, "a.example.com.")); !ok || len(m.Answers) != 1 {
		t.Errorf("an honest question is answered with %v", m.Answers)
	}
}

// One sandbox has so many questions a second and so many connections, whoever else asks.
func TestResolverPace(t *testing.T) {
	d := newDNS(t, records(a("a.example.com.", 300, "8.8.8.8")))
	g := newGuest(t, []netip.AddrPort{d.addr}, "a.example.com")
	one, other := netip.MustParseAddr("198.18.0.17"), netip.MustParseAddr("198.18.0.18")
	asked := 0
	for began := time.Now(); g.resolver.mayAsk(one); asked++ {
		if time.Since(began) > time.Minute {
			t.Fatal("a sandbox asks without end")
		}
	}
	if asked < paceBurst || !g.resolver.mayAsk(other) {
		t.Errorf("after %d questions a sandbox has to wait, or its neighbour has", asked)
	}
	g.resolver.Forget(one)
	if len(g.resolver.pace) != 1 || !g.resolver.mayAsk(one) {
		t.Error("what is kept of a sandbox outlives it")
	}
	for i := range maxLinks + 4 {
		conn, err := net.Dial("tcp", g.at)
		must(t, err)
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(linkIdle / 2))
		_, _ = conn.Write(withSize(question(t, "a.example.com.")))
		if _, err := readTCP(conn); (err == nil) != (i < maxLinks) {
			t.Errorf("connection %d of %d: %v", i+1, maxLinks, err)
		}
	}
}

// FuzzRead reads what a server says.
func FuzzRead(f *testing.F) {
	q := query{"a.example.com", dnsmessage.TypeA}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, Response: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("a.example.com."),
			Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
		Answers: []dnsmessage.Resource{cname("a.example.com.", 9, "b.example.com."),
			a("b.example.com.", 300, "8.8.8.8")}}
	data, err := m.Pack()
	must(f, err)
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		is, truncated, err := read(data, 7, q)
		if err != nil || truncated {
			return
		}
		if len(is.addresses) > maxAddresses || is.life < 0 || is.life > longestLife ||
			is.missing && len(is.addresses) > 0 {
			t.Errorf("it reads %+v", is)
		}
	})
}

// FuzzQuestion reads what a sandbox sends.
func FuzzQuestion(f *testing.F) {
	f.Add(question(f, "a.example.com."))
	f.Add(question(f, "b.example.org."))
	g := &guest{opened: map[string][]netip.Addr{}}
	g.policy = policy(f, sandpool.Network{Allow: []string{"a.example.com"}})
	g.resolver = NewResolver(slog.New(slog.DiscardHandler), g, NewGround(nil), nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		answer := g.resolver.answer(netip.MustParseAddr("198.18.0.17"), data)
		if answer == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(answer); err != nil || !m.Response || len(m.Answers) > 0 ||
			len(answer) > 512 {
			t.Errorf("%x is answered with %x, %v", data, answer, err)
		}
	})
}
