package image

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// A long step is reported every few seconds, with what is on disk by then, until stop.
func TestReporterTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []Progress
		size := int64(0)
		r := newReporter(t.Context(), func(p Progress) { got = append(got, p) }, 3, func() int64 {
			size += 10
			return size
		})
		r.step("debian")
		r.note("I: installing")
		<-time.After(2*measureEvery + time.Second)
		synctest.Wait()
		r.stop()
		<-time.After(time.Minute)
		want := []Progress{
			{Step: 1, Steps: 3, Name: "debian"},
			{Step: 1, Steps: 3, Name: "debian", Note: "I: installing"},
			{Step: 1, Steps: 3, Name: "debian", Bytes: 10, Elapsed: measureEvery},
			{Step: 1, Steps: 3, Name: "debian", Bytes: 20, Elapsed: 2 * measureEvery},
		}
		if len(got) != len(want) {
			t.Fatalf("reported %+v, want %+v", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("report %d: %+v, want %+v", i, got[i], want[i])
			}
		}
	})
}

// A setup that announces more steps than it was counted to have does not
// make a build claim "5 of 4".
func TestReporterTooManySteps(t *testing.T) {
	var last Progress
	r := newReporter(t.Context(), func(p Progress) { last = p }, 2, func() int64 { return 0 })
	defer r.stop()
	for range 3 {
		r.step("x")
	}
	if last.Step != 2 {
		t.Errorf("step %d of %d", last.Step, last.Steps)
	}
}

func TestFolderSize(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"a": 5, "b": 7} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(dir, "l")); err != nil {
		t.Fatal(err)
	}
	if got := folderSize(dir); got != 12 {
		t.Errorf("%d bytes, want 12", got)
	}
	if got := folderSize(filepath.Join(dir, "none")); got != 0 {
		t.Errorf("a folder that does not exist has %d bytes", got)
	}
}
