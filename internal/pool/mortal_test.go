package pool_test

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

// life is a process's: once it is over, none of its calls reaches store or
// engine any more. It is how a test kills a manager at any moment.
type life struct{ over atomic.Bool }

var errKilled = errors.New("the process was killed")

func (l *life) check() error {
	if l.over.Load() {
		return errKilled
	}
	return nil
}

// mortalStore is a store of one life.
type mortalStore struct {
	pool.Store
	*life
}

func (s mortalStore) PutPool(ctx context.Context, p sandpool.Pool, secrets sandpool.Secrets) error {
	return s.unless(func() error { return s.Store.PutPool(ctx, p, secrets) })
}

func (s mortalStore) DeletePool(ctx context.Context, id sandpool.PoolID) error {
	return s.unless(func() error { return s.Store.DeletePool(ctx, id) })
}

func (s mortalStore) Insert(ctx context.Context, b sandpool.Sandbox) error {
	return s.unless(func() error { return s.Store.Insert(ctx, b) })
}

func (s mortalStore) Stopping(ctx context.Context, id sandpool.SandboxID, reason string) error {
	return s.unless(func() error { return s.Store.Stopping(ctx, id, reason) })
}

func (s mortalStore) Touch(ctx context.Context, used map[sandpool.SandboxID]time.Time) error {
	return s.unless(func() error { return s.Store.Touch(ctx, used) })
}

func (s mortalStore) Remove(ctx context.Context, id sandpool.SandboxID) error {
	return s.unless(func() error { return s.Store.Remove(ctx, id) })
}

func (s mortalStore) Claim(ctx context.Context, r sandpool.ClaimRequest) (sandpool.Sandbox, sandpool.ClaimOutcome, error) {
	if err := s.check(); err != nil {
		return sandpool.Sandbox{}, sandpool.ClaimFull, err
	}
	return s.Store.Claim(ctx, r)
}

func (s mortalStore) Started(ctx context.Context, id sandpool.SandboxID, handle []byte, now time.Time) (sandpool.Sandbox, error) {
	if err := s.check(); err != nil {
		return sandpool.Sandbox{}, err
	}
	return s.Store.Started(ctx, id, handle, now)
}

func (l *life) unless(do func() error) error {
	if err := l.check(); err != nil {
		return err
	}
	return do()
}

// mortalEngine is an engine of one life. A Start during which the life ends
// leaves remains.
type mortalEngine struct {
	*sandboxtest.Fake
	*life
}

func (e mortalEngine) Start(ctx context.Context, id sandbox.ID, p sandbox.Prepared) (sandbox.Handle, error) {
	if err := e.check(); err != nil {
		return sandbox.Handle{}, err
	}
	h, err := e.Fake.Start(ctx, id, p)
	if e.over.Load() && err != nil {
		e.Leave(id)
	}
	return h, err
}

func (e mortalEngine) Stop(ctx context.Context, h sandbox.Handle) error {
	if err := e.check(); err != nil {
		return err
	}
	return e.Fake.Stop(ctx, h)
}
