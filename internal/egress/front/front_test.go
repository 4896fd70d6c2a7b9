package front

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/egress"
)

// The server name of TLS decides, not the address.
func TestTLS(t *testing.T) {
	w := newWorld(t, allow("*.example.com:443", "api.example.org", "8.8.8.8"))
	for _, test := range []struct{ to, name, want string }{
		{"93.184.216.34:443", "a.example.com", "yes"},
		{"93.184.216.34:443", "A.EXAMPLE.com", "yes"},
		{"93.184.216.34:443", "api.example.org", "yes"},
		{"93.184.216.34:443", "example.com", "no"},
		{"93.184.216.34:443", "evil.example.net", "no"},
		{"93.184.216.34:443", "a.example.com.evil.net", "no"},
		{"93.184.216.34:443", "", "no"},
		{"93.184.216.34:443", "93.184.216.34", "no"},
		{"8.8.8.8:443", "", "yes"},
		{"8.8.8.8:443", "whatever.example.net", "yes"},
		{"169.254.169.254:443", "a.example.com", "no"},
		{"10.0.0.1:443", "a.example.com", "no"},
	} {
		if got := w.tls(test.to, test.name); got != test.want {
			t.Errorf("%q at %s: %s", test.name, test.to, got)
		}
	}
	for _, to := range w.dials() {
		if !to.Addr().IsGlobalUnicast() || to.Addr().IsPrivate() {
			t.Errorf("%s was dialed", to)
		}
	}
	if len(w.told()) == 0 {
		t.Error("nothing is told")
	}
}

// An address that is denied is not reached by a name that is allowed, wherever the connection went.
func TestDeniedAddress(t *testing.T) {
	n := allow("a.example.com")
	n.Deny = []string{"93.184.216.0/24"}
	w := newWorld(t, n)
	if got := w.tls("8.8.4.4:443", "a.example.com"); got != "no" {
		t.Errorf("by TLS: %s", got)
	}
	const text = "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n"
	if got := w.raw("8.8.4.4:80", text, 1); got != "502" {
		t.Errorf("by HTTP: %s", got)
	}
	if len(w.dials()) > 0 || len(w.told()) != 2 ||
		!strings.Contains(w.told()[0].Reason, "deny list") {
		t.Errorf("dialed %v, refused %v", w.dials(), w.told())
	}

	// What was reached before is closed when it is denied.
	w.set(allow("a.example.com"))
	c := w.dial("8.8.4.4:80")
	_, _ = io.WriteString(c, text)
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	w.set(n)
	w.front.Recheck(netip.MustParseAddr("127.0.0.1"))
	_, err = in.ReadByte()
	if err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("a connection to a denied address goes on: %v", err)
	}
}

// What a sandbox asks for is told as a name or not at all, whatever its length.
func TestLongName(t *testing.T) {
	w := newWorld(t, allow("a.example.com"))
	if got := w.tls("93.184.216.34:443", strings.Repeat("a.", 20000)+"example.net"); got != "no" {
		t.Error("a name without an end is allowed")
	}
	if len(w.told()) != 1 || w.told()[0].Host != "93.184.216.34" {
		t.Errorf("told is %.200v", w.told())
	}
}

// A name that is denied gets nothing at an address that is allowed.
func TestDenied(t *testing.T) {
	w := newWorld(t, sandpool.Network{Deny: []string{"*.evil.example.net", "evil.example.net"}})
	for name, want := range map[string]string{"good.example.com": "yes", "": "yes", "evil.example.net": "no", "a.evil.example.net": "no"} {
		if got := w.tls("93.184.216.34:443", name); got != want {
			t.Errorf("%q: %s", name, got)
		}
	}
	for _, before := range []string{"GET", "get", "\r\nGET", "\nGET", "!", "1"} {
		got := w.raw("93.184.216.34:80", before+" / HTTP/1.1\r\nHost: evil.example.net\r\n\r\n", 1)
		if got != "403" && got != "400" {
			t.Errorf("by HTTP, %q: %s", before, got)
		}
	}
}

// A hello that hides its name, comes in pieces, or is none, gets through to no name's address.
func TestHello(t *testing.T) {
	w := newWorld(t, allow("*.example.com"))
	var hello bytes.Buffer
	_ = tls.Client(&captured{&hello}, &tls.Config{ServerName: "a.example.com", MinVersion: tls.VersionTLS12}).
		Handshake()
	good := hello.Bytes()
	if name, said := serverName(bytes.NewReader(good)); name != "a.example.com" ||
		!bytes.Equal(said, good) {
		t.Fatalf("the name is %q, and %d of %d bytes were read", name, len(said), len(good))
	}
	// An extension of encrypted client hello behind the others: its length goes into three others.
	hidden := append(append([]byte(nil), good...), 0xfe, 0x0d, 0, 1, 0)
	grow := func(at, size, by int) {
		n := 0
		for i := range size {
			n = n<<8 | int(hidden[at+i])
		}
		n += by
		for i := range size {
			hidden[at+size-1-i] = byte(n >> (8 * i))
		}
	}
	session := 43 + 1 + int(hidden[43])
	suites := session + 2 + int(hidden[session])<<8 + int(hidden[session+1])
	compression := suites + 1 + int(hidden[suites])
	for _, f := range [][2]int{{3, 2}, {6, 3}, {compression, 2}} {
		grow(f[0], f[1], 5)
	}
	if name, said := serverName(bytes.NewReader(hidden)); name != "" || len(said) != len(hidden) {
		t.Errorf(
			"with its name hidden the name is %q, %d of %d bytes",
			name,
			len(said),
			len(hidden),
		)
	}
	for what, text := range map[string][]byte{
		"hidden": hidden, "half": good[:len(good)/2], "garbage": []byte("\x16\x03\x01\xff\xff garbage"), "old": []byte("\x80\x2e\x01\x03\x01"),
		"endless": bytes.Repeat([]byte{22, 3, 1, 0, 1, 1}, 20000), "SSH": []byte("SSH-2.0-x\r\n"), "HTTP/2": []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
	} {
		c := w.dial("93.184.216.34:443")
		_, _ = c.Write(text)
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		if n := len(w.dials()); n > 0 {
			t.Fatalf("%s: a server was dialed", what)
		}
	}
	c := w.dial("93.184.216.34:443") // byte by byte
	client := tls.Client(
		&slow{c},
		&tls.Config{
			ServerName:         "a.example.com",
			InsecureSkipVerify: true,
			MinVersion:         tls.VersionTLS12,
		},
	)
	if err := client.Handshake(); err != nil {
		t.Errorf("a slow client: %v", err)
	}
}

// captured is a connection that keeps what is written and answers nothing.
type captured struct{ to io.Writer }

func (c *captured) Write(p []byte) (int, error)    { return c.to.Write(p) }
func (*captured) Read([]byte) (int, error)         { return 0, errors.New("no answer") }
func (*captured) Close() error                     { return nil }
func (*captured) LocalAddr() net.Addr              { return nil }
func (*captured) RemoteAddr() net.Addr             { return nil }
func (*captured) SetDeadline(time.Time) error      { return nil }
func (*captured) SetReadDeadline(time.Time) error  { return nil }
func (*captured) SetWriteDeadline(time.Time) error { return nil }

type slow struct{ net.Conn }

func (s *slow) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := s.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// Each request's host decides; what two parsers could read in two ways reaches no server as another
// request than the one that was allowed.
func TestHTTP(t *testing.T) {
	w := newWorld(t, allow("*.example.com:80"))
	const to = "93.184.216.34:80"
	for _, test := range []struct{ text, want string }{
		{"GET /x HTTP/1.1\r\nHost: a.example.com\r\n\r\n", "200"},
		{"GET /x HTTP/1.1\r\nHost: a.example.com:80\r\n\r\n", "200"},
		{"GET /x HTTP/1.1\r\nHost: a.example.com:8080\r\n\r\n", "403"},
		{"GET /x HTTP/1.1\r\nHost: evil.example.net\r\n\r\n", "403"},
		{"GET /x HTTP/1.1\r\nHost: 93.184.216.34\r\n\r\n", "403"},
		{"GET /x HTTP/1.1\r\n\r\n", "400"},
		{"GET /x HTTP/1.0\r\n\r\n", "403"},
		{"GET /x HTTP/1.1\r\nHost: a.example.com\r\nHost: evil.example.net\r\n\r\n", "400"},
		{"GET http://evil.example.net/x HTTP/1.1\r\nHost: a.example.com\r\n\r\n", "403"},
		{"GET a:http://evil.example.net/x HTTP/1.1\r\nHost: a.example.com\r\n\r\n", "400"},
		{"CONNECt evil.example.net:80 HTTP/1.1\r\nHost: a.example.com\r\n\r\n", "400"},
		{"CONNECT a.example.com:80 HTTP/1.1\r\nHost: a.example.com:80\r\n\r\n", "403"},
		{"GET /x HTTP/1.1\r\nHost: a.example.com\r\n\r\n" +
			"GET /x HTTP/1.1\r\nHost: evil.example.net\r\n\r\n", "200 403"},
		{"POST /x HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 4\r\n" +
			"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: evil.example.net\r\n\r\n", "200 403"},
		{"POST /x HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", "400"},
		{"POST /x HTTP/1.1\r\nHost: a.example.com\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501"},
		{"GET /x HTTP/1.1\r\nHost: a.example.com\r\nX: y\nHost: evil.example.net\r\n\r\n", "400"},
		{"GET /x HTTP/1.1\r\nHost : a.example.com\r\n\r\n", "400"},
		{"GET /x HTTP/1.1\r\nHost: a.example.com\x00.evil.example.net\r\n\r\n", "400"},
	} {
		if got := w.raw(to, test.text, len(strings.Fields(test.want))); got != test.want {
			t.Errorf("%q: %s, want %s", test.text, got, test.want)
		}
	}
	for _, r := range w.requests() {
		if strings.Contains(r, "evil") || !strings.Contains(r, " a.example.com") {
			t.Errorf("a server has got %q", r)
		}
	}
	// An upgrade to what is not seen is not passed on.
	w.raw(
		to,
		"GET /up HTTP/1.1\r\nHost: a.example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
		1,
	)
	if last := w.requests(); !strings.HasPrefix(last[len(last)-1], "GET a.example.com/up") {
		t.Errorf("the last request is %q", last[len(last)-1])
	}
}

// A change of the policy ends what it no longer allows, in the middle of a connection, and holds
// for its next request.
func TestRecheck(t *testing.T) {
	w := newWorld(t, allow("a.example.com", "b.example.com"))
	open := func(name string) *tls.Conn {
		c := tls.Client(
			w.dial("93.184.216.34:443"),
			&tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
		)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b := open("a.example.com"), open("b.example.com")
	plain := w.dial("93.184.216.34:80")
	get := func() int {
		_, _ = io.WriteString(plain, "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
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
	w.set(allow("b.example.com"))
	w.front.Recheck(netip.MustParseAddr("127.0.0.1"))
	if _, err := a.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("a connection goes on that was taken back: %v", err)
	}
	if got := get(); got != 0 {
		t.Errorf("a connection of HTTP goes on: %d", got)
	}
	if _, err := io.WriteString(b, "GET / HTTP/1.0\r\nHost: x\r\n\r\n"); err != nil {
		t.Error(err)
	}
	if answer, err := io.ReadAll(b); err != nil || !strings.Contains(string(answer), "from x") {
		t.Errorf("what is still allowed says %q, %v", answer, err)
	}
}

// A sandbox has no more connections here than its policy says.
func TestLimit(t *testing.T) {
	n := allow("a.example.com")
	n.Connections = 3
	w := newWorld(t, n)
	for range 3 {
		c := tls.Client(w.dial("93.184.216.34:443"), &tls.Config{ServerName: "a.example.com",
			InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.tls("93.184.216.34:443", "a.example.com"); got != "no" {
		t.Error("one more is open")
	}
}

// FuzzServerName reads what a sandbox sends first: nothing that is not read whole is lost for the
// server.
func FuzzServerName(f *testing.F) {
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		name, said := serverName(bytes.NewReader(data))
		if !bytes.HasPrefix(data, said) {
			t.Errorf("%d bytes were read that were not sent", len(said))
		}
		if _, err := egress.ParseName(name); name != "" && err != nil &&
			strings.ContainsAny(name, "\x00\n ") {
			t.Errorf("the name is %q", name)
		}
	})
}
