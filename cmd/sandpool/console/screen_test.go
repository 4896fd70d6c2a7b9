package console

import "testing"

// TestOverwrite: a screen of a terminal in raw mode begins each line at its left edge, and never
// scrolls.
func TestOverwrite(t *testing.T) {
	for _, tt := range []struct {
		text   string
		height int
		want   string
	}{
		{"a\nb\n", 10, "\x1b[H\x1b[Ka\r\n\x1b[Kb\r\n\x1b[J"},
		{"a\nb\nc\n", 3, "\x1b[H\x1b[Ka\r\n\x1b[Kb\r\n\x1b[J"},
		{"", 2, "\x1b[H\x1b[J"},
	} {
		if got := string(overwrite([]byte(tt.text), tt.height)); got != tt.want {
			t.Errorf("%q in %d lines is %q, want %q", tt.text, tt.height, got, tt.want)
		}
	}
}
