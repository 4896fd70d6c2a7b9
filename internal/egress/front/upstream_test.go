package front

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

// above is a proxy that leads every tunnel to one TLS server, and every URL to another.
type above struct {
	*httptest.Server
	w *world

	mu    sync.Mutex // guards what follows
	asked []string   // method and host of each request
	keys  []string   // Proxy-Authorization of each
}

func (a *above) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.asked = append(a.asked, r.Method+" "+r.Host)
	a.keys = append(a.keys, r.Header.Get("Proxy-Authorization"))
	a.mu.Unlock()
	if strings.HasPrefix(r.Host, "gone.") {
		http.Error(rw, "no such host", http.StatusServiceUnavailable)
		return
	}
	if strings.HasPrefix(r.Host, "keyless.") {
		rw.Header().Set("Proxy-Authenticate", "Basic realm=x")
		http.Error(rw, "you came with "+r.Header.Get("Proxy-Authorization"),
			http.StatusProxyAuthRequired)
		return
	}
	if r.Method != http.MethodConnect {
		(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Host = a.w.plain.Listener.Addr().String()
		}}).ServeHTTP(rw, r)
		return
	}
	at := a.w.edge.Listener.Addr().String()
	if strings.HasSuffix(r.Host, ":80") {
		at = a.w.plain.Listener.Addr().String()
	}
	server, err := net.DialTimeout("tcp", at, 10*time.Second)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadGateway)
		return
	}
	defer server.Close()
	conn, _, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	// A proxy may say more than it has to, and the head in pieces.
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nVia: 1.1 above\r\n")
	_, _ = io.WriteString(conn, "Content-Length: 0\r\n\r\n")
	go func() { _, _ = io.Copy(server, conn); _ = server.(*net.TCPConn).CloseWrite() }()
	_, _ = io.Copy(conn, server)
}

func newAbove(t *testing.T, n sandpool.Network) (*above, func() net.Conn) {
	t.Helper()
	a := &above{}
	a.Server = httptest.NewServer(a)
	return a, a.open(t, "http", nil, n)
}

// open opens a world below a proxy that serves.
func (a *above) open(t *testing.T, scheme string, roots *x509.CertPool,
	n sandpool.Network) func() net.Conn {
	t.Helper()
	t.Cleanup(a.Close)
	u, err := ParseUpstream(scheme + "://joe:s%3Acret@" + a.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a.w = openWorld(&world{t: t, options: Options{Upstream: u, Roots: roots}}, n)
	return a.w.proxy()
}

// A proxy above with TLS is verified as servers are, for tunnels and for URLs.
func TestUpstreamTLS(t *testing.T) {
	for _, known := range []bool{true, false} {
		a := &above{}
		a.Server = httptest.NewTLSServer(a)
		roots := x509.NewCertPool()
		if known {
			roots.AddCert(a.Certificate())
		}
		dial := a.open(t, "https", roots, proxied("a.example.com:8443", "a.example.com:80"))
		if got := connect(t, dial(), "a.example.com:8443"); got == 200 != known {
			t.Errorf("the proxy is known %t, CONNECT: %d", known, got)
		}
		c := dial()
		fmt.Fprint(c, "GET http://a.example.com/ HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode == 200 != known {
			t.Errorf("the proxy is known %t, GET: %v, %v", known, resp, err)
		}
	}
}

// unaware is a proxy that knows of no upgrades: it passes a server's 101 on and reads the next
// request. It notes what it is asked for, and what comes through its tunnels.
type unaware struct {
	mu            sync.Mutex
	asked, within []string
}

func (u *unaware) take(conn net.Conn) {
	defer conn.Close()
	in, tunnel := bufio.NewReader(conn), false
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		u.mu.Lock()
		if tunnel {
			u.within = append(u.within, r.RequestURI)
		} else {
			u.asked = append(u.asked, r.Method+" "+r.RequestURI)
		}
		u.mu.Unlock()
		answer := "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nyes."
		switch {
		case r.Method == http.MethodConnect:
			answer, tunnel = "HTTP/1.1 200 OK\r\n\r\n", true
		case r.Header.Get("Upgrade") != "":
			answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" +
				"Upgrade: websocket\r\n\r\n"
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}

// What a sandbox sends after an upgrade is no request of the proxy above, which has not judged it.
func TestUpstreamUpgrade(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	above, done := &unaware{}, make(chan error, 1)
	var wait sync.WaitGroup
	go func() { done <- accept(l, &wait, above.take) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		wait.Wait()
	})
	u, err := ParseUpstream("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	w := openWorld(&world{t: t, options: Options{Upstream: u}}, proxied("ws.example.com:80"))
	c := w.proxy()()
	in := bufio.NewReader(c)
	for _, ask := range []string{"GET http://ws.example.com/chat HTTP/1.1\r\nHost: x\r\n" +
		"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"GET http://evil.example.net/ HTTP/1.1\r\nHost: evil.example.net\r\n\r\n"} {
		if _, err := io.WriteString(c, ask); err != nil {
			t.Fatal(err)
		}
		if _, err := http.ReadResponse(in, nil); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for open := 1; open > 0; <-tick.C { // nobody waits for what has become of an upgrade
		w.front.mu.Lock()
		open = len(w.front.links)
		w.front.mu.Unlock()
	}
	above.mu.Lock()
	defer above.mu.Unlock()
	if want := []string{"CONNECT ws.example.com:80"}; !slices.Equal(above.asked, want) {
		t.Errorf("the proxy above was asked for %q, want %q", above.asked, want)
	}
	if len(above.within) != 2 {
		t.Errorf("through the tunnel came %q", above.within)
	}
}

// With an upstream, hosts that the policy names are reached through it, by tunnel and by URL, and
// nothing is resolved or dialed here. It is asked for nothing that the policy does not have.
func TestUpstream(t *testing.T) {
	n := proxied("*.example.com:443", "www.example.com:80", "www.example.com:8080",
		"*.google.internal:443")
	n.Deny = []string{"bad.example.com"}
	a, dial := newAbove(t, n)
	for to, want := range map[string]int{"a.example.com:443": 200, "A.Example.COM.:443": 200,
		"a.example.com:80": 403, "example.com:443": 403, "evil.example.net:443": 403,
		"bad.example.com:443": 403, "93.184.216.34:443": 403, "169.254.169.254:443": 403,
		"localhost:443": 403, "metadata.google.internal:443": 502, "metadata:80": 403,
		"gone.example.com:443": 502} {
		c := dial()
		got := connect(t, c, to)
		if got != want && want < 500 || got == 200 != (want == 200) && want != 502 {
			t.Errorf("CONNECT %s: %d, want %d", to, got, want)
		}
		name, _, _ := strings.Cut(to, ":")
		if want == 200 && over(c, name) != "yes" {
			t.Errorf("CONNECT %s leads nowhere", to)
		}
		if want == 502 && got == 200 && over(c, name) == "yes" {
			t.Errorf("CONNECT %s leads somewhere", to)
		}
	}
	c := dial()
	in := bufio.NewReader(c)
	for url, want := range map[string]int{"http://www.example.com/x": 200,
		"http://WWW.example.com.:8080/x?a=b;c": 200, "http://www.example.com:81/": 403,
		"http://evil.example.net/": 403, "http://169.254.169.254/": 403} {
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: evil.example.net\r\n\r\n", url)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", url, resp.StatusCode, want)
		}
	}
	if len(a.w.dialed) > 0 {
		t.Errorf("dialed here are %v", a.w.dialed)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, asked := range a.asked {
		_, host, _ := strings.Cut(asked, " ")
		if name, _, _ := net.SplitHostPort(host); !strings.HasSuffix(name, ".example.com") ||
			name == "bad.example.com" {
			t.Errorf("the upstream was asked for %q", asked)
		}
		if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("joe:s:cret")); a.keys[i] != want {
			t.Errorf("%s came with the key %q", asked, a.keys[i])
		}
	}
	if !strings.Contains(strings.Join(a.asked, " "), "GET www.example.com:8080") {
		t.Errorf("asked was %q", a.asked)
	}
	for _, r := range a.w.requests() {
		if strings.Contains(r, "evil") {
			t.Errorf("a server has got %q", r)
		}
	}
}

// TRACE asks a proxy for the header that it has got, of which the sandbox is to know nothing.
func TestUpstreamTrace(t *testing.T) {
	a, dial := newAbove(t, proxied("www.example.com"))
	for _, method := range []string{"TRACE", "trace", "TRACK"} {
		c := dial()
		fmt.Fprintf(c, "%s http://www.example.com/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n",
			method)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %v, %v", method, resp, err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.asked) > 0 {
		t.Errorf("the upstream was asked for %q", a.asked)
	}
}

// An upstream that wants another key says so to the server: the sandbox has none, and is not to see
// which one was shown.
func TestUpstreamKey(t *testing.T) {
	_, dial := newAbove(t, proxied("keyless.example.com"))
	if got := connect(t, dial(), "keyless.example.com:8443"); got != http.StatusBadGateway {
		t.Errorf("CONNECT: %d", got)
	}
	c := dial()
	fmt.Fprint(c, "GET http://keyless.example.com/ HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusBadGateway ||
		strings.Contains(string(text), "Basic") {
		t.Errorf("GET: %d %q, %v", resp.StatusCode, text, err)
	}
}

// A policy that names no hosts reaches nothing by an upstream, whose network is not ours to judge.
func TestUpstreamPublic(t *testing.T) {
	a, dial := newAbove(t, proxied())
	c := dial()
	if got := connect(t, c, "a.example.com:443"); got == 200 && over(c, "a.example.com") == "yes" {
		t.Error("a host is reached that the policy does not name")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.asked) > 0 {
		t.Errorf("the upstream was asked for %q", a.asked)
	}
}

// Tunnels by an upstream end with the policy as others do, and what they carry is looked into.
func TestUpstreamChange(t *testing.T) {
	n := proxied("a.example.com", "b.example.com")
	a, dial := newAbove(t, n)
	first, second := dial(), dial()
	if connect(t, first, "a.example.com:443") != 200 || connect(t, second, "b.example.com:443") != 200 {
		t.Fatal("no tunnel")
	}
	if got := over(second, "evil.example.net"); got != "no" {
		t.Error("a name within a tunnel is not looked at")
	}
	tunnel := tls.Client(first, &tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true,
		MinVersion: tls.VersionTLS12})
	if err := tunnel.Handshake(); err != nil {
		t.Fatal(err)
	}
	a.w.set(proxied("b.example.com"))
	a.w.front.Recheck(netip.MustParseAddr("127.0.0.1"))
	if _, err := first.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("what was taken back goes on: %v", err)
	}
}

func TestParseUpstream(t *testing.T) {
	for _, s := range []string{"http://proxy.example.com:3128", "https://u:p@192.0.2.1:443/",
		"http://[2001:db8::1]:3128"} {
		if _, err := ParseUpstream(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{"", "proxy.example.com:3128", "socks5://proxy:1080", "http://proxy",
		"http://:3128", "http://u:topsecret@proxy:x", "http://proxy:3128/path", "http://proxy:1?x"} {
		if _, err := ParseUpstream(s); err == nil || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%q: %v", s, err)
		}
	}
}
