package usage

import (
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool/meter"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/store"
)

// Meter counts. Use New.
type Meter struct {
	// Key is what records are written under. It is set before the Meter is used.
	Key Key

	events   event.Observer
	store    store.Usages
	settings Settings
	clock    Clock
	name     string // of this life

	// writing holds one token, the right to write records, so that the store sees them in the order
	// in which memory had them.
	writing chan struct{}

	mu       sync.Mutex // guards the fields below
	sessions map[sandpool.SandboxID]*session
}

// Clock tells the time of day, and how long the meter has been there, which no change of the time
// of day moves.
type Clock func() (at time.Time, elapsed time.Duration)

// session is what is known of a session that this server meters. Its record is written as it was
// at its field Written.
type session struct {
	record sandpool.Usage
	start  time.Duration // when in this life it had lasted for nothing; may be negative
	end    time.Duration // when it ended, if record.Ended

	counted      time.Duration // until when memory and disk are counted
	measured     bool          // in this life
	held         sandbox.Stats // what it was measured to hold
	memory, disk float64       // byte-seconds

	dirty   bool          // there is something to write soon
	settled bool          // its end is written
	written time.Duration // when it was written last
}

var _ meter.Meter = (*Meter)(nil)

// New returns a Meter whose records are kept in rows. events hears of what goes wrong. clock may be
// nil.
func New(events event.Observer, rows store.Usages, s Settings, clock Clock) (*Meter, error) {
	if events == nil || rows == nil {
		return nil, errors.New("usage: the observer or the store is nil")
	}
	if clock == nil {
		born := time.Now()
		clock = func() (time.Time, time.Duration) {
			now := time.Now()
			return now, now.Sub(born)
		}
	}
	m := &Meter{events: events, store: rows, settings: s, clock: clock, name: rand.Text(),
		writing: make(chan struct{}, 1), sessions: map[sandpool.SandboxID]*session{}}
	m.writing <- struct{}{}
	return m, nil
}

// Began implements meter.Meter.
func (m *Meter) Began(row sandpool.Sandbox, epoch int64) {
	at, elapsed := m.clock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begin(row, epoch, elapsed, at.Sub(row.ClaimedAt))
}

// begin makes the state of a session that has lasted for a while, unless there is one. The caller
// holds mu.
func (m *Meter) begin(row sandpool.Sandbox, epoch int64, elapsed, lasted time.Duration) *session {
	s := m.sessions[row.ID]
	if s == nil {
		start := elapsed - max(0, lasted)
		s = &session{start: start, counted: start, dirty: true,
			record: sandpool.Usage{Sandbox: row.ID, Pool: row.Pool,
				Identifier: m.Key.name(row.Identifier), By: row.ClaimedBy, Began: row.ClaimedAt,
				Epoch: epoch, Meter: m.name}}
		m.sessions[row.ID] = s
	}
	return s
}

// Ended implements meter.Meter.
func (m *Meter) Ended(row sandpool.Sandbox, epoch int64) {
	at, elapsed := m.clock()
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.begin(row, epoch, elapsed, at.Sub(row.ClaimedAt))
	if !s.record.Ended {
		s.record.Ended, s.end, s.dirty = true, elapsed, true
	}
}

// Measured implements meter.Meter.
func (m *Meter) Measured(id sandpool.SandboxID, held sandbox.Stats) {
	_, elapsed := m.clock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.sessions[id]; s != nil {
		s.measure(elapsed, held)
		s.dirty = s.dirty || s.record.Ended // its last one
	}
}

// measure takes a measurement. Between two of them a sandbox is taken to hold what is in the
// middle, and before the first of this life what that says.
func (s *session) measure(now time.Duration, held sandbox.Stats) {
	before := s.held
	if !s.measured {
		before = held
	}
	if s.record.Ended {
		now = s.end
	}
	seconds := max(0, now-s.counted).Seconds()
	s.memory += float64(before.Held()+held.Held()) / 2 * seconds
	s.disk += float64(before.Disk+held.Disk) / 2 * seconds
	s.measured, s.held, s.counted = true, held, max(now, s.counted)
	s.record.CPU = max(s.record.CPU, held.CPUTime)
	s.record.Sent = max(s.record.Sent, held.Sent)
}

// Ran counts an execution in a sandbox.
func (m *Meter) Ran(id sandpool.SandboxID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.sessions[id]; s != nil {
		s.record.Executions++
		s.dirty = true
	}
}

// Left implements meter.Meter.
func (m *Meter) Left(id sandpool.SandboxID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, id)
}

// Observer passes events on to next, and counts executions.
func (m *Meter) Observer(next event.Observer) event.Observer { return counting{m, next} }

type counting struct {
	meter *Meter
	next  event.Observer
}

// Observe implements event.Observer.
func (c counting) Observe(e event.Event) {
	if e.Name == event.ExecutionEnded {
		c.meter.Ran(e.Sandbox)
	}
	c.next.Observe(e)
}

// row is the session's record as it is now.
func (s *session) row(elapsed time.Duration) sandpool.Usage {
	u := s.record
	if u.Ended {
		elapsed = s.end
	}
	u.Lasted, u.Written = max(0, elapsed-s.start), elapsed
	// Since the last measurement it has held what that said.
	seconds := max(0, elapsed-s.counted).Seconds()
	u.Memory = int64(s.memory + float64(s.held.Held())*seconds)
	u.Disk = int64(s.disk + float64(s.held.Disk)*seconds)
	return u
}
