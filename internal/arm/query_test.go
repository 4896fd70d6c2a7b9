package arm

import (
	"strings"
	"testing"
	"time"
)

func TestQueryNumber(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                   "",
		"limit=":                             "",
		"limit=1":                            "",
		"LIMIT=10":                           "",
		"limit=0":                            "use a whole number from 1 to 10",
		"limit=11":                           "use a whole number from 1 to 10",
		"limit=-1":                           "use a whole number from 1 to 10",
		"limit=+1":                           "use a whole number from 1 to 10",
		"limit=1.5":                          "'limit' is \"1.5\"",
		"limit=1&a&limit=1":                  "given 2 times",
		"limit=" + strings.Repeat("9", 1000): "use a whole number",
	} {
		n, err := Query{Raw: raw}.Number("limit", 7, 1, 10)
		switch {
		case want == "" && (err != nil || n < 1 || n > 10):
			t.Errorf("%q = %d, %v", raw, n, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v; want %q", raw, err, want)
		case err != nil && len(err.Error()) > 200:
			t.Errorf("%.20q: an error of %d bytes", raw, len(err.Error()))
		}
	}
}

func TestQueryTime(t *testing.T) {
	at, err := Query{Raw: "since=2030-01-31T00:00:00%2B01:00"}.Time("since")
	if want := time.Date(2030, 1, 30, 23, 0, 0, 0, time.UTC); err != nil || !at.Equal(want) {
		t.Errorf("since = %v, %v", at, err)
	}
	// A plus sign that a client did not escape is a plus sign.
	if plain, err := (Query{Raw: "since=2030-01-31T00:00:00+01:00"}).Time("since"); err != nil ||
		!plain.Equal(at) {
		t.Errorf("since = %v, %v", plain, err)
	}
	if at, err := (Query{}).Time("since"); err != nil || !at.IsZero() {
		t.Errorf("nothing = %v, %v", at, err)
	}
	if _, err := (Query{Raw: "since=today"}).Time("since"); err == nil ||
		!strings.Contains(err.Error(), "'since' is \"today\"") {
		t.Error(err)
	}
}
