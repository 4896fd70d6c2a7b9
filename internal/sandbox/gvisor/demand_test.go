package gvisor

import (
	"bytes"
	"encoding/binary"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/sandbox"
)

const fieldMB = 16 // of each of the guest's three

func fieldTemplate(t *testing.T) sandbox.Template {
	tmpl := template(t, sandbox.Restore)
	tmpl.Env = append(tmpl.Env, "GUEST_FIELDS="+strconv.Itoa(fieldMB))
	tmpl.Limits.Memory = 512 << 20
	tmpl.Limits.CPU = 2
	return tmpl
}

// TestPagesOnDemand: whatever is done to the memory of a restored sandbox, in
// whatever order, its pages are those of the snapshot.
func TestPagesOnDemand(t *testing.T) {
	e := open(t)
	p := prepare(t, e, fieldTemplate(t))
	for _, recorded := range []bool{false, true} {
		for seed := range 3 {
			id := sandbox.ID("seed-" + strconv.Itoa(seed) + "-" + strconv.FormatBool(recorded))
			h := start(t, e, p, id)
			if seed == 0 && recorded {
				if got := ask(t, e, h, "/split", nil); got != "as sown" {
					t.Errorf("%s, forked: %s", id, got)
				}
			}
			for _, n := range []string{"30", "3000"} {
				if got := ask(t, e, h, "/reap", url.Values{"seed": {strconv.Itoa(seed)},
					"n": {n}}); got != "as sown" {
					t.Errorf("%s, %s times: %s", id, n, got)
				}
			}
			if err := e.Stop(t.Context(), h); err != nil {
				t.Fatal(err)
			}
		}
		record(t, e, p, "first")
	}
}

// record starts a sandbox and records its working set.
func record(t *testing.T, e *Engine, p sandbox.Prepared, id sandbox.ID) {
	t.Helper()
	h := start(t, e, p, id)
	if err := e.RecordWorkingSet(t.Context(), p, h); err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(t.Context(), h); err != nil {
		t.Fatal(err)
	}
}

// TestSnapshotIsNotMemory: a sandbox holds what it used of its snapshot, before
// and after a working set is recorded, and no more.
func TestSnapshotIsNotMemory(t *testing.T) {
	e := open(t)
	p := prepare(t, e, fieldTemplate(t))
	for _, id := range []sandbox.ID{"before", "after"} {
		h := start(t, e, p, id)
		s, err := e.Stats(t.Context(), h)
		if err != nil || s.Memory > 2*fieldMB<<20 {
			t.Errorf("%s: a sandbox of %d MB of snapshot holds %d MB (%v)", id, 3*fieldMB,
				s.Memory>>20, err)
		}
		record(t, e, p, id+"-recorded")
	}
}

// TestWorkingSet: what is recorded is what was used, and is recorded once.
func TestWorkingSet(t *testing.T) {
	e := open(t)
	p := prepare(t, e, template(t, sandbox.Restore))
	record(t, e, p, "one")
	name := filepath.Join(e.snapshotDir(p.Key), workingSetName)
	first, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := bytes.Cut(first, []byte(workingSetMagic))
	if !ok || len(list) == 0 || len(list)%16 != 0 {
		t.Fatalf("the working set is %d bytes, %t", len(list), ok)
	}
	var last, total uint64
	for ; len(list) > 0; list = list[16:] {
		start, end := binary.LittleEndian.Uint64(list), binary.LittleEndian.Uint64(list[8:])
		if start >= end || start%4096 != 0 || end%4096 != 0 || last > 0 && start <= last+smallGap {
			t.Errorf("%#x to %#x is recorded behind %#x", start, end, last)
		}
		last, total = end, total+end-start
	}
	if total > 64<<20 {
		t.Errorf("a working set of %d bytes", total)
	}

	record(t, e, prepare(t, e, p.Template), "two") // as after a restart
	if second, err := os.ReadFile(name); err != nil || !bytes.Equal(second, first) {
		t.Errorf("a second record changed the first: %v", err)
	}
	if err := e.Prune(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := e.RecordWorkingSet(t.Context(), prepare(t, e, p.Template),
		sandbox.Handle{ID: "none"}); err == nil {
		t.Error("the working set of a sandbox that is not there was recorded")
	}
}

// TestTooManyRanges: what a sandbox does to its memory file cannot fill the server's.
func TestTooManyRanges(t *testing.T) {
	fd, err := unix.MemfdCreate("holes", 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "holes")
	defer f.Close()
	for i := range maxRanges + 1 {
		if _, err := f.WriteAt([]byte{1}, int64(i)*4*smallGap); err != nil {
			t.Fatal(err)
		}
	}
	if found, err := dataRanges(f); err == nil {
		t.Errorf("%d ranges were found, no error", len(found))
	}
}
