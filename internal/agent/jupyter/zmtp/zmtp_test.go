package zmtp

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

// greeting is what a peer of version 3 says first, as libzmq 4.3 does.
func greeting(minor byte) []byte {
	g := make([]byte, greetingSize)
	g[0], g[8], g[9], g[10], g[11] = 0xff, 1, 0x7f, 3, minor
	copy(g[12:], mechanism)
	return append(g, ready("ROUTER", "")...)
}

// scripted is a peer that says what it is told and keeps what it hears.
func scripted(t testing.TB, says []byte) (net.Conn, *bytes.Buffer, <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var heard bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(&heard, far)
	}()
	go func() {
		_, _ = far.Write(says)
		_ = far.(*net.TCPConn).CloseWrite()
	}()
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return near, &heard, done
}

// Messages come as their parts, whatever stands between them.
func TestReceive(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 3<<20)
	says := greeting(1)
	says = appendFrame(says, flagMore, []byte("a"))
	says = appendFrame(says, flagMore, nil)
	says = appendFrame(says, 0, long)
	says = appendFrame(says, flagCommand, []byte("\x04PING\x00\x0actx"))
	says = appendFrame(says, 0, []byte("last"))
	conn, heard, done := scripted(t, says)
	c, err := New(conn, Sub, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][][]byte{{[]byte("a"), {}, long}, {[]byte("last")}} {
		got, err := c.Receive()
		if err != nil || !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%d parts, %v; want %d", len(got), err, len(want))
		}
	}
	if _, err := c.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	_ = c.Close()
	<-done
	for _, want := range []string{"\x0bSocket-Type\x00\x00\x00\x03SUB", "\x00\x01\x01", "\x04PONGctx"} {
		if !strings.Contains(heard.String(), want) {
			t.Errorf("the peer heard %q, without %q", heard, want)
		}
	}
}

// Two ends of ours understand each other.
func TestSend(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	got := make(chan [][]byte, 1)
	go func() {
		defer close(got)
		// The greeting of a pipe waits for its reader, so it is sent beside.
		go func() { _, _ = far.Write(greeting(0)) }()
		c := &Conn{conn: far, r: newReader(far)}
		if err := c.greeted(); err != nil {
			t.Error(err)
			return
		}
		m, err := c.Receive()
		if err != nil {
			t.Error(err)
		}
		got <- m
	}()
	c, err := New(near, Dealer, "me")
	if err != nil {
		t.Fatal(err)
	}
	want := [][]byte{[]byte("<IDS|MSG>"), bytes.Repeat([]byte("y"), 300), {}}
	if err := c.Send(want...); err != nil {
		t.Fatal(err)
	}
	if m := <-got; !slices.EqualFunc(m, want, bytes.Equal) {
		t.Errorf("%q", m)
	}
}

// A peer that does not keep to the protocol, or sends more than there is room for, is an error.
func TestHostile(t *testing.T) {
	tooLong := append(greeting(0), flagLong, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	many := greeting(0)
	for range MaxParts + 1 {
		many = appendFrame(many, flagMore, nil)
	}
	plain := greeting(0)
	copy(plain[12:], "PLAIN")
	for name, says := range map[string][]byte{
		"nothing": nil, "old": append([]byte{0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 1}, make([]byte, 80)...),
		"HTTP": []byte("HTTP/1.1 400 Bad Request\r\n\r\n" + strings.Repeat(" ", 64)), "PLAIN": plain,
		"not ready": appendFrame(greeting(0)[:greetingSize], flagCommand, []byte("\x05ERROR\x02no")),
		"flags":     append(greeting(0), 0x40, 0), "long": tooLong, "many": many,
		"large command": appendFrame(greeting(0), flagCommand, make([]byte, maxCommand+1)),
		"half a frame":  append(greeting(0), 0, 9, 'x'),
		"error":         appendFrame(greeting(0), flagCommand, []byte("\x05ERROR\x02no")),
	} {
		conn, _, _ := scripted(t, says)
		c, err := New(conn, Dealer, "")
		if err == nil {
			_, err = c.Receive()
		}
		if err == nil || errors.Is(err, io.EOF) && name != "nothing" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReceive: whatever a peer sends ends, in messages or in an error, within the bounds.
func FuzzReceive(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, flagMore, []byte("a")), 0, bytes.Repeat([]byte("b"), 300)))
	f.Add(appendFrame(nil, flagCommand, []byte("\x04PING\x00\x00")))
	f.Add([]byte{flagLong, 0, 0, 0, 0, 0, 0, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, says []byte) {
		c := &Conn{conn: deaf{}, r: newReader(bytes.NewReader(says))}
		for {
			parts, err := c.Receive()
			if err != nil {
				return
			}
			size := 0
			for _, p := range parts {
				size += len(p)
			}
			if len(parts) == 0 || len(parts) > MaxParts || size > len(says) {
				t.Fatalf("%d parts of %d bytes from %d", len(parts), size, len(says))
			}
		}
	})
}

// deaf takes what is written.
type deaf struct{ net.Conn }

func (deaf) Write(p []byte) (int, error) { return len(p), nil }
