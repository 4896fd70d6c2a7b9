package exec

import (
	"strings"
	"unicode"
)

// language is how one types in a language.
type language struct {
	name, prompt, more string
	// end is a cell that ends it all, as Ctrl-D does.
	end string
	// open reports whether lines, each with its end, are the beginning of more.
	open func(text string) bool
}

// languageOf is that of a kernel.
func languageOf(kernel string) language {
	switch kernel {
	case "python":
		return language{name: kernel, prompt: ">>> ", more: "... ", end: "exit", open: openPython}
	case "node":
		return language{name: kernel, prompt: "> ", more: "... ", end: ".exit", open: openNode}
	case "shell":
		return language{name: kernel, prompt: "$ ", more: "> ", end: "exit", open: openShell}
	}
	// Nothing is known of others but that brackets come in pairs.
	return language{name: kernel, prompt: kernel + "> ", more: "... ", end: "exit",
		open: func(text string) bool {
			return strings.HasSuffix(text, "\\\n") || brackets(text) > 0
		}}
}

func brackets(text string) (depth int) {
	for _, r := range text {
		switch {
		case strings.ContainsRune("([{", r):
			depth++
		case strings.ContainsRune(")]}", r):
			depth--
		}
	}
	return depth
}

// openPython: a bracket, a text of three quotes or a backslash goes on; a block ends at an
// empty line.
func openPython(text string) bool {
	blank := strings.TrimRight(lastLine(text), " \t") == ""
	switch first := strings.TrimLeft(text, " \t\n"); {
	case strings.HasPrefix(first, "%%"):
		return !blank
	case strings.HasPrefix(first, "!"), strings.HasPrefix(first, "%"):
		return strings.HasSuffix(text, "\\\n")
	}
	depth, block := 0, false
	last := '\n' // the last character of the logical line that is no blank
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '#':
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case '\'', '"':
			end, ok := pythonText(text, i)
			if !ok {
				return true
			}
			i, last = end, '"'
		case '\\':
			if text[i:] == "\\\n" {
				return true
			}
			i++
		case '(', '[', '{':
			depth++
			last = rune(c)
		case ')', ']', '}':
			depth--
			last = rune(c)
		case '\n':
			block = block || depth <= 0 && last == ':'
			if depth <= 0 {
				last = '\n'
			}
		case ' ', '\t', '\r':
		default:
			block = block || c == '@' && last == '\n'
			last = rune(c)
		}
	}
	return depth > 0 || block && !blank
}

// lastLine is the last of lines that all have their end.
func lastLine(text string) string {
	text = strings.TrimSuffix(text, "\n")
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// pythonText returns where the text ends that begins at i. One in single quotes that lacks its end
// ends with its line: that is an error, which the session reports.
func pythonText(text string, i int) (end int, ok bool) {
	quote := text[i : i+1]
	if triple := strings.Repeat(quote, 3); strings.HasPrefix(text[i:], triple) {
		quote, i = triple, i+2
	}
	for i++; i < len(text); i++ {
		switch {
		case text[i] == '\\':
			if i++; text[i:] == "\n" {
				return i, false
			}
		case strings.HasPrefix(text[i:], quote):
			return i + len(quote) - 1, true
		case text[i] == '\n' && len(quote) == 1:
			return i - 1, true
		}
	}
	return i, false
}

// openNode: a bracket, a template or a comment goes on.
func openNode(text string) bool {
	var in []byte // open brackets, and templates as '`'
	last := byte('\n')
	for i := 0; i < len(text); i++ {
		c := text[i]
		if len(in) > 0 && in[len(in)-1] == '`' {
			switch {
			case c == '\\':
				i++
			case c == '`':
				in, last = in[:len(in)-1], '"'
			case strings.HasPrefix(text[i:], "${"):
				in, last = append(in, '{'), '{'
				i++
			}
			continue
		}
		switch {
		case strings.HasPrefix(text[i:], "//"):
			i += strings.IndexByte(text[i:], '\n') - 1
			continue
		case strings.HasPrefix(text[i:], "/*"):
			n := strings.Index(text[i+2:], "*/")
			if n < 0 {
				return true
			}
			i += n + 3
			continue
		case c == '\'', c == '"', c == '/' && beforePattern(text[:i], last):
			i, c = nodeText(text, i), '"'
		case c == '(', c == '[', c == '{', c == '`':
			in = append(in, c)
		case c == ')', c == ']', c == '}':
			if len(in) == 0 {
				return false
			}
			in = in[:len(in)-1]
		case c == ' ', c == '\t', c == '\r', c == '\n':
			continue
		}
		last = c
	}
	return len(in) > 0
}

// nodeText returns where the text or pattern ends that begins at i, at the latest with its line.
func nodeText(text string, i int) int {
	quote, class := text[i], false
	for i++; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			i++
		case c == quote && !class:
			return i
		case c == '\n':
			return i - 1
		case quote == '/' && (c == '[' || c == ']'):
			class = c == '['
		}
	}
	return i
}

// beforePattern reports whether a slash begins a pattern, and is no division.
func beforePattern(before string, last byte) bool {
	if strings.IndexByte("\n=([{,;:!&|?+-*%<>~^", last) >= 0 {
		return true
	}
	before = strings.TrimRight(before, " \t")
	word := before[strings.LastIndexFunc(before, func(r rune) bool {
		return !unicode.IsLetter(r)
	})+1:]
	return word == "return" || word == "typeof" || word == "case"
}
