package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// ask sends raw bytes to a server and returns all that comes back until it closes the connection.
func ask(t *testing.T, addr, raw string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatal(err)
	}
	all, _ := io.ReadAll(conn)
	return string(all)
}

// An answer that is no HTTP, or that two readers could understand in two ways, is not handed on.
func TestHostileAnswers(t *testing.T) {
	long := strings.Repeat("a", 100<<10)
	for name, answer := range map[string]string{
		"no HTTP":               "SSH-2.0-OpenSSH_9.2\r\n\r\n",
		"HTTP/0.9":              "<html>hello</html>\r\n\r\n",
		"HTTP/2 status line":    "HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"two versions":          "HTTP/1.1HTTP/1.1 200 OK\r\n\r\n",
		"status of two digits":  "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
		"status of four digits": "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
		"status with a sign":    "HTTP/1.1 +20 OK\r\nContent-Length: 2\r\n\r\nok",
		"status 000":            "HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok",
		"NUL in the reason":     "HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\nok",
		"two lengths": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: " +
			"20\r\n\r\nok",
		"list of lengths":       "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
		"length with a sign":    "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
		"negative length":       "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
		"length in hexadecimal": "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
		"length too large":      "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
		"empty length":          "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok",
		"length and chunked": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: " +
			"chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"chunked twice": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" +
			"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"gzip, chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" +
			"0\r\n\r\n",
		"vertical tab chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n",
		"identity": "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n" +
			"Content-Length: 2\r\n\r\nok",
		"chunked HTTP/1.0":  "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"bare CR":           "HTTP/1.1 200 OK\r\nA: b\rContent-Length: 2\r\n\r\nok",
		"NUL in a value":    "HTTP/1.1 200 OK\r\nA: b\x00c\r\nContent-Length: 2\r\n\r\nok",
		"folded line":       "HTTP/1.1 200 OK\r\nA: b\r\n Content-Length: 2\r\n\r\nok",
		"folded first line": "HTTP/1.1 200 OK\r\n A: b\r\nContent-Length: 2\r\n\r\nok",
		"no colon":          "HTTP/1.1 200 OK\r\nSet-Cookie\r\nContent-Length: 2\r\n\r\nok",
		"space in a name":   "HTTP/1.1 200 OK\r\nSet Cookie: a\r\nContent-Length: 2\r\n\r\nok",
		"empty name":        "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 2\r\n\r\nok",
		"head without end":  "HTTP/1.1 200 OK\r\nA: " + long + "\r\n\r\n",
		"many fields": "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 20000) +
			"\r\n",
		"many informational heads": strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 1000) +
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"unasked 101": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" +
			"Connection: Upgrade\r\n\r\nGET /",
		"nothing":     "",
		"half a head": "HTTP/1.1 200 OK\r\nContent-",
	} {
		t.Run(name, func(t *testing.T) {
			c := newContainer(t)
			c.answers(8080, answer)
			p := New(Options{})
			t.Cleanup(p.Close)
			srv := front(t, p, c, Target{Port: 8080})
			got := ask(t, srv.Listener.Addr().String(),
				"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			// Informational heads are handed on, up to a bound.
			for strings.HasPrefix(got, "HTTP/1.1 103") {
				_, got, _ = strings.Cut(got, "\r\n\r\n")
			}
			resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
			if err != nil {
				t.Fatalf("%v in %q", err, got)
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusBadGateway ||
				resp.Header.Get("X-Ms-Error-Code") == "" {
				t.Errorf("%q", got)
			}
		})
	}
}

// A body that breaks off or is framed wrongly is cut for the caller too: nobody takes it for a
// whole one.
func TestHostileBodies(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	for name, answer := range map[string]string{
		"short":                   "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok",
		"short chunk":             head + "a\r\nok",
		"no last chunk":           head + "2\r\nok\r\n",
		"chunk longer than said":  head + "2\r\nokay\r\n0\r\n\r\n",
		"size with a sign":        head + "+2\r\nok\r\n0\r\n\r\n",
		"size with 0x":            head + "0x2\r\nok\r\n0\r\n\r\n",
		"size with a space":       head + " 2\r\nok\r\n0\r\n\r\n",
		"size with an underscore": head + "1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
		"huge size":               head + "ffffffffffffffff1\r\nok\r\n0\r\n\r\n",
		"empty size":              head + "\r\nok\r\n0\r\n\r\n",
		"bare LF":                 head + "2\nok\n0\n\n",
		"bare LF in an extension": head + "2;a\nGET / HTTP/1.1\r\nok\r\n0\r\n\r\n",
		"CR in an extension":      head + "2;a\rb\r\nok\r\n0\r\n\r\n",
		"endless extension": head + "2;" + strings.Repeat("a", 10<<10) +
			"\r\nok\r\n0\r\n\r\n",
		"trailers without end": head + "2\r\nok\r\n0\r\n" + strings.Repeat("A: b\r\n", 50000) +
			"\r\n",
		"trailer that is no field": head + "2\r\nok\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n",
		"trailer with a bare CR":   head + "2\r\nok\r\n0\r\nA: b\rC: d\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := newContainer(t)
			c.answers(8080, answer)
			p := New(Options{})
			t.Cleanup(p.Close)
			srv := front(t, p, c, Target{Port: 8080})
			got := ask(t, srv.Listener.Addr().String(),
				"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			if got == "" {
				return // cut before anything was sent
			}
			resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
			if err != nil {
				t.Fatalf("%v in %q", err, got)
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("the body looks whole: %q", body)
			}
		})
	}
}

// What a container sends beyond its answer is no answer to anybody's next request.
func TestAnswerBeyondAnswer(t *testing.T) {
	c := newContainer(t)
	c.serveRaw(8080, func(conn net.Conn) {
		defer conn.Close()
		r := bufio.NewReader(conn)
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst"+
				"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nplanted")
		}
	})
	p := New(Options{})
	t.Cleanup(p.Close)
	srv := front(t, p, c, Target{Port: 8080})
	for range 5 {
		resp, err := http.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != "first" {
			t.Fatalf("%q", body)
		}
	}
}

// FuzzHead: whatever a container sends as a head is refused or has one meaning: written out and
// read again, it says the same.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "HTTP/1.0 200\r\n\r\n",
		"HTTP/1.1 200 OK\nA : b\nTransfer-Encoding: chunked\n\n",
		"HTTP/1.1 101 X\r\nConnection: close, Upgrade\r\nUpgrade: a/1\r\n\r\n",
		"HTTP/1.1 200 \r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		end := headEnd(data, 0)
		if end == 0 {
			return
		}
		var h, again head
		if h.parse(string(data[:end])) != nil {
			return
		}
		out := http.Header{}
		h.copyTo(out, Target{})
		for name, values := range out {
			if err := checkField(name, values); err != nil {
				t.Fatalf("%q gives the field %q: %v", data, name, err)
			}
		}
		text := "HTTP/1.1 200 OK\r\n"
		for i := 0; i < len(h.fields); i += 2 {
			text += h.fields[i] + ": " + h.fields[i+1] + "\r\n"
		}
		if h.http10 {
			return
		}
		if err := again.parse(text + "\r\n"); err != nil || again.length != h.length ||
			again.chunked != h.chunked || again.close != h.close {
			t.Fatalf("%q: %+v, then %+v, %v", data, h, again, err)
		}
		if n := headEnd([]byte(text+"\r\n"), 0); n != len(text)+2 {
			t.Fatalf("%q: a field ends the head", data)
		}
	})
}
