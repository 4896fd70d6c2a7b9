package console

import (
	"bytes"
	"strings"
	"testing"
)

// TestHarmless has a session attack the terminal that shows its output.
func TestHarmless(t *testing.T) {
	for attack, want := range map[string]string{
		"plain \t日本語\r\n":                            "plain \t日本語\r\n",
		"\x1b[1;31mred\x1b[0m \x1b[38:2:1:2:3mx":     "\x1b[1;31mred\x1b[0m \x1b[38:2:1:2:3mx",
		"a\x1b[mb":                                   "a\x1b[mb",
		"a\x1b]52;c;cm0gLXJm\x07b":                   "ab", // the clipboard
		"a\x1b]52;c;cm0gLXJm\x1b\\b":                 "ab",
		"a\u009d52;c;cm0gLXJm\u009cb":                "ab",
		"a\x1b]0;title\x07b":                         "ab",
		"a\x1b]8;;http://evil\x1b\\link":             "alink",
		"a\x1b[6nb\x1b[cb\x1b[>qb\x1b[21tb":          "abbbb", // the terminal would answer
		"a\x05b":                                     "ab",
		"a\x1bP$qm\x1b\\b\x1bP+q544e\x1b\\":          "ab",
		"a\x1b_Ga=T,f=100;AAAA\x1b\\b":               "ab", // pictures
		"a\x1b^pm\x1b\\b\x1bXsos\x1b\\c":             "abc",
		"a\x1b[2J\x1b[H\x1b[1Ab\x1b[2K":              "ab", // what was printed before
		"a\u009b2Jb\u0085c":                          "abc",
		"a\x1b[?1049hb\x1b[?25l\x1b[>4;2mc":          "abc", // modes, and those of the keyboard
		"a\x1b[?4mb\x1b[0 mc\x1b[1$mc":               "abcc",
		"a\x1bcb\x1b#8c\x1b(0d\x1b%Ge\x1b7f":         "abcdef",
		"a\x07b\x0ec\x0fd\x7fe":                      "abcde",
		"a\x1b]0;never ended\nb\x1b]52;c\nc":         "a\nb\nc",
		"a\x1b[\x1b]0;t\x07b\x1b\x1b[31mc":           "ab\x1b[31mc",
		"a\x1b]0;\x1b[2Jb":                           "ab",
		"a\x1b[12\nb":                                "a\nb",
		"a\x1b[日b":                                   "a日b",
		"a\x9b2Jb\xffc":                              "a\ufffd2Jb\ufffdc", // no UTF-8
		"a\x1b[" + strings.Repeat("1;", 1000) + "mb": "ab",
		"a\x1b": "a",
	} {
		var whole, apart bytes.Buffer
		if _, err := newHarmless(&whole, true).Write([]byte(attack)); err != nil {
			t.Fatal(err)
		}
		h := newHarmless(&apart, true)
		for i := range len(attack) {
			if n, err := h.Write([]byte{attack[i]}); n != 1 || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
		}
		if whole.String() != want || apart.String() != want {
			t.Errorf("%q shows as %q, and byte by byte as %q; want %q", attack, &whole, &apart,
				want)
		}
	}
}

// TestHarmlessElsewhere: a pipe gets every byte.
func TestHarmlessElsewhere(t *testing.T) {
	var out bytes.Buffer
	h := NewHarmless(&out)
	const text = "a\x1b]52;c;x\x07\xff"
	if _, err := h.Write([]byte(text)); err != nil || h.EndLine() != nil || out.String() != text {
		t.Errorf("%q, %v", &out, err)
	}
}

// TestHarmlessEndsLine: the prompt begins a line of its own in no colour.
func TestHarmlessEndsLine(t *testing.T) {
	for text, want := range map[string]string{"a": "a\n", "a\n": "a\n", "": "",
		"\x1b[8ma": "\x1b[8ma\x1b[0m\n", "a\x1b]0;": "a\n", "a\n\x1b[31m": "a\n\x1b[31m\x1b[0m"} {
		var out bytes.Buffer
		h := newHarmless(&out, true)
		if _, err := h.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := h.EndLine(); err != nil || out.String() != want {
			t.Errorf("%q ends as %q, %v; want %q", text, &out, err, want)
		}
		if _, err := h.Write([]byte("b")); err != nil || out.String() != want+"b" {
			t.Errorf("%q is followed by %q, %v", text, &out, err)
		}
	}
}

func FuzzHarmless(f *testing.F) {
	f.Add("a\x1b[31m\x1b]52;c;x\x07\u009b2J")
	f.Fuzz(func(t *testing.T, text string) {
		var out bytes.Buffer
		if _, err := newHarmless(&out, true).Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		rest := out.String()
		for {
			before, after, found := strings.Cut(rest, "\x1b")
			if strings.ContainsFunc(before, func(r rune) bool {
				return r < ' ' && !strings.ContainsRune("\n\t\r\b", r) || r >= 0x7f && r < 0xa0
			}) {
				t.Fatalf("%q has control characters: %q", text, before)
			}
			if !found {
				return
			}
			end := strings.IndexByte(after, 'm')
			if end < 1 || after[0] != '[' || strings.Trim(after[1:end], "0123456789;:") != "" {
				t.Fatalf("%q has a sequence that sets no colour: %q", text, after)
			}
			rest = after[end:]
		}
	})
}
