package moment

import (
	"testing"
	"time"
)

// TestFormat: formats of .NET, of which some are examples of Azure's documentation.
func TestFormat(t *testing.T) {
	at := time.Date(2020, 3, 5, 17, 3, 9, 120_000_000, time.UTC)
	for format, want := range map[string]string{"d": "03/05/2020", "M d": "3 5",
		"yyyy-MM-dd": "2020-03-05", "u": "2020-03-05 17:03:09Z", "s": "2020-03-05T17:03:09",
		"o": "2020-03-05T17:03:09.1200000Z", "yyyyMMddHHmmss": "20200305170309",
		"yyyy-MM-ddTHH:mm:ssZ": "2020-03-05T17:03:09Z", "D": "Thursday, 05 March 2020",
		"r": "Thu, 05 Mar 2020 17:03:09 GMT", "hh:mm tt": "05:03 PM", "%d": "5", `\d\d`: "dd",
		"'at' H": "at 17", "ss.FFF": "09.12", "y": "2020 March", "yy/M": "20/3", "zzz": "+00:00",
		"HH'h'": "17h", "": "",
	} {
		if got, err := Format(at, format); got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", format, got, err, want)
		}
	}
	for _, format := range []string{"x", "'open", "ffffffff", "yyyyyy", "QQ", "HHH"} {
		if got, err := Format(at, format); err == nil {
			t.Errorf("%q is taken: %q", format, got)
		}
	}
}

// TestAdd: the examples of Azure's documentation.
func TestAdd(t *testing.T) {
	for _, row := range [][3]string{
		{"2023-01-01 00:00:00Z", "P1Y", "2024-01-01T00:00:00Z"},
		{"2024-01-01 00:00:00Z", "P1Y", "2024-12-31T00:00:00Z"},
		{"2023-02-01 00:00:00Z", "P1M", "2023-03-03T00:00:00Z"},
		{"2024-02-01 00:00:00Z", "P1M", "2024-03-02T00:00:00Z"},
		{"2020-04-07 14:53:14Z", "P3Y", "2023-04-07T14:53:14Z"},
		{"2020-04-07 14:53:14Z", "-P9D", "2020-03-29T14:53:14Z"},
		{"2020-04-07 14:53:14Z", "PT1H", "2020-04-07T15:53:14Z"},
	} {
		at, ok := Parse(row[0])
		if !ok {
			t.Fatalf("%s is not read", row[0])
		}
		sum, ok := Add(at, row[1])
		if got := sum.Format(time.RFC3339); !ok || got != row[2] {
			t.Errorf("%s and %s: %s, want %s", row[0], row[1], got, row[2])
		}
	}
	for _, bad := range []string{"", "P", "PT", "P1", "1Y", "P1H", "P1Y-", "PT1D"} {
		if _, ok := Add(time.Time{}, bad); ok {
			t.Errorf("%q is taken for a duration", bad)
		}
	}
}

func FuzzFormat(f *testing.F) {
	f.Add("yyyy-MM-ddTHH:mm:ssZ")
	f.Add("'a\\'%")
	f.Fuzz(func(t *testing.T, format string) {
		_, _ = Format(time.Unix(1_700_000_000, 1), format)
		if at, ok := Parse(format); ok {
			_, _ = Add(at, format)
		}
	})
}
