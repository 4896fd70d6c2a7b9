package console

import (
	"bytes"
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
)

// Width is how many columns the terminal has that w writes to; zero if it is none.
func Width(w io.Writer) int {
	width, _ := size(w)
	return width
}

func size(w io.Writer) (width, height int) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, 0
	}
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0, 0
	}
	return width, height
}

// narrowest is what Fit leaves of a column; gap is between two of them.
const (
	narrowest = 8
	gap       = 2
)

// columns is how wide each column is.
func (t *Table) columns() []int {
	wide := make([]int, len(t.Heading))
	for _, row := range append([][]string{t.Heading}, t.rows...) {
		for i, cell := range row {
			wide[i] = max(wide[i], utf8.RuneCountInString(cell))
		}
	}
	return wide
}

// Leave takes columns away, by their headings, one after the other until rows are no wider than
// width.
func (t *Table) Leave(width int, headings ...string) {
	for _, name := range headings {
		sum := -gap
		for _, n := range t.columns() {
			sum += n + gap
		}
		if sum <= width {
			return
		}
		if i := slices.Index(t.Heading, name); i >= 0 {
			t.Heading = slices.Delete(slices.Clone(t.Heading), i, i+1)
			for j, row := range t.rows {
				t.rows[j] = slices.Delete(row, i, i+1)
			}
		}
	}
}

// Fit cuts the widest columns until rows are no wider than width.
func (t *Table) Fit(width int) {
	rows := append([][]string{t.Heading}, t.rows...)
	wide := t.columns()
	for {
		sum, most := 0, 0
		for i, n := range wide {
			sum += n + gap
			if n > wide[most] {
				most = i
			}
		}
		if sum-gap <= width || wide[most] <= narrowest {
			break
		}
		wide[most]--
	}
	for _, row := range rows {
		for i, cell := range row {
			if r := []rune(cell); len(r) > wide[i] {
				row[i] = string(r[:wide[i]-1]) + "…"
			}
		}
	}
}

// Watch draws again and again until ctx ends or draw fails: on a terminal in place of what was
// there, elsewhere one after another. draw is told the size of the terminal, zero without one.
func (a *App) Watch(ctx context.Context, every time.Duration,
	draw func(w io.Writer, width, height int) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		width, height := size(a.Stdout)
		var screen bytes.Buffer
		if err := draw(&screen, width, height); err != nil {
			if ctx.Err() != nil {
				return nil // it was ended while it asked
			}
			return err
		}
		text := screen.Bytes()
		if width > 0 {
			text = overwrite(text, width, height)
		}
		if _, err := a.Stdout.Write(text); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// overwrite is a screen that takes the place of another: from the first line on, as many lines as
// there are and one for the cursor, so that nothing scrolls. A line that is too wide goes on in the
// next.
func overwrite(screen []byte, width, height int) []byte {
	out := []byte("\x1b[H")
	room := max(1, height-1)
	for line := range strings.Lines(string(screen)) {
		for rest := []rune(strings.TrimSuffix(line, "\n")); room > 0; room-- {
			part := rest[:min(len(rest), width)]
			// What is there goes first: behind a line as wide as the terminal its last character
			// would. In raw mode an end of a line does not lead to the beginning of the next.
			out = append(append(append(out, "\x1b[K"...), string(part)...), "\r\n"...)
			if rest = rest[len(part):]; len(rest) == 0 {
				room--
				break
			}
		}
	}
	return append(out, "\x1b[J"...)
}
