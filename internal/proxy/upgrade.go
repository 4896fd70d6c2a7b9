package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// switchProtocols hands a 101 on and from then on bytes, both ways.
func (x *exchange) switchProtocols(stop func() bool) error {
	st := x.st
	defer x.s.drop(st)
	if !strings.EqualFold(x.head.get("Upgrade"), x.upgrade) {
		return x.s.why(x.t.Port, badAnswer("it changes to %q instead of %q",
			clip(x.head.get("Upgrade")), x.upgrade))
	}
	h := x.w.Header()
	x.head.copyTo(h, x.t)
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{x.upgrade}
	caller, err := takeOver(x.w)
	if err != nil {
		return err
	}
	defer caller.Close()
	if !stop() {
		return nil // the caller has gone
	}
	x.started = true
	if !x.s.hold(caller) {
		return nil
	}
	defer x.s.let(caller)
	// the write will tell what is wrong
	_ = caller.SetWriteDeadline(time.Now().Add(x.p.options.Stall))
	if _, err := caller.Write(switchHead(h)); err != nil {
		return nil // the caller has gone
	}
	begun(x.hold)
	st.unpin()
	ahead := append([]byte(nil), st.buffered()...)
	x.p.pump(caller, &buffered{Conn: st.Conn, ahead: ahead}, x.t.Idle)
	return nil
}

// switchHead is a 101 as it is written to a caller's connection.
func switchHead(h http.Header) []byte {
	var b strings.Builder
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	for name, values := range h {
		for _, v := range values {
			b.WriteString(name + ": " + v + "\r\n")
		}
	}
	b.WriteString("\r\n")
	return []byte(b.String())
}

// A buffered is a connection of which something has been read ahead.
type buffered struct {
	net.Conn
	ahead []byte
}

// Read implements net.Conn.
func (c *buffered) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
			c.ahead = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// CloseWrite ends what is written. What cannot end one direction ends both.
func (c *buffered) CloseWrite() error { return closeWrite(c.Conn) }

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// takeOver takes the caller's connection from the server, with what it has read of it.
func takeOver(w http.ResponseWriter) (*buffered, error) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, refuse("Upgrade",
			"The protocol cannot be changed on this connection; use HTTP/1.1.")
	}
	c := &buffered{Conn: conn}
	if n := rw.Reader.Buffered(); n > 0 {
		c.ahead = make([]byte, n)
		_, err = io.ReadFull(rw.Reader, c.ahead)
	}
	return c, errors.Join(err, conn.SetDeadline(time.Time{}))
}

// pump copies both ways until both have ended, one has failed, or nothing has flowed for idle
// (zero: for ever). It closes both connections.
//
//	caller    container
//	ends      is told so, and goes on              (half-close)
//	fails     is closed
//	is told   ends, and the caller goes on         (half-close)
//	is told   fails, and the caller has linger left
//
// A caller that still sends when its connection is closed would lose what it has not yet read: the
// kernel answers with a reset. So what it sends is thrown away for a moment.
func (p *Proxy) pump(caller, container net.Conn, idle time.Duration) {
	end := func() { _, _ = caller.Close(), container.Close() }
	defer end()
	var flowed atomic.Int64 // bytes
	if idle > 0 {
		watch := &watchdog{idle: idle, flowed: &flowed, end: end}
		watch.start()
		defer watch.stop()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		switch p.flow(caller, container, &flowed) {
		case srcEnded:
			_ = closeWrite(caller)
		case srcFailed:
			_ = closeWrite(caller)
			_ = caller.SetReadDeadline(time.Now().Add(linger))
		case dstFailed:
			end()
		}
	}()
	switch p.flow(container, caller, &flowed) {
	case srcEnded:
		if closeWrite(container) != nil {
			end()
		}
	case srcFailed:
		end()
	case dstFailed:
		_ = caller.SetReadDeadline(time.Now().Add(linger))
		_, _ = io.Copy(io.Discard, caller)
		_ = container.SetReadDeadline(time.Now().Add(linger))
	}
	<-done
}

// linger is for how long what a caller sends to nobody is read.
const linger = 500 * time.Millisecond

// A watchdog calls end when flowed has not changed for idle, give or take an eighth.
type watchdog struct {
	idle   time.Duration
	flowed *atomic.Int64
	end    func()
	ticker *time.Timer

	// last and same are what was seen, and how often in a row. Only one tick runs at a time.
	last int64
	same int
}

// ticks is how often the watchdog looks while idle passes.
const ticks = 8

func (w *watchdog) start() {
	ready := make(chan struct{})
	w.ticker = time.AfterFunc(w.idle/ticks, func() { <-ready; w.tick() })
	close(ready)
}

func (w *watchdog) stop() { w.ticker.Stop() }

func (w *watchdog) tick() {
	if n := w.flowed.Load(); n != w.last {
		w.last, w.same = n, 0
	} else if w.same++; w.same >= ticks {
		w.end()
		return
	}
	w.ticker.Reset(w.idle / ticks)
}

// An outcome says how a flow ended.
type outcome int

const (
	srcEnded outcome = iota
	srcFailed
	dstFailed
)

// flow copies src to dst. While nothing comes it holds a small buffer, since thousands of
// connections may wait.
func (p *Proxy) flow(dst, src net.Conn, flowed *atomic.Int64) outcome {
	buf := p.buffers.get(smallBuffer)
	defer func() { p.buffers.put(buf) }()
	var writeBy time.Time
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if by, due := renew(writeBy, p.options.Quiet); due {
				writeBy = by
				_ = dst.SetWriteDeadline(by) // the write will tell what is wrong
			}
			if _, werr := dst.Write(buf[:n]); werr != nil {
				return dstFailed
			}
			flowed.Add(int64(n))
		}
		switch {
		case errors.Is(err, io.EOF):
			return srcEnded
		case err != nil:
			return srcFailed
		}
		if want := sizeAfter(n, len(buf)); want != len(buf) {
			p.buffers.put(buf)
			buf = p.buffers.get(want)
		}
	}
}

// sizeAfter is the size of buffer for the read after one that filled n bytes of size.
func sizeAfter(n, size int) int {
	switch {
	case n == size:
		return largeBuffer
	case n < smallBuffer:
		return smallBuffer
	}
	return size
}
