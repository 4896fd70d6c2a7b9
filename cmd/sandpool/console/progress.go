package console

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// quietInterval is how often a long step writes a line where no terminal shows it.
const quietInterval = 5 * time.Second

// Progress shows how a long step goes on: one line that is rewritten on a
// terminal, a new line every few seconds elsewhere.
type Progress struct {
	w        io.Writer
	terminal bool
	now      func() time.Time

	mu    sync.Mutex // guards what follows
	start time.Time
	shown time.Time // when a line was last written
	step  string    // what that line was about
	width int       // of the line on the terminal
}

// NewProgress starts the clock.
func NewProgress(w io.Writer) *Progress {
	f, ok := w.(*os.File)
	return startProgress(w, ok && term.IsTerminal(int(f.Fd())), time.Now)
}

func startProgress(w io.Writer, terminal bool, now func() time.Time) *Progress {
	return &Progress{w: w, terminal: terminal, now: now, start: now()}
}

// Elapsed is the time since the progress was started.
func (p *Progress) Elapsed() time.Duration { return p.now().Sub(p.start) }

// Update says that step is under way. detail is what changes within a step;
// a new step is always shown, a new detail only when the last line is old enough.
func (p *Progress) Update(step, detail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	wait := quietInterval
	if p.terminal {
		wait = 100 * time.Millisecond
	}
	if step == p.step && now.Sub(p.shown) < wait {
		return
	}
	p.step, p.shown = step, now
	p.line(step, detail)
	if !p.terminal {
		fmt.Fprintln(p.w)
	}
}

// Done ends the step with a line that stays.
func (p *Progress) Done(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line(text, "")
	fmt.Fprintln(p.w)
	p.width = 0
}

// Clear takes the line away, so that an error begins on a fresh one.
func (p *Progress) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal && p.width > 0 {
		fmt.Fprintf(p.w, "\r%*s\r", p.width, "")
		p.width = 0
	}
}

func (p *Progress) line(step, detail string) {
	text := step
	if detail != "" {
		text += "  " + detail
	}
	text += fmt.Sprintf("  (%s)", p.now().Sub(p.start).Round(time.Second))
	if !p.terminal {
		fmt.Fprint(p.w, text)
		return
	}
	// Blanks cover what is left of a longer line before.
	fmt.Fprintf(p.w, "\r%-*s", p.width, text)
	p.width = len(text)
}
