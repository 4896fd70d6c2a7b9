package output

import (
	"testing"
	"unicode/utf8"
)

// FuzzBounded: what is kept is the beginning and the end, whatever the pieces.
func FuzzBounded(f *testing.F) {
	f.Add([]byte("0123456789"), 4, 3)
	f.Add([]byte("äöü漢字😀äöü"), 7, 2)
	f.Fuzz(func(t *testing.T, data []byte, limit, piece int) {
		if limit < 0 || limit > 1000 || piece < 1 {
			return
		}
		b := bounded{limit: limit}
		for rest := data; len(rest) > 0; {
			n := min(piece, len(rest))
			b.write(rest[:n])
			rest = rest[n:]
		}
		text, cut := b.text()
		if cut != (len(data) > limit) {
			t.Fatalf("limit %d, %d bytes: cut %v", limit, len(data), cut)
		}
		if !cut && text != string(data) {
			t.Fatalf("text %q of %q", text, data)
		}
		if cut && len(text) > 3*limit+64 {
			t.Fatalf("%d bytes kept of a limit of %d", len(text), limit)
		}
		if cut && utf8.Valid(data) && !utf8.ValidString(text) {
			t.Fatalf("a rune was cut: %q", text)
		}
	})
}

func TestBounded(t *testing.T) {
	b := bounded{limit: 10}
	for _, s := range []string{"012", "3456", "789abcdef"} {
		b.write([]byte(s))
	}
	if text, cut := b.text(); text != "01234\n[... 6 bytes left out ...]\nbcdef" || !cut {
		t.Errorf("%q, %v", text, cut)
	}
}
