package usage

import (
	"context"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pool/meter"
	"github.com/sandpool/sandpool/internal/store"
)

// Resume implements meter.Meter.
func (m *Meter) Resume(ctx context.Context, all []meter.Resumed) error {
	if len(all) == 0 {
		return nil
	}
	known := map[sandpool.SandboxID]sandpool.Usage{}
	err := m.store.Usage(ctx, store.UsageQuery{Live: true}, func(u sandpool.Usage) error {
		known[u.Sandbox] = u
		return nil
	})
	if err != nil {
		return err
	}
	at, elapsed := m.clock()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range all {
		u, recorded := known[r.Row.ID]
		delete(m.sessions, r.Row.ID) // what an earlier ownership left
		switch {
		case recorded && u.Ended && !r.Lives:
			// Nothing is left to be said.
		case recorded:
			m.goOn(u, r, at, elapsed)
		case r.Lives:
			m.begin(r.Row, r.Epoch, elapsed, at.Sub(r.Row.ClaimedAt))
		default:
			// It came and went between two writes. What is known is when it was used last.
			s := m.begin(r.Row, r.Epoch, elapsed, r.Row.LastUsedAt.Sub(r.Row.ClaimedAt))
			s.record.Ended, s.end = true, elapsed
		}
	}
	return nil
}

// goOn makes the state of a session that has a record. The caller holds mu.
func (m *Meter) goOn(u sandpool.Usage, r meter.Resumed, at time.Time, elapsed time.Duration) {
	lasted := u.Lasted
	if r.Lives && !u.Seen.IsZero() {
		lasted += max(0, at.Sub(u.Seen)) // nobody metered it meanwhile
	}
	s := &session{record: u, start: elapsed - lasted, dirty: true,
		memory: float64(u.Memory), disk: float64(u.Disk)}
	s.counted = s.start + u.Lasted - u.Unwritten
	s.record.Epoch, s.record.Meter, s.record.Ended = r.Epoch, m.name, !r.Lives
	s.record.Unwritten, s.record.Seen = 0, time.Time{}
	if !r.Lives {
		s.end = elapsed
	}
	m.sessions[u.Sandbox] = s
}
