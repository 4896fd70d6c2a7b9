package front

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"

	"github.com/sandpool/sandpool/internal/egress"
)

// ServeProxy takes connections of sandboxes that ask for a proxy of HTTP, until l is closed, and
// ends all of them. Serve must run.
func (f *Front) ServeProxy(l net.Listener) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	return accept(l, &wait, f.takeProxied)
}

// takeProxied hands a new connection to the server of HTTP, if its sandbox has a proxy.
func (f *Front) takeProxied(conn net.Conn) {
	peer, isTCP := conn.RemoteAddr().(*net.TCPAddr)
	if !isTCP {
		_ = conn.Close()
		return
	}
	k := &link{Conn: conn, in: bufio.NewReaderSize(conn, 4096), proxied: true,
		sandbox: peer.AddrPort().Addr().Unmap()}
	policy, ok := f.host.Policy(k.sandbox)
	if !ok || !policy.Proxy || !f.enter(k, policy) {
		_ = conn.Close()
		return
	}
	// Whoever changes the policy now finds the link.
	if now, ok := f.host.Policy(k.sandbox); !ok || !k.allowed(now, f.ground) ||
		!f.plain.put(newHTTPConn(f, k, conn, k.in)) {
		f.leave(k)
	}
}

// errNotNamed is of a host that no policy can name.
var errNotNamed = errors.New("is not a host name and a port")

// destination reads HOST:PORT, or HOST alone if there is a port that it means.
func destination(s string, usual uint16) (name string, port uint16, err error) {
	port = usual
	host, service, err := net.SplitHostPort(s)
	if err == nil {
		n, err := strconv.ParseUint(service, 10, 16)
		if err != nil || n == 0 {
			return "", 0, errNotNamed
		}
		port = uint16(n)
	} else {
		host = s
	}
	name, err = egress.ParseName(host)
	if err != nil || port == 0 {
		return "", 0, errNotNamed
	}
	return name, port, nil
}

// proxied answers a request to the proxy: CONNECT, or one whose target is a URL with "http://".
func (f *Front) proxied(w http.ResponseWriter, r *http.Request, c *httpConn) {
	k, usual := c.link, uint16(0)
	if r.Method != http.MethodConnect {
		usual = egress.HTTP.Port()
		if r.URL.Scheme != string(egress.HTTP) || r.URL.Host == "" || r.URL.Opaque != "" {
			http.Error(w, "This is a proxy: ask it for a URL with http://, or use CONNECT.",
				http.StatusBadRequest)
			return
		}
	}
	name, port, err := destination(r.Host, usual)
	if err != nil {
		at, _ := netip.ParseAddrPort(r.Host)
		f.refuse(&link{sandbox: k.sandbox, to: at}, "", "The proxy takes host names alone, and no addresses.")
		http.Error(w, "The pool's proxy takes host names alone, and no addresses.",
			http.StatusForbidden)
		return
	}
	policy, ok := f.host.Policy(k.sandbox)
	if !ok {
		http.Error(w, "The sandbox has no policy.", http.StatusForbidden)
		return
	}
	if v := policy.Named(name, port); !v.Allowed {
		asked := &link{sandbox: k.sandbox, to: netip.AddrPortFrom(netip.Addr{}, port)}
		f.refuse(asked, name, v.Reason)
		http.Error(w, "The pool's policy does not allow this host.", http.StatusForbidden)
		return
	}
	leg, err := f.newLeg(k, policy, name, port)
	switch {
	case err != nil:
		http.Error(w, "The host cannot be reached.", http.StatusBadGateway)
	case r.Method == http.MethodConnect:
		c.lead(nil)
		f.tunnel(w, k, leg, policy)
	default:
		if by := c.lead(leg); by != nil {
			f.request(w, r.WithContext(context.WithValue(r.Context(), linkKey{}, by)))
		}
	}
}

// newLeg returns a link for what a proxied connection asks of a host: as if the sandbox had
// connected to the host's address by itself.
func (f *Front) newLeg(k *link, policy egress.Policy, name string, port uint16) (*link, error) {
	if f.options.Upstream != nil {
		return f.newLegBeyond(k, policy, name, port)
	}
	leg := &link{Conn: k.Conn, in: k.in, sandbox: k.sandbox, proxied: true, name: name,
		to: netip.AddrPortFrom(netip.Addr{}, port)}
	list, err := f.host.Addresses(name)
	to, v := f.addressOf(leg, policy, name, list)
	if !v.Allowed {
		f.refuse(leg, name, v.Reason)
		return nil, errors.Join(errors.New(v.Reason), err)
	}
	leg.to = to
	return leg, nil
}

// lead makes leg the way of the next requests in place of another one; nil for none. It returns nil
// if the connection has ended.
func (c *httpConn) lead(leg *link) *httpConn {
	f := c.front
	f.mu.Lock()
	old := c.leg
	if old != nil && leg != nil && old.link.to == leg.to && old.link.asked() == leg.name {
		f.mu.Unlock()
		return old // with the connections that it has to the host
	}
	c.leg = nil
	if old != nil {
		delete(f.links, old.link)
	}
	if leg != nil && f.links[c.link] {
		c.leg = newHTTPConn(f, leg, c.Conn, nil)
		f.links[leg] = true // without a count of its own: the connection has one
	}
	leads := c.leg
	f.mu.Unlock()
	if old != nil {
		old.closeIdle()
	}
	return leads
}

// tunnel answers CONNECT. What comes through it is looked into if the policy says so, and has the
// other end that it then names.
func (f *Front) tunnel(w http.ResponseWriter, k, leg *link, policy egress.Policy) {
	const established = "HTTP/1.1 200 Connection established\r\n\r\n"
	if !f.begin() {
		return
	}
	defer f.busy.Done()
	var server net.Conn
	inspect := policy.Inspect && (leg.to.Port() == egress.HTTP.Port() ||
		leg.to.Port() == egress.HTTPS.Port())
	if !inspect {
		var err error
		if server, err = f.connect(leg, policy, leg.name, false); err != nil {
			http.Error(w, "The host cannot be reached.", http.StatusBadGateway)
			return
		}
		defer server.Close()
	}
	_, early, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	f.become(k, leg, early.Reader)
	_, err = io.WriteString(leg.Conn, established)
	now, ok := f.host.Policy(leg.sandbox)
	switch {
	case err != nil || !ok || !leg.allowed(now, f.ground):
	case !inspect:
		join(leg, server)
	case f.pass(leg, now):
		return
	}
	f.leave(leg)
}

// begin counts a tunnel, unless there are to be no more.
func (f *Front) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		f.busy.Add(1)
	}
	return !f.ended
}

// become puts leg in the place of the link whose connection it takes over.
func (f *Front) become(k, leg *link, in *bufio.Reader) {
	f.mu.Lock()
	defer f.mu.Unlock()
	leg.in = in
	if f.links[k] {
		delete(f.links, k)
		f.links[leg] = true
	}
}
