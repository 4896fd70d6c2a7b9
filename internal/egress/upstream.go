package egress

import (
	"bufio"
	"container/list"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// answer is what is known of a name.
type answer struct {
	addresses []netip.Addr
	missing   bool // there is no such name
	life      time.Duration
}

// upstream asks other servers, and remembers what they said for as long as they said.
type upstream struct {
	servers []netip.AddrPort

	mu      sync.Mutex // guards what follows
	known   map[query]*list.Element
	order   *list.List // of *entry, the one used last in front
	flights map[query]*flight
}

// query is what a server is asked: the addresses of one family, A or AAAA, of a name.
type query struct {
	name string
	typ  dnsmessage.Type
}

type entry struct {
	query query
	is    answer
	until time.Time
}

// flight is a question that is being asked, for all who want to know.
type flight struct {
	done chan struct{}
	is   answer
	err  error
}

const (
	maxKnown     = 4096 // names that are remembered
	longestLife  = 24 * time.Hour
	missingLife  = 30 * time.Second // of a name that there is not
	maxFlights   = 512
	tryTimeout   = 2 * time.Second
	maxAddresses = 64 // of one name
	maxMessage   = 4096
)

func newUpstream(servers []netip.AddrPort) *upstream {
	return &upstream{servers: servers, known: map[query]*list.Element{}, order: list.New(),
		flights: map[query]*flight{}}
}

// lookup returns the addresses of a name, and for how long they are good, unless ended is closed
// first.
func (u *upstream) lookup(q query, ended <-chan struct{}) (answer, error) {
	u.mu.Lock()
	if e := u.known[q]; e != nil {
		known := e.Value.(*entry)
		if left := time.Until(known.until); left > 0 {
			u.order.MoveToFront(e)
			u.mu.Unlock()
			is := known.is
			is.life = left
			return is, nil
		}
		u.order.Remove(e)
		delete(u.known, q)
	}
	f := u.flights[q]
	if f == nil {
		if len(u.flights) >= maxFlights {
			u.mu.Unlock()
			return answer{}, errors.New("too many questions at once")
		}
		f = &flight{done: make(chan struct{})}
		u.flights[q] = f
		go u.fly(q, f)
	}
	u.mu.Unlock()
	select {
	case <-f.done:
		return f.is, f.err
	case <-time.After(answerTimeout):
		return answer{}, errors.New("no server has answered in time")
	case <-ended:
		return answer{}, net.ErrClosed
	}
}

func (u *upstream) fly(q query, f *flight) {
	f.is, f.err = u.ask(q)
	u.land(q, f)
}

// land tells who waits for a flight how it ended, and remembers what it has brought.
func (u *upstream) land(q query, f *flight) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.flights, q)
	if f.err == nil && f.is.life > 0 {
		u.known[q] = u.order.PushFront(&entry{q, f.is, time.Now().Add(f.is.life)})
		for u.order.Len() > maxKnown {
			delete(u.known, u.order.Remove(u.order.Back()).(*entry).query)
		}
	}
	close(f.done)
}

// ask asks one server after the other.
func (u *upstream) ask(q query) (answer, error) {
	errs := []error{errors.New("no server has answered")}
	for _, s := range u.servers {
		is, truncated, err := exchange("udp", s, q)
		if err == nil && truncated {
			is, _, err = exchange("tcp", s, q)
		}
		if err == nil {
			return is, nil
		}
		errs = append(errs, err)
	}
	return answer{}, errors.Join(errs...)
}

// exchange asks one server. The message is made here, so that nothing of a sandbox is in it but an
// allowed name.
func exchange(network string, server netip.AddrPort,
	q query) (_ answer, truncated bool, err error) {
	question, id, err := ask(q)
	if err != nil {
		return answer{}, false, err
	}
	conn, err := net.DialTimeout(network, server.String(), tryTimeout)
	if err != nil {
		return answer{}, false, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(tryTimeout))
	if network == "tcp" {
		question = append(binary.BigEndian.AppendUint16(nil, uint16(len(question))), question...)
	}
	if _, err := conn.Write(question); err != nil {
		return answer{}, false, err
	}
	buf := make([]byte, maxMessage)
	for {
		n, err := readMessage(conn, network, buf)
		if err != nil {
			return answer{}, false, fmt.Errorf("ask %s: %w", server, err)
		}
		is, truncated, err := read(buf[:n], id, q)
		if errors.Is(err, errForeign) && network == "udp" {
			continue // whoever sent it did not know the question
		}
		return is, truncated, err
	}
}

func readMessage(conn net.Conn, network string, buf []byte) (int, error) {
	if network == "udp" {
		return conn.Read(buf)
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n > len(buf) {
		return 0, fmt.Errorf("the answer has %d bytes", n)
	}
	return io.ReadFull(conn, buf[:n])
}

// ask packs a question.
func ask(q query) (question []byte, id uint16, err error) {
	var random [2]byte
	_, _ = rand.Read(random[:])
	id = binary.BigEndian.Uint16(random[:])
	n, err := dnsmessage.NewName(q.name + ".")
	if err != nil {
		return nil, 0, err
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: q.typ,
			Class: dnsmessage.ClassINET}}}
	question, err = m.Pack()
	return question, id, err
}

var errForeign = errors.New("this answers another question")

// read reads an answer: the addresses at the end of the chain of aliases that begins at the name.
func read(message []byte, id uint16, asked query) (is answer, truncated bool, err error) {
	var p dnsmessage.Parser
	head, err := p.Start(message)
	if err != nil || head.ID != id || !head.Response {
		return answer{}, false, errForeign
	}
	q, err := p.Question()
	if err != nil || !strings.EqualFold(q.Name.String(), asked.name+".") || q.Type != asked.typ {
		return answer{}, false, errForeign
	}
	if head.Truncated {
		return answer{}, true, nil
	}
	switch head.RCode {
	case dnsmessage.RCodeNameError:
		return answer{missing: true, life: missingLife}, false, nil
	case dnsmessage.RCodeSuccess:
	default:
		return answer{}, false, fmt.Errorf("the server answered with %v", head.RCode)
	}
	if err := p.SkipAllQuestions(); err != nil {
		return answer{}, false, err
	}
	at, life := asked.name+".", longestLife
	aliases := map[string]string{}
	addresses := map[string][]netip.Addr{}
	for {
		h, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return answer{}, false, err
		}
		owner := strings.ToLower(h.Name.String())
		life = min(life, time.Duration(h.TTL)*time.Second)
		switch h.Type {
		case asked.typ:
			a, err := address(&p, h.Type)
			if err != nil {
				return answer{}, false, err
			}
			if len(addresses[owner]) < maxAddresses {
				addresses[owner] = append(addresses[owner], a)
			}
		case dnsmessage.TypeCNAME:
			c, err := p.CNAMEResource()
			if err != nil {
				return answer{}, false, err
			}
			aliases[owner] = strings.ToLower(c.CNAME.String())
		default:
			if err := p.SkipAnswer(); err != nil {
				return answer{}, false, err
			}
		}
	}
	for range 16 {
		next, ok := aliases[at]
		if !ok {
			break
		}
		at = next
	}
	is = answer{addresses: addresses[at], life: life}
	if len(is.addresses) == 0 {
		is.life = missingLife
	}
	return is, false, nil
}

// address reads a record of an address.
func address(p *dnsmessage.Parser, typ dnsmessage.Type) (netip.Addr, error) {
	if typ == dnsmessage.TypeAAAA {
		a, err := p.AAAAResource()
		return netip.AddrFrom16(a.AAAA), err
	}
	a, err := p.AResource()
	return netip.AddrFrom4(a.A), err
}

// Servers returns the resolvers of a resolv.conf(5) file.
func Servers(path string) ([]netip.AddrPort, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("find the host's resolvers: %w", err)
	}
	defer f.Close()
	var found []netip.AddrPort
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		fields := strings.Fields(scan.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil &&
			!slices.Contains(found, netip.AddrPortFrom(a, 53)) {
			found = append(found, netip.AddrPortFrom(a, 53))
		}
	}
	return found, scan.Err()
}

// Hosts is where the resolvers of this host are named.
const Hosts = "/etc/resolv.conf"

// Lookup asks servers, or those of Hosts if there are none, for the addresses of a name in the
// families of g.
func Lookup(servers []netip.AddrPort, name string, g *Ground) (found []netip.Addr, err error) {
	if len(servers) == 0 {
		if servers, err = Servers(Hosts); err != nil {
			return nil, err
		}
	}
	for _, typ := range types(g) {
		is, err := newUpstream(servers).ask(query{name, typ})
		if err != nil {
			return nil, err
		}
		if is.missing {
			return nil, fmt.Errorf("there is no %s", name)
		}
		found = append(found, is.addresses...)
	}
	return found, nil
}
