package netns

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

// serveHTTP answers on port 8000 of the world, and by TLS on 8443, with the host that was asked
// for.
// Both are reached at 80 and 443 of an address of their own.
func (w *world) serveHTTP(addr netip.Addr) {
	w.t.Helper()
	handler := http.HandlerFunc(
		func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprint(rw, "from ", r.Host)
			if key := r.Header.Get("X-Key"); key != "" {
				fmt.Fprint(rw, " with ", key)
			}
		},
	)
	must(w.t, within(w.ns, func() error {
		lo, err := linkLo()
		must(w.t, err)
		addOn(w.t, lo, addr, addr.BitLen())
		for _, port := range []uint16{80, 443} {
			// The world listens on these ports of all addresses; one of an address alone goes
			// before.
			l, err := listenReuse(netip.AddrPortFrom(addr, port))
			must(w.t, err)
			s := httptest.NewUnstartedServer(handler)
			s.Listener.Close()
			s.Listener = l
			if port == 443 {
				s.StartTLS()
			} else {
				s.Start()
			}
			w.t.Cleanup(s.Close)
		}
		return nil
	}))
}

// ask sends a request to an address for a host, by TLS on port 443.
func (b *box) askFor(to netip.AddrPort, host string) string {
	conn, err := b.dial("tcp", to)
	if err != nil {
		return "refused"
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	var c net.Conn = conn
	if to.Port() == 443 {
		c = tls.Client(
			conn,
			&tls.Config{ServerName: host, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
		)
	}
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
		return "closed"
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "closed"
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(body[:min(len(body), 60)]))
}

// With inspection an address that an allowed name has is of no use for another name, also while the
// policy changes, and what was open before it was turned on ends.
func TestInspect(t *testing.T) { both(t, tryInspect) }

func tryInspect(t *testing.T, w *world) {
	edge := w.edge
	w.serveHTTP(edge)
	w.set("good.example.com", record{ttl: 300, addrs: []netip.Addr{edge}})
	w.set("evil.example.net", record{ttl: 300, addrs: []netip.Addr{edge}})
	n := w.open(t, t.TempDir())
	allowed := enabled("good.example.com", w.other.String())
	b, plain := w.join(n, "a", allowed), w.join(n, "b", allowed)
	for _, one := range []*box{b, plain} {
		one.resolve("good.example.com")
	}
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(edge, port) }
	for _, port := range []uint16{80, 443} {
		if got := b.askFor(at(port), "evil.example.net"); got != "200 from evil.example.net" {
			t.Fatalf("without inspection a shared address answers %q", got)
		}
	}
	before := b.talk(netip.AddrPortFrom(w.other, 80))
	inspecting := allowed
	inspecting.Inspect = true
	must(t, n.Change(b.id, b.dir, inspecting))
	if before() {
		t.Error("what was open before is not looked into")
	}
	for _, port := range []uint16{80, 443} {
		if got := b.askFor(at(port), "good.example.com"); got != "200 from good.example.com" {
			t.Errorf("port %d: the allowed name answers %q", port, got)
		}
		if got := b.askFor(at(port), "evil.example.net"); got == "200 from evil.example.net" {
			t.Errorf("port %d: a forbidden name answers", port)
		}
		for _, to := range []netip.Addr{w.metadata, w.private, w.host, w.router, Gateway(),
			n.gate.up.far, plain.link.Addr, w.own(plain.link), w.family().gateway()} {
			if got := b.askFor(netip.AddrPortFrom(to, port), "good.example.com"); got != "refused" &&
				got != "closed" &&
				got[:3] != "403" &&
				got[:3] != "502" {
				t.Errorf("%s:%d answers %q", to, port, got)
			}
		}
	}
	if !b.tcp(w.other, 80) || !b.tcp(w.other, 443) {
		t.Error("an address that is allowed as such is not reached")
	}
	for _, one := range []*box{b, plain} {
		if one.tcp(Gateway(), frontPort) || one.tcp(w.family().gateway(), frontPort) {
			t.Error("the gateway's own port is reached")
		}
	}
	if got := plain.askFor(at(443), "evil.example.net"); got != "200 from evil.example.net" {
		t.Errorf("a sandbox without inspection gets %q", got)
	}
	carries := b.talk(netip.AddrPortFrom(w.other, 80))
	if !carries() {
		t.Fatal("a connection carries nothing")
	}
	must(
		t,
		n.Change(
			b.id,
			b.dir,
			sandpool.Network{
				Status:  sandpool.EgressEnabled,
				Allow:   []string{"good.example.com"},
				Inspect: true,
			},
		),
	)
	if carries() {
		t.Error("a connection carries that was taken back")
	}
	told, err := n.Refusals(t.Context(), b.id)
	if err != nil || told.Packets == 0 || len(told.Recent) == 0 {
		t.Errorf("told is %+v, %v", told, err)
	}
	if got := b.askFor(at(443), "good.example.com"); got != "200 from good.example.com" {
		t.Errorf("after the change the allowed name answers %q", got)
	}
}

// A credential reaches the host that it is for, and no file: after a restart there is none until
// the pool has told again, and a new secret changes no rule.
func TestCredentials(t *testing.T) { both(t, tryCredentials) }

func tryCredentials(t *testing.T, w *world) {
	const secret = "s3cr3t-of-the-pool"
	edge := w.edge
	w.serveHTTP(edge)
	w.set("api.example.com", record{ttl: 300, addrs: []netip.Addr{edge}})
	dir := t.TempDir()
	n := w.open(t, dir)
	want := enabled("api.example.com")
	lend := func(value string) sandpool.Network {
		want.Credentials = []sandpool.Credential{{URL: "http://api.example.com", Header: "X-Key",
			SecretRef: "key", Version: fmt.Sprint(len(value)), Value: sandpool.NewSecret(value)}}
		return want
	}
	b := w.join(n, "a", lend(secret))
	ask := func(want string) {
		t.Helper()
		if got := b.askFor(netip.AddrPortFrom(w.other, 80), "api.example.com"); got != want {
			t.Errorf("the host answers %q, not %q", got, want)
		}
	}
	ask("200 from api.example.com with " + secret)
	before := n.shares[b.id].Generation
	must(t, n.Change(b.id, b.dir, lend(secret+"2")))
	ask("200 from api.example.com with " + secret + "2")
	if now := n.shares[b.id].Generation; now != before {
		t.Errorf("the rules were written anew: generation %d, then %d", before, now)
	}
	must(t, n.Close())
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "gateway" {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("%s holds the secret: %s", path, text)
		}
		return err
	})
	must(t, err)
	n = w.open(t, dir)
	b.net = n
	ask("503 The credential for this host is not there yet.\n")
	must(t, n.Change(b.id, b.dir, lend(secret)))
	ask("200 from api.example.com with " + secret)
	b.stop() // while there is somebody who can give it back
}

// A sandbox with a proxy reaches that and nothing else: no address, no resolver, no port of the
// gateway. Nobody else reaches the proxy, and a change either way holds at once.
func TestProxy(t *testing.T) { both(t, tryProxy) }

func tryProxy(t *testing.T, w *world) {
	edge := w.edge
	w.serveHTTP(edge)
	w.set("good.example.com", record{ttl: 300, addrs: []netip.Addr{edge}})
	w.set("inner.example.com", record{ttl: 300, addrs: []netip.Addr{w.private}})
	w.set("host.example.com", record{ttl: 300, addrs: []netip.Addr{w.host}})
	dir := t.TempDir()
	n := w.open(t, dir)
	names := enabled("*.example.com")
	behind := names
	behind.Proxy = true
	b, plain := w.join(n, "a", behind), w.join(n, "b", names)
	get := func(b *box, name string) string {
		conn, err := b.dial("tcp", netip.AddrPortFrom(Gateway(), ProxyPort))
		if err != nil {
			return "refused"
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, "GET http://%s/ HTTP/1.1\r\nHost: %[1]s\r\n\r\n", name)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return "closed"
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", string(body[:min(len(body), 60)]))
	}
	ports := []uint16{53, 80, 443, frontPort}
	alone := func() {
		t.Helper()
		if got := get(b, "good.example.com"); got != "200 from good.example.com" {
			t.Errorf("the proxy answers %q", got)
		}
		for _, name := range []string{"inner.example.com", "host.example.com", "evil.example.net",
			w.public.String(), Gateway().String()} {
			if got := get(b, name); got[:3] != "403" && got[:3] != "502" && got[:3] != "400" {
				t.Errorf("of %s the proxy answers %q", name, got)
			}
		}
		for _, to := range []netip.Addr{edge, w.public, w.resolver, w.metadata, w.private, w.host,
			w.router, Gateway(), w.family().gateway(), w.own(plain.link)} {
			for _, port := range ports {
				if b.tcp(to, port) || len(ports) > 1 && b.udp(to, port) {
					t.Errorf("%s:%d is reached past the proxy", to, port)
				}
			}
		}
		if len(b.questions()) > 0 {
			t.Error("a name is resolved")
		}
	}
	alone()
	ports = ports[:1] // what else there is has the same rule
	if got := get(plain, "good.example.com"); got != "refused" && got != "closed" {
		t.Errorf("a sandbox without a proxy gets %q", got)
	}
	must(t, n.Close()) // the same holds after a restart
	n = w.open(t, dir)
	b.net, plain.net = n, n
	alone()

	must(t, n.Change(b.id, b.dir, names))
	if got := get(b, "good.example.com"); got != "refused" && got != "closed" {
		t.Errorf("a proxy that was taken back answers %q", got)
	}
	b.resolve("good.example.com")
	if got := b.askFor(netip.AddrPortFrom(edge, 80), "good.example.com"); got[:3] != "200" {
		t.Errorf("without the proxy the name answers %q", got)
	}
	inspecting := names
	inspecting.Inspect = true
	for _, before := range []sandpool.Network{names, inspecting} {
		must(t, n.Change(b.id, b.dir, before))
		b.resolve("good.example.com")
		open := b.talkHTTP(netip.AddrPortFrom(edge, 80), "good.example.com")
		if !open() {
			t.Fatal("a connection carries nothing")
		}
		must(t, n.Change(b.id, b.dir, behind))
		if open() {
			t.Error("a connection past the proxy goes on")
		}
		alone()
	}
	told, err := n.Refusals(t.Context(), b.id)
	if err != nil || told.Packets == 0 || len(told.Recent) == 0 {
		t.Errorf("told is %+v, %v", told, err)
	}
	b.stop()
	plain.stop()
}

// questions are the answers that the gateway's resolver gives the box.
func (b *box) questions() (answers []byte) {
	for _, network := range []string{"udp", "tcp"} {
		conn, err := b.dial(network, netip.AddrPortFrom(Gateway(), 53))
		if err != nil {
			continue
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(impatience))
		_, _ = conn.Write([]byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" +
			"\x04good\x07example\x03com\x00\x00\x01\x00\x01"))
		buf := make([]byte, 512)
		if n, err := conn.Read(buf); err == nil {
			answers = append(answers, buf[:n]...)
		}
	}
	return answers
}

// talkHTTP opens a connection for requests to a host, and returns whether one more is answered.
func (b *box) talkHTTP(to netip.AddrPort, host string) func() bool {
	b.t.Helper()
	conn, err := b.dial("tcp", to)
	must(b.t, err)
	b.t.Cleanup(func() { conn.Close() })
	in := bufio.NewReader(conn)
	return func() bool {
		_ = conn.SetDeadline(time.Now().Add(10 * impatience))
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return false
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return err == nil && resp.StatusCode == http.StatusOK
	}
}
