package console

import (
	"bytes"
	"strings"
	"testing"
)

// TestOverwrite: a screen of a terminal in raw mode begins each line at its left edge, and is no
// larger than the terminal.
func TestOverwrite(t *testing.T) {
	for _, tt := range []struct {
		text   string
		height int
		want   string
	}{
		{"a\nb\n", 10, "\x1b[H\x1b[Ka\r\n\x1b[Kb\r\n\x1b[J"},
		{"a\nb\nc\n", 3, "\x1b[H\x1b[Ka\r\n\x1b[Kb\r\n\x1b[J"},
		{"–bcd\n\ne\n", 5, "\x1b[H\x1b[K–bc\r\n\x1b[Kd\r\n\x1b[K\r\n\x1b[Ke\r\n\x1b[J"},
		{"abcd\n", 2, "\x1b[H\x1b[Kabc\r\n\x1b[J"},
		{"", 2, "\x1b[H\x1b[J"},
	} {
		if got := string(overwrite([]byte(tt.text), 3, tt.height)); got != tt.want {
			t.Errorf("%q in %d lines is %q, want %q", tt.text, tt.height, got, tt.want)
		}
	}
}

// TestLeave: columns go in the order that was said, and only as many as have to.
func TestLeave(t *testing.T) {
	for width, want := range map[int]string{20: "A B C", 11: "A C", 4: "C", 1: "C"} {
		table := Table{Heading: []string{"A", "B", "C"}}
		table.Add("1", "wide", "three")
		table.Leave(width, "B", "none", "A")
		var out bytes.Buffer
		if err := table.Write(&out); err != nil {
			t.Fatal(err)
		}
		head, row, _ := strings.Cut(out.String(), "\n")
		if got := strings.Join(strings.Fields(head), " "); got != want ||
			!strings.Contains(row, "three") {
			t.Errorf("in %d columns there are %s: %s", width, got, row)
		}
	}
}
