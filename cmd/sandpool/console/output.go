package console

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// JSON reports whether the result is to be JSON.
func (a *App) JSON() bool { return a.Output == "json" }

// PrintJSON writes v to stdout as one indented document.
func (a *App) PrintJSON(v any) error {
	enc := json.NewEncoder(a.Stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// Say writes a line of the story to stderr.
func (a *App) Say(format string, args ...any) {
	fmt.Fprintf(a.Stderr, format+"\n", args...)
}

// Table is rows of cells under a heading, in aligned columns.
type Table struct {
	Heading []string
	rows    [][]string
}

func (t *Table) Add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *Table) Write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, row := range append([][]string{t.Heading}, t.rows...) {
		for i, cell := range row {
			// A name that someone else chose must not be able to steer the terminal.
			row[i] = Printable(cell)
		}
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	return tw.Flush()
}

// Printable replaces control characters.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '?'
		}
		return r
	}, s)
}

// Bytes renders a number of bytes for people.
func Bytes(n int64) string {
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
