package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// preparation is how far a pool's template is. Manager.mu guards it.
type preparation struct {
	revision int64 // what prepared or err is about
	prepared sandbox.Prepared
	done     bool   // prepared is set
	note     string // what the operator should know although all is well
	cause    string // and what the owner should
	pulls    int64  // that failed, ever
	renew    bool   // prepared serves, and is to be prepared again with an image that is looked up
	err      error
	backoff  backoff
	proven   bool  // a sandbox has started from prepared
	unfit    error // why what is restored cannot be used
	unfitAt  int64 // the revision that unfit is about

	running bool
	key     string             // of what the one that runs makes
	cancel  context.CancelFunc // of the one that runs
	changed chan struct{}      // closed and replaced when anything above changes
}

func (p *preparation) change() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// beginPrepare prepares the pool's present revision in a goroutine. The caller holds mu.
func (m *Manager) beginPrepare(p *poolState) {
	want := p.pool
	m.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, m.options.PrepareTimeout)
		defer cancel()
		m.mu.Lock()
		p.prep.cancel = cancel
		m.mu.Unlock()
		prepared, note, err := m.prepare(ctx, p, want)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.endPrepare(ctx, p, want.Revision, prepared, note, err)
	})
	p.prep.running, p.prep.cancel = true, func() {}
	m.room.Take(p.view("", nil).NeedsToPrepare())
}

// prepare makes the template ready. The note is why sandboxes are booted that were to be restored.
func (m *Manager) prepare(ctx context.Context, of *poolState,
	p sandpool.Pool) (prepared sandbox.Prepared, note, err error) {
	if !m.self().Serves(p.Location) {
		return prepared, nil, m.unserved(p)
	}
	guest, err := m.options.Guest(p)
	if err != nil {
		return prepared, nil, err
	}
	secrets, err := m.secrets(ctx, p)
	if err != nil {
		return prepared, nil, err
	}
	t, err := guest.Template(ctx, p, secrets)
	if err != nil {
		return prepared, nil, fmt.Errorf("%w: %w", errTemplate, err)
	}
	t.Pool = p.ID
	tell := func(step sandbox.Progress) {
		m.events.Observe(event.Event{Name: event.PoolPreparing, Pool: p.ID, Outcome: step.Step,
			Took: step.Elapsed})
	}
	if err = m.unfit(of, p); err == nil {
		m.use(of, t)
		prepared, err = m.engine.Prepare(ctx, t, tell)
		if err == nil {
			return prepared, nil, nil
		}
		err = fmt.Errorf("prepare the template: %w", err)
	}
	if !guest.BootInstead || t.Start != sandbox.Restore || ctx.Err() != nil {
		return prepared, nil, err
	}
	t.Start = sandbox.Boot
	m.use(of, t)
	booted, bootErr := m.engine.Prepare(ctx, t, tell)
	if bootErr != nil {
		return booted, nil, err
	}
	return booted, err, nil
}

// endPrepare records a result, unless the preparation was cancelled or the pool has changed
// meanwhile. The caller holds mu.
func (m *Manager) endPrepare(ctx context.Context, p *poolState, revision int64,
	prepared sandbox.Prepared, note, err error) {
	defer m.kick()
	defer p.prep.change()
	p.prep.running, p.prep.key = false, ""
	m.unpruned = true
	m.room.Give(p.view("", nil).NeedsToPrepare())
	if errors.Is(ctx.Err(), context.Canceled) || revision != p.pool.Revision ||
		p.pool.State == sandpool.Deleting {
		return
	}
	now := time.Now()
	p.prep.renew = false
	if err != nil && p.prep.done && p.prep.revision == revision {
		m.notRenewed(p, err, now)
		return
	}
	if err == nil {
		if p.pool.Template != "" && p.pool.Template != prepared.Key {
			p.pool.Revision++ // what is ready was started from something else
			revision = p.pool.Revision
			m.events.Observe(event.Event{Name: event.PoolRenewed, Pool: p.pool.ID})
			p.rolling, p.stay = true, true
		}
		p.pool.Template, p.pool.ImageDigest = prepared.Key, known(prepared)
	}
	p.prep.revision, p.prep.done, p.prep.prepared, p.prep.err = revision, err == nil, prepared, err
	p.prep.proven = false
	p.prep.note, p.prep.cause = booted(note)
	p.unsaved, p.pool.SettledAt = true, now
	if err != nil {
		p.prep.failures(err)
		p.prep.backoff.failBy(err, now)
		p.pool.State = sandpool.Failed
		p.blame("The pool's sandboxes cannot be prepared: ", err)
		reason, _ := sandbox.Reason(err)
		m.events.Observe(event.Event{Name: event.PoolFailed, Pool: p.pool.ID, Message: reason,
			Err: err, Retry: p.prep.backoff.next()})
		return
	}
	p.prep.backoff.reset()
	p.backoff.reset()
	p.pool.State, p.pool.Problem, p.pool.Cause = sandpool.Succeeded, p.prep.note, p.prep.cause
	if p.trial = m.beginTrial(p); p.trial {
		p.pool.State, p.pool.Problem, p.pool.Cause = sandpool.InProgress, "", ""
	} else {
		m.events.Observe(event.Event{Name: event.PoolReady, Pool: p.pool.ID})
	}
	for _, b := range m.sandboxes {
		if b.pool == p && b.row.Revision == revision && b.limit == 0 {
			b.limit = prepared.Template.Limits.Memory // adopted before the template was known
		}
	}
}

// known is by what a pool knows the image that it was prepared from.
func known(p sandbox.Prepared) string {
	return cmp.Or(p.Template.Root.Known, p.Template.Root.Digest)
}

// notRenewed is for an update whose image cannot be had: the pool goes on with what it has, until
// the next update. The caller holds mu.
func (m *Manager) notRenewed(p *poolState, err error, now time.Time) {
	p.pool.ImageDigest, p.pool.State = known(p.prep.prepared), sandpool.Succeeded
	p.blame("The image was not looked up again, and stays what it was: ", err)
	p.unsaved, p.pool.SettledAt = true, now
	p.prep.failures(err)
	reason, _ := sandbox.Reason(err)
	m.events.Observe(event.Event{Name: event.PoolNotRenewed, Pool: p.pool.ID, Message: reason,
		Err: err})
}

// failures counts a failed preparation, if it was the image that could not be had.
func (p *preparation) failures(err error) {
	if errors.Is(err, errTemplate) {
		p.pulls++
	}
}

// errTemplate marks the errors of a guest's template: its image cannot be had.
var errTemplate = errors.New("make the template")

// booted says why sandboxes are booted, to the operator and to the pool's owner.
func booted(why error) (note, cause string) {
	if why == nil {
		return "", ""
	}
	what := "Sandboxes are booted, because no snapshot can be taken"
	if errors.Is(why, errInit) {
		what = "Sandboxes are booted, because one that was restored cannot be used"
	}
	if _, cause = sandbox.Reason(why); cause == "" {
		cause = "The server's log says why."
	}
	return what + ": " + why.Error(), what + ": " + cause
}

// blame sets the pool's problem. The caller holds mu.
func (p *poolState) blame(what string, err error) {
	p.pool.Problem, p.pool.Cause = what+err.Error(), ""
	if _, reason := sandbox.Reason(err); reason != "" {
		p.pool.Cause = what + reason
	}
}

// errSuperseded is why a start ends whose pool was changed meanwhile.
var errSuperseded = errors.New("the session pool was changed while a sandbox started")

// prepared waits until the template of the revision is prepared.
func (m *Manager) prepared(ctx context.Context, p *poolState, revision int64) (sandbox.Prepared,
	error) {
	for {
		m.mu.Lock()
		prep, changed := p.prep, p.prep.changed
		superseded := revision != p.pool.Revision || p.pool.State == sandpool.Deleting
		m.mu.Unlock()
		switch {
		case superseded:
			return sandbox.Prepared{}, errSuperseded
		case prep.done && prep.revision == revision:
			return prep.prepared, nil
		case prep.err != nil && prep.revision == revision && !prep.running:
			return sandbox.Prepared{}, &sandpool.Error{Class: sandpool.Unavailable,
				Code: "SessionPoolFailed", Target: "sessionPool",
				Message: fmt.Sprintf("The session pool %q cannot start sandboxes; its "+
					"provisioning state says why.", p.pool.ID.Name),
				RetryAfter: max(time.Second, time.Until(prep.backoff.next())), Err: prep.err}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return sandbox.Prepared{}, m.late(ctx, p)
		}
	}
}

// preparedInTime is prepared for no longer than a start may take.
func (m *Manager) preparedInTime(ctx context.Context, p *poolState,
	revision int64) (sandbox.Prepared, error) {
	ctx, cancel := context.WithTimeout(ctx, m.options.StartTimeout)
	defer cancel()
	return m.prepared(ctx, p, revision)
}

// late is the error of a wait for a template that was cut short.
func (m *Manager) late(ctx context.Context, p *poolState) error {
	if context.Cause(ctx) != context.DeadlineExceeded {
		return context.Cause(ctx)
	}
	return unavailable(fmt.Sprintf("The session pool %q is still being prepared; try again.",
		p.pool.ID.Name), context.DeadlineExceeded)
}

// offered is the revision whose ready sandboxes claims get: the present one, or while that has none
// yet the newest that has enough for the claims in progress. The caller holds mu.
func (m *Manager) offered(p *poolState) int64 {
	if !p.stay || p.pool.State == sandpool.Failed {
		return p.pool.Revision
	}
	ready := map[int64]int{}
	for _, b := range m.sandboxes {
		if b.pool == p && b.row.State == sandpool.Ready {
			ready[b.row.Revision]++
		}
	}
	if ready[p.pool.Revision] > 0 {
		return p.pool.Revision
	}
	claims, best := p.view("", nil).Claims, int64(0)
	for revision, n := range ready {
		if n >= claims {
			best = max(best, revision)
		}
	}
	return cmp.Or(best, p.pool.Revision)
}

// awaitStartable waits until a claim can be served: by a ready sandbox, or by a start.
func (m *Manager) awaitStartable(ctx context.Context, p *poolState,
	identifier sandpool.Identifier) error {
	m.mu.Lock()
	revision := p.pool.Revision
	if p.prep.done && p.prep.revision == revision {
		m.mu.Unlock()
		return nil
	}
	offered := m.offered(p)
	for _, b := range m.sandboxes {
		if b.pool == p && b.row.State == sandpool.Ready && b.row.Revision == offered {
			m.mu.Unlock()
			return nil
		}
	}
	if p.short != "" && !p.prep.running {
		defer m.mu.Unlock()
		return m.machineFull(p, identifier, p.short)
	}
	m.mu.Unlock()
	_, err := m.preparedInTime(ctx, p, revision)
	if errors.Is(err, errSuperseded) {
		return nil // the store's answer, at the new revision, decides
	}
	return err
}

// A snapshot is needed by the pool whose template it is of, by a preparation that is about to name
// it, and by sandboxes that are being started from it. Every other is removed as soon as it is not
// needed any more, so that there are never many more of them than pools.

// use says that a preparation of p is about to make or find what it needs of t.
func (m *Manager) use(p *poolState, t sandbox.Template) {
	pruner, ok := m.engine.(sandbox.Pruner)
	if !ok {
		return
	}
	key, err := pruner.Key(t)
	if err != nil {
		return // which the preparation says as well
	}
	m.keys.Lock() // from here on a removal knows of it, and none is under way
	defer m.keys.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	p.prep.key = key
}

// beginPrune removes snapshots that nothing needs in a goroutine. The caller holds mu.
func (m *Manager) beginPrune() {
	if m.unpruned && !m.pruning {
		m.pruning = m.spawn(m.prune)
	}
}

// prune removes snapshots that nothing needs.
func (m *Manager) prune(ctx context.Context) {
	pruner, ok := m.engine.(sandbox.Pruner)
	if !ok {
		return // pruning stays set, and so ends the attempts
	}
	m.keys.Lock()
	defer m.keys.Unlock()
	m.mu.Lock()
	m.unpruned = false
	m.mu.Unlock()
	pools, err := m.store.Pools(ctx)
	if err == nil {
		err = pruner.Prune(ctx, m.needed(pools))
	}
	all, err2 := pruner.Kept(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pruning, m.snapshots = false, all
	if m.unpruned {
		m.kick()
	}
	if err := errors.Join(err, err2); err != nil && ctx.Err() == nil {
		// the next sweep tries again
		m.events.Observe(event.Event{Name: event.SnapshotsKept, Err: err})
	}
}

// needed are the keys of the snapshots that something needs; rows are all pools of the store, those
// of other servers among them.
func (m *Manager) needed(rows []sandpool.Pool) (keys []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range rows {
		if mine := m.pools[p.ID.Key()]; mine != nil {
			p = mine.pool // it may be ahead of its row
		}
		if p.State != sandpool.Deleting {
			keys = append(keys, p.Template)
		}
	}
	for _, p := range m.pools {
		keys = append(keys, p.prep.key)
	}
	for _, b := range m.sandboxes {
		if b.starting {
			keys = append(keys, b.template)
		}
	}
	return keys
}
