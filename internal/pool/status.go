package pool

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Status is a pool in numbers.
type Status struct {
	Ready    int // warm and unclaimed, of the present revision
	Starting int // for a claim or for the ready ones
	Claimed  int
	Stopping int
	Waiting  int // callers in line for a slot
	// RefillFailures counts, since the server started, the ready sandboxes that did not start or
	// ended before they were claimed.
	RefillFailures int64
	// Crashes counts, since the server started, the sandboxes that ended by themselves or did not
	// pass their liveness check.
	Crashes int64
	// Claims counts the calls of Acquire since the server started.
	Claims map[sandpool.ClaimOutcome]int64
}

// Status returns the pool in numbers.
func (m *Manager) Status(ctx context.Context, id sandpool.PoolID) (Status, error) {
	if err := m.ready(ctx); err != nil {
		return Status{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.pool(id)
	if err != nil {
		return Status{}, err
	}
	s := Status{Waiting: p.line.Len(), RefillFailures: p.refills, Crashes: p.crashes, Claims: map[sandpool.ClaimOutcome]int64{}}
	for outcome, n := range p.claims {
		s.Claims[sandpool.ClaimOutcome(outcome)] = n
	}
	for _, b := range m.boxes {
		if b.pool != p {
			continue
		}
		switch b.row.State {
		case sandpool.Starting:
			s.Starting++
		case sandpool.Ready:
			s.Ready++
		case sandpool.Claimed:
			s.Claimed++
		case sandpool.Stopping:
			s.Stopping++
		}
	}
	return s, nil
}

// Sandboxes returns the pool's sandboxes, oldest first.
func (m *Manager) Sandboxes(ctx context.Context, id sandpool.PoolID) ([]sandpool.Sandbox, error) {
	if err := m.ready(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.pool(id)
	if err != nil {
		return nil, err
	}
	var rows []sandpool.Sandbox
	for b := range maps.Values(m.boxes) {
		if b.pool == p {
			rows = append(rows, b.row)
		}
	}
	slices.SortFunc(rows, func(a, b sandpool.Sandbox) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return rows, nil
}

// Stats measures one sandbox. An engine that cannot is an error of class Unsupported.
func (m *Manager) Stats(ctx context.Context, s sandpool.Sandbox) (sandbox.Stats, error) {
	reader, ok := m.engine.(sandbox.StatsReader)
	if !ok {
		return sandbox.Stats{}, sandpool.Errorf(sandpool.Unsupported, "", "", "This engine does not measure sandboxes.")
	}
	return reader.Stats(ctx, handleOf(s))
}
