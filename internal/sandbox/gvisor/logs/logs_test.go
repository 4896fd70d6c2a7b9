package logs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sandpool/sandpool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// process is what a sandbox has of its log.
type process struct{ out, errs *os.File }

func (p process) end() { _, _ = p.out.Close(), p.errs.Close() }

func open(t *testing.T, dir string, runs bool) *Store {
	t.Helper()
	s, err := Open(dir, func(sandpool.SandboxID) bool { return runs })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func begin(t *testing.T, s *Store, id sandpool.SandboxID, dir string) process {
	t.Helper()
	out, errs, err := Make(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Collect(id, dir); err != nil {
		t.Fatal(err)
	}
	return process{out, errs}
}

// all reads the log to its end.
func all(t *testing.T, s *Store, id sandpool.SandboxID) (text string, start int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var b strings.Builder
	start = -1
	for at := int64(0); ; {
		data, from, next, err := s.Read(ctx, id, at, 64<<10, true)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) == 0 {
			return b.String(), start
		}
		if start < 0 {
			start = from
		}
		b.Write(data)
		at = next
	}
}

func TestLines(t *testing.T) {
	s := open(t, t.TempDir(), false)
	p := begin(t, s, "box", t.TempDir())
	long := strings.Repeat("x", maxLine+5)
	for _, text := range []string{"one\ntwo\n", "in ", "pieces\n\n", long + "\n", "unfinished"} {
		if _, err := p.out.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	p.end()
	text, _ := all(t, s, "box")
	var got []string
	for line := range strings.Lines(text) {
		stamp, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil {
			t.Errorf("the line %.60q has no time", line)
		}
		got = append(got, rest)
	}
	want := []string{"stdout F one", "stdout F two", "stdout F in pieces", "stdout F ",
		"stdout P " + long[:maxLine], "stdout F xxxxx", "stdout P unfinished"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%d lines %.200q, want %d", len(got), got, len(want))
	}
}

// A process that only writes fills no disk, and a reader learns what is lost.
func TestBound(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, false)
	p := begin(t, s, "box", t.TempDir())
	done := make(chan error, 1)
	go func() {
		for i := range 60000 {
			if _, err := fmt.Fprintf(p.out, "line %d of many that nobody reads in time\n",
				i); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	p.end()
	text, start := all(t, s, "box")
	if start == 0 || len(text) > 2*fileSize || len(text) < fileSize/2 ||
		!strings.HasSuffix(text, "line 59999 of many that nobody reads in time\n") {
		t.Errorf("%d bytes are kept, from %d on", len(text), start)
	}
	if n := size(t, dir); n > 2*fileSize {
		t.Errorf("the log takes %d bytes", n)
	}
	if data, from, next, err := s.Read(t.Context(), "box", 1, 1<<20, false); err != nil ||
		from != start || next != start+int64(len(data)) {
		t.Errorf("from a position that is lost: %d bytes, %d to %d, %v", len(data), from, next, err)
	}
}

func size(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The next server goes on where the last one was, and what was said meanwhile is not lost.
func TestRestart(t *testing.T) {
	dir, fifos := t.TempDir(), t.TempDir()
	s := open(t, dir, true)
	p := begin(t, s, "box", fifos)
	fmt.Fprintln(p.out, "before")
	_, _, at, err := s.Read(t.Context(), "box", 0, 64<<10, true)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	fmt.Fprintln(p.errs, "meanwhile")
	f, err := os.OpenFile(filepath.Join(dir, "box", "0"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, "2026-01-01T00:00:00Z stdout F cut o") // kill -9 in the middle of a record
	f.Close()
	s = open(t, dir, true)
	if err := s.Collect("box", fifos); err != nil {
		t.Fatal(err)
	}
	data, from, _, err := s.Read(t.Context(), "box", at, 64<<10, true)
	if err != nil || from != at {
		t.Errorf("read on from %d: %d, %v", at, from, err)
	}
	p.end()
	text, _ := all(t, s, "box")
	if !strings.Contains(text, "before") || !strings.Contains(text, "cut o\n") ||
		!strings.Contains(text, "stderr F meanwhile\n") {
		t.Errorf("the log is %q, then %q", text, data)
	}
}

func TestGivenBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, false)
	for i := range keepEnds + 10 {
		id := sandpool.SandboxID(fmt.Sprint("box", i))
		if err := os.Mkdir(filepath.Join(dir, string(id)), 0o700); err != nil {
			t.Fatal(err)
		}
		s.End(id)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != keepEnds {
		t.Errorf("%d logs are kept, %v; want %d", len(left), err, keepEnds)
	}
	s.Remove("box100")
	if _, _, _, err := s.Read(t.Context(), "box100", 0, 100, false); sandpool.ClassOf(
		err) != sandpool.NotFound {
		t.Errorf("a log that was removed: %v", err)
	}
	s.Close()
	s = open(t, dir, false) // they are found again, and have a time again
	s.mu.Lock()
	timers := len(s.timers)
	s.mu.Unlock()
	if timers != keepEnds-1 {
		t.Errorf("%d of %d logs have a time after a restart", timers, keepEnds-1)
	}
	if err := s.Collect("none", t.TempDir()); err != nil {
		t.Errorf("a sandbox without FIFOs: %v", err)
	}
}
