package sandpool

import (
	"strings"
	"testing"
)

func TestParseIdentifier(t *testing.T) {
	for in, want := range map[string]string{
		"abcd":                   "",
		"a+b/c?d":                "",
		strings.Repeat("x", 128): "",
		"":                       "missing",
		"abc":                    "has 3 characters",
		"üü":                     "has 2 characters",
		strings.Repeat("x", 129): "has 129 characters",
		"wei rd":                 "has ' ' at position 4",
		"weiü":                   "has 'ü' at position 4",
		"wei\xff":                "at position 4",
		`wei\rd`:                 `has '\\' at position 4`,
	} {
		id, err := ParseIdentifier(in)
		switch {
		case want == "" && (err != nil || string(id) != in):
			t.Errorf("ParseIdentifier(%q) = %q, %v", in, id, err)
		case want != "" && (ClassOf(err) != Invalid || !strings.Contains(err.Error(), want)):
			t.Errorf("ParseIdentifier(%q) = %v, want class Invalid and %q", in, err, want)
		}
	}
}
