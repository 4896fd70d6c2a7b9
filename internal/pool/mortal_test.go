package pool_test

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
	"github.com/sandpool/sandpool/internal/store"
)

// life is a process's: once it is over, none of its calls reaches store or
// engine any more. It is how a test kills a manager at any moment.
type life struct {
	over atomic.Bool
	// unheard, unless it is nil, has the answer to a Started get lost that was carried out. When it
	// is closed, its caller is told that another server owns the pool.
	unheard chan struct{}
}

var errKilled = errors.New("the process was killed")

func (l *life) check() error {
	if l.over.Load() {
		return errKilled
	}
	return nil
}

// mortalStore is a store of one life.
type mortalStore struct {
	store.Store
	*life
}

func (s mortalStore) PutPool(ctx context.Context, p sandpool.Pool, secrets sandpool.Secrets,
	epoch int64) error {
	return s.unless(func() error { return s.Store.PutPool(ctx, p, secrets, epoch) })
}

func (s mortalStore) CreatePool(ctx context.Context, p sandpool.Pool, secrets sandpool.Secrets,
	owner string) (epoch int64, err error) {
	err = s.unless(func() error {
		epoch, err = s.Store.CreatePool(ctx, p, secrets, owner)
		return err
	})
	return epoch, err
}

func (s mortalStore) Own(ctx context.Context, id sandpool.PoolID, owner string,
	seen int64) (epoch int64, err error) {
	err = s.unless(func() error {
		epoch, err = s.Store.Own(ctx, id, owner, seen)
		return err
	})
	return epoch, err
}

func (s mortalStore) Holds(ctx context.Context) (holds []store.Hold, err error) {
	err = s.unless(func() error {
		holds, err = s.Store.Holds(ctx)
		return err
	})
	return holds, err
}

func (s mortalStore) Join(ctx context.Context, v store.Server) error {
	return s.unless(func() error { return s.Store.Join(ctx, v) })
}

func (s mortalStore) Beat(ctx context.Context, name, instance string) error {
	return s.unless(func() error { return s.Store.Beat(ctx, name, instance) })
}

func (s mortalStore) Leave(ctx context.Context, name, instance string) error {
	return s.unless(func() error { return s.Store.Leave(ctx, name, instance) })
}

func (s mortalStore) DeletePool(ctx context.Context, id sandpool.PoolID, epoch int64) error {
	return s.unless(func() error { return s.Store.DeletePool(ctx, id, epoch) })
}

func (s mortalStore) Insert(ctx context.Context, b sandpool.Sandbox, epoch int64) error {
	return s.unless(func() error { return s.Store.Insert(ctx, b, epoch) })
}

func (s mortalStore) Stopping(ctx context.Context, id sandpool.SandboxID, reason string,
	epoch int64) error {
	return s.unless(func() error { return s.Store.Stopping(ctx, id, reason, epoch) })
}

func (s mortalStore) Mourn(ctx context.Context, l sandpool.Loss, now time.Time, epoch int64) error {
	return s.unless(func() error { return s.Store.Mourn(ctx, l, now, epoch) })
}

func (s mortalStore) Forget(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier,
	epoch int64) error {
	return s.unless(func() error { return s.Store.Forget(ctx, id, identifier, epoch) })
}

func (s mortalStore) Touch(ctx context.Context, used []sandpool.Use) error {
	return s.unless(func() error { return s.Store.Touch(ctx, used) })
}

func (s mortalStore) Remove(ctx context.Context, id sandpool.SandboxID, epoch int64) error {
	return s.unless(func() error { return s.Store.Remove(ctx, id, epoch) })
}

func (s mortalStore) Claim(ctx context.Context, r sandpool.ClaimRequest) (sandpool.Sandbox,
	sandpool.ClaimOutcome, error) {
	if err := s.check(); err != nil {
		return sandpool.Sandbox{}, sandpool.ClaimFull, err
	}
	return s.Store.Claim(ctx, r)
}

func (s mortalStore) Started(ctx context.Context, id sandpool.SandboxID, handle []byte,
	now time.Time, epoch int64) (sandpool.Sandbox, error) {
	if err := s.check(); err != nil {
		return sandpool.Sandbox{}, err
	}
	b, err := s.Store.Started(ctx, id, handle, now, epoch)
	if s.unheard == nil {
		return b, err
	}
	<-s.unheard
	return sandpool.Sandbox{}, errors.Join(err, store.NotOwner(b.Pool))
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

func (e mortalEngine) Start(ctx context.Context, id sandbox.ID, p sandbox.Prepared) (sandbox.Handle,
	error) {
	if err := e.check(); err != nil {
		return sandbox.Handle{}, err
	}
	h, err := e.Fake.Start(ctx, id, p)
	if e.over.Load() && err != nil {
		e.Leave(id)
	}
	return h, err
}

func (e mortalEngine) Prune(ctx context.Context, keep []string) error {
	if err := e.check(); err != nil {
		return err
	}
	return e.Fake.Prune(ctx, keep)
}

func (e mortalEngine) Stop(ctx context.Context, h sandbox.Handle) error {
	if err := e.check(); err != nil {
		return err
	}
	return e.Fake.Stop(ctx, h)
}
