package front

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/egress"
)

// world is a Front whose sandboxes and servers are sockets of this machine. Every address is the
// one of edge, a server with many names, as a content network has them.
type world struct {
	t     *testing.T
	front *Front
	at    string
	edge  *httptest.Server // TLS
	plain *httptest.Server

	options Options
	names   map[string]netip.Addr     // those that are not shared
	servers map[netip.AddrPort]string // those that are not edge or plain, by where they are

	mu      sync.Mutex // guards what follows
	policy  egress.Policy
	to      netip.AddrPort
	refused []sandpool.Refusal
	dialed  []netip.AddrPort
	seen    []string // requests that have reached the server
}

var shared = netip.MustParseAddr("93.184.216.34")

func newWorld(t *testing.T, n sandpool.Network) *world {
	t.Helper()
	return openWorld(&world{t: t}, n)
}

// openWorld is newWorld for one whose options, names and servers are set.
func openWorld(w *world, n sandpool.Network) *world {
	t := w.t
	t.Helper()
	w.set(n)
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen = append(w.seen, r.Method+" "+r.Host+r.URL.String()+" "+string(body))
		fmt.Fprint(rw, "from ", r.Host)
	})
	w.edge, w.plain = httptest.NewTLSServer(handler), httptest.NewServer(handler)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.at, w.front = l.Addr().String(), New(w, egress.NewGround(nil), w.options)
	done := make(chan error, 1)
	go func() { done <- w.front.Serve(l) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		w.edge.Close()
		w.plain.Close()
		if len(w.front.links) > 0 || len(w.front.count) > 0 {
			t.Errorf("left are %d connections, counts %v", len(w.front.links), w.front.count)
		}
	})
	return w
}

func (w *world) set(n sandpool.Network) {
	w.t.Helper()
	n.Status, n.Inspect = sandpool.EgressEnabled, true
	p, err := egress.Parse(n, "egress")
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.policy = p
}

func (w *world) Policy(netip.Addr) (egress.Policy, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.policy, true
}

func (w *world) Addresses(name string) ([]netip.Addr, error) {
	if a, ok := w.names[name]; ok {
		return []netip.Addr{a}, nil
	}
	return []netip.Addr{shared}, nil
}

func (w *world) Refused(_ netip.Addr, r sandpool.Refusal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refused = append(w.refused, r)
}

// told are the refusals so far.
func (w *world) told() []sandpool.Refusal {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]sandpool.Refusal(nil), w.refused...)
}

// dials are the addresses so far that were connected to.
func (w *world) dials() []netip.AddrPort {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]netip.AddrPort(nil), w.dialed...)
}

func (w *world) Original(net.Conn) (netip.AddrPort, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to, true
}

func (w *world) Dial(to netip.AddrPort, within time.Duration) (net.Conn, error) {
	w.mu.Lock()
	w.dialed = append(w.dialed, to)
	w.mu.Unlock()
	if at, ok := w.servers[to]; ok {
		return net.DialTimeout("tcp", at, within)
	}
	server := w.plain
	if to.Port() == 443 {
		server = w.edge
	}
	return net.DialTimeout("tcp", server.Listener.Addr().String(), within)
}

// dial connects as a sandbox that wants to reach an address.
func (w *world) dial(to string) net.Conn {
	w.t.Helper()
	w.mu.Lock()
	w.to = netip.MustParseAddrPort(to)
	w.mu.Unlock()
	c, err := net.Dial("tcp", w.at)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

// tls says what a server name gets at an address.
func (w *world) tls(to, name string, more ...func(*tls.Config)) string {
	w.t.Helper()
	cfg := &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	for _, m := range more {
		m(cfg)
	}
	c := tls.Client(w.dial(to), cfg)
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\nHost: x\r\n\r\n"); err != nil {
		return "no"
	}
	answer, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(answer), "from x") {
		return "no"
	}
	return "yes"
}

// raw sends bytes and returns the status of n answers.
func (w *world) raw(to, text string, n int) (status string) {
	w.t.Helper()
	c := w.dial(to)
	_, _ = io.WriteString(c, text)
	in := bufio.NewReader(c)
	var all []string
	for range n {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return strings.Join(all, " ")
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		all = append(all, fmt.Sprint(resp.StatusCode))
	}
	return strings.Join(all, " ")
}

func (w *world) requests() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.seen...)
}

func allow(list ...string) sandpool.Network { return sandpool.Network{Allow: list} }
