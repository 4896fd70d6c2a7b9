package front

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/egress"
)

// Requests to the host get the headers, by TLS and without, whatever address was asked for and
// whatever code sends under their names.
func TestLend(t *testing.T) {
	l := newLending(t, lent("api.example.com"))
	for _, to := range []string{apiAddr.String(), evilAddr.String(), "8.8.8.8"} {
		c, err := l.over(to+":443", "API.example.com", "h2", "http/1.1")
		if err != nil {
			t.Fatal(err)
		}
		if p := c.ConnectionState().NegotiatedProtocol; p != protocol {
			t.Errorf("%q is spoken", p)
		}
		// Two requests on one connection, the second sent before the first is answered.
		text := "GET /x HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: mine\r\n" +
			"x_api_key: mine\r\nX-API-KEY: mine\r\nConnection: Authorization\r\n\r\n" +
			"POST /y HTTP/1.1\r\nHost: api.example.com:443\r\nTransfer-Encoding: chunked\r\n" +
			"Trailer: Authorization, X-Api-Key\r\n\r\n3\r\nabc\r\n0\r\nAuthorization: mine\r\n" +
			"X-Api-Key: mine\r\n\r\n"
		if got := say(c, text, 2); got != "| 200 HTTP/1.1 0 | 200 HTTP/1.1 3 " {
			t.Errorf("at %s: %q", to, got)
		}
		if got := say(l.dial(to+":80"), "GET /z HTTP/1.1\r\nHost: API.example.com.\r\n"+
			"X-Api-Key: mine\r\nAuthorization: mine\r\n\r\n", 1); got != "| 200 HTTP/1.1 0 " {
			t.Errorf("plain, at %s: %q", to, got)
		}
	}
	if n := len(l.secure.headers()); n != 6 {
		t.Errorf("%d requests have arrived", n)
	}
	for _, h := range l.secure.headers() {
		if got := fmt.Sprint(h["Authorization"], h["X-Api-Key"], h["Seen-Host"]); got !=
			"[Bearer "+secret+"] ["+secret+"] [api.example.com]" {
			t.Errorf("the server sees %v", h)
		}
		if strings.Contains(fmt.Sprint(h), "mine") {
			t.Errorf("what code sent has arrived: %v", h)
		}
	}
	for _, h := range l.plain.headers() {
		if got := fmt.Sprint(h["Authorization"], h["X-Api-Key"]); got != "[mine] ["+secret+"]" {
			t.Errorf("the plain server sees %v", h)
		}
	}
	l.unseen()
}

// No other server gets the secret: not one behind a redirect, under another name on the same
// connection, with a certificate for another name, or in a tunnel that code makes.
func TestLendNobodyElse(t *testing.T) {
	l := newLending(t, lent("api.example.com", "evil.example.net"))
	const get = "GET / HTTP/1.1\r\nHost: %s\r\n\r\n"
	tlsTo := func(name string) *tls.Conn {
		t.Helper()
		c, err := l.over(apiAddr.String()+":443", name)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for what, text := range map[string]string{
		"another host":       fmt.Sprintf(get, "evil.example.net"),
		"after the right":    fmt.Sprintf(get, "api.example.com") + fmt.Sprintf(get, "evil.example.net"),
		"an absolute target": "GET http://evil.example.net/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
		"a subdomain":        fmt.Sprintf(get, "a.api.example.com"),
		"an opaque target":   "GET a:http://evil.example.net/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
		"another port":       fmt.Sprintf(get, "api.example.com:8443"),
		"with a user":        fmt.Sprintf(get, "api.example.com@evil.example.net"),
	} {
		got := say(tlsTo("api.example.com"), text, strings.Count(text, "GET "))
		if !strings.Contains(got, "| 421") && !strings.Contains(got, "| 400") {
			t.Errorf("%s: %q", what, got)
		}
	}
	before := len(l.secure.headers())
	for what, text := range map[string]string{
		"TRACE":   "TRACE / HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
		"TRACK":   "TRACK / HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
		"CONNECT": "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n",
		"two lengths": "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 1\r\n" +
			"Content-Length: 2\r\n\r\nab",
		"a folded header": "GET / HTTP/1.1\r\nHost: api.example.com\r\nX: y\r\n Z: a\r\n" +
			"Transfer-Encoding : chunked\r\n\r\n",
		"a huge header": "GET / HTTP/1.1\r\nHost: api.example.com\r\nX: " +
			strings.Repeat("x", 2*maxHeader) + "\r\n\r\n",
		"an opaque target": "GET a:http://evil.example.net/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
		"an odd CONNECT":   "CONNECt evil.example.net:443 HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
		"HTTP/2":           "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		if got := say(tlsTo("api.example.com"), text, 1); strings.Contains(got, "| 200") {
			t.Errorf("%s: %q", what, got)
		}
	}
	if n := len(l.secure.headers()); n != before {
		t.Errorf("%d of them have reached the server", n-before)
	}
	// A length and chunks: what is in the chunks' place is no request of its own to the server.
	say(tlsTo("api.example.com"), "POST /a HTTP/1.1\r\nHost: api.example.com\r\n"+
		"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: evil.example.net\r\n\r\n", 2)
	if got := say(tlsTo("api.example.com"), "GET /redirect HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
		1); !strings.Contains(got, "| 302") {
		t.Errorf("a redirect: %q", got)
	}
	if got := say(l.dial(evilAddr.String()+":80"), "GET / HTTP/1.1\r\nHost: evil.example.net\r\n\r\n"+
		"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\nGET / HTTP/1.1\r\nHost: evil.example.net\r\n\r\n",
		3); strings.Count(got, "| 200") != 3 {
		t.Errorf("hosts in turn: %q", got)
	}
	if got := say(tlsTo("api.example.com"), "GET /flood HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
		1); !strings.Contains(got, "| 502") {
		t.Errorf("an answer with huge headers: %q", got)
	}
	if c, err := l.over(apiAddr.String()+":443", "evil.example.net"); err == nil {
		t.Errorf("the certificate of a host without credentials is our own: %v",
			c.ConnectionState())
	}
	if _, err := l.over(apiAddr.String()+":443", "api.example.com", "h2"); err == nil {
		t.Error("a client that takes HTTP/2 alone is served")
	}
	l.unseen()
}

// A server that cannot show a certificate for the host gets nothing.
func TestLendCertificate(t *testing.T) {
	l := newLending(t, lent("api.example.com"))
	l.servers[netip.AddrPortFrom(apiAddr, 443)] = l.evilTLS.Listener.Addr().String()
	c, err := l.over(apiAddr.String()+":443", "api.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if got := say(c, "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n", 1); !strings.Contains(got,
		"| 502") {
		t.Errorf("it answers %q", got)
	}
	if len(l.evilTLS.headers()) > 0 {
		t.Error("it has got a request")
	}
	if len(l.told()) != 1 || !strings.Contains(l.told()[0].Reason, "certificate") {
		t.Errorf("told is %v", l.told())
	}
}

// A WebSocket and a large body pass, each way, and the header is in the handshake.
func TestLendStreams(t *testing.T) {
	l := newLending(t, lent("api.example.com"))
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: l.trust},
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return l.dial(apiAddr.String() + ":443"), nil
		}}}
	defer client.CloseIdleConnections()
	c, _, err := websocket.Dial(t.Context(), "wss://api.example.com/ws",
		&websocket.DialOptions{HTTPClient: &client})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow() //nolint:errcheck // the test is over
	if err := c.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, text, err := c.Read(t.Context()); string(text) != "hello" {
		t.Errorf("it says %q, %v", text, err)
	}
	const size = 64 << 20
	resp, err := client.Post("https://api.example.com/big", "", io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != fmt.Sprint("HTTP/1.1 ", size) {
		t.Errorf("the server has read %q", body)
	}
	for _, h := range l.secure.headers() {
		if h.Get("X-Api-Key") != secret {
			t.Errorf("the server sees %v", h)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A new secret holds for the next request of a connection that is open; without a secret there is
// no request; and when the credential is taken back the connection ends.
func TestLendChange(t *testing.T) {
	l := newLending(t, lent("api.example.com"))
	sandbox := netip.MustParseAddr("127.0.0.1")
	const get = "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
	secure, err := l.over(apiAddr.String()+":443", "api.example.com")
	if err != nil {
		t.Fatal(err)
	}
	plain := l.dial(apiAddr.String() + ":80")
	both := func(want string) {
		t.Helper()
		for _, c := range []net.Conn{secure, plain} {
			if got := say(c, get, 1); !strings.Contains(got, want) {
				t.Errorf("the answer is %q, not %s", got, want)
			}
		}
	}
	both("| 200")
	next := sandpool.Network{Allow: []string{"api.example.com"}, Credentials: credentials("rotated")}
	l.set(next)
	l.front.Recheck(sandbox)
	both("| 200")
	for _, a := range []*api{l.secure, l.plain} {
		if h := a.headers(); len(h) != 2 || h[1].Get("X-Api-Key") != "rotated" {
			t.Errorf("the server sees %v", h)
		}
	}
	for _, none := range []string{"", "two\nlines"} {
		next.Credentials = credentials(none)
		l.set(next)
		l.front.Recheck(sandbox)
		both("| 503")
	}
	l.set(sandpool.Network{Allow: []string{"api.example.com"}})
	l.front.Recheck(sandbox)
	for _, c := range []net.Conn{secure, plain} {
		if _, err := c.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("a connection goes on whose credential was taken back: %v", err)
		}
	}
	for _, a := range []*api{l.secure, l.plain} {
		if n := len(a.headers()); n != 2 {
			t.Errorf("%d requests have reached the server", n)
		}
	}
}

// A connection that was made before there were credentials is not used for them: it may go
// somewhere else.
func TestLendFresh(t *testing.T) {
	looks := []string{"nobody.example.org"} // so that requests are read before there are any
	l := newLending(t, sandpool.Network{Deny: looks})
	c := l.dial(evilAddr.String() + ":80") // every address is allowed, and so is every name there
	const get = "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
	if got := say(c, get, 1); !strings.Contains(got, "| 200") || len(l.evil.headers()) != 1 {
		t.Fatalf("the answer is %q", got)
	}
	l.set(sandpool.Network{Deny: looks, Credentials: credentials(secret)})
	l.front.Recheck(netip.MustParseAddr("127.0.0.1"))
	if got := say(c, get, 1); !strings.Contains(got, "| 200") || len(l.plain.headers()) != 1 {
		t.Errorf("the answer is %q", got)
	}
	l.unseen()
}

// Without an authority the TLS of such a host is not ended, nor passed on without the header.
func TestLendNoAuthority(t *testing.T) {
	w := newWorld(t, lent("api.example.com"))
	if got := w.tls("93.184.216.40:443", "api.example.com"); got != "no" || len(w.dials()) > 0 {
		t.Errorf("it answers %s", got)
	}
	if len(w.told()) == 0 || !strings.Contains(w.told()[0].Reason, "authority") {
		t.Errorf("told is %v", w.told())
	}
}

// A body costs the server no more memory than a buffer: a client that sends faster than the server
// reads waits.
func TestLendSlowServer(t *testing.T) {
	l := newLending(t, lent("api.example.com"))
	stop := make(chan struct{})
	wait := func(http.ResponseWriter, *http.Request) { <-stop }
	slow := httptest.NewServer(http.HandlerFunc(wait))
	defer slow.Close()
	defer close(stop)
	l.servers[netip.AddrPortFrom(apiAddr, 80)] = slow.Listener.Addr().String()
	c := l.dial(apiAddr.String() + ":80")
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: %d\r\n\r\n", 1<<40)
	const most = 64 << 20 // what the buffers of four sockets may hold
	_ = c.SetWriteDeadline(time.Now().Add(2 * time.Second))
	n, err := io.Copy(c, io.LimitReader(zeros{}, 4*most))
	if err == nil || n > most {
		t.Errorf("%d bytes were taken, %v", n, err)
	}
}

// FuzzLend sends anything over a connection that gets credentials: no server but the host's own
// sees the secret, and no other name.
func FuzzLend(f *testing.F) {
	for _, seed := range []string{"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
		"GET http://evil.example.net/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(data, []byte(secret)) {
			return
		}
		l := newLending(t, lent("api.example.com", "evil.example.net"))
		c := l.dial(evilAddr.String() + ":80")
		_, _ = c.Write(data)
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		l.unseen()
		for _, h := range l.plain.headers() {
			if h.Get("Seen-Host") != "api.example.com" || h.Get("X-Api-Key") != secret {
				t.Errorf("the host sees %v", h)
			}
		}
	})
}

// Credentials are read with errors that name the entry and never show a secret.
func TestLendPolicy(t *testing.T) {
	base := sandpool.Credential{URL: "https://api.example.com", Header: "Authorization",
		SecretRef: "key", Value: sandpool.NewSecret(secret)}
	for what, test := range map[string]struct {
		change func(*sandpool.Credential)
		says   string
	}{
		"a path":        {func(c *sandpool.Credential) { c.URL += "/v1" }, "url"},
		"no scheme":     {func(c *sandpool.Credential) { c.URL = "api.example.com" }, "https://"},
		"another port":  {func(c *sandpool.Credential) { c.URL += ":8443" }, "443"},
		"a wildcard":    {func(c *sandpool.Credential) { c.URL = "https://*.example.com" }, "one host"},
		"an address":    {func(c *sandpool.Credential) { c.URL = "https://192.0.2.1" }, "name"},
		"not allowed":   {func(c *sandpool.Credential) { c.URL = "https://example.org" }, "does not allow"},
		"no secret":     {func(c *sandpool.Credential) { c.SecretRef = "" }, "secretRef"},
		"a header":      {func(c *sandpool.Credential) { c.Header = "a b" }, "header"},
		"Host":          {func(c *sandpool.Credential) { c.Header = "hOst" }, "connection"},
		"a line break":  {func(c *sandpool.Credential) { c.Prefix = "a\r\nb" }, "prefix"},
		"a second time": {func(*sandpool.Credential) {}, "second"},
	} {
		c := base
		test.change(&c)
		n := sandpool.Network{Status: sandpool.EgressEnabled, Allow: []string{"api.example.com:443"},
			Credentials: []sandpool.Credential{base, c}}
		_, err := egress.Parse(n, "egress")
		if err == nil || !strings.Contains(err.Error(), "credentials[1]") ||
			!strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
