package template

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// maxText bounds a request with its template, as Azure bounds it.
const maxText = 4 << 20

// Clean returns the JSON that text means. Templates may have comments, line breaks within strings
// and a comma after the last element; az sends a template as it is written, after a name without
// quotes.
func Clean(text []byte) ([]byte, error) {
	if len(text) > maxText {
		return nil, invalid("", "The request has %d bytes; at most %d are taken.", len(text), maxText)
	}
	if !utf8.Valid(text) {
		return nil, invalid("", "The request body is not UTF-8.")
	}
	c := cleaner{in: bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))}
	for c.at < len(c.in) {
		if err := c.step(); err != nil {
			return nil, err
		}
	}
	if !json.Valid(c.out) {
		var v any
		return nil, invalid("", "The request body is not JSON: %v.", json.Unmarshal(c.out, &v))
	}
	return c.out, nil
}

type cleaner struct {
	in, out []byte
	at      int
	depth   int // of brackets and braces
}

func (c *cleaner) step() error {
	b := c.in[c.at]
	switch {
	case b == '"':
		return c.text()
	case b == '/' && c.at+1 < len(c.in) && c.in[c.at+1] == '/':
		for c.at < len(c.in) && c.in[c.at] != '\n' {
			c.at++
		}
	case b == '/' && c.at+1 < len(c.in) && c.in[c.at+1] == '*':
		end := bytes.Index(c.in[c.at+2:], []byte("*/"))
		if end < 0 {
			return invalid("", "A comment at byte %d has no end.", c.at)
		}
		c.at += end + 4
	case b == '[' || b == '{':
		if c.depth++; c.depth > maxNesting {
			return invalid("", "The request is more than %d brackets and braces deep.", maxNesting)
		}
		c.out = append(c.out, b)
		c.at++
	case b == ']' || b == '}':
		c.depth--
		if n := len(bytes.TrimRight(c.out, " \t\r\n")); n > 0 && c.out[n-1] == ',' {
			c.out = c.out[:n-1]
		}
		c.out = append(c.out, b)
		c.at++
	case isLetter(b):
		c.word()
	default:
		c.out = append(c.out, b)
		c.at++
	}
	return nil
}

func isLetter(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b == '_' || b == '$'
}

// text copies a string, with its line breaks escaped.
func (c *cleaner) text() error {
	start := c.at
	c.out = append(c.out, '"')
	for c.at++; c.at < len(c.in); c.at++ {
		switch b := c.in[c.at]; b {
		case '"':
			c.out = append(c.out, b)
			c.at++
			return nil
		case '\\':
			if c.at+1 == len(c.in) {
				return invalid("", "The string at byte %d has no end.", start)
			}
			c.out = append(c.out, b, c.in[c.at+1])
			c.at++
		case '\n':
			c.out = append(c.out, '\\', 'n')
		case '\r':
			c.out = append(c.out, '\\', 'r')
		case '\t':
			c.out = append(c.out, '\\', 't')
		default:
			c.out = append(c.out, b)
		}
	}
	return invalid("", "The string at byte %d has no end.", start)
}

// word copies a word, in quotes if it is a name.
func (c *cleaner) word() {
	start := c.at
	for c.at < len(c.in) && (isLetter(c.in[c.at]) || c.in[c.at] >= '0' && c.in[c.at] <= '9') {
		c.at++
	}
	word := c.in[start:c.at]
	if rest := bytes.TrimLeft(c.in[c.at:], " \t\r\n"); len(rest) > 0 && rest[0] == ':' {
		word = fmt.Appendf(nil, "%q", word)
	}
	c.out = append(c.out, word...)
}

// decode reads JSON with whole numbers as int64 and others as float64.
func decode(text []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, invalid("", "The value is not JSON: %v.", err)
	}
	return plainNumbers(v), nil
}

func plainNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case float64:
		if n := int64(v); float64(n) == v && v < 1<<53 && v > -1<<53 {
			return n
		}
	case map[string]any:
		for k, e := range v {
			v[k] = plainNumbers(e)
		}
	case []any:
		for i, e := range v {
			v[i] = plainNumbers(e)
		}
	}
	return v
}

// Numbers returns v, which was decoded from JSON, with its numbers as templates have them.
func Numbers(v map[string]any) map[string]any {
	if v == nil {
		return nil
	}
	return plainNumbers(v).(map[string]any)
}
