package front

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/egress/ca"
)

// The secret, and where it may be seen.
const secret = "s3cr3t-of-the-pool"

var (
	apiAddr  = netip.MustParseAddr("93.184.216.40")
	evilAddr = netip.MustParseAddr("93.184.216.66")
)

// api is a server that gets credentials, and evil one that must not. Each notes the headers of its
// requests.
type api struct {
	*httptest.Server
	mu   sync.Mutex
	seen []http.Header
}

func (a *api) note(h http.Header) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = append(a.seen, h.Clone())
}

// headers are those of the requests so far.
func (a *api) headers() []http.Header {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]http.Header(nil), a.seen...)
}

func newAPI(t *testing.T, certs *ca.Authority, host string) *api {
	t.Helper()
	a := &api{}
	a.Server = httptest.NewUnstartedServer(http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			seen := r.Header.Clone()
			seen.Set("Seen-Host", r.Host)
			for name, values := range r.Trailer {
				seen["Trailer-"+name] = values
			}
			a.note(seen)
			switch r.URL.Path {
			case "/redirect":
				http.Redirect(w, r, "http://evil.example.net/", http.StatusFound)
			case "/ws":
				c, err := websocket.Accept(w, r, nil)
				if err != nil {
					return
				}
				defer c.CloseNow() //nolint:errcheck // it was answered
				_, text, _ := c.Read(r.Context())
				_ = c.Write(r.Context(), websocket.MessageText, text)
			case "/flood":
				w.Header().Set("X-Flood", strings.Repeat("x", 2*maxHeader))
			default:
				w.Header().Set("Alt-Svc", `h3=":443"`)
				fmt.Fprint(w, r.Proto, " ", n)
			}
		}))
	if certs != nil {
		c, err := certs.Certificate(host)
		if err != nil {
			t.Fatal(err)
		}
		a.EnableHTTP2 = true
		a.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes are to fail
		a.TLS = &tls.Config{Certificates: []tls.Certificate{*c}, MinVersion: tls.VersionTLS12}
		a.StartTLS()
	} else {
		a.Start()
	}
	t.Cleanup(a.Close)
	return a
}

// lending is a world with api.example.com, which gets credentials by both schemes, and an evil
// server at another address.
type lending struct {
	*world
	secure, plain, evil, evilTLS *api
	trust                        *x509.CertPool // of sandboxes
}

func credentials(value string) []sandpool.Credential {
	var list []sandpool.Credential
	for _, c := range []sandpool.Credential{
		{URL: "https://api.example.com", Header: "authorization", Prefix: "Bearer "},
		{URL: "https://api.example.com", Header: "X-Api-Key"},
		{URL: "http://api.example.com", Header: "X-Api-Key"},
	} {
		c.SecretRef = "key"
		if value != "" {
			c.Value = sandpool.NewSecret(value)
		}
		list = append(list, c)
	}
	return list
}

func newLending(t *testing.T, n sandpool.Network) *lending {
	t.Helper()
	public, own := authority(t), authority(t)
	l := &lending{trust: x509.NewCertPool(),
		secure: newAPI(t, public, "api.example.com"), plain: newAPI(t, nil, ""),
		evil: newAPI(t, nil, ""), evilTLS: newAPI(t, public, "evil.example.net")}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(public.PEM()))
	l.trust.AppendCertsFromPEM([]byte(own.PEM()))
	at := func(a *api) string { return a.Listener.Addr().String() }
	l.world = openWorld(&world{t: t, options: Options{Authority: own, Roots: roots},
		names: map[string]netip.Addr{"api.example.com": apiAddr, "evil.example.net": evilAddr},
		servers: map[netip.AddrPort]string{
			netip.AddrPortFrom(apiAddr, 443):  at(l.secure),
			netip.AddrPortFrom(apiAddr, 80):   at(l.plain),
			netip.AddrPortFrom(evilAddr, 443): at(l.evilTLS),
			netip.AddrPortFrom(evilAddr, 80):  at(l.evil),
		}}, n)
	return l
}

func authority(t *testing.T) *ca.Authority {
	t.Helper()
	a, err := ca.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func lent(allow ...string) sandpool.Network {
	return sandpool.Network{Allow: allow, Credentials: credentials(secret)}
}

// over opens TLS as a sandbox that wants to reach an address.
func (l *lending) over(to, name string, protocols ...string) (*tls.Conn, error) {
	c := tls.Client(l.dial(to), &tls.Config{ServerName: name, RootCAs: l.trust,
		MinVersion: tls.VersionTLS12, NextProtos: protocols})
	return c, c.Handshake()
}

// say sends text and returns the statuses and bodies of n answers.
func say(c net.Conn, text string, n int) (all string) {
	_, _ = io.WriteString(c, text)
	in := bufio.NewReader(c)
	for range n {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return all + "| closed"
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		all += fmt.Sprintf("| %d %.40s %s", resp.StatusCode, body, resp.Header.Get("Alt-Svc"))
	}
	return all
}

// unseen fails if something that a sandbox or a foreign server gets has the secret.
func (l *lending) unseen() {
	l.t.Helper()
	for _, a := range []*api{l.evil, l.evilTLS} {
		for _, h := range a.headers() {
			if strings.Contains(fmt.Sprint(h), secret) {
				l.t.Errorf("a foreign server was sent %v", h)
			}
		}
	}
	if text := fmt.Sprintf("%+v %#v", l.told(), l.told()); strings.Contains(text, secret) {
		l.t.Errorf("a refusal says %s", text)
	}
}
