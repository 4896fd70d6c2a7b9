package proxy

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// Opcodes of RFC 6455.
const (
	more, text, binaryOp, closeOp, ping, pong byte = 0, 1, 2, 8, 9, 10
)

// frame is a client's frame with its first byte (FIN, reserved bits, opcode) as given.
func frame(first byte, payload []byte) []byte {
	b := []byte{first, 0x80}
	switch n := len(payload); {
	case n < 126:
		b[1] |= byte(n)
	case n < 1<<16:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	key := [4]byte{1, 2, 3, 4}
	b = append(b, key[:]...)
	for i, c := range payload {
		b = append(b, c^key[i%4])
	}
	return b
}

const fin = 0x80

func closeFrame(code int, reason string) []byte {
	return frame(fin|closeOp, append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...))
}

// A frameCase is what a client sends after its handshake, in the groups of Autobahn's test suite.
type frameCase struct {
	name string
	send []byte
	// chop is the size of the pieces in which it is sent; zero means as one.
	chop int
	// deflate is how the client offers to compress (RFC 7692); empty means not at all.
	deflate string
}

func frameCases() (cases []frameCase) {
	add := func(name string, frames ...[]byte) {
		cases = append(cases, frameCase{name: name, send: bytes.Join(frames, nil)})
	}
	chopped := func(name string, chop int, frames ...[]byte) {
		cases = append(cases, frameCase{name: name, send: bytes.Join(frames, nil), chop: chop})
	}
	x := func(n int) []byte { return bytes.Repeat([]byte("*"), n) }
	bye := closeFrame(1000, "")
	// 1: sizes
	for _, op := range []byte{text, binaryOp} {
		for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536} {
			add(fmt.Sprintf("1 op %d, %d bytes", op, n), frame(fin|op, x(n)), bye)
		}
		chopped(fmt.Sprintf("1 op %d in pieces of 997", op), 997, frame(fin|op, x(65536)), bye)
	}
	// 2: pings and pongs
	add("2.1", frame(fin|ping, nil), bye)
	add("2.2", frame(fin|ping, []byte("hello")), bye)
	add("2.3", frame(fin|ping, []byte{0, 255, 254, 253, 0}), bye)
	add("2.4", frame(fin|ping, x(125)), bye)
	add("2.5 too long", frame(fin|ping, x(126)), bye)
	chopped("2.6 byte by byte", 1, frame(fin|ping, x(125)), bye)
	add("2.7 pong unasked", frame(fin|pong, nil), bye)
	add("2.9 pong, then ping", frame(fin|pong, []byte("a")), frame(fin|ping, []byte("b")), bye)
	add("2.10 ten pings", bytes.Repeat(frame(fin|ping, []byte("p")), 10), bye)
	// 3: reserved bits
	for _, rsv := range []byte{0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70} {
		for _, op := range []byte{text, binaryOp, ping, closeOp} {
			add(fmt.Sprintf("3 bits %x of op %d", rsv, op), frame(fin|text, x(3)),
				frame(fin|rsv|op, x(2)), frame(fin|ping, nil))
		}
	}
	// 4: reserved opcodes
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		add(fmt.Sprintf("4 op %d", op), frame(fin|text, x(3)), frame(fin|op, x(2)),
			frame(fin|ping, nil))
	}
	// 5: fragments
	add("5.1 ping in fragments", frame(ping, x(2)), frame(fin|more, x(2)))
	add("5.2 pong in fragments", frame(pong, x(2)), frame(fin|more, x(2)))
	add("5.3", frame(text, x(2)), frame(fin|more, x(2)), bye)
	add("5.6 ping between", frame(text, x(2)), frame(fin|ping, []byte("p")), frame(fin|more, x(2)),
		bye)
	add("5.9 continues nothing", frame(fin|more, x(2)), frame(fin|text, x(2)))
	add("5.15", frame(text, x(1)), frame(fin|more, x(1)), frame(more, x(1)), frame(fin|text, x(1)))
	add("5.18 two beginnings", frame(text, x(2)), frame(fin|text, x(2)))
	add("5.19 many", frame(text, x(1)), bytes.Repeat(frame(more, x(1)), 100), frame(fin|more, nil),
		bye)
	// 6: text that is and is not UTF-8
	for i, s := range []string{"\u03ba\u1f79\u03c3\u03bc\u03b5",
		"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited", "\x00",
		"\xf0\x90\x80\x80", "\xed\xa0\x80", "\xf8\x88\x80\x80\x80", "\xc0\xaf", "\xff",
		"\xef\xbf\xbf", "\xc3"} {
		add(fmt.Sprintf("6.%d", i), frame(fin|text, []byte(s)), bye)
		chopped(fmt.Sprintf("6.%d byte by byte", i), 1, frame(fin|text, []byte(s)), bye)
		add(fmt.Sprintf("6.%d in fragments", i), frame(text, []byte(s[:1])),
			frame(fin|more, []byte(s[1:])), bye)
	}
	// 7: closing
	for _, code := range []int{0, 999, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009,
		1010, 1011, 1012, 1015, 1016, 1100, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 65535} {
		add(fmt.Sprintf("7 code %d", code), closeFrame(code, "why"))
	}
	add("7.1 text after close", bye, frame(fin|text, x(3)))
	add("7.1 two closes", bye, bye)
	add("7.3 empty", frame(fin|closeOp, nil))
	add("7.3 one byte", frame(fin|closeOp, x(1)))
	add("7.3 longest reason", closeFrame(1000, string(x(123))))
	add("7.3 too long", closeFrame(1000, string(x(124))))
	add("7.5 reason is no UTF-8", closeFrame(1000, "\xff\xff"))
	// 9 and 10: large ones
	for _, n := range []int{1 << 18, 1 << 20, 4 << 20} {
		add(fmt.Sprintf("9 %d bytes", n), frame(fin|binaryOp, x(n)), bye)
		add(fmt.Sprintf("9 %d bytes in fragments", n), frame(binaryOp, x(n/4)), frame(more, x(n/4)),
			frame(more, x(n/4)), frame(fin|more, x(n/4)), bye)
		chopped(fmt.Sprintf("9 %d bytes in pieces", n), 16411, frame(fin|text, x(n)), bye)
	}
	add("9 many small ones", bytes.Repeat(frame(fin|text, x(64)), 2000), bye)
	// Without a mask, and noise.
	add("unmasked", []byte{fin | text, 2, 'h', 'i'})
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 64 {
		noise := make([]byte, 1+r.IntN(400))
		for i := range noise {
			noise[i] = byte(r.Uint32())
		}
		add(fmt.Sprintf("noise %d", i), frame(fin|text, x(3)), noise)
	}
	return append(cases, deflateCases()...)
}

// deflateCases are Autobahn's groups 12 and 13, and what is wrong with compressed messages.
func deflateCases() (cases []frameCase) {
	const first = 0x40 // the reserved bit that says so
	bye := closeFrame(1000, "")
	for _, offer := range []string{"permessage-deflate",
		"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
		"permessage-deflate; client_max_window_bits",
		"permessage-deflate; unknown=1, permessage-deflate; client_no_context_takeover"} {
		add := func(name string, chop int, frames ...[]byte) {
			cases = append(cases, frameCase{fmt.Sprintf("12 %q, %s", offer, name),
				bytes.Join(frames, nil), chop, offer})
		}
		for _, n := range []int{0, 16, 64, 256, 1 << 10, 4 << 10, 32 << 10, 128 << 10} {
			small := deflated(n)
			add(fmt.Sprintf("%d bytes", n), 0, bytes.Repeat(frame(fin|first|text, small), 10), bye)
			add(fmt.Sprintf("%d bytes in pieces", n), 97, frame(fin|first|binaryOp, small), bye)
			add(fmt.Sprintf("%d bytes in fragments", n), 0, frame(first|text, small[:1]),
				frame(fin|ping, nil), frame(fin|more, small[1:]), bye)
		}
		plain := []byte("not compressed")
		add("plain between", 0, frame(fin|text, plain), frame(fin|first|text, deflated(64)), bye)
		add("no deflate", 0, frame(fin|first|text, plain), bye)
		add("bit on a later fragment", 0, frame(text, plain), frame(fin|first|more, plain), bye)
		add("bit on a ping", 0, frame(fin|first|ping, plain), bye)
	}
	return cases
}

// deflated is a message of n bytes of text as it is sent compressed.
func deflated(n int) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err == nil {
		_, err = io.WriteString(w, strings.Repeat(`{"id":17,"name":"chat"},`, n/24+1)[:n])
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		panic(err) // a buffer takes everything
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff})
}

// play sends a case to a server at addr and returns every byte that comes back after the handshake.
func (c frameCase) play(t *testing.T, network, addr string) []byte {
	t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = io.WriteString(conn,
		"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+
			"Sec-WebSocket-Extensions: "+c.deflate+"\r\n\r\n")
	r := bufio.NewReader(conn)
	tp := textproto.NewReader(r)
	if line, err := tp.ReadLine(); err != nil || line != "HTTP/1.1 101 Switching Protocols" {
		t.Fatalf("%q, %v", line, err)
	}
	if h, err := tp.ReadMIMEHeader(); err != nil ||
		h.Get("Sec-Websocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" ||
		(c.deflate == "") != (h.Get("Sec-Websocket-Extensions") == "") {
		t.Fatalf("%v, %v", h, err)
	}
	go func() {
		for rest := c.send; len(rest) > 0; {
			n := len(rest)
			if c.chop > 0 {
				n = min(n, c.chop)
			}
			if _, err := conn.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
		// A server that waits for the rest of something is told that there is none.
		_ = closeWrite(conn)
	}()
	got, _ := io.ReadAll(r)
	return got
}

// TestWebSocketFrames: a conversation by WebSocket, right or wrong, has the same bytes through the
// proxy as without it.
func TestWebSocketFrames(t *testing.T) {
	c := newContainer(t)
	c.serve(8080, http.HandlerFunc(echo))
	p := New(Options{})
	t.Cleanup(p.Close)
	srv := front(t, p, c, Target{Port: 8080})
	cases := frameCases()
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			direct := test.play(t, "unix", c.socket(8080))
			through := test.play(t, "tcp", srv.Listener.Addr().String())
			if len(direct) == 0 && strings.HasPrefix(test.name, "1 ") ||
				!bytes.Equal(direct, through) {
				t.Errorf("%d bytes, not %d: %.100q, not %.100q", len(through), len(direct), through,
					direct)
			}
		})
	}
	waitUntil(t, func() bool { calls, busy := p.holds(); return calls == 0 && busy == 0 })
	t.Logf("%d cases", len(cases))
}
