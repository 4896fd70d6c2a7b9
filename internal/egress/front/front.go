// Package front looks into connections of sandboxes whose policy asks for it: an address that is
// allowed for one name is then of no use for another one that has it as well.
//
// The engine leads what such a sandbox sends to the ports 80 and 443 to a Front, which reads the
// first bytes as the server would: the server name of TLS's first message, the Host of each request
// of HTTP. Only if the policy allows that name on that port does the Front connect to the name's
// own address, which it resolves itself. TLS is passed on as it is and stays between the two ends.
// HTTP is read and written anew, request by request, so that no byte is one request to us and two
// to the server. What hides its name (encrypted client hello), or has none, may go to addresses
// that the policy allows as addresses, and nowhere else.
//
// # Credentials
//
// A policy may say that requests to a host get a header whose value the sandbox does not know. Such
// a request is written anew as any other, and goes over connections of its own: to an address that
// the Front has resolved for that host, whatever address the sandbox wanted, so that a sandbox that
// says the right name to the wrong server makes a request to the right server. For a host with
// "https://" the Front ends TLS under an authority that the sandbox trusts, with the certificate of
// no other host, and speaks TLS to a server whose certificate it has verified; the server name, the
// Host and the name that was resolved are then one. Both sides are offered HTTP/1.1 alone. The
// header is looked up for each request, so that a new secret holds for the next one.
package front

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/egress"
)

// Host is what a Front needs of the engine that it serves.
type Host interface {
	// Policy returns the policy of the sandbox with an address; false if there is none.
	Policy(sandbox netip.Addr) (egress.Policy, bool)
	// Addresses returns those of a name that a sandbox may be told.
	Addresses(name string) ([]netip.Addr, error)
	// Dial connects to a server outside, as the sandboxes' packets go, within a time.
	Dial(to netip.AddrPort, within time.Duration) (net.Conn, error)
	// Refused is told what was not passed on.
	Refused(sandbox netip.Addr, r sandpool.Refusal)
	// Original returns where the sandbox wanted to connect to; false if to nowhere else.
	Original(conn net.Conn) (netip.AddrPort, bool)
}

// Front is the other end of inspected connections.
type Front struct {
	host    Host
	ground  *egress.Ground
	options Options
	http    *http.Server
	plain   *queue
	most    int // maxLinks

	mu    sync.Mutex // guards what follows
	links map[*link]bool
	count map[netip.Addr]int
	ended bool
	busy  sync.WaitGroup // tunnels; none is added once ended is set
}

// link is one connection of a sandbox.
type link struct {
	net.Conn
	in      *bufio.Reader // of Conn
	sandbox netip.Addr
	to      netip.AddrPort
	mu      sync.Mutex // guards what follows
	name    string     // that was asked for last; empty for none
	ended   string     // whose TLS is ended here; empty for none
	reached []netip.AddrPort
	lent    map[borrower]bool // who got credentials over it
	proxied bool              // the sandbox asked the proxy; to is not valid before it named a host
	beyond  bool              // a proxy above leads to the host; to has the port alone
}

// leads reports whether the link leads to a host.
func (k *link) leads() bool { return k.beyond || k.to.IsValid() }

// borrower is to whom a credential went.
type borrower struct {
	scheme egress.Scheme
	host   string
}

// asks notes the name that a connection asks for.
func (k *link) asks(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.name = name
}

// reaches notes an address that was connected to for it, and reports whether there is room.
func (k *link) reaches(at netip.AddrPort) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.Contains(k.reached, at) {
		return true
	}
	if len(k.reached) >= maxReached {
		return false
	}
	k.reached = append(k.reached, at)
	return true
}

// allowed reports whether a policy allows all that a connection is used for.
func (k *link) allowed(p egress.Policy, g *egress.Ground) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.proxied != p.Proxy:
		return false
	case !k.leads():
		return true // what it asks for has links of its own
	case k.ended != "" && !p.EndsTLS(k.ended):
		return false
	}
	for to := range k.lent {
		if len(p.Credentials(to.scheme, to.host)) == 0 {
			return false
		}
	}
	if k.beyond {
		return p.Beyond(k.name, k.to.Port()).Allowed
	}
	return p.Inspected(g, k.name, k.to).Allowed &&
		!slices.ContainsFunc(k.reached, func(at netip.AddrPort) bool {
			return !p.Inspected(g, k.name, at).Allowed
		})
}

// Bounds of what a sandbox can make a Front do.
const (
	firstBytes  = 5 * time.Second  // for the client to say something
	helloTime   = 10 * time.Second // for its first message
	maxHello    = 64 << 10
	maxHeader   = 64 << 10
	dialTimeout = 20 * time.Second
	idle        = 10 * time.Minute
	maxReached  = 64 // addresses, over one connection of HTTP
	acceptPause = 50 * time.Millisecond

	// maxLinks bounds the connections of all sandboxes: each may hold up to 256 KiB, of headers
	// that are read and of what is under way. fewLinks are what a sandbox has in any case, so that
	// others cannot take all of them.
	maxLinks = 4096
	fewLinks = 8
)

// Options say how a Front meets the servers of requests with credentials.
type Options struct {
	// Authority signs for the hosts whose TLS is ended. Without one no such connection is taken.
	Authority Authority
	// Roots are what the certificates of servers and of Upstream are verified by; nil means the
	// system's.
	Roots *x509.CertPool
	// Upstream is what the proxy reaches hosts by; nil means that it resolves and connects itself.
	Upstream *Upstream
}

// Authority returns certificates that sandboxes trust.
type Authority interface {
	Certificate(host string) (*tls.Certificate, error)
}

// New returns a Front.
func New(host Host, ground *egress.Ground, o Options) *Front {
	f := &Front{
		host:    host,
		ground:  ground,
		options: o,
		plain:   newQueue(),
		most:    maxLinks,
		links:   map[*link]bool{},
		count:   map[netip.Addr]int{},
	}
	f.http = &http.Server{ErrorLog: log.New(io.Discard, "", 0), // it would log what sandboxes send
		Handler: http.HandlerFunc(f.request), MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: helloTime, IdleTimeout: idle,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, linkKey{}, c)
		}}
	return f
}

// Serve takes connections until l is closed, and ends all of them.
func (f *Front) Serve(l net.Listener) error {
	var wait sync.WaitGroup
	wait.Go(func() { _ = f.http.Serve(f.plain) })
	defer f.busy.Wait()
	defer wait.Wait()
	defer f.end(func(*link) bool { return true })
	defer f.http.Close()
	defer f.stop()
	return accept(l, &wait, f.take)
}

// stop lets no more tunnels begin.
func (f *Front) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
}

// accept takes connections until l is closed, each on its own, which wait counts.
func accept(l net.Listener, wait *sync.WaitGroup, take func(net.Conn)) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			<-time.After(acceptPause) // there are no files left, say; that does not pass at once
			continue
		}
		wait.Go(func() { take(conn) })
	}
}

// Recheck ends the connections of a sandbox that its policy does not allow any more.
func (f *Front) Recheck(sandbox netip.Addr) {
	policy, ok := f.host.Policy(sandbox)
	f.end(func(k *link) bool {
		return k.sandbox == sandbox && (!ok || !k.allowed(policy, f.ground))
	})
}

func (f *Front) end(which func(*link) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k := range f.links {
		if which(k) {
			_ = k.Conn.Close()
		}
	}
}

// take looks at a new connection and passes it on, if it may.
func (f *Front) take(conn net.Conn) {
	to, ok := f.host.Original(conn)
	peer, isTCP := conn.RemoteAddr().(*net.TCPAddr)
	if !ok || !isTCP {
		_ = conn.Close()
		return
	}
	k := &link{
		Conn:    conn,
		in:      bufio.NewReaderSize(conn, 4096),
		sandbox: peer.AddrPort().Addr().Unmap(),
		to:      to,
	}
	policy, ok := f.host.Policy(k.sandbox)
	if !ok || policy.Proxy || !f.enter(k, policy) {
		_ = conn.Close()
		return
	}
	if !f.pass(k, policy) {
		f.leave(k)
	}
}

// enter counts a connection of a sandbox, unless it or all of them have as many as they may.
func (f *Front) enter(k *link, policy egress.Policy) bool {
	f.mu.Lock()
	n := f.count[k.sandbox]
	full := len(f.links) >= f.most && n >= fewLinks
	enters := !full && n < policy.Connections
	if enters {
		f.count[k.sandbox]++
		f.links[k] = true
	}
	f.mu.Unlock()
	if full {
		f.refuse(k, "", "The connections of all sandboxes that are looked into or go through the "+
			"proxy are as many as the server takes.")
	}
	return enters
}

// leave ends a connection.
func (f *Front) leave(k *link) {
	_ = k.Conn.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.links[k] {
		return
	}
	delete(f.links, k)
	if f.count[k.sandbox]--; f.count[k.sandbox] == 0 {
		delete(f.count, k.sandbox)
	}
}

// pass reports whether somebody else ends the connection.
func (f *Front) pass(k *link, policy egress.Policy) bool {
	if !k.beyond && !policy.Looks(f.ground, k.to) {
		f.through(k, policy, "", nil)
		return false
	}
	_ = k.SetReadDeadline(time.Now().Add(firstBytes))
	first, err := k.in.Peek(1)
	if err != nil && !isTimeout(err) {
		return false
	}
	name, said := "", []byte(nil)
	switch {
	case len(first) == 0: // the server is to speak first
	case first[0] == recordHandshake:
		_ = k.SetReadDeadline(time.Now().Add(helloTime))
		name, said = serverName(k.in)
		if host, err := egress.ParseName(name); err == nil && policy.EndsTLS(host) &&
			k.to.Port() == egress.HTTPS.Port() {
			return f.endTLS(k, policy, host, said)
		}
	case isText(first[0]): // methods may have any letters, and empty lines may stand before them
		_ = k.SetReadDeadline(time.Time{})
		return f.plain.put(newHTTPConn(f, k, k.Conn, k.in))
	}
	_ = k.SetReadDeadline(time.Time{})
	f.through(k, policy, name, said)
	return false
}

// through passes bytes on as they are, what was read already first, until both ends are done.
func (f *Front) through(k *link, policy egress.Policy, name string, said []byte) {
	k.asks(name)
	server, err := f.connect(k, policy, name, false)
	if err != nil {
		return
	}
	defer server.Close()
	if _, err := server.Write(said); err == nil {
		join(k, server)
	}
}

// connect dials where a connection with a name may go. The link knows the name already. resolved
// says that it must be an address of the name, which one that the policy allows need not be.
func (f *Front) connect(k *link, policy egress.Policy, name string,
	resolved bool) (net.Conn, error) {
	if k.beyond {
		return f.connectBeyond(k, policy, name)
	}
	v := policy.Inspected(f.ground, name, k.to)
	if !v.Allowed {
		f.refuse(k, name, v.Reason)
		return nil, errors.New(v.Reason)
	}
	to := k.to
	if resolved || !policy.Address(f.ground, to.Addr(), egress.TCP, to.Port()).Allowed {
		list, err := f.host.Addresses(name)
		if to, v = f.addressOf(k, policy, name, list); !v.Allowed {
			f.refuse(k, name, v.Reason)
			return nil, errors.Join(errors.New(v.Reason), err)
		}
	}
	if !k.reaches(to) {
		return nil, errors.New("the connection has reached too many addresses")
	}
	server, err := f.host.Dial(to, dialTimeout)
	if err != nil {
		return nil, err
	}
	return f.recheck(k, server)
}

// addressOf is the one of a name's addresses that is dialed: the one that the sandbox wanted, or
// the first. None that the policy denies is: whoever owns a name chooses what it resolves to.
func (f *Front) addressOf(k *link, policy egress.Policy, name string,
	list []netip.Addr) (to netip.AddrPort, v egress.Verdict) {
	v.Reason = "The name has no address that may be reached."
	for _, a := range list {
		at := netip.AddrPortFrom(a, k.to.Port())
		this := policy.Inspected(f.ground, name, at)
		if !v.Allowed || this.Allowed && at == k.to {
			to, v = at, this
		}
	}
	return to, v
}

// refuse tells of what was not passed on. What is no name is not repeated: it can be of any length.
func (f *Front) refuse(k *link, name, reason string) {
	r := sandpool.Refusal{
		Time:     time.Now(),
		Port:     k.to.Port(),
		Protocol: string(egress.TCP),
		Reason:   reason,
	}
	if k.to.IsValid() {
		r.Host = k.to.Addr().String()
	}
	if plain, err := egress.ParseName(name); err == nil {
		r.Host = plain
	}
	f.host.Refused(k.sandbox, r)
}

// join copies both ways until both have ended.
func join(k *link, server net.Conn) {
	var wait sync.WaitGroup
	wait.Go(func() {
		_, err := io.Copy(server, k.in)
		if half, ok := server.(interface{ CloseWrite() error }); ok && err == nil {
			_ = half.CloseWrite()
			return
		}
		_ = server.Close()
	})
	_, err := io.Copy(k.Conn, server)
	if half, ok := k.Conn.(interface{ CloseWrite() error }); ok && err == nil {
		_ = half.CloseWrite()
	} else {
		_ = k.Conn.Close()
	}
	wait.Wait()
}

// isText reports whether a request of HTTP may begin with b (RFC 9112, 2.2, and RFC 9110, 5.6.2).
func isText(b byte) bool { return b == '\r' || b == '\n' || b > ' ' && b < 0x7f }

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
