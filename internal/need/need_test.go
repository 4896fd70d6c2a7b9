package need

import (
	"strings"
	"testing"
)

// record is a test that notes how it was first ended, and goes on.
type record struct {
	testing.TB
	end string
}

func (r *record) Helper()                   {}
func (r *record) Fatalf(f string, _ ...any) { r.note("fatal " + f) }
func (r *record) Skipf(f string, _ ...any)  { r.note("skip " + f) }

func (r *record) note(end string) {
	if r.end == "" {
		r.end = end
	}
}

// A lack is a failure where everything is to run, and only there.
func TestLack(t *testing.T) {
	for value, want := range map[string]string{"": "skip ", "1": "fatal "} {
		t.Setenv(all, value)
		r := &record{TB: t}
		if Lack(r, "needs %s", "a moon"); !strings.HasPrefix(r.end, want) ||
			!strings.Contains(r.end, "needs %s") {
			t.Errorf("with %s=%q: %q, want %q", all, value, r.end, want)
		}
	}
}

// An exception is none: it is skipped everywhere.
func TestExcept(t *testing.T) {
	t.Setenv(all, "1")
	r := &record{TB: t}
	if Except(r, OneCore, "one"); !strings.HasPrefix(r.end, "skip ") {
		t.Errorf("ended by %q", r.end)
	}
}
