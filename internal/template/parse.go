package template

import (
	"strconv"
	"strings"

	"github.com/sandpool/sandpool"
)

const (
	// maxExpression is Azure's bound on the length of an expression.
	maxExpression = 24_576
	// maxDepth bounds how deep calls are within calls.
	maxDepth = 64
)

func invalid(target, format string, args ...any) error {
	return sandpool.Errorf(sandpool.Invalid, "InvalidTemplate", target, format, args...)
}

// node is a part of an expression: a literal, a call, or an access to a member of another.
type node struct {
	literal any
	call    string
	args    []*node
	of      *node // what is accessed
	key     *node
}

// isExpression reports whether a string of a template is an expression.
func isExpression(s string) bool {
	return strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") && !strings.HasPrefix(s, "[[")
}

// parse reads the expression between the brackets of s.
func parse(s string) (*node, error) {
	if len(s) > maxExpression {
		return nil, invalid("", "An expression has %d characters; at most %d are taken.", len(s),
			maxExpression)
	}
	p := parser{text: s[1 : len(s)-1], whole: s}
	n, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at != len(p.text) {
		return nil, p.bad("has %q after its end", clip(p.text[p.at:]))
	}
	return n, nil
}

func clip(s string) string { return s[:min(len(s), 40)] }

type parser struct {
	text, whole string
	at          int
}

func (p *parser) bad(format string, args ...any) error {
	return invalid("", "The expression %q "+format+".",
		append([]any{p.whole[:min(len(p.whole), 200)]},
			args...)...)
}

func (p *parser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// peek is the next character that is no space, and 0 at the end.
func (p *parser) peek() byte {
	p.space()
	if p.at == len(p.text) {
		return 0
	}
	return p.text[p.at]
}

func (p *parser) value(depth int) (*node, error) {
	if depth > maxDepth {
		return nil, p.bad("is more than %d calls deep", maxDepth)
	}
	var n *node
	var err error
	switch c := p.peek(); {
	case c == '\'':
		n, err = p.quoted()
	case c == '-' || c == '+' || c >= '0' && c <= '9':
		n, err = p.number()
	case isLetter(c):
		n, err = p.function(depth)
	case c == 0:
		return nil, p.bad("ends too early")
	default:
		return nil, p.bad("has a %q where a value must be", c)
	}
	if err != nil {
		return nil, err
	}
	return p.members(n, depth)
}

// members reads what follows a value: .name and [index].
func (p *parser) members(n *node, depth int) (*node, error) {
	for count := 0; ; count++ {
		if count > maxDepth {
			return nil, p.bad("goes more than %d members deep", maxDepth)
		}
		switch p.peek() {
		case '.':
			p.at++
			if p.peek() == '?' { // safe access is tryGet by another name
				return nil, p.bad("has .? in it, which is not supported; use tryGet")
			}
			name := p.name()
			if name == "" {
				return nil, p.bad("has a point without a name after it")
			}
			n = &node{of: n, key: &node{literal: name}}
		case '[':
			p.at++
			key, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			if p.peek() != ']' {
				return nil, p.bad("has an index without its bracket")
			}
			p.at++
			n = &node{of: n, key: key}
		default:
			return n, nil
		}
	}
}

func (p *parser) name() string {
	start := p.at
	for p.at < len(p.text) && (isLetter(p.text[p.at]) || p.text[p.at] >= '0' &&
		p.text[p.at] <= '9') {
		p.at++
	}
	return p.text[start:p.at]
}

// quoted reads 'text', in which two quotes are one.
func (p *parser) quoted() (*node, error) {
	var b strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		switch {
		case p.text[p.at] != '\'':
			b.WriteByte(p.text[p.at])
		case p.at+1 < len(p.text) && p.text[p.at+1] == '\'':
			b.WriteByte('\'')
			p.at++
		default:
			p.at++
			return &node{literal: b.String()}, nil
		}
	}
	return nil, p.bad("has a string without an end")
}

func (p *parser) number() (*node, error) {
	start := p.at
	for p.at++; p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9'; p.at++ {
	}
	n, err := strconv.ParseInt(p.text[start:p.at], 10, 64)
	if err != nil {
		return nil, p.bad("has the number %q, which is no whole number of 64 bits",
			clip(p.text[start:p.at]))
	}
	return &node{literal: n}, nil
}

func (p *parser) function(depth int) (*node, error) {
	name := p.name()
	if p.peek() == '.' { // a function of the template's own has a namespace
		p.at++
		name += "." + p.name()
	}
	if p.peek() != '(' {
		return nil, p.bad("has the word %q, which is neither a call nor in quotes", name)
	}
	p.at++
	n := &node{call: name}
	for p.peek() != ')' {
		if len(n.args) > 0 {
			if p.peek() != ',' {
				return nil, p.bad("has no comma and no bracket after an argument of %s", name)
			}
			p.at++
		}
		arg, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.args = append(n.args, arg)
	}
	p.at++
	return n, nil
}
