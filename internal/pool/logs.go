package pool

import (
	"context"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// maxPast bounds what a pool remembers of sandboxes that are over. The engine keeps their logs for
// a while.
const maxPast = 256

// past is a sandbox that is over, or about to be.
type past struct {
	id         sandpool.SandboxID
	identifier sandpool.Identifier
}

// remember notes that a sandbox is over. The caller holds Manager.mu.
func (p *poolState) remember(row sandpool.Sandbox) {
	if len(p.past) == maxPast {
		p.past = p.past[1:]
	}
	p.past = append(p.past, past{row.ID, row.Identifier})
}

// SessionLog reads what a sandbox of the identifier's sessions wrote: one that is named, or else
// the present one, or the last one that is remembered. One without a log is an error of class
// NotFound.
func (m *Manager) SessionLog(ctx context.Context, id sandpool.PoolID,
	identifier sandpool.Identifier, of sandpool.SandboxID, q sandbox.LogQuery) (sandbox.LogPage,
	error) {
	return m.readLog(ctx, id, q, func(p *poolState) (sandpool.SandboxID, error) {
		if b := p.live(identifier); b != nil && (of == "" || of == b.row.ID) {
			return b.row.ID, nil
		}
		for i := len(p.past) - 1; i >= 0; i-- {
			if identifier != "" && p.past[i].identifier == identifier &&
				(of == "" || of == p.past[i].id) {
				return p.past[i].id, nil
			}
		}
		return "", noSession(id, identifier)
	})
}

// SandboxLog reads what a sandbox of the pool wrote, one that is over among them.
func (m *Manager) SandboxLog(ctx context.Context, id sandpool.PoolID, sandboxID sandpool.SandboxID,
	q sandbox.LogQuery) (sandbox.LogPage, error) {
	return m.readLog(ctx, id, q, func(p *poolState) (sandpool.SandboxID, error) {
		if b := m.sandboxes[sandboxID]; b != nil && b.pool == p {
			return sandboxID, nil
		}
		for _, old := range p.past {
			if old.id == sandboxID {
				return sandboxID, nil
			}
		}
		return "", sandpool.Errorf(sandpool.NotFound, "SandboxNotFound", "sandbox",
			"There is no sandbox %.60q in pool %s.", sandboxID, id.Name)
	})
}

// readLog reads the log of the sandbox that find names. find is called with mu held.
func (m *Manager) readLog(ctx context.Context, id sandpool.PoolID, q sandbox.LogQuery,
	find func(*poolState) (sandpool.SandboxID, error)) (sandbox.LogPage, error) {
	reader, ok := m.engine.(sandbox.LogReader)
	if !ok {
		return sandbox.LogPage{}, sandpool.Errorf(sandpool.Unsupported, "", "",
			"This engine keeps no logs.")
	}
	if err := m.ready(ctx); err != nil {
		return sandbox.LogPage{}, err
	}
	m.mu.Lock()
	p, err := m.pool(id)
	if err != nil {
		m.mu.Unlock()
		return sandbox.LogPage{}, err
	}
	sandboxID, err := find(p)
	m.mu.Unlock()
	if err != nil {
		return sandbox.LogPage{}, err
	}
	return reader.ReadLog(ctx, sandboxID, q)
}

// The bounds of what a problem tells of a log: bytes, and the time for reading it.
const (
	lastLines    = 2 << 10
	lastLineTime = time.Second
)

// quote adds to the pool's problem, if that is the end of b, the last lines that b wrote. Nobody
// had claimed b: what a session wrote is for its caller.
func (m *Manager) quote(ctx context.Context, b *sandboxState, cause *sandpool.Error) {
	reader, ok := m.engine.(sandbox.LogReader)
	m.mu.Lock()
	p, t := b.pool, b.pool.prep.prepared.Template
	m.mu.Unlock()
	if !ok || !t.Logs {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lastLineTime)
	defer cancel()
	var all sandbox.LogPage
	for { // what it wrote last may be on its way
		page, err := reader.ReadLog(ctx, b.row.ID, sandbox.LogQuery{From: all.Next, Limit: 2 << 20,
			Follow: true})
		if err != nil || len(page.Lines) == 0 {
			break
		}
		all.Lines, all.Next = append(all.Lines, page.Lines...), page.Next
	}
	_, plain := sandbox.Reason(cause)
	_, quoted := sandbox.Reason(sandbox.Saying(cause, all.Tail(t, lastLines), nil))
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.pool.Cause == endsEarly+plain {
		p.pool.Cause = endsEarly + quoted
	}
}
