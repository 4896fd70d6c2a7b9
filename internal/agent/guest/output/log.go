package output

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what is on its way to the host's log.
const (
	// maxHeld is how much of one stream waits; beyond it output is left out of the log. Nothing
	// that a kernel does ever waits for the host.
	maxHeld = 256 << 10
	// logDelay is how long output is gathered: an answer is on its way by then.
	logDelay = 10 * time.Millisecond
)

// Log passes on what kernels put out to the agent's own output and error, which the host keeps.
// All methods of a nil Log do nothing.
type Log struct{ out, errs trail }

// NewLog returns a log that goes to the two descriptors, once it has begun.
func NewLog(out, errs int) *Log { return &Log{out: trail{to: out}, errs: trail{to: errs}} }

// Begin passes on what is put out from here on. What came before, while the sandbox was made, is of
// nobody's interest.
func (l *Log) Begin() error {
	if l == nil {
		return nil
	}
	if err := l.out.begin(); err != nil {
		return err
	}
	return l.errs.begin()
}

// trail is one stream of a log.
type trail struct {
	to int

	mu   sync.Mutex // guards what follows
	file *os.File   // nil before the beginning
	held []byte
	lost int  // bytes that came while held was full
	busy bool // flush is running, or will
}

// begin opens the stream. Its description is made one that does not block: a host that does not
// read must hold up neither the other stream nor what the agent itself says.
func (t *trail) begin() error {
	fd, err := unix.FcntlInt(uintptr(t.to), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.file = os.NewFile(uintptr(fd), "log")
	return nil
}

// write holds a copy of p until it is passed on. It does not block.
func (t *trail) write(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil {
		return
	}
	n := 0
	if t.lost == 0 {
		n = min(len(p), maxHeld-len(t.held))
	}
	t.held = append(t.held, p[:n]...)
	t.lost += len(p) - n
	if !t.busy {
		t.busy = true
		time.AfterFunc(logDelay, t.flush)
	}
}

// flush passes on until nothing is left.
func (t *trail) flush() {
	for {
		text := t.take()
		if len(text) == 0 {
			return
		}
		_, _ = t.file.Write(text) // to a host that has closed it, nothing can be said
	}
}

// take returns what is held. If that is nothing, the next output needs another flush.
func (t *trail) take() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := t.held
	if t.lost > 0 {
		text = fmt.Appendf(text, "\n[... %d bytes left out ...]\n", t.lost)
	}
	t.held, t.lost, t.busy = nil, 0, len(text) > 0
	return text
}
