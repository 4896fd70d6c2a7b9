package gateway

import (
	"net/url"
	"strings"

	"github.com/sandpool/sandpool"
)

// query is a request's query string, parsed the way the clients of this API
// write it: many put the identifier in unescaped, so a '+' is a plus sign and
// not a space, ';' is a character and not a separator, and a '%' that starts no escape is itself.
// Parameter names are matched without regard to case.
type query struct{ raw string }

// values returns every value of the parameter name, in order.
func (q query) values(name string) []string {
	var vs []string
	for part := range strings.SplitSeq(q.raw, "&") {
		k, v, _ := strings.Cut(part, "=")
		if strings.EqualFold(decodeOnce(k), name) {
			vs = append(vs, decodeOnce(v))
		}
	}
	return vs
}

// get returns the value of the parameter name, or "". Repeating a parameter is
// an error: two readers of one request must not see two different values.
func (q query) get(name string) (string, error) {
	vs := q.values(name)
	switch len(vs) {
	case 0:
		return "", nil
	case 1:
		return vs[0], nil
	}
	return "", sandpool.Errorf(sandpool.Invalid, codeValidation, name,
		"The query parameter '%s' is given %d times; give it once.", name, len(vs))
}

// without returns the query string less every parameter name.
func (q query) without(name string) string {
	var kept []string
	for part := range strings.SplitSeq(q.raw, "&") {
		if k, _, _ := strings.Cut(part, "="); part != "" && !strings.EqualFold(decodeOnce(k), name) {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "&")
}

// decodeOnce undoes percent-encoding exactly once. A '%' that is not followed by two
// hexadecimal digits stays as it is, because identifiers may contain it and
// clients that do not encode send it so.
func decodeOnce(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := url.PathUnescape(s[i : i+3]); err == nil {
				b.WriteString(c)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
