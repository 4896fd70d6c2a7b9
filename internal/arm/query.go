package arm

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
)

// codeParameter is the code of errors about the query, which clients of the data plane know.
const codeParameter = "SessionRequestValidationFailed"

// Query is a request's query string, parsed the way the clients of this API
// write it: many put the identifier in unescaped, so a '+' is a plus sign and
// not a space, ';' is a character and not a separator, and a '%' that starts no escape is itself.
// Parameter names are matched without regard to case.
type Query struct{ Raw string }

// Values returns every value of the parameter name, in order.
func (q Query) Values(name string) []string {
	var vs []string
	for part := range strings.SplitSeq(q.Raw, "&") {
		k, v, _ := strings.Cut(part, "=")
		if strings.EqualFold(DecodeOnce(k), name) {
			vs = append(vs, DecodeOnce(v))
		}
	}
	return vs
}

// Get returns the value of the parameter name, or "". Repeating a parameter is
// an error: two readers of one request must not see two different values.
func (q Query) Get(name string) (string, error) {
	vs := q.Values(name)
	switch len(vs) {
	case 0:
		return "", nil
	case 1:
		return vs[0], nil
	}
	return "", sandpool.Errorf(sandpool.Invalid, codeParameter, name,
		"The query parameter '%s' is given %d times; give it once.", name, len(vs))
}

// Number returns the whole number of a parameter, low to high, or fallback where it is missing.
// Any other text, or a parameter given twice, is an error that names it.
func (q Query) Number(name string, fallback, low, high uint64) (uint64, error) {
	s, err := q.Get(name)
	if err != nil || s == "" {
		return fallback, err
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n < low || n > high {
		return 0, WrongParameter(name, s, fmt.Sprintf("a whole number from %d to %d", low, high))
	}
	return n, nil
}

// Time returns the moment of a parameter in the form of RFC 3339, or the zero time where it is
// missing. Any other text is an error that names it.
func (q Query) Time(name string) (time.Time, error) {
	s, err := q.Get(name)
	if err != nil || s == "" {
		return time.Time{}, err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, WrongParameter(name, s, "a time such as 2030-01-31T00:00:00Z")
	}
	return t, nil
}

// WrongParameter is the error of a query parameter whose value is not what fix describes.
func WrongParameter(name, value, fix string) error {
	return sandpool.Errorf(sandpool.Invalid, "InvalidParameter", name,
		"The query parameter '%s' is %.60q; use %s.", name, value, fix)
}

// Without returns the query string less every parameter name.
func (q Query) Without(name string) string {
	var kept []string
	for part := range strings.SplitSeq(q.Raw, "&") {
		if k, _, _ := strings.Cut(part, "="); part != "" &&
			!strings.EqualFold(DecodeOnce(k), name) {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "&")
}

// DecodeOnce undoes percent-encoding exactly once. A '%' that is not followed by two
// hexadecimal digits stays as it is, because identifiers may contain it and
// clients that do not encode send it so.
func DecodeOnce(s string) string {
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

// ParseTime reads a time in a body, such as 2030-01-31T00:00:00Z, in UTC and whole seconds. It is
// an error of class Invalid about the field target if text is none.
func ParseTime(target, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, sandpool.Errorf(sandpool.Invalid, "InvalidTime", target,
			"%s is %.60q; write it as 2030-01-31T00:00:00Z.", target, text)
	}
	return t.UTC().Truncate(time.Second), nil
}
