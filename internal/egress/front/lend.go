package front

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/sandpool/sandpool/internal/egress"
)

// protocol is what both sides of a connection whose TLS is ended are offered (RFC 7301).
const protocol = "http/1.1"

// endTLS ends the TLS of a connection to a host, whose first message is said, and reads requests
// from it. It reports whether somebody else ends the connection.
func (f *Front) endTLS(k *link, policy egress.Policy, host string, said []byte) bool {
	k.asks(host)
	if v := f.verdict(k, policy, host); !v.Allowed {
		f.refuse(k, host, v.Reason)
		return false
	}
	if f.options.Authority == nil {
		f.refuse(k, host, "The server has no authority for the TLS of hosts with credentials.")
		return false
	}
	cert, err := f.options.Authority.Certificate(host)
	if err != nil {
		f.refuse(k, host, "The server could not make a certificate for the host.")
		return false
	}
	inner := tls.Server(&replayed{k.Conn, io.MultiReader(bytes.NewReader(said), k.in)},
		&tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{protocol},
			Certificates: []tls.Certificate{*cert}})
	_ = k.SetDeadline(time.Now().Add(helloTime))
	if err := inner.Handshake(); err != nil {
		var alert tls.AlertError
		if errors.As(err, &alert) {
			f.refuse(k, host, "The program has ended TLS with an alert: perhaps it does not "+
				"trust the server's authority, or takes nothing but HTTP/2.")
		}
		return false
	}
	_ = k.SetDeadline(time.Time{})
	k.mu.Lock()
	k.ended = host
	k.mu.Unlock()
	if now, ok := f.host.Policy(k.sandbox); !ok || !k.allowed(now, f.ground) {
		return false // it has changed before Recheck could see the host
	}
	return f.plain.put(newHTTPConn(f, k, inner, bufio.NewReaderSize(inner, 4096)))
}

// replayed is a connection whose first bytes were read already.
type replayed struct {
	net.Conn
	in io.Reader
}

func (r *replayed) Read(p []byte) (int, error) { return r.in.Read(p) }

// CloseWrite ends one direction; what cannot be ended by half is ended whole.
func (r *replayed) CloseWrite() error {
	if half, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return r.Conn.Close()
}

// asked is the name that the connection asks for.
func (k *link) asked() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.name
}

// scheme is how the requests of a link go.
func (k *link) scheme() egress.Scheme {
	if k.ended != "" {
		return egress.HTTPS
	}
	return egress.HTTP
}

// credentials are those of a policy for a request to a host.
func (k *link) credentials(p egress.Policy, host string) []egress.Credential {
	if k.to.Port() != k.scheme().Port() {
		return nil
	}
	return p.Credentials(k.scheme(), host)
}

// traces reports whether a request is answered with its own header.
func traces(method string) bool {
	return strings.EqualFold(method, http.MethodTrace) || strings.EqualFold(method, "TRACK")
}

// lend makes forward add credentials to a request, or answers it and returns false. All of list are
// for one host.
func (f *Front) lend(w http.ResponseWriter, r *http.Request, c *httpConn,
	forward *httputil.ReverseProxy, list []egress.Credential) bool {
	host := list[0].Host
	if traces(r.Method) {
		f.refuse(c.link, host, "TRACE would show the credential.")
		http.Error(w, "TRACE is not allowed for a host with credentials.",
			http.StatusMethodNotAllowed)
		return false
	}
	values := map[string]string{}
	for _, cred := range list {
		value, ok := cred.Value()
		if !ok {
			f.refuse(c.link, host,
				"The credential's secret is not there, or is no value of a header.")
			w.Header().Set("Retry-After", "1")
			http.Error(w, "The credential for this host is not there yet.",
				http.StatusServiceUnavailable)
			return false
		}
		values[cred.Header] = value
	}
	c.link.mu.Lock()
	if c.link.lent == nil {
		c.link.lent = map[borrower]bool{}
	}
	c.link.lent[borrower{c.link.scheme(), host}] = true
	c.link.mu.Unlock()
	forward.Transport = c.lender
	forward.Rewrite = func(p *httputil.ProxyRequest) {
		rewrite(p)
		p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = string(c.link.scheme()), host, host
		for name, value := range values {
			drop(p.Out.Header, name)
			drop(p.Out.Trailer, name)
			p.Out.Header[name] = []string{value}
		}
	}
	judge := forward.ModifyResponse
	forward.ModifyResponse = func(resp *http.Response) error {
		resp.Header.Del("Alt-Svc") // it leads past us
		return judge(resp)
	}
	return true
}

// drop removes a header in all the forms that servers take for one: some read "_" as "-".
func drop(h http.Header, name string) {
	plain := func(s string) string { return strings.ReplaceAll(s, "_", "-") }
	for key := range h {
		if strings.EqualFold(plain(key), plain(name)) {
			delete(h, key)
		}
	}
}
