package peer_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/endpoint"
	"github.com/sandpool/sandpool/internal/peer"
	"github.com/sandpool/sandpool/internal/pool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seats is who owns the only pool, as one server knows it.
type seats struct {
	mu    sync.Mutex // guards what follows
	known pool.Seat
	anew  pool.Seat // what a fresh look finds
	gone  string
}

func (s *seats) Seat(_ context.Context, _ sandpool.PoolID, anew bool) (pool.Seat, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if anew {
		s.known = s.anew
	}
	return s.known, nil
}

func (s *seats) Emptiest() pool.Seat { return pool.Seat{Here: true} }

func (s *seats) Gone(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone == name
}

func (s *seats) set(known, anew pool.Seat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known, s.anew = known, anew
}

// member is one server: a port for callers and one for other servers.
type member struct {
	seats
	handler http.Handler // what it does with requests for its own pools
	public  *httptest.Server
	inner   *httptest.Server
}

func (m *member) seat(name string) pool.Seat {
	return pool.Seat{Server: name, Address: m.inner.Listener.Addr().String()}
}

// pair starts two servers of one authority. The second owns the pool, and serves it with handler.
func pair(t testing.TB, handler http.Handler) (one, two *member) {
	t.Helper()
	authority, err := peer.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	one, two = start(t, authority), start(t, authority)
	one.handler, two.handler = handler, handler
	one.set(two.seat("two"), two.seat("two"))
	two.set(pool.Seat{Here: true}, pool.Seat{Here: true})
	return one, two
}

func start(t testing.TB, authority string) *member {
	t.Helper()
	id, err := peer.Signed(authority, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &member{}
	respond := &arm.Responder{Log: slog.New(slog.DiscardHandler)}
	f, err := peer.New(slog.New(slog.DiscardHandler), m, id, peer.Options{Fail: respond.Error,
		Find: func(r *http.Request) (sandpool.PoolID, bool, bool) {
			target, ok := endpoint.Find(r, "pools.example.com")
			return target.Pool, false, ok
		}})
	if err != nil {
		t.Fatal(err)
	}
	own := f.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.handler.ServeHTTP(w, r)
	}))
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	m.public = httptest.NewUnstartedServer(arm.Trace(own))
	m.public.Config.Protocols = &protocols
	m.public.Start()
	m.inner = httptest.NewUnstartedServer(peer.Receive(arm.Trace(own)))
	m.inner.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	m.inner.Listener = tls.NewListener(m.inner.Listener, id.Server())
	m.inner.Start()
	t.Cleanup(func() {
		f.Close()
		m.public.Close()
		m.inner.Close()
	})
	return m
}

// path is that of the pool's endpoint.
const path = "/subscriptions/sub/resourceGroups/group/sessionPools/python"

// send writes a request as it is and returns the answer as it comes, on a connection of its own.
func (m *member) send(t *testing.T, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", m.public.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// TestSame: the owner sees a request that another server has handed on as it sees one that came to
// it, byte for byte of the request line, and nothing of what servers tell each other.
func TestSame(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	one, two := pair(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		ip, _, _ := net.SplitHostPort(r.RemoteAddr)
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprintf("%s %q %q %q from %s tls %t base %t trace %s\n%v\n%s",
			r.Method, r.RequestURI, r.URL.EscapedPath(), r.Host, ip, r.TLS != nil,
			strings.HasSuffix(arm.BaseURL(r), r.Host), arm.TraceID(r.Context()), r.Header, body))
		w.Header()["X-Two"] = []string{"a", "b"}
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "short and stout")
	}))
	for _, line := range []string{"GET " + path + "//a%2Fb/..;/%C3%A9?x=%zz&y= HTTP/1.1",
		"POST http://127.0.0.1/" + path + "/x HTTP/1.1", "DELETE /" + path + " HTTP/1.1"} {
		seen = nil
		var answers []string
		for _, m := range []*member{two, one} {
			answers = append(answers, m.send(t, line+"\r\nHost: "+m.public.Listener.Addr().String()+
				"\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"+
				"X-Forwarded-For: 1.2.3.4\r\nX-Sandpool-Peer-From: 6.6.6.6:6\r\n"+
				"Connection: close\r\n"+
				"Content-Length: 5\r\n\r\nhello"))
		}
		if len(seen) != 2 {
			t.Fatalf("%s: the owner saw %q, and the answers are %q", line, seen, answers)
		}
		direct := strings.ReplaceAll(seen[0], two.public.Listener.Addr().String(), "HOST")
		direct = strings.ReplaceAll(direct, " X-Sandpool-Peer-From:[6.6.6.6:6]", "")
		direct = strings.ReplaceAll(direct, "Connection:[close] ", "")
		handed := strings.ReplaceAll(seen[1], one.public.Listener.Addr().String(), "HOST")
		if direct != handed {
			t.Errorf("the owner saw directly\n%s\nand by another server\n%s", direct, handed)
		}
		if a, b := undated(answers[0]), undated(answers[1]); a != b {
			t.Errorf("the caller got from the owner\n%s\nand from another server\n%s", a, b)
		}
	}
}

// undated is an answer without its time, with its lines in order.
func undated(answer string) string {
	lines := slices.DeleteFunc(strings.Split(answer, "\r\n"), func(line string) bool {
		return strings.HasPrefix(line, "Date:")
	})
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestForgedFromOutside: what servers tell each other counts for nothing when a caller says it.
func TestForgedFromOutside(t *testing.T) {
	one, two := pair(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %t", r.RemoteAddr, r.TLS != nil)
	}))
	for _, m := range []*member{one, two} {
		answer := m.send(t, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+
			"X-Sandpool-Peer-Uri: /else\r\nX-Sandpool-Peer-From: 6.6.6.6:6\r\n"+
			"X-Sandpool-Peer-To: 1.1.1.1:1\r\nX-Sandpool-Peer-Tls: tls x\r\n\r\n")
		if !strings.Contains(answer, "127.0.0.1:") || !strings.Contains(answer, "false") {
			t.Errorf("the answer is %q; want the real address, and no TLS", answer)
		}
	}
}

// TestStrangers: nobody connects without a certificate of the authority, in either direction.
func TestStrangers(t *testing.T) {
	served := atomic.Int64{}
	one, two := pair(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		served.Add(1)
	}))
	other, err := peer.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	stranger := start(t, other)
	stranger.handler = one.handler
	foreign, err := tls.X509KeyPair([]byte(other), []byte(other))
	if err != nil {
		t.Fatal(err)
	}
	for name, certs := range map[string][]tls.Certificate{"none": nil, "foreign": {foreign}} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true,
			Certificates: certs}}
		at := "https://" + two.inner.Listener.Addr().String()
		resp, err := (&http.Client{Transport: tr}).Get(at)
		if err == nil {
			t.Errorf("certificate %s: %s", name, resp.Status)
			_ = resp.Body.Close()
		}
		tr.CloseIdleConnections()
	}
	// A server is led to a stranger's port.
	one.set(stranger.seat("two"), pool.Seat{Here: true})
	answer := one.send(t, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if served.Load() != 0 || !strings.Contains(answer, "503") {
		t.Errorf("%d requests were served; the answer is %q", served.Load(), answer)
	}
}

// TestMoved: a request finds the new owner, once, also with a body, and never goes in circles.
func TestMoved(t *testing.T) {
	var served atomic.Int64
	one, two := pair(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	ask := "POST " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" +
		"Content-Length: 5\r\n\r\nhello"
	// two has lost it to one, which does not know yet
	two.set(one.seat("one"), one.seat("one"))
	one.set(two.seat("two"), pool.Seat{Here: true})
	answer := one.send(t, ask)
	if !strings.HasSuffix(answer, "\r\n\r\nhello") || served.Load() != 1 {
		t.Errorf("served %d times: %q", served.Load(), answer)
	}
	// each believes that it is the other's
	one.set(two.seat("two"), two.seat("two"))
	served.Store(0)
	answer = one.send(t, ask)
	if !strings.Contains(answer, "SessionPoolOwnerChanged") || served.Load() != 0 {
		t.Errorf("served %d times: %q", served.Load(), answer)
	}
}

// TestReplaced: a request waits while nobody is there, until another server takes over.
func TestReplaced(t *testing.T) {
	one, two := pair(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	ask := "POST " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" +
		"Content-Length: 5\r\n\r\nhello"
	two.inner.Close()
	one.set(two.seat("two"), two.seat("two"))
	time.AfterFunc(300*time.Millisecond, func() {
		one.set(two.seat("two"), pool.Seat{Here: true})
	})
	if answer := one.send(t, ask); !strings.HasSuffix(answer, "\r\n\r\nhello") {
		t.Errorf("the answer is %q", answer)
	}
}

// TestDiedWithIt: a request whose server dies is answered, and not repeated.
func TestDiedWithIt(t *testing.T) {
	over := make(chan struct{})
	var served atomic.Int64
	one, _ := pair(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		served.Add(1)
		select {
		case <-over:
		case <-r.Context().Done():
		}
	}))
	defer close(over)
	one.mu.Lock()
	one.gone = "two"
	one.mu.Unlock()
	answer := one.send(t, "POST "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+
		"Content-Length: 2\r\n\r\nhi")
	if !strings.Contains(answer, "may or may not have been carried out") || served.Load() != 1 {
		t.Errorf("served %d times: %q", served.Load(), answer)
	}
}

// TestStreams: pieces arrive as they are sent, in both directions at once, with trailers.
func TestStreams(t *testing.T) {
	one, _ := pair(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "Sum")
		piece := make([]byte, 4)
		for n := 0; ; n++ {
			if _, err := io.ReadFull(r.Body, piece); err != nil {
				w.Header().Set("Sum", fmt.Sprint(n))
				return
			}
			_, _ = w.Write(bytes.ToUpper(piece))
			_ = http.NewResponseController(w).Flush()
		}
	}))
	for _, two := range []bool{false, true} {
		var p http.Protocols
		p.SetHTTP1(!two)
		p.SetUnencryptedHTTP2(two)
		tr := &http.Transport{Protocols: &p}
		pr, pw := io.Pipe()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
			one.public.URL+path, pr)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(pw, "ping") }()
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 4)
		for i := range 20 {
			if i > 0 {
				_, _ = io.WriteString(pw, "ping")
			}
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != "PING" {
				t.Fatalf("piece %d over HTTP/2 %t: %q, %v", i, two, got, err)
			}
		}
		_ = pw.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		_ = resp.Body.Close()
		if resp.Trailer.Get("Sum") != "20" {
			t.Errorf("over HTTP/2 %t: trailers %v", two, resp.Trailer)
		}
		tr.CloseIdleConnections()
	}
}

// TestUpgrade: a changed protocol passes bytes both ways until one side ends.
func TestUpgrade(t *testing.T) {
	one, _ := pair(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = both.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" +
			"Upgrade: shout\r\n\r\n")
		_ = both.Flush()
		line, _ := both.ReadString('\n')
		_, _ = both.WriteString(strings.ToUpper(line))
		_ = both.Flush()
	}))
	answer := one.send(t, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"+
		"Upgrade: shout\r\n\r\nhello\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 101") || !strings.HasSuffix(answer, "\r\n\r\nHELLO\n") {
		t.Errorf("the answer is %q", answer)
	}
}

// TestFiles: what is wrong with certificates in files is said at once.
func TestFiles(t *testing.T) {
	authority, err := peer.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ca, none := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "none.pem")
	if err := os.WriteFile(ca, []byte(authority), 0o600); err != nil {
		t.Fatal(err)
	}
	stranger, err := peer.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.pem")
	if err := os.WriteFile(other, []byte(stranger), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ cert, ca, want string }{
		{none, ca, "peers.cert and peers.key"}, {ca, none, "peers.ca"},
		{ca, other, "unknown authority"},
	} {
		if _, err := peer.FromFiles(test.cert, test.cert, test.ca); err == nil ||
			!strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test, err)
		}
	}
	if _, err := peer.FromFiles(ca, ca, ca); err != nil {
		t.Errorf("a certificate of the authority: %v", err)
	}
}

// TestSettings: each problem is named with its field.
func TestSettings(t *testing.T) {
	ok := peer.DefaultSettings()
	ok.Listen, ok.Address = ":8721", "one.example.com:8721"
	if problems := ok.Validate(true); len(problems) > 0 {
		t.Error(problems)
	}
	for want, s := range map[string]peer.Settings{
		"set store to a PostgreSQL":                  {Listen: "10.0.0.1:8721", Patience: 3e9},
		"peers.listen names no host":                 {Listen: ":8721", Patience: 3e9},
		`peers.listen is "x"`:                        {Listen: "x", Patience: 3e9},
		`peers.address is "x"`:                       {Listen: "10.0.0.1:1", Address: "x", Patience: 3e9},
		"set peers.listen as well":                   {Address: "x:1", Patience: 3e9},
		"all three, or none":                         {Cert: "a", Patience: 3e9},
		"peers.patience is 1s; use 2s to 10m0s":      {Patience: 1e9},
		`peers.cert is "a", key "b" and ca ""`:       {Cert: "a", Key: "b", Patience: 3e9},
		"host:port as other servers reach this one:": {Listen: "0.0.0.0:1", Patience: 3e9},
	} {
		shared := !strings.Contains(want, "PostgreSQL")
		if got := fmt.Sprint(s.Validate(shared)); !strings.Contains(got, want) {
			t.Errorf("%+v: %s; want %s in it", s, got, want)
		}
	}
}

// BenchmarkForward is one small request, to the owner directly and by another server.
func BenchmarkForward(b *testing.B) {
	one, two := pair(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	for _, way := range []struct {
		name string
		to   *member
	}{{"owner", two}, {"other", one}} {
		b.Run(way.name, func(b *testing.B) {
			c := &http.Client{Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			for b.Loop() {
				resp, err := c.Post(way.to.public.URL+path, "application/json",
					strings.NewReader(`{"code":"1+1"}`))
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
}
