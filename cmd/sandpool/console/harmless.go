package console

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// Harmless is what shows on a terminal what a session says. Text and colours pass. Every other
// escape sequence is left out: those set the clipboard and titles, move what was printed before, or
// have the terminal answer as if somebody typed. What is no terminal gets every byte.
type Harmless struct {
	w     io.Writer
	steer bool // w is a terminal
	state func(*Harmless, rune) bool
	// sequence is a control sequence so far, and cut the beginning of a character.
	sequence, cut []byte
	out           []byte
	// inLine says that the last line has no end yet, coloured that a colour was set.
	inLine, coloured bool
}

// longestColour bounds a sequence that sets colours.
const longestColour = 64

// NewHarmless returns what writes to w.
func NewHarmless(w io.Writer) *Harmless { return newHarmless(w, IsTerminal(w)) }

func newHarmless(w io.Writer, terminal bool) *Harmless {
	return &Harmless{w: w, steer: terminal, state: (*Harmless).text}
}

// IsTerminal reports whether v, a stream, is a terminal.
func IsTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Write writes what of p is harmless.
func (h *Harmless) Write(p []byte) (int, error) {
	if !h.steer {
		return h.w.Write(p)
	}
	h.out = h.out[:0]
	rest := append(h.cut, p...)
	for len(rest) > 0 && utf8.FullRune(rest) {
		r, n := utf8.DecodeRune(rest)
		rest = rest[n:]
		for !h.state(h, r) {
		}
	}
	h.cut = append([]byte(nil), rest...)
	if _, err := h.w.Write(h.out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// EndLine makes what comes next begin a line, in no colour, on a terminal.
func (h *Harmless) EndLine() error {
	h.state, h.cut = (*Harmless).text, nil
	end := ""
	if h.coloured {
		end = "\x1b[0m"
	}
	if h.inLine {
		end += "\n"
	}
	h.inLine, h.coloured = false, false
	if end == "" {
		return nil
	}
	_, err := io.WriteString(h.w, end)
	return err
}

// The states take a character, and return false if the next state is to have it as well.

func (h *Harmless) text(r rune) bool {
	switch {
	case r == 0x1b:
		h.state = (*Harmless).escape
	case r == 0x9b:
		h.begin((*Harmless).control)
	case r == 0x90, r == 0x98, r >= 0x9d && r <= 0x9f:
		h.state = (*Harmless).forTerminal
	case r < ' ' && !strings.ContainsRune("\n\t\r\b", r), r >= 0x7f && r < 0xa0:
	default:
		h.out = utf8.AppendRune(h.out, r)
		h.inLine = r != '\n'
	}
	return true
}

func (h *Harmless) begin(state func(*Harmless, rune) bool) {
	h.state, h.sequence = state, h.sequence[:0]
}

// escape is after ESC.
func (h *Harmless) escape(r rune) bool {
	switch {
	case r == '[':
		h.begin((*Harmless).control)
	case strings.ContainsRune("]PX^_", r):
		h.state = (*Harmless).forTerminal
	case r >= ' ' && r < '0': // more follows
	case r >= '0' && r < 0x7f:
		h.state = (*Harmless).text
	default:
		h.state = (*Harmless).text
		return false
	}
	return true
}

// control is within a control sequence.
func (h *Harmless) control(r rune) bool {
	switch {
	case r >= ' ' && r < '@':
		if len(h.sequence) <= longestColour {
			h.sequence = append(h.sequence, byte(r))
		}
		return true
	case r == 'm' && len(h.sequence) <= longestColour &&
		strings.Trim(string(h.sequence), "0123456789;:") == "":
		h.out = append(append(append(h.out, "\x1b["...), h.sequence...), 'm')
		h.coloured = true
	case r < '@' || r >= 0x7f:
		h.state = (*Harmless).text
		return false
	}
	h.state = (*Harmless).text
	return true
}

// forTerminal is within a text for the terminal itself. The end of a line ends it too: the terminal
// has not seen its beginning, and a program that never ends it is not to lose all it prints.
func (h *Harmless) forTerminal(r rune) bool {
	switch r {
	case 0x07, 0x18, 0x1a, 0x9c:
		h.state = (*Harmless).text
	case 0x1b:
		h.state = (*Harmless).escape // "\" is the end of the text, or another one begins
	case '\n':
		h.state = (*Harmless).text
		return false
	}
	return true
}
