package history

import (
	"slices"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// The bounds of what is kept of one session.
const (
	maxSamples  = int(time.Hour / interval)
	maxRuns     = 20
	maxCallers  = 8
	maxSessions = 5000
)

// session is what is known of the session in one sandbox.
type session struct {
	since   time.Time
	samples []api.UsePoint
	runs    []api.RunNote // the newest last
	count   int
	callers []string
}

// use notes what the sandbox takes of the machine.
func (s *session) use(at time.Time, used sandbox.Stats) {
	s.samples = append(s.samples, api.UsePoint{Time: stamp(at), MemoryBytes: used.Memory,
		CPUSeconds: used.CPUTime.Seconds()})
	if len(s.samples) > maxSamples {
		s.samples = slices.Delete(s.samples, 0, 1)
	}
}

// ran notes that code has run.
func (s *session) ran(e event.Event) {
	s.count++
	s.runs = append(s.runs, api.RunNote{Time: stamp(e.Time), By: e.By, Outcome: e.Outcome,
		Seconds: e.Took.Seconds()})
	if len(s.runs) > maxRuns {
		s.runs = slices.Delete(s.runs, 0, 1)
	}
	if e.By != "" && !slices.Contains(s.callers, e.By) && len(s.callers) < maxCallers {
		s.callers = append(s.callers, e.By)
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
