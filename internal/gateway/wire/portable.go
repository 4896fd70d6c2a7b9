package wire

import (
	"encoding/json"
	"strconv"
	"strings"
)

// deepest is how many arrays and objects of a value may stand in each other. Clients of .NET read
// 64 in all, where an answer has three of its own, and Python's json fails at some hundreds.
const deepest = 50

// plainDigits is the length up to which a number without an exponent is within a float64.
const plainDigits = 300

// portable tells whether every client can read text as JSON: it is valid, is not null, does not
// nest too deep, and all its numbers are within a float64. A reader that meets anything else fails,
// and with it the whole answer is lost.
func portable(text string) bool {
	if text == "null" || !json.Valid([]byte(text)) {
		return false
	}
	depth := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			i = endOfString(text, i)
			if i < 0 {
				return false
			}
		case c == '[' || c == '{':
			if depth++; depth > deepest {
				return false
			}
		case c == ']' || c == '}':
			depth--
		case c == '-' || '0' <= c && c <= '9':
			end := i + 1
			for end < len(text) && strings.IndexByte("+-.eE0123456789", text[end]) >= 0 {
				end++
			}
			if !finite(text[i:end]) {
				return false
			}
			i = end - 1
		}
	}
	return true
}

// endOfString returns where the string that begins at i ends, or -1 if half of a pair of surrogates
// stands in it alone, which is no character.
func endOfString(text string, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] != '\\' {
			continue
		}
		i++
		if text[i] != 'u' {
			continue
		}
		switch kind := surrogate(text[i+1:]); {
		case kind == high && strings.HasPrefix(text[i+5:], `\u`) && surrogate(text[i+7:]) == low:
			i += 10
		case kind == none:
			i += 4
		default:
			return -1
		}
	}
	return i
}

const (
	none = iota
	high
	low
)

// surrogate tells which half of a pair the four hexadecimal digits are that text begins with.
func surrogate(text string) int {
	code, err := strconv.ParseUint(text[:4], 16, 16)
	switch {
	case err != nil || code < 0xd800 || code > 0xdfff:
		return none
	case code < 0xdc00:
		return high
	}
	return low
}

// finite tells whether a number of JSON is within a float64.
func finite(number string) bool {
	if len(number) <= plainDigits && !strings.ContainsAny(number, "eE") {
		return true
	}
	_, err := strconv.ParseFloat(number, 64)
	return err == nil
}
