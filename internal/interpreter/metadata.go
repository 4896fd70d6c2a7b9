package interpreter

import (
	"context"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// turnTime is how long a question about a pool waits for the one before it.
const turnTime = 30 * time.Second

// finding is what the sandboxes of a pool's revision hold.
type finding struct {
	revision int64
	since    time.Time // when the sandbox that was asked was made
	info     agent.KernelInfo
}

// learn asks the first sandbox of a pool's revision what code finds in it, so that
// a question for it takes no session of the pool's.
func (s *Set) learn(ctx context.Context, sb sandpool.Sandbox, c *agent.Client) error {
	s.mu.Lock()
	f, known := s.found[sb.Pool.Key()]
	s.mu.Unlock()
	if known && f.revision == sb.Revision {
		return nil
	}
	info, err := c.KernelInfo(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found[sb.Pool.Key()] = finding{sb.Revision, sb.CreatedAt, info}
	return nil
}

// infoOf returns what the sandboxes of a pool's revision hold, if one of them was asked.
func (s *Set) infoOf(p sandpool.Pool) (agent.KernelInfo, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, known := s.found[p.ID.Key()]
	if f.since.Before(p.CreatedAt) {
		// of an earlier pool of this name, whose revisions began at one, too
		delete(s.found, p.ID.Key())
		return agent.KernelInfo{}, false
	}
	return f.info, known && f.revision == p.Revision
}

// KernelInfo describes what code of a pool finds. It is known once a sandbox of the pool has
// been initialised. Of many who ask before that, one has a sandbox started by start.
func (s *Set) KernelInfo(ctx context.Context, p sandpool.Pool, start func(context.Context,
	sandpool.PoolID) error) (agent.KernelInfo, error) {
	if info, ok := s.infoOf(p); ok {
		return info, nil
	}
	end, err := s.turns.take(ctx, p.ID)
	if err != nil {
		return agent.KernelInfo{}, err
	}
	defer end()
	if info, ok := s.infoOf(p); ok {
		return info, nil
	}
	if err := start(ctx, p.ID); err != nil {
		return agent.KernelInfo{}, err
	}
	if info, ok := s.infoOf(p); ok {
		return info, nil
	}
	return agent.KernelInfo{}, sandpool.Errorf(sandpool.Unavailable, "", "sessionPool",
		"The pool was changed meanwhile. Try again.")
}

// turns holds a channel for each pool that has been asked about, with room for one
// token: who has put it there may start a sandbox of the pool to learn what it holds.
type turns struct {
	mu sync.Mutex // guards of
	of map[string]chan struct{}
}

// take waits for the turn; the caller ends it.
func (t *turns) take(ctx context.Context, pool sandpool.PoolID) (end func(), err error) {
	turn := t.turn(pool)
	late := time.NewTimer(turnTime)
	defer late.Stop()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-late.C:
		return nil, sandpool.Errorf(sandpool.Unavailable, "", "sessionPool",
			"The pool's metadata is not known yet. Try again.")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (t *turns) turn(pool sandpool.PoolID) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	turn, ok := t.of[pool.Key()]
	if !ok {
		turn = make(chan struct{}, 1)
		t.of[pool.Key()] = turn
	}
	return turn
}
