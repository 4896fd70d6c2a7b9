package front

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool/internal/egress"
)

type linkKey struct{}

// httpConn is a link as the server of HTTP sees it. Its end is the link's.
type httpConn struct {
	net.Conn // to the sandbox; within TLS, if that is ended here
	in       io.Reader
	link     *link
	front    *Front
	server   *http.Transport // to where the link goes; of this link alone
	lender   *http.Transport // for requests with credentials, to their hosts; of this link alone
	tunnels  *http.Transport // for upgrades beyond a proxy above; of this link alone
	leg      *httpConn       // to what a proxied connection has asked for last; guarded by Front.mu
}

func (c *httpConn) Read(p []byte) (int, error) { return c.in.Read(p) }

func (c *httpConn) Close() error {
	_ = c.Conn.Close() // which says so within TLS
	c.front.leave(c.link)
	c.lead(nil)
	c.closeIdle()
	return nil
}

// closeIdle closes the connections to servers that no request uses.
func (c *httpConn) closeIdle() {
	for _, t := range []*http.Transport{c.server, c.lender, c.tunnels} {
		if t != nil {
			t.CloseIdleConnections()
		}
	}
}

// newHTTPConn returns a link whose requests come from in, and their answers go to conn.
func newHTTPConn(f *Front, k *link, conn net.Conn, in io.Reader) *httpConn {
	transport := func(resolved bool) *http.Transport {
		return &http.Transport{
			DisableCompression:     true,
			ResponseHeaderTimeout:  idle,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: maxHeader,
			TLSHandshakeTimeout:    helloTime,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: f.options.Roots,
				NextProtos: []string{protocol}},
			DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
				name, _, _ := net.SplitHostPort(addr)
				policy, _ := f.host.Policy(k.sandbox) // without one it allows nothing
				return f.connect(k, policy, hostOf(name, k.to.Port()), resolved)
			},
		}
	}
	c := &httpConn{Conn: conn, in: in, link: k, front: f, server: transport(false),
		lender: transport(true)}
	if k.beyond {
		c.tunnels = transport(true)
		f.throughUpstream(c.server)
		f.throughUpstream(c.lender)
	}
	return c
}

// queue hands connections to the server of HTTP. It is a net.Listener.
type queue struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newQueue() *queue { return &queue{conns: make(chan net.Conn), done: make(chan struct{})} }

func (q *queue) put(c *httpConn) bool {
	select {
	case q.conns <- c:
		return true
	case <-q.done:
		return false
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queue) Close() error { q.once.Do(func() { close(q.done) }); return nil }

// Addr implements net.Listener.
func (*queue) Addr() net.Addr { return &net.TCPAddr{} }

// request passes one request on, if the policy allows its Host.
func (f *Front) request(w http.ResponseWriter, r *http.Request) {
	c, _ := r.Context().Value(linkKey{}).(*httpConn)
	k := c.link
	if k.proxied && !k.leads() {
		f.proxied(w, r, c)
		return
	}
	name := hostOf(r.Host, k.to.Port())
	if r.URL.Opaque != "" { // would be written as it is, where servers read "http://" and a host
		f.refuse(k, name, "The request's target is neither a path nor a URL with a host.")
		http.Error(w, "The target of the request is neither a path nor a URL with a host.",
			http.StatusBadRequest)
		return
	}
	if k.ended != "" && name != k.ended { // before it is noted: TLS is ended for one host alone
		f.refuse(k, name, "A request within TLS names another host than the TLS does.")
		http.Error(w, "The request is for another host than the connection.",
			http.StatusMisdirectedRequest)
		return
	}
	if k.beyond && traces(r.Method) { // a proxy answers it as well, and shows the key it was given
		f.refuse(k, name, "TRACE would show the key of the upstream proxy.")
		http.Error(w, "TRACE is not passed on.", http.StatusMethodNotAllowed)
		return
	}
	k.asks(name) // before the policy is read: who changes it looks at the name afterwards
	policy, ok := f.host.Policy(k.sandbox)
	if !ok || r.Method == http.MethodConnect || name == "" {
		f.refuse(k, name, "The request names no host for this port.")
		http.Error(w, "The pool's policy allows no request without the host's name.",
			http.StatusForbidden)
		return
	}
	if v := f.verdict(k, policy, name); !v.Allowed {
		f.refuse(k, name, v.Reason)
		http.Error(w, "The pool's policy does not allow this host.", http.StatusForbidden)
		return
	}
	forward := httputil.ReverseProxy{Transport: c.server, FlushInterval: -1, Rewrite: rewrite,
		ErrorLog: log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			f.failed(w, k, err)
		}}
	if k.beyond { // it reads the host again, so it gets the form that was judged
		forward.Rewrite = func(p *httputil.ProxyRequest) {
			rewrite(p)
			p.Out.URL.Host = net.JoinHostPort(name, strconv.Itoa(int(k.to.Port())))
			p.Out.Host = p.Out.URL.Host
		}
	}
	forward.ModifyResponse = func(resp *http.Response) error {
		if k.beyond && resp.StatusCode == http.StatusProxyAuthRequired {
			return errors.New("the proxy above wants another key") // of which the sandbox has none
		}
		return nil
	}
	if list := k.credentials(policy, name); len(list) > 0 {
		if !f.lend(w, r, c, &forward, list) {
			return
		}
	} else if k.ended != "" {
		http.Error(w, "The pool's policy has changed.", http.StatusServiceUnavailable)
		return
	}
	if k.beyond && k.ended == "" && upgrades(r) {
		// A proxy above that knows of no upgrades reads what comes after one as requests.
		forward.Transport = c.tunnels
	}
	forward.ServeHTTP(w, r)
}

// failed answers a request that has reached no server.
func (f *Front) failed(w http.ResponseWriter, k *link, err error) {
	var invalid *tls.CertificateVerificationError
	if errors.As(err, &invalid) {
		f.refuse(k, k.asked(),
			"The certificate of the host is not valid, so it gets no credential.")
	}
	http.Error(w, "The host cannot be reached.", http.StatusBadGateway)
}

// rewrite leaves a request as it is, but for what is about one connection alone.
func rewrite(p *httputil.ProxyRequest) {
	p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", p.In.Host, p.In.Host
	p.Out.URL.RawQuery = p.In.URL.RawQuery
	for _, field := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if list := p.In.Header[field]; len(list) > 0 {
			p.Out.Header[field] = list
		}
	}
	if _, ok := p.In.Header["User-Agent"]; !ok {
		p.Out.Header["User-Agent"] = nil // or one would be added
	}
	// After another upgrade, to HTTP/2 for one, requests would no longer be seen.
	if !upgrades(p.In) {
		p.Out.Header.Del("Upgrade")
		p.Out.Header.Del("Connection")
		p.Out.Header.Del("Http2-Settings")
	}
}

// upgrades reports whether a request may become a connection of WebSocket.
func upgrades(r *http.Request) bool { return strings.EqualFold(r.Header.Get("Upgrade"), "websocket") }

// hostOf is the name in a Host field; empty if there is none, or another port in it.
func hostOf(field string, port uint16) string {
	name := field
	if host, service, err := net.SplitHostPort(field); err == nil {
		if service != strconv.Itoa(int(port)) {
			return ""
		}
		name = host
	}
	if plain, err := egress.ParseName(name); err == nil {
		return plain
	}
	return ""
}
