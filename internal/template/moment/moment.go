// Package moment is how templates read, write and add times: in formats of .NET, and with
// durations of ISO 8601.
package moment

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool/internal/pattern"
)

// Parse reads a time as templates have it.
func Parse(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "20060102T150405Z", "2006-01-02 15:04:05Z",
		"2006-01-02T15:04:05", "2006-01-02"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}

// duration is a length of time in ISO 8601.
var duration = pattern.Lazy(`^(-?)P(?:(\d{1,4})Y)?(?:(\d{1,5})M)?(?:(\d{1,5})W)?(?:(\d{1,6})D)?` +
	`(?:T(?:(\d{1,7})H)?(?:(\d{1,8})M)?(?:(\d{1,9})S)?)?$`)

// Add adds a duration to a time. As in Azure a year has 365 days and a month 30.
func Add(at time.Time, length string) (time.Time, bool) {
	m := duration().FindStringSubmatch(length)
	if m == nil || strings.TrimRight(length, "PT") != length {
		return at, false
	}
	n := func(i int) int {
		v, _ := strconv.Atoi(m[i]) // what is absent is 0
		if m[1] != "" {
			return -v
		}
		return v
	}
	return at.AddDate(0, 0, 365*n(2)+30*n(3)+7*n(4)+n(5)).Add(time.Duration(n(6))*time.Hour +
		time.Duration(n(7))*time.Minute + time.Duration(n(8))*time.Second), true
}

// Format writes a time in UTC, in a standard or custom format of .NET.
func Format(t time.Time, format string) (string, error) {
	t = t.UTC()
	if len(format) == 1 {
		custom, ok := standard()[format]
		if !ok {
			return "", fmt.Errorf("knows no standard format %q of a time", format)
		}
		format = custom
	}
	var b strings.Builder
	for i := 0; i < len(format); {
		c := format[i]
		n := 1
		for i+n < len(format) && format[i+n] == c {
			n++
		}
		switch {
		case c == '\'' || c == '"':
			end := strings.IndexByte(format[i+1:], c)
			if end < 0 {
				return "", fmt.Errorf("has a quote without its end in the format of a time")
			}
			b.WriteString(format[i+1 : i+1+end])
			i += end + 2
			continue
		case c == '\\' && i+1 < len(format):
			b.WriteByte(format[i+1])
			i += 2
			continue
		case c == '%':
			i++
			continue
		case c == 'f' || c == 'F':
			text, err := fraction(t, c, n)
			if err != nil {
				return "", err
			}
			b.WriteString(text)
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			layout, ok := part(c, n)
			if !ok {
				return "", fmt.Errorf("knows no part %q of the format of a time",
					strings.Repeat(string(c), min(n, 10)))
			}
			b.WriteString(t.Format(layout))
		default:
			b.WriteString(format[i : i+n])
		}
		i += n
	}
	return b.String(), nil
}

// standard are the formats of one letter, by the custom ones that say the same, of no language.
func standard() map[string]string {
	const long = "dddd, dd MMMM yyyy"
	const rfc1123 = "ddd, dd MMM yyyy HH':'mm':'ss 'GMT'"
	const round = "yyyy'-'MM'-'dd'T'HH':'mm':'ss.fffffff'Z'"
	return map[string]string{"d": "MM/dd/yyyy", "D": long, "f": long + " HH:mm",
		"F": long + " HH:mm:ss", "g": "MM/dd/yyyy HH:mm", "G": "MM/dd/yyyy HH:mm:ss",
		"m": "MMMM dd", "M": "MMMM dd", "o": round, "O": round, "r": rfc1123, "R": rfc1123,
		"s": "yyyy'-'MM'-'dd'T'HH':'mm':'ss", "t": "HH:mm", "T": "HH:mm:ss",
		"u": "yyyy'-'MM'-'dd HH':'mm':'ss'Z'", "U": long + " HH:mm:ss", "y": "yyyy MMMM",
		"Y": "yyyy MMMM"}
}

// part is the layout of n letters of a custom format.
func part(c byte, n int) (string, bool) {
	layouts := map[byte][]string{
		'y': {"6", "06", "2006", "2006"}, 'M': {"1", "01", "Jan", "January"},
		'd': {"2", "02", "Mon", "Monday"}, 'H': {"15", "15"}, 'h': {"3", "03"}, 'm': {"4", "04"},
		's': {"5", "05"}, 't': {"PM", "PM"}, 'z': {"-07", "-07", "-07:00"}, 'K': {"Z"},
		'T': {"T"}, 'Z': {"Z"},
	}
	list := layouts[c]
	if n > len(list) {
		return "", false
	}
	return list[n-1], true
}

// fraction writes n digits of a fraction of a second; F leaves zeros at the end out.
func fraction(t time.Time, c byte, n int) (string, error) {
	if n > 7 {
		return "", fmt.Errorf("has more than 7 digits of a second in the format of a time")
	}
	digits := fmt.Sprintf("%09d", t.Nanosecond())[:n]
	if c == 'F' {
		digits = strings.TrimRight(digits, "0")
	}
	return digits, nil
}
