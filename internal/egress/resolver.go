package egress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/time/rate"

	"github.com/sandpool/sandpool"
)

// Host is what a Resolver needs of the engine that it serves.
type Host interface {
	// Policy returns the policy of the sandbox with an address; false if there is none.
	Policy(sandbox netip.Addr) (Policy, bool)
	// Open lets the sandbox use addresses of a name. When it returns nil they can be used.
	Open(sandbox netip.Addr, name string, addresses []netip.Addr, life time.Duration) error
	// Refused is told what was not answered.
	Refused(sandbox netip.Addr, r sandpool.Refusal)
	// Own reports whether an address is one of the host's.
	Own(a netip.Addr) bool
	// IPv6 reports whether the sandbox has IPv6. It is asked only if the ground has it.
	IPv6(sandbox netip.Addr) bool
}

// Resolver answers the questions of sandboxes for addresses, by the policy of each. It answers
// nothing else: what is not a question for the addresses of an allowed name reaches no other
// server.
type Resolver struct {
	log      *slog.Logger
	host     Host
	ground   *Ground
	upstream *upstream
	turns    chan struct{} // bounds the questions in work
	ended    chan struct{} // closed when Serve has ended

	mu    sync.Mutex                   // guards what follows
	pace  map[netip.Addr]*rate.Limiter // of each sandbox
	links map[netip.Addr]int           // open TCP connections of each sandbox
}

// Bounds of what sandboxes can make a resolver do.
const (
	maxQuestions  = 256 // in work
	paceRate      = 50  // questions a second of one sandbox
	paceBurst     = 200
	maxLinks      = 8 // TCP connections of one sandbox
	linkIdle      = 10 * time.Second
	maxAnswers    = 12 // addresses in an answer: it then fits into 512 bytes (RFC 1035, 2.3.4)
	maxAnswers6   = 8
	maxQuestion   = 512
	answerTimeout = 8 * time.Second
)

// grace is how long an address stays open after its record has run out: for programs that resolve
// a name some time before they connect.
const grace = time.Minute

// NewResolver returns a resolver that asks servers, in their order.
func NewResolver(log *slog.Logger, host Host, ground *Ground, servers []netip.AddrPort) *Resolver {
	return &Resolver{log: log, host: host, ground: ground, upstream: newUpstream(servers),
		turns: make(chan struct{}, maxQuestions), ended: make(chan struct{}),
		pace: map[netip.Addr]*rate.Limiter{}, links: map[netip.Addr]int{}}
}

// Serve answers what comes by UDP and TCP until the first of them is closed; then it closes the
// other and ends what is in work. It may be called once.
func (r *Resolver) Serve(udp net.PacketConn, tcp net.Listener) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	defer tcp.Close()
	defer close(r.ended)
	wait.Go(func() { r.serveTCP(tcp, &wait) })
	buf := make([]byte, maxQuestion+1)
	for {
		n, from, err := udp.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			continue
		}
		peer := from.(*net.UDPAddr).AddrPort().Addr().Unmap()
		if n > maxQuestion || !r.mayAsk(peer) {
			continue
		}
		question := append([]byte(nil), buf[:n]...)
		select {
		case r.turns <- struct{}{}:
		default:
			continue // it asks again
		}
		wait.Go(func() {
			defer func() { <-r.turns }()
			if answer := r.answer(peer, question); answer != nil {
				_, _ = udp.WriteTo(answer, from)
			}
		})
	}
}

// mayAsk counts a question against the sandbox's pace.
func (r *Resolver) mayAsk(sandbox netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.pace[sandbox]
	if l == nil {
		l = rate.NewLimiter(paceRate, paceBurst)
		r.pace[sandbox] = l
	}
	return l.Allow()
}

// Forget drops what is kept of a sandbox that has ended.
func (r *Resolver) Forget(sandbox netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pace, sandbox)
}

func (r *Resolver) serveTCP(l net.Listener, wait *sync.WaitGroup) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		peer := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		if !r.enter(peer, 1) {
			_ = conn.Close()
			continue
		}
		wait.Go(func() {
			defer r.enter(peer, -1)
			defer conn.Close()
			over := make(chan struct{})
			defer close(over)
			wait.Go(func() {
				select {
				case <-r.ended:
					_ = conn.Close()
				case <-over:
				}
			})
			for r.answerOne(conn, peer) == nil {
			}
		})
	}
}

// enter counts TCP connections.
func (r *Resolver) enter(sandbox netip.Addr, n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n > 0 && r.links[sandbox] >= maxLinks {
		return false
	}
	if r.links[sandbox] += n; r.links[sandbox] == 0 {
		delete(r.links, sandbox)
	}
	return true
}

// answerOne reads a question from a TCP connection and answers it (RFC 7766).
func (r *Resolver) answerOne(conn net.Conn, peer netip.Addr) error {
	_ = conn.SetDeadline(time.Now().Add(linkIdle))
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint16(size[:])
	if n > maxQuestion || !r.mayAsk(peer) {
		return errors.New("too much")
	}
	question := make([]byte, n)
	if _, err := io.ReadFull(conn, question); err != nil {
		return err
	}
	select {
	case r.turns <- struct{}{}:
	case <-r.ended:
		return net.ErrClosed
	}
	answer := r.answer(peer, question)
	<-r.turns
	if answer == nil {
		return errors.New("no question")
	}
	_, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	return err
}

// answer returns what to say to a message of a sandbox; nil for nothing.
func (r *Resolver) answer(sandbox netip.Addr, message []byte) []byte {
	var p dnsmessage.Parser
	head, err := p.Start(message)
	if err != nil || head.Response {
		return nil
	}
	reply := dnsmessage.Header{ID: head.ID, Response: true, OpCode: head.OpCode,
		RecursionDesired: head.RecursionDesired, RecursionAvailable: true}
	q, err := p.Question()
	if err != nil {
		reply.RCode = dnsmessage.RCodeFormatError
		return build(reply, nil, nil, 0)
	}
	if _, err := p.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		reply.RCode = dnsmessage.RCodeFormatError
		return build(reply, nil, nil, 0)
	}
	found, rcode := r.resolve(sandbox, head, q)
	reply.RCode = rcode
	return build(reply, &q, found.addresses, found.life)
}

// The types of questions that ask for a whole zone or for everything (RFC 1035, 3.2.3; RFC 1995).
const (
	typeIXFR = 251
	typeAXFR = 252
)

// resolve answers one question.
func (r *Resolver) resolve(sandbox netip.Addr, head dnsmessage.Header,
	q dnsmessage.Question) (found answer, _ dnsmessage.RCode) {
	refused := func(name string, code dnsmessage.RCode, format string, args ...any) (answer,
		dnsmessage.RCode) {
		r.host.Refused(sandbox, sandpool.Refusal{Time: time.Now(), Host: name,
			Protocol: dnsProtocol, Reason: fmt.Sprintf(format, args...)})
		return answer{}, code
	}
	shown := strings.ToValidUTF8(strings.TrimSuffix(q.Name.String(), "."), "?")
	policy, ok := r.host.Policy(sandbox)
	switch {
	case !ok:
		return answer{}, dnsmessage.RCodeRefused
	case policy.Proxy: // no packet of its gets here; a change of the policy may let one pass
		return answer{}, dnsmessage.RCodeRefused
	case head.OpCode != 0:
		return answer{}, dnsmessage.RCodeNotImplemented
	case q.Class != dnsmessage.ClassINET, q.Type == dnsmessage.TypeALL, q.Type == typeAXFR,
		q.Type == typeIXFR:
		return refused(shown, dnsmessage.RCodeRefused, "Questions of the type %s are not answered.",
			strings.TrimPrefix(q.Type.String(), "Type"))
	}
	name, err := ParseName(q.Name.String())
	if err != nil {
		return refused(shown, dnsmessage.RCodeNameError, "This is no name of a host: %v.", err)
	}
	if v := policy.Name(name); !v.Allowed {
		return refused(name, dnsmessage.RCodeNameError, "%s", v.Reason)
	}
	if q.Type != dnsmessage.TypeA && !(q.Type == dnsmessage.TypeAAAA && r.ground.IPv6() &&
		r.host.IPv6(sandbox)) {
		// there is nothing of this type, for all that sandboxes need to know
		return answer{}, dnsmessage.RCodeSuccess
	}
	found, err = r.upstream.lookup(query{name, q.Type}, r.ended)
	if err != nil {
		r.log.Debug("a name was not resolved", "name", name, "error", err)
		return answer{}, dnsmessage.RCodeServerFailure
	}
	if found.missing {
		return answer{}, dnsmessage.RCodeNameError
	}
	usable, bad := r.usable(found.addresses)
	if len(usable) == 0 && bad.IsValid() {
		code := dnsmessage.RCodeNameError
		if q.Type == dnsmessage.TypeAAAA { // it may have addresses of the other family
			code = dnsmessage.RCodeSuccess
		}
		return refused(name, code,
			"The name resolves to %s, which is not on the public network.", bad)
	}
	found.addresses = usable
	if len(usable) > 0 && !policy.Public() {
		if err := r.host.Open(sandbox, name, usable, found.life+grace); err != nil {
			return refused(name, dnsmessage.RCodeServerFailure,
				"Its addresses were not opened: %v.", err)
		}
	}
	return found, dnsmessage.RCodeSuccess
}

// Addresses returns those of a name that a sandbox may be told, IPv4 first. It does not ask the
// policy.
func (r *Resolver) Addresses(name string) (usable []netip.Addr, err error) {
	for _, typ := range types(r.ground) {
		found, failed := r.upstream.lookup(query{name, typ}, r.ended)
		good, _ := r.usable(found.addresses)
		usable, err = append(usable, good...), errors.Join(err, failed)
	}
	if len(usable) > 0 {
		return usable, nil
	}
	return nil, err
}

// types are those of the questions for addresses.
func types(g *Ground) []dnsmessage.Type {
	if g.IPv6() {
		return []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA}
	}
	return []dnsmessage.Type{dnsmessage.TypeA}
}

// usable returns the first addresses that a sandbox may be told, and one that it may not, if any.
func (r *Resolver) usable(list []netip.Addr) (usable []netip.Addr, bad netip.Addr) {
	for _, a := range list {
		most := maxAnswers
		if a.Is6() {
			most = maxAnswers6
		}
		switch {
		case r.ground.isClosed(a), r.host.Own(a):
			bad = a
		case len(usable) < most:
			usable = append(usable, a)
		}
	}
	return usable, bad
}

// build packs an answer with addresses, which are good for life.
func build(head dnsmessage.Header, q *dnsmessage.Question, addresses []netip.Addr,
	life time.Duration) []byte {
	var err error
	b := dnsmessage.NewBuilder(nil, head)
	b.EnableCompression()
	if q != nil {
		if b.StartQuestions() != nil || b.Question(*q) != nil || b.StartAnswers() != nil {
			return nil
		}
		for _, a := range addresses {
			rh := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET,
				TTL: uint32(life / time.Second)}
			if a.Is4() {
				err = b.AResource(rh, dnsmessage.AResource{A: a.As4()})
			} else {
				err = b.AAAAResource(rh, dnsmessage.AAAAResource{AAAA: a.As16()})
			}
			if err != nil {
				return nil
			}
		}
	}
	data, err := b.Finish()
	if err != nil {
		return nil
	}
	return data
}
