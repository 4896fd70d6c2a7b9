package exec

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

const (
	interruptKey = 0x03 // Ctrl-C
	// clearLine goes to the end of the line, removes what is before, and enters what is left.
	clearLine = "\x05\x15\r"
	// mostAhead bounds what is typed while nobody reads.
	mostAhead = 1 << 20
)

// keys is what a user types, read all the time, so that Ctrl-C is seen while a cell runs.
type keys struct {
	ctx  context.Context
	echo io.Writer // the terminal, for the line editor

	mu    sync.Mutex // guards what follows
	typed []byte
	err   error
	// running is what Ctrl-C does while a cell runs.
	running func()
	// cleared says that Ctrl-C has entered an empty line.
	cleared bool
	more    chan struct{}
	// held is the beginning of what may be a terminal's answer to askFeatures; features is that.
	held, features []byte
}

// askFeatures asks a terminal for its "primary device attributes", which it sends as if they were
// typed: ESC [ ? numbers c, with a semicolon between numbers.
const askFeatures = "\x1b[c"

// sixelFeature is the number of a terminal that shows sixels.
const sixelFeature = "4"

// mostFeatures bounds an answer.
const mostFeatures = 64

// openTerminal makes the terminal in one where the line editor sees each key, and returns the
// editor and what puts all back. Ends of lines are still the terminal's concern.
func openTerminal(ctx context.Context, in *os.File, echo io.Writer) (*keys, *term.Terminal,
	func(), error) {
	fd := int(in.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("prepare the terminal: %w", err)
	}
	state, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		state.Oflag |= unix.OPOST | unix.ONLCR
		err = unix.IoctlSetTermios(fd, unix.TCSETS, state)
	}
	if err != nil {
		_ = term.Restore(fd, before)
		return nil, nil, nil, fmt.Errorf("prepare the terminal: %w", err)
	}
	k := &keys{ctx: ctx, echo: echo, more: make(chan struct{}, 1)}
	editor := term.NewTerminal(k, "")
	size := func() {
		if columns, rows, err := term.GetSize(fd); err == nil && columns > 0 {
			_ = editor.SetSize(columns, rows)
		}
	}
	size()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-resized:
				size()
			case <-done:
				return
			}
		}
	}()
	editor.SetBracketedPasteMode(true)
	go k.read(in)
	return k, editor, func() {
		signal.Stop(resized)
		close(done)
		editor.SetBracketedPasteMode(false)
		_ = term.Restore(fd, before)
	}, nil
}

// read reads what is typed until that ends.
func (k *keys) read(in io.Reader) {
	buf := make([]byte, 4096)
	for {
		n, err := in.Read(buf)
		k.mu.Lock()
		for _, b := range buf[:n] {
			if !k.answer(b) {
				k.press(b)
			}
		}
		k.err = err
		k.mu.Unlock()
		select {
		case k.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// answer keeps a byte that is a part of a terminal's answer, or may be one, from what is typed. No
// key sends what begins like that.
func (k *keys) answer(b byte) bool {
	n := len(k.held)
	switch {
	case n < 3 && b == "\x1b[?"[n],
		n >= 3 && n < mostFeatures && (b >= '0' && b <= '9' || b == ';'):
		k.held = append(k.held, b)
		return true
	case n >= 3 && b == 'c':
		k.features, k.held = k.held[3:], nil
		return true
	}
	held := k.held
	k.held = nil
	for _, h := range held {
		k.press(h)
	}
	return b == '\x1b' && n > 0 && k.answer(b)
}

// sixels reports whether the terminal has said that it shows sixels.
func (k *keys) sixels() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Contains(strings.Split(string(k.features), ";"), sixelFeature)
}

func (k *keys) press(b byte) {
	switch {
	case b == interruptKey && k.running != nil:
		k.typed = nil // as terminals do
		k.running()
	case b == interruptKey:
		k.typed, k.cleared = append(k.typed, clearLine...), true
	case len(k.typed) < mostAhead:
		k.typed = append(k.typed, b)
	}
}

// during says what Ctrl-C does from now on; nil is to clear the line.
func (k *keys) during(interrupt func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running = interrupt
}

// wasCleared reports whether an empty line is due to Ctrl-C, once.
func (k *keys) wasCleared() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	cleared := k.cleared
	k.cleared = false
	return cleared
}

// Read is for the line editor.
func (k *keys) Read(p []byte) (int, error) {
	for {
		k.mu.Lock()
		n := copy(p, k.typed)
		k.typed = k.typed[n:]
		err := k.err
		k.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, io.EOF // whoever typed has left
		}
		select {
		case <-k.more:
		case <-k.ctx.Done():
			return 0, context.Cause(k.ctx)
		}
	}
}

// Write is for the line editor.
func (k *keys) Write(p []byte) (int, error) { return k.echo.Write(p) }

// echoOf is where the line editor shows what is typed, which is not the output of a script.
func echoOf(a *console.App, in *os.File) io.Writer {
	for _, w := range []io.Writer{a.Stdout, a.Stderr} {
		if console.IsTerminal(w) {
			return w
		}
	}
	return in
}
