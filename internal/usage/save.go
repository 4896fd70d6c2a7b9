package usage

import (
	"context"
	"fmt"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/store"
)

const (
	// every is the time between looks at what is to be written: half of the second by which a
	// record may be wrong, so that a busy machine has the rest.
	every = time.Second / 2
	// checkpoint is how old the record of a session may be that ran no code: what a server that is
	// killed loses of its processor time, memory and disk.
	checkpoint = 10 * time.Second
	// atOnce bounds the records of one transaction, since claims may wait for it.
	atOnce = 100
	// late is how long after a session's end an execution that the end cut off may still be told.
	late = time.Minute
	// tidyEvery is the time between looks at what is too old.
	tidyEvery = 10 * time.Minute
	// saveTime bounds one transaction.
	saveTime = 10 * time.Second
)

// Run writes what is to be written, and forgets what is too old, until ctx ends. What is left then
// is for Save.
func (m *Meter) Run(ctx context.Context) error {
	save, tidy := time.NewTicker(every), time.NewTicker(tidyEvery)
	defer save.Stop()
	defer tidy.Stop()
	m.tidy(ctx)
	for {
		select {
		case <-save.C:
			m.unsaved(ctx, m.Save(ctx))
		case <-tidy.C:
			m.tidy(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

func (m *Meter) unsaved(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		m.events.Observe(event.Event{Name: event.UsageUnsaved, Err: err})
	}
}

// tidy forgets what is too old.
func (m *Meter) tidy(ctx context.Context) {
	for ctx.Err() == nil {
		at, _ := m.clock()
		n, err := m.store.TidyUsage(ctx, m.settings.bounds(at))
		m.unsaved(ctx, err)
		if n == 0 || err != nil {
			return
		}
	}
}

// Save implements meter.Meter.
func (m *Meter) Save(ctx context.Context) error {
	if err := m.turn(ctx); err != nil {
		return err
	}
	defer func() { m.writing <- struct{}{} }()
	due, marking := m.due()
	for len(due) > 0 || marking {
		some := due[:min(atOnce, len(due))]
		due, marking = due[len(some):], false
		if err := m.put(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

// turn waits for the right to write.
func (m *Meter) turn(ctx context.Context) error {
	select {
	case <-m.writing:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for a turn to record usage: %w", ctx.Err())
	}
}

// due returns what is to be written, and whether a mark is. It forgets those of whom nothing more
// is expected.
func (m *Meter) due() (due []sandpool.SandboxID, marking bool) {
	_, elapsed := m.clock()
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, s := range m.sessions {
		switch {
		case s.dirty || !s.record.Ended && elapsed-s.written >= checkpoint:
			due = append(due, id)
		case s.settled && elapsed-s.written > late:
			delete(m.sessions, id)
		}
		marking = marking || !s.record.Ended
	}
	return due, marking
}

// put writes records in one transaction. The caller has the turn.
func (m *Meter) put(ctx context.Context, ids []sandpool.SandboxID) error {
	ctx, cancel := context.WithTimeout(ctx, saveTime)
	defer cancel()
	at, elapsed := m.clock()
	var rows []sandpool.Usage
	m.mu.Lock()
	for _, id := range ids {
		if s := m.sessions[id]; s != nil {
			s.dirty = false
			rows = append(rows, s.row(elapsed))
		}
	}
	m.mu.Unlock()
	err := m.store.PutUsage(ctx, rows, store.Mark{Meter: m.name, Elapsed: elapsed, At: at})
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range rows {
		s := m.sessions[u.Sandbox]
		switch {
		case s == nil:
		case err != nil:
			s.dirty = true
		default:
			s.written, s.settled = elapsed, u.Ended
		}
	}
	return err
}

// Settle implements meter.Meter. Of many that end at the same time the first writes all, so that
// they are few transactions.
func (m *Meter) Settle(ctx context.Context, id sandpool.SandboxID) error {
	if err := m.turn(ctx); err != nil {
		return err
	}
	defer func() { m.writing <- struct{}{} }()
	m.mu.Lock()
	s := m.sessions[id]
	var due []sandpool.SandboxID
	if s != nil && (s.dirty || !s.settled) {
		due = append(due, id)
		for other, s := range m.sessions {
			if len(due) < atOnce && other != id && s.dirty && s.record.Ended {
				due = append(due, other)
			}
		}
	}
	m.mu.Unlock()
	if len(due) == 0 {
		return nil
	}
	if err := m.put(ctx, due); err != nil {
		return fmt.Errorf("record the usage of sandbox %q: %w", id, err)
	}
	return nil
}
