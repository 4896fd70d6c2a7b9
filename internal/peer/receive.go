package peer

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/sandpool/sandpool/internal/arm"
)

// The header fields of a request between servers. They are read of nobody else, and no container
// gets them: package proxy drops what begins so.
const (
	prefix      = "X-Sandpool-Peer-"
	uriHeader   = prefix + "Uri"   // the request line's target, as it came
	fromHeader  = prefix + "From"  // the caller's address
	toHeader    = prefix + "To"    // the address that the caller came to
	tlsHeader   = prefix + "Tls"   // "tls" and the server name that was asked for; none without TLS
	traceHeader = prefix + "Trace" // the id of the trace
	// movedHeader is in the answer of a server that does not own the pool.
	movedHeader = prefix + "Moved"
)

type handedOn struct{}

// wasHandedOn reports whether another server has sent the request.
func wasHandedOn(ctx context.Context) bool { return ctx.Value(handedOn{}) != nil }

// address is one in another server's words.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

var _ net.Addr = address("")

// Receive serves what other servers hand on. next sees each request as its caller sent it.
func Receive(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
			http.Error(w, "a certificate is needed", http.StatusForbidden) // cannot happen
			return
		}
		in := r.Header
		uri := in.Get(uriHeader)
		u, err := url.ParseRequestURI(uri)
		if err != nil || in.Get(toHeader) == "" {
			http.Error(w, "this port is for other servers", http.StatusBadRequest)
			return
		}
		ctx := context.WithValue(r.Context(), handedOn{}, true)
		ctx = context.WithValue(ctx, http.LocalAddrContextKey, address(in.Get(toHeader)))
		ctx = arm.WithTrace(ctx, in.Get(traceHeader))
		out := r.WithContext(ctx)
		out.RequestURI, out.URL, out.RemoteAddr = uri, u, in.Get(fromHeader)
		if u.Host != "" { // a whole URL in the request line; its host is the request's already
			out.URL = &url.URL{Path: u.Path, RawPath: u.RawPath, RawQuery: u.RawQuery}
		}
		out.TLS = nil
		if name, ok := strings.CutPrefix(in.Get(tlsHeader), "tls "); ok {
			out.TLS = &tls.ConnectionState{ServerName: name, HandshakeComplete: true}
		}
		for name := range in {
			if strings.HasPrefix(name, prefix) {
				delete(in, name)
			}
		}
		next.ServeHTTP(w, out)
	})
}
