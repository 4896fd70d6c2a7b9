package proxy

import (
	"bufio"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A message is a request or an answer as it was on the wire, less what may differ without meaning
// anything: the order of fields of different names, and how a body is framed.
type message struct {
	First    string
	Fields   map[string][]string
	Body     string
	Trailers map[string][]string
}

// readMessage reads one message with its body. An answer to HEAD has none.
func readMessage(r *bufio.Reader, bodyless bool) (m message, err error) {
	tp := textproto.NewReader(r)
	if m.First, err = tp.ReadLine(); err != nil {
		return m, err
	}
	h, err := tp.ReadMIMEHeader()
	if err != nil {
		return m, err
	}
	m.Fields = h
	status, _, _ := strings.Cut(strings.TrimPrefix(m.First, "HTTP/1.1 "), " ")
	var body io.Reader = strings.NewReader("")
	chunked := false
	switch {
	case bodyless || slices.Contains([]string{"204", "304"}, status) ||
		strings.HasPrefix(status, "1") && len(status) == 3:
	case h.Get("Transfer-Encoding") == "chunked":
		body, chunked = httputil.NewChunkedReader(r), true
	case h.Get("Content-Length") != "":
		n, _ := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
		body = io.LimitReader(r, n)
		h.Del("Content-Length")
	case strings.HasPrefix(m.First, "HTTP/"):
		body = r
	}
	text, err := io.ReadAll(body)
	m.Body = string(text)
	h.Del("Transfer-Encoding")
	if err == nil && chunked {
		var trailers textproto.MIMEHeader
		trailers, err = tp.ReadMIMEHeader()
		m.Trailers = trailers
	}
	return m, err
}

// without removes fields by which the ways are known to differ.
func (m message) without(names ...string) message {
	m.Fields = maps.Clone(m.Fields)
	for _, n := range names {
		delete(m.Fields, n)
	}
	if len(m.Trailers) == 0 {
		m.Trailers = nil
	}
	if len(m.Fields) == 0 {
		m.Fields = nil
	}
	return m
}

// seen is one exchange: what arrived at the container, and what came back.
type seen struct {
	request message
	answers []message
}

// exchangeBy sends raw by way of addr to a container that answers answer.
func exchangeBy(t *testing.T, network, addr, raw string, arrived <-chan message) seen {
	t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	var s seen
	r := bufio.NewReader(conn)
	for {
		m, err := readMessage(r, strings.HasPrefix(raw, "HEAD "))
		if err != nil {
			t.Fatalf("by %s: %v after %+v", network, err, m)
		}
		s.answers = append(s.answers, m)
		if !strings.HasPrefix(m.First, "HTTP/1.1 1") {
			break
		}
	}
	s.request = <-arrived
	return s
}

// compared are exchanges whose messages are to be the same without a proxy, through nginx and
// through ours, but for what a case names.
var compared = []struct {
	name, request, answer string
	// nginx says what it does differently, and is then not compared.
	nginx string
}{
	{name: "a plain request",
		request: "GET /hello HTTP/1.1\r\nHost: pool.example\r\nUser-Agent: test/1\r\nAccept: " +
			"*/*\r\n\r\n",
		answer: "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nServer: " +
			"mine/1\r\nDate: Sun, 01 Nov 2026 00:00:00 GMT\r\n\r\nhello"},
	{name: "a path with everything",
		request: "GET //a//../b/./c%2Fd%2f%41/;p=1;q/:@!$&'()*+,=~/%E2%82%AC/\"<>^`{|}/ " +
			"HTTP/1.1\r\nHost: x\r\n\r\n"},
	{name: "bytes beyond ASCII in a path",
		request: "GET /caf\xc3\xa9/\xff HTTP/1.1\r\nHost: x\r\n\r\n"},
	{name: "a query with everything",
		request: "GET /?identifier=chat-42&a;b=c;d&api-version=1&x=%zz&%&+&&=?/?#[]\"|\\^` " +
			"HTTP/1.1\r\nHost: x\r\n\r\n",
		nginx: "it cuts a query at #"},
	{name: "an empty query",
		request: "GET /a? HTTP/1.1\r\nHost: x\r\n\r\n"},
	{name: "fields that come twice, empty, long, with odd names and values",
		request: "GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nB:\r\nA: 2\r\nA: 3, 4\r\nC: \xc3\xa9\xff " +
			"\"q\" ,;=\r\nX_Under: 1\r\n!#$%&'*+-.^_`|~9: odd\r\nLong: " +
			strings.Repeat("v", 6000) + "\r\n\r\n"},
	{name: "cookies and conditions",
		request: "GET / HTTP/1.1\r\nHost: x\r\nCookie: a=1; b=\"2\";c\r\nIf-None-Match: " +
			"W/\"x\"\r\nIf-Modified-Since: Sun, 01 Nov 2026 00:00:00 GMT\r\nRange: bytes=0-4\r\n\r\n",
		answer: "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/10\r\nContent-Length: " +
			"5\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2; Secure\r\nETag: W/\"x\"\r\nVary: A\r\nVary: B\r\n\r\nhello"},
	{name: "hop-by-hop fields",
		request: "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nKeep-Alive: " +
			"timeout=5\r\nAccept: a\r\n\r\n",
		answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\nKeep-Alive: " +
			"timeout=5\r\n\r\n"},
	{name: "fields that Connection names",
		request: "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n" +
			"Accept: a\r\n\r\n",
		answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: X-Back\r\nX-Back: 1\r\n\r\n",
		nginx:  "it does not look into Connection"},
	{name: "HEAD",
		request: "HEAD /file HTTP/1.1\r\nHost: x\r\n\r\n",
		answer:  "HTTP/1.1 200 OK\r\nContent-Length: 123456\r\nContent-Type: image/png\r\n\r\n"},
	{name: "OPTIONS",
		request: "OPTIONS /file HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\n" +
			"Access-Control-Request-Method: PUT\r\n\r\n",
		answer: "HTTP/1.1 204 No Content\r\nAllow: GET, PUT\r\nAccess-Control-Allow-Origin: " +
			"*\r\n\r\n"},
	{name: "a method of one's own",
		request: "PROPFIND /dav HTTP/1.1\r\nHost: x\r\nDepth: 1\r\n\r\n"},
	{name: "lower-case method", request: "get / HTTP/1.1\r\nHost: x\r\n\r\n",
		nginx: "it refuses the method"},
	{name: "a body with a length",
		request: "POST /p HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" +
			"Content-Length: 9\r\n\r\n{\"a\":\"b\"}"},
	{name: "an empty body with a length",
		request: "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"},
	{name: "a body of GET", request: "GET /p HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok"},
	{name: "a long body with a length",
		request: "PUT /p HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" +
			strings.Repeat("x", 300000)},
	{name: "a chunked body",
		request: "POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n" +
			"1;ext=1\r\n!\r\n0\r\n\r\n"},
	{name: "a chunked body with trailers",
		request: "POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n" +
			"\r\n5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n",
		nginx: "it drops trailers"},
	{name: "a chunked answer",
		answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7;a=b\r\n, " +
			"world\r\n0\r\n\r\n"},
	{name: "a chunked answer with trailers",
		request: "GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE\r\n\r\n",
		answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\n" +
			"hello\r\n0\r\nX-Sum: 7\r\nX-Late: 8\r\n\r\n",
		nginx: "it drops trailers"},
	{name: "an answer that ends with its connection",
		answer: "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello until the end"},
	{name: "an answer of HTTP/1.0",
		answer: "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nold"},
	{name: "lines that end with LF alone", answer: "HTTP/1.1 200 OK\nContent-Length: 2\nA: b\n\nok",
		nginx: "the same, but the peer without a proxy cannot"},
	{name: "an answer without a type",
		answer: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"},
	{name: "204", answer: "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"},
	{name: "304", answer: "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nCache-Control: " +
		"max-age=5\r\n\r\n"},
	{name: "a redirect", answer: "HTTP/1.1 302 Found\r\nLocation: /next?a=b\r\nContent-Length: " +
		"0\r\n\r\n"},
	{name: "a challenge", answer: "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic " +
		"realm=\"a\"\r\nContent-Length: 2\r\n\r\nno"},
	{name: "409", answer: "HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\n" +
		"Content-Length: 2\r\n\r\n{}"},
	{name: "500", answer: "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops"},
	{name: "early hints",
		answer: "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 " +
			"OK\r\nContent-Length: 2\r\nB: c\r\n\r\nok",
		nginx: "it drops informational answers"},
	{name: "expectation", request: "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" +
		"Content-Length: 2\r\n\r\nok",
		answer: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		nginx:  "it answers expectations itself"},
}

// TestCompare: what arrives and what comes back is the same through the proxy as without it, and as
// through nginx, byte for byte, but for the fields that the proxy's documentation names.
func TestCompare(t *testing.T) {
	for _, test := range compared {
		t.Run(test.name, func(t *testing.T) {
			c := newContainer(t)
			arrived := make(chan message, 1)
			c.serveRaw(8080, func(conn net.Conn) {
				defer conn.Close()
				m, err := readMessage(bufio.NewReader(conn), false)
				if err != nil {
					return
				}
				arrived <- m
				answer := test.answer
				if answer == "" {
					answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
				}
				_, _ = io.WriteString(conn, answer)
			})
			request := test.request
			if request == "" {
				request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
			}
			p := New(Options{})
			t.Cleanup(p.Close)
			srv := front(t, p, c, Target{Port: 8080})
			direct := exchangeBy(t, "unix", c.socket(8080), request, arrived)
			ours := exchangeBy(t, "tcp", srv.Listener.Addr().String(), request, arrived)
			compare(t, "sandpool", direct, ours)
			if test.nginx == "" {
				compare(t, "nginx", direct, exchangeBy(t, "tcp", nginx(t, c.socket(8080)), request,
					arrived))
			}
		})
	}
}

func compare(t *testing.T, by string, direct, through seen) {
	t.Helper()
	hop := []string{"Connection", "Keep-Alive", "X-Hop", "X-Back", "Trailer", "Te"}
	added := append(hop, "Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host")
	if diff := cmp.Diff(direct.request.without(hop...), through.request.without(added...)); diff !=
		"" {
		t.Errorf("what arrives through %s differs (-direct +through):\n%s", by, diff)
	}
	for _, s := range []*seen{&direct, &through} {
		for i, m := range s.answers {
			m.First = strings.Replace(m.First, "HTTP/1.0", "HTTP/1.1", 1)
			s.answers[i] = m.without(append(hop, "X-Ms-Request-Id", "Date", "Server")...)
		}
	}
	if diff := cmp.Diff(direct.answers, through.answers); diff != "" {
		t.Errorf("what comes back through %s differs (-direct +through):\n%s", by, diff)
	}
}

// What the container must not see is gone, and what tells it of its caller cannot be forged.
func TestWhatIsTakenOut(t *testing.T) {
	arrived := make(chan http.Header, 1)
	srv, _ := newFront(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- r.Header
	}))
	raw := "GET / HTTP/1.1\r\nHost: pool.example\r\nConnection: close, X-Forwarded-For, " +
		"Forwarded\r\n" +
		"Authorization: Bearer secret\r\nProxy-Authorization: Basic secret\r\nX-Ms-Apikey: " +
		"secret\r\nX_Ms_Apikey: secret\r\n" +
		"X-Ms-Session-Identifier: secret\r\nCookie: a=1; sandpool-session=secret; b=2\r\nCookie: " +
		"__Host-sandpool-session=secret\r\n" +
		"Forwarded: for=forged\r\nX-Forwarded-For: forged\r\nX_Forwarded_For: forged\r\n" +
		"X-Forwarded_For: forged\r\nX-Forwarded-User: forged\r\n" +
		"X-Forwarded-Prefix: forged\r\nX-Real-Ip: forged\r\nX-Real_Ip: forged\r\nX-Original-Url: " +
		"/forged\r\nX-Rewrite-Url: /forged\r\nX-Sandpool-Pool: forged\r\n" +
		"Upgrade: h2c\r\nHTTP2-Settings: AAA\r\nTe: gzip\r\nProxy-Connection: keep-alive\r\n\r\n"
	if got := ask(t, srv.Listener.Addr().String(), raw); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Fatal(got)
	}
	want := http.Header{"Cookie": {"a=1; b=2"},
		"Forwarded":       {`for=127.0.0.1;host="pool.example";proto=http`},
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"pool.example"},
		"X-Forwarded-Proto": {"http"}}
	if diff := cmp.Diff(want, <-arrived); diff != "" {
		t.Error(diff)
	}
}
