package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool/ahead"
	"github.com/sandpool/sandpool/internal/pool/plan"
	"github.com/sandpool/sandpool/internal/pool/queue"
	"github.com/sandpool/sandpool/internal/pool/refusal"
	"github.com/sandpool/sandpool/internal/pool/room"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// poolState is what memory knows of a pool. Manager.mu guards it.
type poolState struct {
	pool     sandpool.Pool // as the store has it
	prep     preparation
	sessions map[sandpool.Identifier]*entry
	backoff  backoff // of starts
	refills  int64   // refills that went wrong, ever
	refilled int64   // those that did not, ever
	read     int64   // bytes that sandboxes had read that are gone
	claims   [sandpool.ClaimNew + 1]int64
	burst    plan.Burst
	ahead    forecast
	guest    Guest
	guestErr error // why there is no guest
	epoch    int64 // of this Manager's ownership
	lost     bool  // somebody else owns it; nothing of it is to be touched
	passing  bool  // it is being passed on to another server
	keeps    bool  // and requests that are under way may go on
	trial    bool  // no sandbox of a template that boots has started yet
	crashes  int64 // sandboxes that ended by themselves, ever
	losses   map[sandpool.Identifier]*sandpool.Loss
	past     []past     // sandboxes that are over, oldest first
	rolling  bool       // sandboxes of an earlier revision may be ready still
	stay     bool       // and claims may have them until there are new ones
	unsaved  bool       // pool differs from its row in State or Problem
	removing bool       // the row is being deleted
	line     queue.Line // before a full pool

	size    room.Size     // what its sandboxes take
	short   room.Resource // what the machine lacks for what the pool wants
	refused int64         // claims for which the machine had no room, ever
	tally   refusal.Tally // what its sandboxes were refused on the network
}

// forecast is what memory knows of a pool's claims.
type forecast struct {
	ahead.Claims           // of the last day, if the pool forecasts
	whole        bool      // those that earlier owners have counted are among them
	unsaved      bool      // there are some that the document has not
	tried        time.Time // when they were last read or written
}

func (m *Manager) newPoolState(p sandpool.Pool) *poolState {
	s := &poolState{pool: p, sessions: map[sandpool.Identifier]*entry{},
		losses: map[sandpool.Identifier]*sandpool.Loss{},
		prep:   preparation{changed: make(chan struct{})}}
	m.setGuest(s)
	if p.State != sandpool.Deleting {
		m.options.Keep(p.ID, p.Spec.History)
	}
	return s
}

// entry is an identifier's place in a pool: a session, a claim in progress, or
// both when the session has ended and a claim for the next one began.
type entry struct {
	state *sandboxState
	claim *claim
}

// sandboxState is what memory knows of one sandbox. Manager.mu guards it.
//
// State follows the row's, and may be ahead of it in one case: a sandbox that
// ended is Stopping here before the store says so, so that no further request reaches it.
type sandboxState struct {
	row     sandpool.Sandbox
	pool    *poolState       // nil: a stray, known to the engine or the store alone
	since   time.Time        // when row.State was entered
	limit   int64            // its memory limit in bytes; zero if unknown
	network sandpool.Network // what the engine was last told
	told    bool             // the engine was told by this Manager
	ctx     context.Context
	end     context.CancelCauseFunc

	leases     int
	used       time.Time      // when the last lease ended, with the monotonic clock
	dirty      bool           // used is not in the store yet
	unattended int            // of the leases, those for which nobody waits
	loss       *sandpool.Loss // that its session was lost, until the store knows
	left       bool           // the store has heard that its session is over

	template string          // the key of what it starts from
	starting bool            // its start is under way; only the starter may touch it
	steps    []sandpool.Step // of its start, until a claim that waited for it takes them
	stopping bool            // an attempt to stop is under way
	backoff  backoff

	checking bool      // it is being asked whether it lives
	checkAt  time.Time // when it is asked next
	failures int       // of that, in a row

	took       room.Amount // what it took when it was measured
	measuredAt time.Time
	read       int64 // the bytes that it had read then
}

// handleOf is how the engine finds a row's sandbox.
func handleOf(row sandpool.Sandbox) sandbox.Handle {
	return sandbox.Handle{ID: row.ID, Data: row.Handle}
}

// tenant tells whose sessions share what there is of the processor: those of one pool that one
// principal has claimed.
func (b *sandboxState) tenant() string { return b.row.Pool.Key() + "\n" + b.row.ClaimedBy }

func (b *sandboxState) enter(s sandpool.SandboxState, now time.Time) {
	b.row.State, b.since = s, now
}

// newSandboxState returns the state of a row. ctx gives its lease contexts their values only.
func newSandboxState(ctx context.Context, p *poolState, row sandpool.Sandbox,
	now time.Time) *sandboxState {
	b := &sandboxState{row: row, pool: p, since: now, used: now}
	b.ctx, b.end = context.WithCancelCause(context.WithoutCancel(ctx))
	return b
}

// retire ends what the sandbox is for: leases' contexts end with cause, no further
// lease is given, and the next plan stops the sandbox. The caller holds mu.
func (m *Manager) retire(b *sandboxState, cause *sandpool.Error) {
	if b.row.State == sandpool.Stopping {
		return
	}
	now := time.Now()
	if b.row.State == sandpool.Claimed {
		m.options.Meter.Ended(b.row, b.pool.ownEpoch())
		m.events.Observe(event.Event{Name: event.SessionEnded, Pool: b.row.Pool, Sandbox: b.row.ID,
			Message: cause.Message, Took: now.Sub(b.row.ClaimedAt)})
	}
	if b.pool != nil {
		b.pool.remember(b.row)
	}
	m.vacate(b)
	m.shares.Ended(b.row.ID)
	b.enter(sandpool.Stopping, now)
	b.row.Reason = cause.Message
	b.end(cause)
	m.kick()
}

// forget removes the state of a sandbox that is gone. The caller holds mu.
func (m *Manager) forget(b *sandboxState) {
	b.end(ended("the session has ended"))
	delete(m.sandboxes, b.row.ID)
	m.shares.Ended(b.row.ID)
	if p := b.pool; p != nil {
		p.tally.End(b.row.ID)
		p.read += b.read
		if e := p.sessions[b.row.Identifier]; e != nil && e.state == b {
			e.state = nil
			p.tidy(b.row.Identifier)
		}
	}
	m.tellRolled(b.pool)
	m.tellEmpty()
}

// tellRolled says that no unclaimed sandbox of an earlier revision is left, once. The caller holds
// mu.
func (m *Manager) tellRolled(p *poolState) {
	if p == nil || !p.rolling || p.lost || p.pool.State == sandpool.Deleting {
		return
	}
	for _, b := range m.sandboxes {
		if b.pool == p && b.row.Identifier == "" && b.row.Revision != p.pool.Revision {
			return
		}
	}
	p.rolling = false
	m.events.Observe(event.Event{Name: event.PoolRolled, Pool: p.pool.ID, Count: p.pool.Revision})
}

// tellEmpty lets StopAll go on when no sandbox is left. The caller holds mu.
func (m *Manager) tellEmpty() {
	if len(m.sandboxes) == 0 && m.empty != nil {
		close(m.empty)
		m.empty = nil
	}
}

// tidy drops an entry that holds nothing.
func (p *poolState) tidy(identifier sandpool.Identifier) {
	if e := p.sessions[identifier]; e != nil && e.state == nil && e.claim == nil {
		delete(p.sessions, identifier)
	}
}

// live returns the sandbox that serves the identifier, or nil.
func (p *poolState) live(identifier sandpool.Identifier) *sandboxState {
	if e := p.sessions[identifier]; e != nil && e.state != nil &&
		e.state.row.State == sandpool.Claimed {
		return e.state
	}
	return nil
}

// ended is the cause of a lease's context: a session ended, and why.
func ended(format string, args ...any) *sandpool.Error {
	return sandpool.Errorf(sandpool.Ended, "", "", format, args...)
}

// endedBy says in words how a sandbox ended by itself.
func (b *sandboxState) endedBy(exit sandbox.Exit) *sandpool.Error {
	switch exit.Reason {
	case sandbox.OutOfMemory:
		if b.limit > 0 {
			return ended("out of memory: the sandbox used more than its limit of %s", size(b.limit))
		}
		return ended("out of memory: the sandbox used more than its limit")
	case sandbox.HostOutOfMemory:
		return ended(
			"the machine ran out of memory and ended this sandbox, which had not reached its own limit")
	case sandbox.Crashed:
		return ended("the sandbox's own kernel crashed (code %d); the server's log says how",
			exit.Code)
	case sandbox.Exited:
		return ended("the sandbox's first process exited with code %d", exit.Code)
	case sandbox.Evicted:
		return ended(
			"the node of the cluster that the sandbox ran on wanted its room, or was drained")
	case sandbox.Preempted:
		return ended("the cluster gave the sandbox's place to something of a higher priority")
	case sandbox.NodeLost:
		return ended(
			"the node of the cluster that the sandbox ran on does not answer any more")
	case sandbox.Stopped:
		return ended("the sandbox was stopped")
	}
	return ended("the sandbox was killed from outside (code %d)", exit.Code)
}

// size writes a number of bytes for people, in the largest binary unit that divides it well.
func size(bytes int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	n, unit := float64(bytes), 0
	for n >= 1024 && unit < len(units)-1 {
		n, unit = n/1024, unit+1
	}
	return fmt.Sprintf("%.4g %s", n, units[unit])
}

// backoff says when something that failed may be tried again.
type backoff struct {
	failures int
	last     time.Time
	least    time.Duration // that the last failure asks for
}

// Bounds of the time between attempts.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

func (b *backoff) fail(now time.Time) { b.failures, b.last, b.least = b.failures+1, now, 0 }

// failBy is fail for the reason err, which may say when to try again.
func (b *backoff) failBy(err error, now time.Time) {
	b.fail(now)
	var known *sandpool.Error
	if errors.As(err, &known) {
		b.least = min(known.RetryAfter, lastRetry)
	}
}

func (b *backoff) reset() { *b = backoff{} }

// next is when the next attempt may begin; the zero time if nothing failed.
func (b backoff) next() time.Time {
	if b.failures == 0 {
		return time.Time{}
	}
	delay := lastRetry
	if shift := b.failures - 1; shift < 6 { // 2^6 s is past lastRetry
		delay = min(firstRetry<<shift, lastRetry)
	}
	return b.last.Add(max(delay, b.least))
}

// What a sandbox may reach follows its pool while it runs, whoever uses it: a policy that is taken
// back must hold at once, and no session has to end for it.

// network is the pool's, with the versions of its secrets and without their values. The caller
// holds Manager.mu.
func (p *poolState) network() sandpool.Network {
	n := p.pool.Clone().Spec.Network
	for i, c := range n.Credentials {
		n.Credentials[i].Version = p.pool.Spec.Secrets[c.SecretRef]
	}
	return n
}

// withSecrets is n with the values of its credentials, as an engine needs them. Memory keeps none.
func (m *Manager) withSecrets(ctx context.Context, p sandpool.Pool,
	n sandpool.Network) (sandpool.Network, error) {
	if len(n.Credentials) == 0 {
		return n, nil
	}
	values, err := m.secrets(ctx, p)
	if err != nil {
		return n, err
	}
	n.Credentials = slices.Clone(n.Credentials)
	for i, c := range n.Credentials {
		n.Credentials[i].Value = values[c.SecretRef]
	}
	return n, nil
}

// setNetwork tells the engine of the pool's network, unless it knows.
func (m *Manager) setNetwork(ctx context.Context, b *sandboxState) error {
	setter, ok := m.engine.(sandbox.NetworkSetter)
	m.mu.Lock()
	if !ok || !b.differs() {
		m.mu.Unlock()
		return nil
	}
	row, pool, want := b.row, b.pool.pool, b.pool.network()
	m.mu.Unlock()
	full, err := m.withSecrets(ctx, pool, want)
	if err == nil {
		err = setter.SetNetwork(ctx, handleOf(row), full)
	}
	if err != nil {
		return fmt.Errorf("set the network of sandbox %q: %w", row.ID, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b.network, b.told = want, true
	return nil
}

// differs reports whether the sandbox may reach something else than its pool says, or nobody knows.
// The caller holds Manager.mu.
func (b *sandboxState) differs() bool {
	return b.pool != nil && b.differsFrom(b.pool.network())
}

// differsFrom is differs where the pool's network is known already.
func (b *sandboxState) differsFrom(want sandpool.Network) bool {
	return b.row.State != sandpool.Stopping && (!b.told || !b.network.Equal(want))
}

// spreadNetwork tells the engine of the networks of those sandboxes that have another one than
// their pools. What fails is tried again with the next pulse.
func (m *Manager) spreadNetwork(ctx context.Context) {
	if _, ok := m.engine.(sandbox.NetworkSetter); !ok {
		return
	}
	m.mu.Lock()
	var differ []*sandboxState
	networks := map[*poolState]sandpool.Network{}
	for _, b := range m.sandboxes {
		if b.pool == nil {
			continue
		}
		want, known := networks[b.pool]
		if !known {
			want = b.pool.network()
			networks[b.pool] = want
		}
		if b.differsFrom(want) && (b.told || b.row.State != sandpool.Starting) {
			differ = append(differ, b)
		}
	}
	m.mu.Unlock()
	var group errgroup.Group
	group.SetLimit(networkChanges)
	for _, b := range differ {
		group.Go(func() error {
			err := m.setNetwork(ctx, b)
			switch class := sandpool.ClassOf(err); {
			case err == nil || ctx.Err() != nil || class == sandpool.Ended:
			case class == sandpool.Unsupported:
				m.mu.Lock()
				defer m.mu.Unlock()
				m.outgrown(b)
			default:
				m.events.Observe(event.Event{Name: event.NetworkUnchanged, Pool: b.row.Pool,
					Sandbox: b.row.ID, Err: err})
			}
			return nil
		})
	}
	_ = group.Wait()
}

// outgrown retires a sandbox that cannot follow its pool's network: it would reach what it must not
// any more. The caller holds mu.
func (m *Manager) outgrown(b *sandboxState) {
	if !b.differs() {
		return
	}
	cause := ended(
		"the network of its pool was changed, which a running sandbox cannot follow here")
	if b.row.State == sandpool.Claimed && b.leases == b.unattended {
		b.pool.mourn(b, cause, time.Now())
	}
	m.retire(b, cause)
}

// networkChanges bounds the changes at the same time.
const networkChanges = 8

// beginTally reads what sandboxes were refused, and tells of what is new. The caller holds mu.
func (m *Manager) beginTally() {
	if _, reads := m.engine.(sandbox.RefusalReader); !reads || m.tallying {
		return
	}
	m.tallying = m.spawn(func(ctx context.Context) {
		err := m.readRefusals(ctx, "")
		m.mu.Lock()
		defer m.mu.Unlock()
		m.tallying = false
		for _, p := range m.pools {
			if news, ok := p.tally.News(time.Now()); ok && err == nil {
				m.events.Observe(event.Event{Name: event.EgressRefused, Pool: p.pool.ID,
					Sandbox: news.Sandbox, Count: news.Count, Message: news.Message()})
			}
		}
	})
}

// readRefusals asks the engine what the sandboxes of a pool were refused, or those of all pools.
// One that ends meanwhile counts for nothing.
func (m *Manager) readRefusals(ctx context.Context, pool string) error {
	m.mu.Lock()
	var sandboxes []*sandboxState
	for _, b := range m.sandboxes {
		if b.counts() && (pool == "" || b.pool.pool.ID.Key() == pool) {
			sandboxes = append(sandboxes, b)
		}
	}
	m.mu.Unlock()
	for _, b := range sandboxes {
		m.tally(ctx, b)
	}
	return ctx.Err()
}

// counts reports whether the sandbox has a network, or had one. The caller holds mu.
func (b *sandboxState) counts() bool {
	return b.pool != nil && b.row.State != sandpool.Starting &&
		(b.network.Enabled() || b.pool.pool.Spec.Network.Enabled())
}

// tally reads what one sandbox was refused.
func (m *Manager) tally(ctx context.Context, b *sandboxState) {
	reader, ok := m.engine.(sandbox.RefusalReader)
	if !ok {
		return
	}
	m.mu.Lock()
	h := handleOf(b.row)
	m.mu.Unlock()
	one, err := reader.Refusals(ctx, h)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil && m.sandboxes[b.row.ID] == b {
		b.pool.tally.Read(b.row.ID, one)
	}
}
