package front

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

// proxy opens the world's proxy, and returns what connects to it.
func (w *world) proxy() (dial func() net.Conn) {
	w.t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- w.front.ServeProxy(l) }()
	var open []net.Conn
	w.t.Cleanup(func() {
		for _, c := range open {
			c.Close()
		}
		l.Close()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	return func() net.Conn {
		w.t.Helper()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			w.t.Fatal(err)
		}
		open = append(open, c)
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		return c
	}
}

func proxied(list ...string) sandpool.Network { return sandpool.Network{Allow: list, Proxy: true} }

// connect asks for a tunnel and returns the status.
func connect(t *testing.T, c net.Conn, to string) int {
	t.Helper()
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", to, to)
	// A reader that takes no byte of what comes after the answer.
	var head strings.Builder
	for one := make([]byte, 1); !strings.HasSuffix(head.String(), "\r\n\r\n"); {
		if _, err := c.Read(one); err != nil {
			return 0
		}
		head.Write(one)
	}
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(head.String())), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// over speaks TLS through a tunnel.
func over(c net.Conn, name string) string {
	t := tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true,
		MinVersion: tls.VersionTLS12})
	if _, err := io.WriteString(t, "GET / HTTP/1.0\r\nHost: x\r\n\r\n"); err != nil {
		return "no"
	}
	answer, _ := io.ReadAll(t)
	if !strings.Contains(string(answer), "from x") {
		return "no"
	}
	return "yes"
}

// The proxy takes names that are allowed, at ports that are, by CONNECT and by URL, and no address
// in any form.
func TestProxy(t *testing.T) {
	n := proxied("*.example.com:443", "www.example.com:80", "www.example.com:8080")
	n.Deny = []string{"bad.example.com"}
	w := newWorld(t, n)
	dial := w.proxy()
	for to, want := range map[string]int{"a.example.com:443": 200, "A.Example.COM.:443": 200,
		"a.example.com:80": 403, "a.example.com:22": 403, "example.com:443": 403,
		"evil.example.net:443": 403, "bad.example.com:443": 403, "93.184.216.34:443": 403,
		"[2001:db8::1]:443": 403, "0x5d.184.216.34:443": 403, "1572395042:443": 403,
		"a.example.com": 400, "a.example.com:": 400, "a.example.com:0": 403,
		"a.example.com:99999": 403, "169.254.169.254:443": 403, "localhost:443": 403} {
		c := dial()
		got := connect(t, c, to)
		if got != want && (want == 200 || got == 200) {
			t.Errorf("CONNECT %s: %d, want %d", to, got, want)
		}
		if got == 200 && over(c, "a.example.com") != "yes" {
			t.Errorf("CONNECT %s leads nowhere", to)
		}
	}
	for text, want := range map[string]string{
		"GET http://www.example.com/x HTTP/1.1\r\nHost: www.example.com\r\n":              "200",
		"GET http://www.example.com/x HTTP/1.1\r\nHost: evil.example.net\r\n":             "200",
		"GET http://WWW.example.com:80/x HTTP/1.1\r\nHost: z\r\n":                         "200",
		"GET http://www.example.com:8080/x HTTP/1.1\r\nHost: z\r\n":                       "200",
		"GET http://www.example.com:81/x HTTP/1.1\r\nHost: z\r\n":                         "403",
		"GET http://evil.example.net/x HTTP/1.1\r\nHost: www.example.com\r\n":             "403",
		"GET http://93.184.216.34/x HTTP/1.1\r\nHost: www.example.com\r\n":                "403",
		"GET https://www.example.com/x HTTP/1.1\r\nHost: www.example.com\r\n":             "400",
		"GET /x HTTP/1.1\r\nHost: www.example.com\r\n":                                    "400",
		"GET a:http://evil.example.net/x HTTP/1.1\r\nHost: www.example.com\r\n":           "400",
		"GET http:evil.example.net/x HTTP/1.1\r\nHost: www.example.com\r\n":               "400",
		"GET ftp://www.example.com/x HTTP/1.1\r\nHost: www.example.com\r\n":               "400",
		"OPTIONS * HTTP/1.1\r\nHost: www.example.com\r\n":                                 "",
		"GET http://u:p@www.example.com/x HTTP/1.1\r\nHost: z\r\nProxy-Connection: k\r\n": "200",
	} {
		c := dial()
		_, _ = io.WriteString(c, text+"\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || want != "" && fmt.Sprint(resp.StatusCode) != want {
			t.Errorf("%q: %v, %v, want %s", text, resp, err, want)
		}
	}
	for _, r := range w.requests() {
		if strings.Contains(r, "evil") || !strings.Contains(r, "example.com") && r != "GET x/ " {
			t.Errorf("a server has got %q", r)
		}
	}
	for _, r := range w.told() {
		if r.Host == "" && r.Port != 0 || strings.Contains(r.Host, "invalid") {
			t.Errorf("told is %+v", r)
		}
	}
	if len(w.told()) == 0 {
		t.Error("nothing is told")
	}
}

// One connection serves requests to hosts in turn, and a name that leads off the public network,
// or to an address that is denied, is not reached.
func TestProxyTurns(t *testing.T) {
	n := proxied("*.example.com")
	n.Deny = []string{"8.8.8.0/24"}
	w := openWorld(&world{t: t, names: map[string]netip.Addr{
		"inner.example.com":    netip.MustParseAddr("10.1.2.3"),
		"metadata.example.com": netip.MustParseAddr("169.254.169.254"),
		"denied.example.com":   netip.MustParseAddr("8.8.8.8")}}, n)
	dial := w.proxy()
	c := dial()
	in := bufio.NewReader(c)
	for _, turn := range []struct{ host, want string }{{"a", "200"}, {"b", "200"}, {"b", "200"},
		{"inner", "502"}, {"a", "200"}, {"metadata", "502"}, {"denied", "502"}, {"a", "200"}} {
		fmt.Fprintf(c, "GET http://%s.example.com/ HTTP/1.1\r\nHost: z\r\n\r\n", turn.host)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%v: %v", turn, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if got := fmt.Sprint(resp.StatusCode); got != turn.want {
			t.Errorf("%s: %s, want %s", turn.host, got, turn.want)
		}
	}
	for _, host := range []string{"inner", "metadata", "denied"} {
		if got := connect(t, dial(), host+".example.com:443"); got != http.StatusBadGateway {
			t.Errorf("CONNECT %s: %d", host, got)
		}
	}
	for _, to := range w.dials() {
		if to.Addr() != shared {
			t.Errorf("%s was dialed", to)
		}
	}
	if got := connect(t, c, "a.example.com:443"); got != 200 || over(c, "a.example.com") != "yes" {
		t.Errorf("a tunnel after requests: %d", got)
	}
}

// A change of the policy ends tunnels and connections that it no longer allows; who has no proxy
// any more is not served, nor is what is led past the proxy while there is one.
func TestProxyChange(t *testing.T) {
	w := newWorld(t, proxied("a.example.com", "b.example.com"))
	dial := w.proxy()
	sandbox := netip.MustParseAddr("127.0.0.1")
	a, b, plain, idle := dial(), dial(), dial(), dial()
	if connect(t, a, "a.example.com:443") != 200 || connect(t, b, "b.example.com:443") != 200 {
		t.Fatal("no tunnel")
	}
	get := func() int {
		fmt.Fprint(plain, "GET http://a.example.com/ HTTP/1.1\r\nHost: z\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(plain), nil)
		if err != nil {
			return 0
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	if got := get(); got != 200 {
		t.Fatalf("what is allowed answers %d", got)
	}
	if got := w.tls("93.184.216.34:443", "a.example.com"); got != "no" {
		t.Error("a connection past the proxy is served")
	}
	ended := func(c net.Conn) bool {
		_, err := c.Read(make([]byte, 1))
		return err != nil && !strings.Contains(err.Error(), "timeout")
	}
	w.set(proxied("b.example.com"))
	w.front.Recheck(sandbox)
	if !ended(a) || get() != 0 {
		t.Error("what was taken back goes on")
	}
	if over(b, "b.example.com") != "yes" || connect(t, idle, "b.example.com:443") != 200 {
		t.Error("what is still allowed has ended")
	}
	c := dial()
	w.set(allow("b.example.com"))
	w.front.Recheck(sandbox)
	if !ended(idle) || !ended(c) {
		t.Error("a sandbox without a proxy is served")
	}
	if got := connect(t, dial(), "b.example.com:443"); got != 0 {
		t.Errorf("a sandbox without a proxy gets a tunnel: %d", got)
	}
}

// Without inspection what a tunnel carries is not read; with it a name that is not allowed gets
// nothing through a tunnel to one that is.
func TestProxyInspect(t *testing.T) {
	n := proxied("a.example.com")
	w := newWorld(t, n)
	dial := w.proxy()
	through := func(name string) string {
		c := dial()
		if got := connect(t, c, "a.example.com:443"); got != 200 {
			t.Fatalf("CONNECT says %d", got)
		}
		return over(c, name)
	}
	w.mu.Lock()
	w.policy.Inspect = false
	w.mu.Unlock()
	if got := through("evil.example.net"); got != "yes" {
		t.Errorf("without inspection: %s", got)
	}
	w.set(n) // with it
	for name, want := range map[string]string{"a.example.com": "yes", "evil.example.net": "no", "": "no"} {
		if got := through(name); got != want {
			t.Errorf("with inspection %q: %s", name, got)
		}
	}
	c := dial()
	if connect(t, c, "a.example.com:80") != 200 {
		t.Fatal("no tunnel")
	}
	for host, want := range map[string]string{"a.example.com": "200", "evil.example.net": "403"} {
		if got := say(c, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n", 1); !strings.Contains(got, want) {
			t.Errorf("%s: %s", host, got)
		}
	}
}

// No more connections than the policy says, however they are used.
func TestProxyLimit(t *testing.T) {
	n := proxied("a.example.com")
	n.Connections = 2
	w := newWorld(t, n)
	dial := w.proxy()
	for range 2 {
		if got := connect(t, dial(), "a.example.com:443"); got != 200 {
			t.Fatalf("CONNECT says %d", got)
		}
	}
	if got := connect(t, dial(), "a.example.com:443"); got != 0 {
		t.Errorf("one more: %d", got)
	}
}

// Credentials reach their host through the proxy, and nobody else.
func TestProxyLend(t *testing.T) {
	n := lent("api.example.com", "evil.example.net")
	n.Proxy = true
	l := newLending(t, n)
	dial := l.proxy()
	c := dial()
	if got := connect(t, c, "api.example.com:443"); got != 200 {
		t.Fatalf("CONNECT says %d", got)
	}
	secure := tls.Client(c, &tls.Config{ServerName: "api.example.com", RootCAs: l.trust,
		MinVersion: tls.VersionTLS12})
	const get = "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
	if got := say(secure, get, 1); !strings.Contains(got, "| 200") {
		t.Errorf("the tunnel says %q", got)
	}
	c = dial() // a name in TLS is who gets it, not who the tunnel was asked for
	if got := connect(t, c, "evil.example.net:443"); got != 200 {
		t.Fatalf("CONNECT says %d", got)
	}
	secure = tls.Client(c, &tls.Config{ServerName: "api.example.com", RootCAs: l.trust,
		MinVersion: tls.VersionTLS12})
	if got := say(secure, get, 1); !strings.Contains(got, "| 200") {
		t.Errorf("the other tunnel says %q", got)
	}
	plain := dial()
	if got := say(plain, "GET http://api.example.com/ HTTP/1.1\r\nHost: evil.example.net\r\n\r\n"+
		"GET http://evil.example.net/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n", 2); strings.Count(got,
		"| 200") != 2 {
		t.Errorf("requests say %q", got)
	}
	for _, a := range []*api{l.secure, l.plain} {
		if len(a.headers()) == 0 {
			t.Error("a server has got nothing")
		}
		for _, h := range a.headers() {
			if h.Get("X-Api-Key") != secret || h.Get("Seen-Host") != "api.example.com" {
				t.Errorf("a server sees %v", h)
			}
		}
	}
	if len(l.evil.headers()) != 1 {
		t.Errorf("the other server has got %d requests", len(l.evil.headers()))
	}
	l.unseen()
}
