package output

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unicode/utf8"

	"github.com/sandpool/sandpool/internal/quiet"
	"golang.org/x/sys/unix"
)

// betweenCells is how much output of background processes and threads is kept
// while no cell runs. It is delivered with the next cell.
const betweenCells = 64 << 10

// pipeCapacity is the most that a pipe of an unprivileged user can hold.
const pipeCapacity = 1 << 20

// bounded keeps the first and the last half of what is written to it.
type bounded struct {
	limit   int
	head    []byte
	tail    []byte // a ring once it is full
	next    int    // where the ring continues
	dropped int64
}

func (b *bounded) write(p []byte) {
	if room := b.limit - b.limit/2 - len(b.head); room > 0 {
		n := min(room, len(p))
		b.head = append(b.head, p[:n]...)
		p = p[n:]
	}
	size := b.limit / 2
	if len(p) > size {
		b.dropped += int64(len(p) - size)
		p = p[len(p)-size:]
	}
	if room := size - len(b.tail); room > 0 {
		n := min(room, len(p))
		b.tail = append(b.tail, p[:n]...)
		p = p[n:]
	}
	for len(p) > 0 {
		n := copy(b.tail[b.next:], p)
		b.dropped += int64(n)
		b.next = (b.next + n) % size
		p = p[n:]
	}
}

// text returns what was kept, and whether something was not.
func (b *bounded) text() (string, bool) {
	tail := string(b.tail[b.next:]) + string(b.tail[:b.next])
	if b.dropped == 0 {
		return string(b.head) + tail, false
	}
	head := strings.ToValidUTF8(string(wholeRunes(b.head)), "\uFFFD")
	for tail != "" && !utf8.RuneStart(tail[0]) {
		tail = tail[1:]
	}
	return fmt.Sprintf("%s\n[... %d bytes left out ...]\n%s", head, b.dropped, tail), true
}

// wholeRunes returns p without an incomplete rune at its end.
func wholeRunes(p []byte) []byte {
	for i := 1; i <= utf8.UTFMax && i <= len(p); i++ {
		if c := p[len(p)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(p[len(p)-i:]) {
				return p[:len(p)-i]
			}
			break
		}
	}
	return p
}

// Clearing says when what a cell has put out is to be forgotten: at once, or when it puts out
// something new. Each part of the output follows when it next looks. All methods of a nil
// Clearing do nothing.
type Clearing struct {
	wanted atomic.Bool  // at the next output
	count  atomic.Int64 // of times that it happened
}

// Now forgets the output so far.
func (c *Clearing) Now() {
	c.wanted.Store(false)
	c.count.Add(1)
}

// AtNext forgets the output so far when there is new output.
func (c *Clearing) AtNext() { c.wanted.Store(true) }

// Seen returns how often output was cleared; fresh says that there is new output.
func (c *Clearing) Seen(fresh bool) int64 {
	if c == nil {
		return 0
	}
	if fresh && c.wanted.CompareAndSwap(true, false) {
		c.count.Add(1)
	}
	return c.count.Load()
}

// Sink empties one output pipe of a kernel for as long as anyone can write to it.
type Sink struct {
	file *os.File
	conn syscall.RawConn
	fd   int // of file, while that is open

	mu      sync.Mutex // guards all below, and is held from a read to the append
	chunk   []byte
	kept    bounded
	emit    func([]byte) // of the running cell; may be nil, must not block
	clear   *Clearing    // of the running cell; may be nil
	cleared int64        // how often it was, when something was last kept
	ended   bool
	log     *trail // may be nil
}

// newSink takes over the reading end of a pipe, which must be non-blocking.
func newSink(file *os.File) (*Sink, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("output pipe: %w", err)
	}
	s := &Sink{file: file, conn: conn, chunk: make([]byte, 64<<10),
		kept: bounded{limit: betweenCells}}
	if err := conn.Control(func(fd uintptr) { s.fd = int(fd) }); err != nil {
		return nil, fmt.Errorf("output pipe: %w", err)
	}
	return s, nil
}

// Run reads until every writer is gone or the file is closed.
func (s *Sink) Run() {
	for !s.done() {
		if err := s.conn.Read(func(fd uintptr) bool { return s.read(int(fd)) }); err != nil {
			return
		}
	}
}

func (s *Sink) done() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// read reads once and reports false if there was nothing to read yet.
func (s *Sink) read(fd int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.readLocked(fd)
	return err != unix.EAGAIN
}

func (s *Sink) readLocked(fd int) (int, error) {
	n, errno := quiet.Read(fd, s.chunk)
	switch {
	case n > 0:
		s.take(s.chunk[:n])
	case n == 0:
		s.ended = true
		return 0, io.EOF
	case errno == unix.EAGAIN:
		return 0, errno
	default:
		s.ended = true
		return 0, errno
	}
	return n, nil
}

// take keeps and logs what is new. It is called under mu.
func (s *Sink) take(p []byte) {
	if s.log != nil {
		s.log.write(p)
	}
	s.add(p)
}

// add keeps output and passes it on. It is called under mu.
func (s *Sink) add(p []byte) {
	s.forget(true)
	s.kept.write(p)
	if s.emit != nil {
		s.emit(p)
	}
}

// forget drops what was kept before the output was cleared. It is called under mu.
func (s *Sink) forget(fresh bool) {
	if n := s.clear.Seen(fresh); n != s.cleared {
		s.cleared = n
		s.kept = bounded{limit: s.kept.limit}
	}
}

// Begin starts a cell. What was written since the last one belongs to it.
func (s *Sink) Begin(limit int, emit func([]byte), clear *Clearing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, _ := s.kept.text()
	s.kept = bounded{limit: limit}
	s.emit, s.clear, s.cleared = emit, clear, 0
	if before != "" {
		s.add([]byte(before))
	}
}

// Drain takes what is in the pipe; of a pipe that a background process fills faster than it
// is emptied, as much as it can hold.
func (s *Sink) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drainLocked()
}

func (s *Sink) drainLocked() {
	for total := 0; total < pipeCapacity && !s.ended; {
		n, err := s.readLocked(s.fd)
		if err != nil || n < len(s.chunk) { // a pipe gives all it has
			return
		}
		total += n
	}
}

// gathered takes what is in the pipe and then what the kernel has gathered for it. No kernel
// may write meanwhile.
func (s *Sink) gathered(a area) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drainLocked()
	if text := a.take(); len(text) > 0 {
		s.take(text)
	}
}

// End returns the cell's output. Everything that was written before the kernel
// said that the cell is over is in the pipe or in kept by now. empty says that nothing
// was in the pipe since then.
func (s *Sink) End(empty bool) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !empty {
		s.drainLocked()
	}
	s.forget(false)
	text, cut := s.kept.text()
	s.kept = bounded{limit: betweenCells}
	s.emit, s.clear, s.cleared = nil, nil, 0
	return text, cut
}

// FD is the descriptor that can be read when there is output.
func (s *Sink) FD() int { return s.fd }

func (s *Sink) close() { _ = s.file.Close() }
