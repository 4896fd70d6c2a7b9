package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// JSON reports whether the result is for programs: JSON, or what PrintJSON makes of it in the form
// that was asked for.
func (a *App) JSON() bool { return a.Output != "table" && a.Output != "" }

// PrintJSON writes v to stdout as one document.
func (a *App) PrintJSON(v any) error {
	if a.Output.template() || a.Output == formYAML {
		return a.Output.write(a.Stdout, v, false)
	}
	return a.printJSON(v, "  ")
}

// PrintJSONLine writes v as one line of JSON, or as one of several documents.
func (a *App) PrintJSONLine(v any) error {
	if a.Output.template() || a.Output == formYAML {
		return a.Output.write(a.Stdout, v, true)
	}
	return a.printJSON(v, "")
}

func (a *App) printJSON(v any, indent string) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", indent)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	// The encoder leaves these as they are, and terminals may obey them.
	out := make([]byte, 0, text.Len())
	for _, r := range text.String() {
		if r >= 0x7f && r < 0xa0 {
			out = fmt.Appendf(out, `\u%04x`, r)
			continue
		}
		out = utf8.AppendRune(out, r)
	}
	_, err := a.Stdout.Write(out)
	return err
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

// Write writes the table as wide as it is: a name that is cut is of no use to copy. See Fit.
func (t *Table) Write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 4, gap, ' ', 0)
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

// PrintableText is Printable for text with tabs.
func PrintableText(s string) string { return keeping(s, "\t", Printable) }

// PrintableLines is Printable for text of several lines.
func PrintableLines(s string) string { return keeping(s, "\n", PrintableText) }

// keeping applies clean to what stands between separators.
func keeping(s, separator string, clean func(string) string) string {
	parts := strings.Split(s, separator)
	for i, p := range parts {
		parts[i] = clean(p)
	}
	return strings.Join(parts, separator)
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
