package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/term"
)

// json reports whether the result is to be JSON.
func (a *app) json() bool { return a.Output == "json" }

// printJSON writes v to stdout as one indented document.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// say writes a line of the story to stderr.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.stderr, format+"\n", args...)
}

// table is rows of cells under a heading, in aligned columns.
type table struct {
	heading []string
	rows    [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, row := range append([][]string{t.heading}, t.rows...) {
		for i, cell := range row {
			// A name that someone else chose must not be able to steer the terminal.
			row[i] = printable(cell)
		}
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}

// printable replaces control characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
}

// bytesText renders a number of bytes for people.
func bytesText(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, exp := float64(n)/unit, 0
	for v >= unit && exp < 4 {
		v, exp = v/unit, exp+1
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTP"[exp])
}

type versionCmd struct{}

// versionInfo is the result of the version command.
type versionInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func buildInfo() versionInfo {
	v := versionInfo{Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Version == "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}

// Run prints the version.
func (versionCmd) Run(a *app) error {
	v := buildInfo()
	if a.json() {
		return a.printJSON(v)
	}
	_, err := fmt.Fprintf(a.stdout, "sandpool %s (%s, %s)\n", v.Version, v.Go, v.Platform)
	return err
}

// quietInterval is how often a long step writes a line where no terminal shows it.
const quietInterval = 5 * time.Second

// progress shows how a long step goes on: one line that is rewritten on a
// terminal, a new line every few seconds elsewhere.
type progress struct {
	w        io.Writer
	terminal bool
	now      func() time.Time

	mu    sync.Mutex // guards what follows
	start time.Time
	shown time.Time // when a line was last written
	step  string    // what that line was about
	width int       // of the line on the terminal
}

// newProgress starts the clock.
func newProgress(w io.Writer) *progress {
	f, ok := w.(*os.File)
	return startProgress(w, ok && term.IsTerminal(int(f.Fd())), time.Now)
}

func startProgress(w io.Writer, terminal bool, now func() time.Time) *progress {
	return &progress{w: w, terminal: terminal, now: now, start: now()}
}

// elapsed is the time since the progress was started.
func (p *progress) elapsed() time.Duration { return p.now().Sub(p.start) }

// update says that step is under way. detail is what changes within a step;
// a new step is always shown, a new detail only when the last line is old enough.
func (p *progress) update(step, detail string) {
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

// done ends the step with a line that stays.
func (p *progress) done(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line(text, "")
	fmt.Fprintln(p.w)
	p.width = 0
}

// clear takes the line away, so that an error begins on a fresh one.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal && p.width > 0 {
		fmt.Fprintf(p.w, "\r%*s\r", p.width, "")
		p.width = 0
	}
}

func (p *progress) line(step, detail string) {
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
