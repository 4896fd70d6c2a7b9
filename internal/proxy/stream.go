package proxy

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/quiet"
)

// Sizes of what is read from a container at once. A stream that waits holds a small buffer;
// one that delivers faster than that is emptied with a large one. One that is idle holds none.
const (
	smallBuffer = 4 << 10
	largeBuffer = 128 << 10
)

// buffers are kept for reuse. They are shared by all sessions: each is written before it is read.
type buffers struct{ small, large sync.Pool }

func newBuffers() *buffers {
	return &buffers{
		small: sync.Pool{New: func() any { return new([smallBuffer]byte) }},
		large: sync.Pool{New: func() any { return new([largeBuffer]byte) }},
	}
}

// get returns a buffer of at least n bytes, as one of the two sizes.
func (b *buffers) get(n int) []byte {
	if n <= smallBuffer {
		return b.small.Get().(*[smallBuffer]byte)[:]
	}
	return b.large.Get().(*[largeBuffer]byte)[:]
}

// put takes back what get returned.
func (b *buffers) put(p []byte) {
	switch cap(p) {
	case smallBuffer:
		b.small.Put((*[smallBuffer]byte)(p[:smallBuffer]))
	case largeBuffer:
		b.large.Put((*[largeBuffer]byte)(p[:largeBuffer]))
	}
}

// A stream is a connection to a port of a container, with what has been read of it and
// not been used yet. One goroutine reads it; abort may be called by any.
type stream struct {
	net.Conn
	of   *session
	port int
	// reused says that it has carried an answer before, so that the container may have
	// closed it for idleness.
	reused bool
	// since is when it became idle.
	since time.Time

	// buf[from:to] is read and unused. fast says that the last read filled the buffer.
	buf      []byte
	from, to int
	fast     bool
	// received is how much has been read since the request was sent.
	received int64
	// flush is called before a read that may wait; nil means that nothing is to be done.
	flush func() error
	// readBy and writeBy are the deadlines that are set. pinned forbids setting the first.
	readBy, writeBy time.Time
	pinned          bool
}

// fill reads once, behind what is buffered. The buffer has room for less than its size only
// while a head is read; limit bounds what may be buffered.
func (s *stream) fill(limit int) error {
	if s.flush != nil {
		if err := s.flush(); err != nil {
			return err
		}
	}
	if s.from == s.to {
		s.from, s.to = 0, 0
		s.resize()
	} else if s.to == len(s.buf) {
		if s.to-s.from >= limit {
			return errTooLong
		}
		s.moveUp()
	}
	s.extend()
	n, err := s.Read(s.buf[s.to:])
	s.fast = s.to == 0 && n == len(s.buf) || s.fast && n >= smallBuffer
	s.to += n
	s.received += int64(n)
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// resize gives an empty stream the buffer that suits its speed.
func (s *stream) resize() {
	want := smallBuffer
	if s.fast {
		want = largeBuffer
	}
	if len(s.buf) != want {
		s.of.proxy.buffers.put(s.buf)
		s.buf = s.of.proxy.buffers.get(want)
	}
}

// moveUp makes room behind the buffered bytes.
func (s *stream) moveUp() {
	if s.from > 0 {
		s.to = copy(s.buf, s.buf[s.from:s.to])
		s.from = 0
		return
	}
	large := s.of.proxy.buffers.get(largeBuffer)
	s.to = copy(large, s.buf[s.from:s.to])
	s.of.proxy.buffers.put(s.buf)
	s.buf, s.from = large, 0
}

// extend sets the deadline of the next read. Setting one takes the runtime longer than
// looking at a clock does, so it is done when an eighth of the time has passed.
func (s *stream) extend() {
	if s.pinned {
		return
	}
	if by, due := renew(s.readBy, s.of.proxy.options.Quiet); due {
		s.readBy = by
		_ = s.SetReadDeadline(by) // the read will tell what is wrong
	}
}

// writing is the same for the next write.
func (s *stream) writing() {
	if by, due := renew(s.writeBy, s.of.proxy.options.Quiet); due {
		s.writeBy = by
		_ = s.SetWriteDeadline(by) // the write will tell what is wrong
	}
}

// renew says whether a deadline that was to be wait away is due to be set again, and to what.
func renew(by time.Time, wait time.Duration) (time.Time, bool) {
	now := time.Now()
	return now.Add(wait), by.Sub(now) < wait-wait/8
}

// pin gives reads d, and no more until unpin.
func (s *stream) pin(d time.Duration) {
	s.pinned = true
	_ = s.SetReadDeadline(time.Now().Add(d)) // the read will tell what is wrong
}

func (s *stream) unpin() { s.pinned, s.readBy = false, time.Time{} }

// buffered returns what is read and unused.
func (s *stream) buffered() []byte { return s.buf[s.from:s.to] }

// next returns up to most unused bytes, at least one. They are valid until the next call.
func (s *stream) next(most int64) ([]byte, error) {
	if s.from == s.to {
		if err := s.fill(largeBuffer); err != nil {
			return nil, err
		}
	}
	n := min(most, int64(s.to-s.from))
	p := s.buf[s.from : s.from+int(n)]
	s.from += int(n)
	return p, nil
}

// abort ends the stream for whoever reads or writes it.
func (s *stream) abort() { _ = s.Close() }

// fresh reports whether an idle stream can be used: open at its other end, and without a
// byte that nobody asked for. A kind of connection that cannot be asked counts as fresh.
func (s *stream) fresh() bool {
	c, ok := s.Conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var peeked syscall.Errno
	err = raw.Control(func(fd uintptr) {
		var p [1]byte
		_, peeked = quiet.Peek(int(fd), p[:])
	})
	return err == nil && peeked == unix.EAGAIN
}

// A session is what the proxy keeps of a leased sandbox: its streams.
type session struct {
	proxy *Proxy
	to    Session

	// mu guards the fields below it.
	mu sync.Mutex
	// idle are streams between requests, the one that was used last at the end.
	idle []*stream
	// busy are all others, and whatever else is to be closed when the session ends.
	busy map[io.Closer]struct{}
	// calls counts requests and tunnels under way.
	calls int
	ended bool
	// sweep closes what has been idle for too long; nil while nothing is idle.
	sweep *time.Timer
	// inquiries are under way, by port (why); serving are the ports that take connections as far
	// as is known.
	inquiries map[int]chan struct{}
	serving   map[int]bool
	// h2 forwards to containers that speak HTTP/2; made when it is needed.
	h2 map[int]*h2Client
}

// take returns a stream to port: one that is idle, unless anew, or a new one.
func (s *session) take(ctx context.Context, port int, anew bool) (*stream, error) {
	for !anew {
		st := s.pop(port)
		if st == nil {
			break
		}
		if st.fresh() {
			return st, nil
		}
		s.drop(st)
	}
	conn, err := s.to.Dial(ctx, port)
	if err != nil {
		return nil, s.dialError(ctx, port, err)
	}
	st := &stream{Conn: conn, of: s, port: port}
	if !s.hold(st) {
		_ = st.Close()
		return nil, s.why(port, errSessionEnded)
	}
	return st, nil
}

// pop moves the idle stream to port that was used last among the busy ones.
func (s *session) pop(port int) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.idle) - 1; i >= 0; i-- {
		if st := s.idle[i]; st.port == port {
			s.idle = slices.Delete(s.idle, i, i+1)
			s.busy[st] = struct{}{}
			return st
		}
	}
	return nil
}

// hold has c closed when the session ends; it reports false if it has ended.
func (s *session) hold(c io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.busy[c] = struct{}{}
	return true
}

// let is the opposite of hold; it closes nothing.
func (s *session) let(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, c)
}

// give takes back a stream whose last answer is read to its end.
func (s *session) give(st *stream) {
	if st.from != st.to {
		s.drop(st)
		return
	}
	s.proxy.buffers.put(st.buf)
	st.buf, st.from, st.to, st.fast, st.flush = nil, 0, 0, false, nil
	st.reused, st.since = true, time.Now()
	s.mu.Lock()
	delete(s.busy, st)
	full := s.ended || len(s.idle) >= s.proxy.options.MaxIdle
	if !full {
		s.idle = append(s.idle, st)
		if s.sweep == nil {
			s.sweep = time.AfterFunc(s.proxy.options.IdleTime, s.sweepIdle)
		}
	}
	s.mu.Unlock()
	if full {
		_ = st.Close()
	}
}

// drop closes a stream that cannot be used again.
func (s *session) drop(st *stream) {
	_ = st.Close()
	s.proxy.buffers.put(st.buf)
	st.buf, st.from, st.to = nil, 0, 0
	s.let(st)
}

// sweepIdle closes the streams that nobody has used for IdleTime.
func (s *session) sweepIdle() {
	s.mu.Lock()
	old := 0
	for old < len(s.idle) && time.Since(s.idle[old].since) >= s.proxy.options.IdleTime {
		old++
	}
	closing := slices.Clone(s.idle[:old])
	s.idle = slices.Delete(s.idle, 0, old)
	s.sweep = nil
	if len(s.idle) > 0 {
		s.sweep = time.AfterFunc(s.proxy.options.IdleTime-time.Since(s.idle[0].since), s.sweepIdle)
	}
	s.mu.Unlock()
	for _, st := range closing {
		_ = st.Close()
	}
}

// end closes everything of the session.
func (s *session) end() {
	s.mu.Lock()
	s.ended = true
	closing := make([]io.Closer, 0, len(s.idle)+len(s.busy))
	for _, st := range s.idle {
		closing = append(closing, st)
	}
	for c := range s.busy {
		closing = append(closing, c)
	}
	clients := s.h2
	s.idle, s.h2 = nil, nil
	if s.sweep != nil {
		s.sweep.Stop()
	}
	s.mu.Unlock()
	for _, c := range closing {
		_ = c.Close()
	}
	for _, c := range clients {
		c.close()
	}
}
