package gvisor

import (
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"

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
				if got := ask(t, e, h, "/reap", url.Values{"seed": {strconv.Itoa(seed)}, "n": {n}}); got != "as sown" {
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
	if !patchedGVisor() {
		t.Skip("this gVisor loads every page; make test builds the one that does not")
	}
	e := open(t)
	p := prepare(t, e, fieldTemplate(t))
	for _, id := range []sandbox.ID{"before", "after"} {
		h := start(t, e, p, id)
		s, err := e.Stats(t.Context(), h)
		if err != nil || s.Memory > 2*fieldMB<<20 {
			t.Errorf("%s: a sandbox of %d MB of snapshot holds %d MB (%v)", id, 3*fieldMB, s.Memory>>20, err)
		}
		record(t, e, p, id+"-recorded")
	}
}

// TestWorkingSet: what is recorded names what was used, once.
func TestWorkingSet(t *testing.T) {
	e := open(t)
	p := prepare(t, e, template(t, sandbox.Restore))
	record(t, e, p, "one")
	name := filepath.Join(e.snapshotDir(p.Key), workingSetName)
	first, err := os.Stat(name)
	if err != nil || first.Size()%8 != 0 && first.Size() < 32 {
		t.Fatalf("the working set: %v, %v", first, err)
	}
	p2 := prepare(t, e, p.Template) // as after a restart
	record(t, e, p2, "two")
	if second, err := os.Stat(name); err != nil || !second.ModTime().Equal(first.ModTime()) {
		t.Errorf("a second record is %v, %v", second, err)
	}
	if err := e.RecordWorkingSet(t.Context(), prepare(t, e, p.Template), sandbox.Handle{ID: "none"}); err != nil {
		t.Errorf("a record of what is known: %v", err)
	}
	if err := e.Prune(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := e.RecordWorkingSet(t.Context(), prepare(t, e, p.Template), sandbox.Handle{ID: "none"}); err == nil {
		t.Error("the working set of a sandbox that is not there was recorded")
	}
}
