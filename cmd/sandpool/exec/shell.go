package exec

import (
	"strings"
)

// openShell: a quote, a backslash, a bracket, a here-document or a command of several words such
// as if goes on.
func openShell(text string) bool {
	s := shellText{text: text, command: true}
	for s.at < len(text) {
		if !s.step() {
			return true
		}
	}
	return s.depth > 0 || s.open > 0 || len(s.heredocs) > 0 || s.joined
}

// shellText is commands, of which those before at are read.
type shellText struct {
	text string
	at   int
	// depth counts round brackets, open the commands of several words.
	depth, open int
	// command says that the next word is one, joined that a command has to follow.
	command, joined bool
	heredocs        []heredoc
}

type heredoc struct {
	end  string
	tabs bool // before the end
}

// step reads on, and returns false if something has no end.
func (s *shellText) step() bool {
	rest := s.text[s.at:]
	switch c := rest[0]; {
	case c == '\n':
		s.at++
		s.command = true
		return s.skipHeredocs()
	case c == ' ', c == '\t', c == '\r':
		s.at++
	case c == '#':
		s.at += strings.IndexByte(rest+"\n", '\n')
	case strings.HasPrefix(rest, "<<<"):
		s.at += 3
	case strings.HasPrefix(rest, "<<"):
		s.at += 2
		s.heredoc()
	case c == '|', c == '&', c == ';':
		s.joined = c == '|' || strings.HasPrefix(rest, "&&")
		s.command = true
		s.at++
		if strings.HasPrefix(rest, "&&") || strings.HasPrefix(rest, "||") {
			s.at++
		}
	case c == '(':
		s.depth, s.command = s.depth+1, true
		s.at++
	case c == ')':
		s.depth, s.command = max(s.depth-1, 0), true // one without "(" ends a pattern of case
		s.at++
	case c == '<', c == '>':
		s.at++
	default:
		return s.word()
	}
	return true
}

// word reads a word, and counts those that open and close commands.
func (s *shellText) word() bool {
	begin := s.at
	for s.at < len(s.text) && !strings.ContainsRune(" \t\r\n;&|()<>", rune(s.text[s.at])) {
		switch c := s.text[s.at]; c {
		case '\\':
			if s.text[s.at:] == "\\\n" {
				return false
			}
			s.at++
		case '\'', '"', '`':
			if !s.quoted(c) {
				return false
			}
		}
		s.at++
	}
	s.at = min(s.at, len(s.text))
	s.joined = false
	if !s.command {
		return true
	}
	s.command = false
	switch s.text[begin:s.at] {
	case "if", "{", "while", "until":
		s.open, s.command = s.open+1, true
	case "for", "case", "select":
		s.open++
	case "fi", "}", "done", "esac":
		s.open = max(s.open-1, 0)
	case "then", "do", "else", "elif", "!", "time":
		s.command = true
	}
	return true
}

// quoted goes to the end of what a quote begins.
func (s *shellText) quoted(quote byte) bool {
	for s.at++; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == quote:
			return true
		case c == '\\' && quote != '\'':
			s.at++
		}
	}
	return false
}

// heredoc remembers the word that ends a here-document.
func (s *shellText) heredoc() {
	var h heredoc
	rest := s.text[s.at:]
	rest, h.tabs = strings.CutPrefix(rest, "-")
	rest = strings.TrimLeft(rest, " \t")
	n := strings.IndexAny(rest, " \t\r\n;&|()<>")
	if n < 0 {
		n = len(rest)
	}
	h.end = strings.NewReplacer("'", "", `"`, "", `\`, "").Replace(rest[:n])
	s.at = len(s.text) - len(rest) + n
	s.heredocs = append(s.heredocs, h)
}

// skipHeredocs goes to the end of those that the line before began.
func (s *shellText) skipHeredocs() bool {
	for len(s.heredocs) > 0 {
		line, _, ok := strings.Cut(s.text[s.at:], "\n")
		if !ok {
			return false
		}
		s.at += len(line) + 1
		if s.heredocs[0].tabs {
			line = strings.TrimLeft(line, "\t")
		}
		if line == s.heredocs[0].end {
			s.heredocs = s.heredocs[1:]
		}
	}
	return true
}
