package storetest

import (
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

// What became of a stop that failed may be open, but not for ever, and nothing else may be.
func TestHistory(t *testing.T) {
	unknown := func() (found, known, refused bool) { return false, false, false }
	gets := func(h *History, id sandpool.SandboxID) {
		h.Acquire(1, "alice", func() sandpool.SandboxID { return id })
	}
	for _, test := range []struct {
		name  string
		wrong bool
		tell  func(h *History)
	}{
		{"an unknown stop was carried out", false, func(h *History) {
			h.TryStopSession(2, "alice", unknown)
			gets(h, "b")
		}},
		{"later", false, func(h *History) {
			h.TryStopSession(2, "alice", unknown)
			gets(h, "a")
			gets(h, "b")
		}},
		{"never", false, func(h *History) {
			h.TryStopSession(2, "alice", unknown)
			h.Settle(time.Now())
			gets(h, "a")
		}},
		{"after it had settled", true, func(h *History) {
			h.TryStopSession(2, "alice", unknown)
			h.Settle(time.Now())
			gets(h, "a")
			gets(h, "b")
		}},
		{"twice", true, func(h *History) {
			h.TryStopSession(2, "alice", unknown)
			gets(h, "b")
			gets(h, "c")
		}},
		{"nobody stopped it", true, func(h *History) { gets(h, "b") }},
		{"it comes back", true, func(h *History) {
			h.TryStopSession(2, "alice", unknown)
			gets(h, "b")
			gets(h, "a")
		}},
		{"a stop was carried out", true, func(h *History) {
			h.StopSession(2, "alice", func() bool { return true })
			gets(h, "a")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := &History{}
			gets(h, "a")
			test.tell(h)
			if faults := h.faults(); (len(faults) > 0) != test.wrong {
				t.Errorf("the faults are %q", faults)
			}
		})
	}
}
