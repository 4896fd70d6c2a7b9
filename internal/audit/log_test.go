package audit

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool/api"
)

func open(t *testing.T, dir string, o Options) *Log {
	t.Helper()
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func fill(t *testing.T, l *Log, n int) {
	t.Helper()
	for i := range n {
		err := l.Append(Record{Who: "token:a", Action: "PUT", On: fmt.Sprintf("/pools/%d", i),
			Outcome: api.AuditDone, After: []byte(`{"name":"p"}`)})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// whole checks that a log is whole and has n records.
func whole(t *testing.T, dir string, n int) Verification {
	t.Helper()
	v, err := Verify(dir, nil)
	if err != nil || v.Fault != "" || v.Records != n {
		t.Fatalf("want %d whole records: %+v, %v", n, v, err)
	}
	return v
}

func only(t *testing.T, dir string) string {
	t.Helper()
	names, err := files(dir)
	if err != nil || len(names) != 1 {
		t.Fatalf("files %q, %v", names, err)
	}
	return names[0]
}

// TestEveryByte: whichever byte is changed, removed or put in, the check says so.
func TestEveryByte(t *testing.T) {
	dir := t.TempDir()
	fill(t, open(t, dir, Options{}), 2)
	v := whole(t, dir, 2)
	name := only(t, dir)
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lineOf := func(at int) int { return bytes.Count(good[:at], []byte("\n")) + 1 }
	try := func(what string, at int, text []byte) {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Verify(dir, &v.Head)
		if err != nil || got.Fault == "" {
			t.Fatalf("%s byte %d (%q): %+v, %v", what, at, good[at], got, err)
		}
		// a line is at fault, or the next whose hash covers it
		line := lineOf(at)
		if !strings.Contains(got.Fault, fmt.Sprintf("line %d:", line)) &&
			!strings.Contains(got.Fault, fmt.Sprintf("line %d:", line+1)) &&
			!strings.Contains(got.Fault, "the newest record") {
			t.Fatalf("%s byte %d of line %d: the fault is %q", what, at, line, got.Fault)
		}
	}
	for at := range good {
		for _, b := range []byte{good[at] ^ 1, '\n'} {
			if b != good[at] {
				changed := bytes.Clone(good)
				changed[at] = b
				try("another", at, changed)
			}
		}
		try("without", at, slices.Delete(bytes.Clone(good), at, at+1))
	}
}

// TestLines: a line that is removed, doubled or moved is found, and the end that is cut off by its
// hash.
func TestLines(t *testing.T) {
	dir := t.TempDir()
	fill(t, open(t, dir, Options{}), 5)
	v := whole(t, dir, 5)
	name := only(t, dir)
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(good, []byte("\n"))[:5]
	for what, order := range map[string][]int{"the first is gone": {1, 2, 3, 4},
		"one is gone": {0, 1, 3, 4}, "one is doubled": {0, 1, 1, 2, 3, 4},
		"two are exchanged": {0, 2, 1, 3, 4}, "the last are gone": {0, 1, 2}, "all are gone": {}} {
		var text []byte
		for _, i := range order {
			text = append(text, lines[i]...)
		}
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Verify(dir, &v.Head); err != nil || got.Fault == "" {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
}

// TestResume: the chain goes on after a restart, and over a record that was never finished.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	fill(t, l, 2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	name := only(t, dir)
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	const half = `{"seq":3,"time":"2026`
	if _, err := f.WriteString(half); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, Options{})
	fill(t, l, 2)
	whole(t, dir, 5)
	records, _, err := l.Read(t.Context(), Query{After: 2, Limit: 1})
	if err != nil || len(records) != 1 || records[0].Action != "RECOVER" ||
		!strings.Contains(records[0].Message, "21 bytes") {
		t.Errorf("the record of it is %+v, %v", records, err)
	}
	kept, err := os.ReadFile(filepath.Join(dir, unfinishedFile))
	if err != nil || string(kept) != half+"\n" {
		t.Errorf("what was not finished is %q, %v", kept, err)
	}
	if v, err := l.Verify(); err != nil || v.Fault != "" {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestDamaged: a log whose last line is no record is not gone on with in silence.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	fill(t, l, 2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	name := only(t, dir)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(text, "{}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir, Options{})
	if err == nil || !strings.Contains(err.Error(), "audit verify") {
		t.Errorf("it opens: %v", err)
	}
}

// TestFiles: the oldest files go, and what is left can be checked and gone on with.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	o := Options{FileSize: 1000, Keep: 4000}
	l := open(t, dir, o)
	fill(t, l, 100)
	v, err := Verify(dir, nil)
	if err != nil || v.Fault != "" || v.First == 1 || v.Last != 100 {
		t.Fatalf("%+v, %v", v, err)
	}
	names, err := files(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 3 || len(names) > 6 {
		t.Errorf("there are %d files", len(names))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, o)
	fill(t, l, 1)
	records, last, err := l.Read(t.Context(), Query{After: 95, Limit: 3})
	if err != nil || len(records) != 3 || records[0].Seq != 96 || last != 98 {
		t.Errorf("%+v, %d, %v", records, last, err)
	}
	// the first record that is left is checked too
	if names, err = files(dir); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(first, []byte("token:a"), []byte("token:b"), 1)
	if err := os.WriteFile(names[0], changed, 0o600); err != nil {
		t.Fatal(err)
	}
	if v, err := l.Verify(); err != nil || !strings.Contains(v.Fault, "line 1:") {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestRefusals: any number of refusals takes bounded room, and those left out are counted.
func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	l := open(t, dir, Options{Now: func() time.Time { return now }})
	refuse := func(n int, stranger bool) {
		t.Helper()
		for range n {
			r := Record{Action: "GET", On: "/", Outcome: api.AuditRefused}
			if err := l.Refuse(r, stranger); err != nil {
				t.Fatal(err)
			}
		}
	}
	refuse(1000, true)
	fill(t, l, 1)
	whole(t, dir, strangersBurst+1)
	records, _, err := l.Read(t.Context(), Query{Limit: 1000, Outcome: api.AuditDone})
	if err != nil || len(records) != 1 || records[0].LeftOut != 1000-strangersBurst {
		t.Errorf("%+v, %v", records, err)
	}
	refuse(1000, false) // strangers have not taken the others' part
	whole(t, dir, strangersBurst+1+refusalBurst)
	for range 24 * 60 * 60 {
		now = now.Add(time.Second)
		refuse(1, true)
	}
	if all := strangersBurst + 1 + refusalBurst + 24*60*60/10; int(l.seq) > all {
		t.Errorf("%d records after a day, want at most %d", l.seq, all)
	}
}

func TestQuery(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	began := time.Now()
	for _, r := range []Record{
		{Who: "token:a", Name: "ci", Action: "PUT", On: "/a/Pool", Outcome: api.AuditDone},
		{Who: "token:b", Action: "PUT", On: "/b", Outcome: api.AuditRefused},
	} {
		if err := l.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		q    Query
		want int
	}{{Query{}, 2}, {Query{Who: "token:a"}, 1}, {Query{Who: "ci"}, 1}, {Query{Who: "c"}, 0},
		{Query{On: "/A/pool"}, 1}, {Query{On: "/"}, 2}, {Query{On: "/A"}, 1},
		{Query{On: "/a/"}, 1}, {Query{On: "/a/poo"}, 0}, {Query{Outcome: api.AuditRefused}, 1},
		{Query{Since: began}, 2}, {Query{Since: began.Add(time.Hour)}, 0},
		{Query{Until: began}, 0}} {
		row.q.Limit = 10
		got, last, err := l.Read(t.Context(), row.q)
		if err != nil || len(got) != row.want || last != 2 {
			t.Errorf("%+v: %+v, %d, %v", row.q, got, last, err)
		}
	}
}

// TestWait: whoever follows the log misses nothing.
func TestWait(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	var wg sync.WaitGroup
	wg.Go(func() {
		seen := uint64(0)
		for seen < 50 {
			l.Wait(t.Context(), seen)
			records, last, err := l.Read(t.Context(), Query{After: seen, Limit: 10})
			if err != nil {
				t.Error(err)
				return
			}
			for _, r := range records {
				if r.Seq != seen+1 {
					t.Errorf("record %d follows %d", r.Seq, seen)
				}
				seen = r.Seq
			}
			seen = max(seen, last)
		}
	})
	for range 5 {
		wg.Go(func() { fill(t, l, 10) })
	}
	wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.Wait(ctx, 50) // returns
}

// TestReadPastDamage: a line that cannot be read is not waited for again and again.
func TestReadPastDamage(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	fill(t, l, 3)
	name := only(t, dir)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-3] = 'x' // of the last line's hash
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	got, last, err := l.Read(t.Context(), Query{Limit: 10})
	if err != nil || len(got) != 2 || last != 3 {
		t.Errorf("%d records to %d, %v", len(got), last, err)
	}
	got, last, err = l.Read(t.Context(), Query{Limit: 1})
	if err != nil || len(got) != 1 || last != 1 {
		t.Errorf("%d records to %d, %v", len(got), last, err)
	}
}

// TestFull: a record that cannot be written leaves no half line, and the next one can.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, Options{})
	fill(t, l, 1)
	good := l.file
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	l.file = full
	if err := l.Append(Record{Action: "PUT", On: "/lost"}); err == nil || l.Broken() == nil {
		t.Error("a full disk is no error")
	}
	l.file = good
	fill(t, l, 1)
	if l.Broken() != nil {
		t.Error("the log stays broken")
	}
	whole(t, dir, 2)
}
