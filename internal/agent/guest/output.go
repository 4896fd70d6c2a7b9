package guest

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
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

// sink empties one output pipe of a kernel for as long as anyone can write to it.
type sink struct {
	file *os.File
	conn syscall.RawConn
	fd   int // of file, while that is open

	mu    sync.Mutex // guards all below, and is held from a read to the append
	chunk []byte
	kept  bounded
	emit  func([]byte) // of the running cell; may be nil, must not block
	ended bool
}

// newSink takes over the reading end of a pipe, which must be non-blocking.
func newSink(file *os.File) (*sink, error) {
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("output pipe: %w", err)
	}
	s := &sink{file: file, conn: conn, chunk: make([]byte, 64<<10), kept: bounded{limit: betweenCells}}
	if err := conn.Control(func(fd uintptr) { s.fd = int(fd) }); err != nil {
		return nil, fmt.Errorf("output pipe: %w", err)
	}
	return s, nil
}

// run reads until every writer is gone or the file is closed.
func (s *sink) run() {
	for !s.done() {
		if err := s.conn.Read(func(fd uintptr) bool { return s.read(int(fd)) }); err != nil {
			return
		}
	}
}

func (s *sink) done() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// read reads once and reports false if there was nothing to read yet.
func (s *sink) read(fd int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.readLocked(fd)
	return err != unix.EAGAIN
}

func (s *sink) readLocked(fd int) (int, error) {
	n, errno := quiet.Read(fd, s.chunk)
	switch {
	case n > 0:
		s.kept.write(s.chunk[:n])
		if s.emit != nil {
			s.emit(s.chunk[:n])
		}
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

// begin starts a cell. What was written since the last one belongs to it.
func (s *sink) begin(limit int, emit func([]byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, _ := s.kept.text()
	s.kept = bounded{limit: limit}
	s.emit = emit
	if before != "" {
		s.kept.write([]byte(before))
		if emit != nil {
			emit([]byte(before))
		}
	}
}

// end returns the cell's output. Everything that was written before the kernel
// said that the cell is over is in the pipe or in kept by now; a pipe that a
// background process fills faster than it is emptied is left to the next cell.
// empty says that nothing was in the pipe since then.
func (s *sink) end(empty bool) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for total := 0; total < pipeCapacity && !s.ended && !empty; {
		n, err := s.readLocked(s.fd)
		if err != nil {
			break
		}
		total += n
		empty = n < len(s.chunk) // a pipe gives all it has
	}
	text, cut := s.kept.text()
	s.kept = bounded{limit: betweenCells}
	s.emit = nil
	return text, cut
}

func (s *sink) close() { _ = s.file.Close() }
