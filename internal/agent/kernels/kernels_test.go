package kernels

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// Every language has what the driver needs of it, and is found by its name alone.
func TestTable(t *testing.T) {
	for _, name := range Names() {
		s, err := Find(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := s.Program()
		if err != nil || text == "" || s.Rehearsal == "" || len(s.Command) == 0 {
			t.Errorf("%s: %d bytes of program, %v, rehearsal %q, command %q", name, len(text),
				err, s.Rehearsal, s.Command)
		}
	}
	if _, err := Find("cobol"); err == nil || !strings.Contains(err.Error(), "python") {
		t.Errorf("an unknown language: %v; it should name the known ones", err)
	}
}

// A cell without code is a cell: kernels read the field without asking whether it is there.
func TestEmptyCode(t *testing.T) {
	text, err := json.Marshal(Request{Op: OpRun, ID: "1"})
	if err != nil || !strings.Contains(string(text), `"code":""`) {
		t.Errorf("%s, %v", text, err)
	}
}

// A record of the shell is a head of one length and as many bytes as it says, with a program's
// arguments quoted and no NUL, which bash would wait for in vain.
func TestShellRecord(t *testing.T) {
	for _, c := range []struct {
		req  Request
		head string
		body string
	}{
		{Request{Op: OpRun, ID: "7", Code: "echo ä"}, "run 7 7 -", "echo ä"},
		{Request{Op: OpRun, ID: "8"}, "run 8 0 -", ""},
		{Request{Op: OpRun, ID: "9", Posix: true, Input: true, Code: "x"}, "run 9 1 -pi", "x"},
		{Request{Op: OpInit, ID: "agent", Seed: "ab"}, "init agent 2 -", "ab"},
		{Request{Op: OpRun, ID: "1", Args: []string{"ls", "it's", ""}},
			"run 1 28 -", `(exec -- 'ls' 'it'\''s' '')`},
	} {
		got, err := shellRecord(c.req)
		want := strings.Replace(c.head, " 28 ", fmt.Sprintf(" %d ", len(c.body)), 1)
		if err != nil || len(got) != shellHead+len(c.body) ||
			strings.TrimRight(string(got[:shellHead]), " ") != want ||
			string(got[shellHead:]) != c.body {
			t.Errorf("%+v: %q, %v; want %q and %q", c.req, got, err, want, c.body)
		}
	}
	for _, r := range []Request{{Op: OpRun, Code: "a\x00b"}, {Op: OpRun, Args: []string{"a\x00"}},
		{Op: OpRun, Code: "\xff"},
		{Op: OpRun, ID: strings.Repeat("9", shellHead)}} {
		if got, err := shellRecord(r); err == nil {
			t.Errorf("%+v is written as %q", r, got)
		}
	}
}
