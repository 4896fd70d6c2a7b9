package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool/plan"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Dialer opens a byte stream to a port of one sandbox.
type Dialer = func(ctx context.Context, port int) (net.Conn, error)

// Guest is what runs in a pool's sandboxes, as far as the pool has to know: an agent of ours, or
// somebody's container.
type Guest struct {
	// Template says what the pool's sandboxes are started from. It may take its time: an image is
	// fetched for it. p.ImageDigest is what the image was the last time, if it is to be the same.
	// Required.
	Template func(ctx context.Context, p sandpool.Pool,
		secrets sandpool.Secrets) (sandbox.Template, error)
	// Renews says that the image of a code pool is in a registry, where it may be another one by
	// the next update, as that of a container may.
	Renews bool
	// Init makes a fresh sandbox unlike its siblings: an agent gets its secret and a seed, a
	// container that was restored gets word of it. A sandbox counts as started once Init has
	// returned. Required, because clones of a snapshot share their random state.
	Init func(ctx context.Context, s sandpool.Sandbox, dial Dialer) error
	// SecretVar is the variable of the environment in which a sandbox that boots finds its own
	// secret, so that nobody else can pass for its owner before Init. Empty means none: where
	// sandboxes are restored there is nothing that could hold it.
	SecretVar string
	// InitRestored says that Init is for sandboxes that were restored, and not for booted ones.
	InitRestored bool
	// Alive asks a sandbox whether it can be used: a ready one that is adopted after a restart, and
	// each as Liveness says. Nil trusts the engine.
	Alive func(ctx context.Context, s sandpool.Sandbox, dial Dialer) error
	// Liveness says when and how often ready and claimed sandboxes are asked, and how many
	// failures in a row end one; what it asks is Alive's to know. Nil asks after a restart alone.
	Liveness *sandpool.Probe
	// Grace is how long the first process of a session's sandbox may take to end after its stop
	// signal; see sandbox.Template.Grace, which says the same to the engine.
	Grace time.Duration
	// BootInstead makes sandboxes boot if no snapshot can be taken, or if Init fails for the first
	// that was restored; the pool's problem says why.
	BootInstead bool
}

// setGuest finds out what runs in p's sandboxes, after p.pool was set. The caller holds mu.
func (m *Manager) setGuest(p *poolState) {
	p.guest, p.guestErr = m.options.Guest(p.pool)
	if p.guestErr == nil && (p.guest.Template == nil || p.guest.Init == nil) {
		p.guestErr = errors.New(
			"the guest has no template, or nothing that makes its clones unlike")
	}
}

// beginCheck asks a sandbox in a goroutine whether it lives. The caller holds mu.
func (m *Manager) beginCheck(b *sandboxState) {
	guest := b.pool.guest
	if b.row.State == sandpool.Stopping || guest.Alive == nil || guest.Liveness == nil {
		return
	}
	probe, row := guest.Liveness.WithDefaults(), b.row
	b.checking = m.spawn(func(life context.Context) {
		ctx, cancel := context.WithTimeout(life, probe.Timeout)
		defer cancel()
		err := guest.Alive(ctx, row, m.dialer(row))
		m.mu.Lock()
		defer m.mu.Unlock()
		m.checks--
		b.checking, b.checkAt = false, time.Now().Add(probe.Period)
		switch {
		case life.Err() != nil:
		case err == nil:
			b.failures = 0
		default:
			b.failures++
			m.events.Observe(event.Event{Name: event.ProbeFailed, Pool: row.Pool, Sandbox: row.ID,
				Count: int64(b.failures), Err: err})
			if b.failures >= probe.Failures {
				m.sick(b, err)
			}
		}
	})
	if b.checking {
		m.checks++
	}
}

// sick retires a sandbox that has failed its liveness check too often. The caller holds mu.
func (m *Manager) sick(b *sandboxState, err error) {
	if b.row.State == sandpool.Stopping {
		return
	}
	cause := ended("the sandbox did not pass its liveness check %d times in a row", b.failures)
	m.events.Observe(event.Event{Name: event.SandboxSick, Pool: b.row.Pool, Sandbox: b.row.ID,
		Message: cause.Message, Err: err})
	m.lost(b, cause, "Ready sandboxes of this pool do not stay alive: ",
		&sandpool.Error{Class: cause.Class, Message: cause.Message, Err: err})
}

// died retires a sandbox that ended by itself. The caller holds mu.
func (m *Manager) died(b *sandboxState, exit sandbox.Exit) {
	if b.row.State == sandpool.Stopping {
		return
	}
	cause := b.endedBy(exit)
	m.events.Observe(event.Event{Name: event.SandboxEnded, Pool: b.row.Pool, Sandbox: b.row.ID,
		Outcome: string(exit.Reason), Message: cause.Message})
	if b.pool != nil && b.pool.pool.Spec.Lifecycle.Type == sandpool.OnContainerExit &&
		b.row.State == sandpool.Claimed &&
		exit == (sandbox.Exit{Reason: sandbox.Exited}) {
		m.retire(b, cause) // that is how its sessions end
		return
	}
	m.lost(b, cause, endsEarly, cause)
}

// endsEarly begins the problem of a pool whose sandboxes end while they are ready.
const endsEarly = "Sandboxes of this pool end before they are used: "

// lost retires a sandbox that failed under the pool. One that nobody had claimed yet is its
// template's failure, which what and why describe. The caller holds mu.
func (m *Manager) lost(b *sandboxState, cause *sandpool.Error, what string, why error) {
	if p := b.pool; p != nil {
		p.crashes++
		switch {
		case b.row.State == sandpool.Ready:
			m.holdUp(b, what, why)
		case b.row.State == sandpool.Claimed && b.leases == b.unattended:
			p.mourn(b, cause, time.Now())
		}
	}
	m.retire(b, cause)
}

// A session has state that its caller believes to be there: variables, files, a container's own. So
// the first request after a session was lost while nobody waited for it is told so before anything
// runs, and the next gets a fresh one. A loss is in the store before the end of its sandbox is, so
// that a restarted server tells it too; the store forgets it before it is told.

// maxLosses bounds what is remembered in one pool.
const maxLosses = 1024

// makeRoom ends a session for another one in a full pool, before its time. Its caller is told so
// too, unless there were very many such ends: these leave room for losses that nobody foresees.
// The caller holds mu.
func (m *Manager) makeRoom(b *sandboxState, now time.Time) {
	cause := ended("%s", plan.ReasonEvicted)
	if b.pool.expireLosses(now); len(b.pool.losses) < maxLosses/2 {
		b.pool.mourn(b, cause, now)
	}
	m.retire(b, cause)
}

// expireLosses forgets what nobody has to be told any more, if much is remembered. The caller holds
// Manager.mu.
func (p *poolState) expireLosses(now time.Time) {
	if len(p.losses) < maxLosses/2 {
		return
	}
	for id, l := range p.losses {
		if now.After(l.Until) {
			delete(p.losses, id)
		}
	}
}

// mourn remembers that b's session was lost, for as long as its caller might have used it. The
// caller holds Manager.mu.
func (p *poolState) mourn(b *sandboxState, cause *sandpool.Error, now time.Time) {
	if p.expireLosses(now); len(p.losses) < maxLosses {
		b.loss = &sandpool.Loss{Pool: p.pool.ID, Identifier: b.row.Identifier,
			Reason: cause.Message,
			Until:  now.Add(max(p.pool.Cooldown, p.pool.Spec.Lifecycle.MaxAlive))}
		p.losses[b.row.Identifier] = b.loss
	}
}

// recordLoss makes the store remember what mourn does of b.
func (m *Manager) recordLoss(ctx context.Context, b *sandboxState) error {
	m.mu.Lock()
	p, l := b.pool, b.loss
	m.mu.Unlock()
	if l == nil {
		return nil
	}
	if err := m.fenced(p, m.store.Mourn(ctx, *l, time.Now(), p.epoch)); err != nil {
		return fmt.Errorf("record the loss of a session: %w", err)
	}
	m.mu.Lock()
	b.loss = nil
	told := p.losses[l.Identifier] != l
	m.mu.Unlock()
	if told {
		m.forgetLoss(ctx, p, l.Identifier)
	}
	return nil
}

// forgetLoss makes the store forget a loss that is being told.
func (m *Manager) forgetLoss(ctx context.Context, p *poolState, identifier sandpool.Identifier) {
	ctx, cancel := m.undo(ctx)
	defer cancel()
	if err := m.fenced(p, m.store.Forget(ctx, p.pool.ID, identifier, p.epoch)); err != nil {
		// At worst it is told once more after a restart.
		m.events.Observe(event.Event{Name: event.SandboxUnsaved, Pool: p.pool.ID, Err: err})
	}
}

// tell returns what the caller of an identifier has to be told once, or nil, and takes it from
// memory; forgetLoss is to follow. The caller holds Manager.mu.
func (p *poolState) tell(identifier sandpool.Identifier, now time.Time) error {
	l := p.losses[identifier]
	if l == nil {
		return nil
	}
	delete(p.losses, identifier)
	if now.After(l.Until) {
		return nil
	}
	return ended("%s", l.Reason)
}

// Lost returns the error of class Ended that the identifier's caller has to be told once, if its
// session was lost since its last call, and otherwise nil. It begins no session.
func (m *Manager) Lost(ctx context.Context, id sandpool.PoolID,
	identifier sandpool.Identifier) error {
	if err := m.ready(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	p, err := m.pool(id)
	if err != nil {
		m.mu.Unlock()
		return err
	}
	lost := p.tell(identifier, time.Now())
	m.mu.Unlock()
	if lost != nil {
		m.forgetLoss(ctx, p, identifier)
	}
	return lost
}

// beginTrial says that a sandbox must start before the pool counts as prepared: a template that
// boots was not tried by the engine, and one that is restored may not bear Init. The caller holds
// mu.
func (m *Manager) beginTrial(p *poolState) bool {
	untried := p.prep.prepared.Template.Start == sandbox.Boot || p.guest.BootInstead
	return untried && !m.serves(p)
}

// serves reports whether there is a sandbox of the present revision that has started. The caller
// holds mu.
func (m *Manager) serves(p *poolState) bool {
	for _, b := range m.sandboxes {
		if b.pool == p && b.row.Revision == p.pool.Revision &&
			(b.row.State == sandpool.Ready || b.row.State == sandpool.Claimed) {
			return true
		}
	}
	return false
}

// errInit marks the errors of Guest.Init.
var errInit = errors.New("initialise the sandbox")

// bootInstead prepares a pool anew, for sandboxes that boot, if err is why one that was restored
// cannot be used and none could before. It reports whether it does. The caller holds mu.
func (m *Manager) bootInstead(p *poolState, err error) bool {
	if !errors.Is(err, errInit) || !p.guest.BootInstead || p.prep.proven || !p.prep.done ||
		p.prep.revision != p.pool.Revision || m.serves(p) ||
		p.prep.prepared.Template.Start != sandbox.Restore {
		return false
	}
	p.prep.unfit, p.prep.unfitAt, p.prep.renew = err, p.pool.Revision, true
	return true
}

// unfit is why sandboxes of p's revision are not to be restored; nil if they are.
func (m *Manager) unfit(of *poolState, p sandpool.Pool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if of.prep.unfitAt != p.Revision {
		return nil
	}
	return of.prep.unfit
}

// endTrial is called when a sandbox of the present revision has started. The caller holds mu.
func (m *Manager) endTrial(p *poolState) {
	p.prep.proven = true
	if !p.trial {
		return
	}
	p.trial = false
	p.pool.State, p.pool.Problem, p.pool.Cause,
		p.unsaved = sandpool.Succeeded, p.prep.note, p.prep.cause, true
	m.events.Observe(event.Event{Name: event.PoolReady, Pool: p.pool.ID})
}

// failTrial is called when it has not. The pool tries again. The caller holds mu.
func (m *Manager) failTrial(p *poolState, err error) {
	if !p.trial || p.pool.State == sandpool.Deleting {
		return
	}
	p.pool.State, p.unsaved = sandpool.Failed, true
	p.blame("The pool's sandboxes do not start: ", err)
	reason, _ := sandbox.Reason(err)
	m.events.Observe(event.Event{Name: event.PoolFailed, Pool: p.pool.ID, Message: reason, Err: err,
		Retry: p.backoff.next()})
}

// expires is when a session ends at the latest by itself; zero means that nothing is known.
func (p *poolState) expires(b *sandboxState, used time.Time) time.Time {
	if l := p.pool.Spec.Lifecycle; l.Type == sandpool.OnContainerExit {
		if l.MaxAlive == 0 {
			return time.Time{}
		}
		return b.row.ClaimedAt.Add(l.MaxAlive)
	}
	return used.Add(p.pool.Cooldown)
}

// view is b for a plan. The caller holds Manager.mu.
func (b *sandboxState) view() plan.Sandbox {
	return plan.Sandbox{ID: b.row.ID, State: b.row.State, Revision: b.row.Revision,
		Session: b.row.Identifier != "",
		Leases:  b.leases, Used: b.used, Claimed: b.row.ClaimedAt, Since: b.since,
		Busy:    b.starting || b.stopping,
		RetryAt: b.backoff.next(), Checking: b.checking, CheckAt: b.checkAt}
}

// Service is the server's side of what programs of a sandbox ask on their own loopback interface.
type Service interface {
	// Serves reports whether the sandboxes of p have it.
	Serves(p sandpool.Pool) bool
	// Port is where it seems to listen.
	Port() int
	// Env is the environment of one sandbox by which its programs find it.
	Env(s sandpool.Sandbox) []sandbox.SecretVar
	// Attend answers the connections of one sandbox, which accept waits for, until ctx ends.
	Attend(ctx context.Context, s sandpool.Sandbox, accept func(context.Context) (net.Conn, error))
}

// serviceOf returns the service of p's sandboxes, with the engine's ability to offer it; nil if
// they have none.
func (m *Manager) serviceOf(p sandpool.Pool) (Service, sandbox.Accepter) {
	accepter, ok := m.engine.(sandbox.Accepter)
	if !ok || m.options.Service == nil || !m.options.Service.Serves(p) {
		return nil, nil
	}
	return m.options.Service, accepter
}

// withService puts the environment of p's service into the template of a sandbox that boots. One
// that is restored learns of it by its guest's Init.
func (m *Manager) withService(t *sandbox.Template, p sandpool.Pool, row sandpool.Sandbox) {
	if service, _ := m.serviceOf(p); service != nil && t.Start == sandbox.Boot {
		t.OwnEnv = service.Env(row)
	}
}

// listen takes the port of p's service in a sandbox that has just started, before anybody uses it.
func (m *Manager) listen(ctx context.Context, p sandpool.Pool, h sandbox.Handle) error {
	service, accepter := m.serviceOf(p)
	if service == nil {
		return nil
	}
	if err := accepter.Listen(ctx, h, service.Port()); err != nil {
		return fmt.Errorf("the endpoint of the pool's identity in sandbox %q: %w", h.ID, err)
	}
	return nil
}

// attend offers its pool's service to a sandbox that runs, until it is retired. The caller holds
// mu.
func (m *Manager) attend(b *sandboxState) {
	if b.pool == nil {
		return
	}
	service, accepter := m.serviceOf(b.pool.pool)
	if service == nil {
		return
	}
	row, h := b.row, handleOf(b.row)
	m.spawn(func(life context.Context) {
		ctx, cancel := context.WithCancel(life)
		defer cancel()
		defer context.AfterFunc(b.ctx, cancel)()
		service.Attend(ctx, row, func(ctx context.Context) (net.Conn, error) {
			return accepter.Accept(ctx, h, service.Port())
		})
	})
}
