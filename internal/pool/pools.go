package pool

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pool/ahead"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/store"
)

// Put creates the pool, or changes it to what want says, and returns it as
// stored. It does not wait for the pool's sandboxes: State goes from
// InProgress to Succeeded or Failed when the template is prepared. A change of what sandboxes
// are started from makes a new revision; sessions keep the sandboxes they have. What
// sandboxes may reach holds for those that run as well, when Put returns.
//
// secrets become the pool's only ones; one without a value keeps the value that the pool has
// under its name, and nil keeps all of them. Spec.Secrets of want is not looked at.
func (m *Manager) Put(ctx context.Context, want sandpool.Pool,
	secrets sandpool.Secrets) (sandpool.Pool, error) {
	if err := checkPool(want); err != nil {
		return sandpool.Pool{}, err
	}
	if err := m.ready(ctx); err != nil {
		return sandpool.Pool{}, err
	}
	p, err := m.put(ctx, want, secrets)
	if err == nil {
		m.spreadNetwork(ctx)
	}
	return p, err
}

// put is Put without what it brings about.
func (m *Manager) put(ctx context.Context, want sandpool.Pool,
	secrets sandpool.Secrets) (sandpool.Pool, error) {
	m.rows.Lock()
	defer m.rows.Unlock()
	secrets, versions, err := m.mergeSecrets(ctx, want.ID, secrets)
	if err != nil {
		return sandpool.Pool{}, err
	}
	want.Spec.Secrets = versions
	m.mu.Lock()
	next, err := m.merge(want, time.Now())
	m.mu.Unlock()
	if err != nil {
		return sandpool.Pool{}, err
	}
	owner := m.ownerFor(next.Location)
	epoch, err := m.write(ctx, next, secrets, owner)
	if err != nil {
		return sandpool.Pool{}, fmt.Errorf("put pool %q: %w", want.ID.Name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pools[next.ID.Key()]
	if p == nil {
		if m.shared() {
			m.owned.holds[next.ID.Key()] = store.Hold{Pool: next.ID, Owner: owner, Epoch: epoch,
				Location: next.Location}
		}
		if owner != m.owner() {
			return next, nil // that server takes it when it looks
		}
		p = m.newPoolState(next)
		p.epoch = epoch
		m.pools[next.ID.Key()] = p
	}
	m.adoptPool(p, next)
	return p.pool.Clone(), nil
}

// write puts the row of a pool that this Manager owns, or of a new one, which is to be owner's.
func (m *Manager) write(ctx context.Context, next sandpool.Pool,
	secrets sandpool.Secrets, owner string) (epoch int64, err error) {
	m.mu.Lock()
	p := m.pools[next.ID.Key()]
	m.mu.Unlock()
	if p != nil {
		return p.epoch, m.fenced(p, m.store.PutPool(ctx, next, secrets, p.epoch))
	}
	epoch, err = m.store.CreatePool(ctx, next, secrets, owner)
	if err != nil && sandpool.ClassOf(err) == sandpool.Conflict {
		return 0, store.NotOwner(next.ID) // somebody else was quicker
	}
	return epoch, err
}

// adoptPool makes next the pool. The store has it already, but a preparation may have
// ended since merge looked. The caller holds rows and mu.
func (m *Manager) adoptPool(p *poolState, next sandpool.Pool) {
	old, stored := p.pool, next
	same := old.Spec.SameSandbox(next.Spec)
	if same {
		next.Revision, next.Template, next.ImageDigest = old.Revision, old.Template, old.ImageDigest
	} else {
		next.Revision = max(next.Revision, old.Revision+1)
		p.rolling, p.stay = true, old.Spec.Network.Enabled() == next.Spec.Network.Enabled()
	}
	switch again := same && p.renews(next); {
	case same && old.State != sandpool.Failed && !again:
		next.State, next.Problem, next.Cause = old.State, old.Problem, old.Cause
	case again && p.prep.done:
		// What is prepared serves until the image was looked up.
		next.ImageDigest, next.State, next.Problem = "", sandpool.InProgress, ""
		p.prep.renew = true
		p.prep.backoff.reset()
		if p.prep.running {
			p.prep.cancel()
		}
	default:
		p.prep.renew = false
		if again {
			next.ImageDigest = ""
		}
		p.prep.backoff.reset()
		p.backoff.reset()
		p.prep.done, p.prep.err = false, nil
		if p.prep.running {
			p.prep.cancel()
		}
		p.prep.change()
	}
	m.unpruned = m.unpruned || p.pool.Template != next.Template
	p.pool = next
	m.options.Keep(next.ID, next.Spec.History)
	p.line.FreeAll() // there may be more slots now
	m.setGuest(p)
	p.unsaved = next.Revision != stored.Revision || next.Template != stored.Template ||
		next.ImageDigest != stored.ImageDigest ||
		next.State != stored.State || next.Problem != stored.Problem
	m.kick()
}

func checkPool(p sandpool.Pool) error {
	switch {
	case p.ID.Name == "":
		return sandpool.Errorf(sandpool.Invalid, "", "name", "A session pool needs a name.")
	case p.MaxSessions < 1:
		return sandpool.Errorf(sandpool.Invalid, "", "maxConcurrentSessions",
			"The maximum of sessions must be at least 1.")
	case p.ReadySessions < 0:
		return sandpool.Errorf(sandpool.Invalid, "", "readySessionInstances",
			"The number of ready sessions must not be negative.")
	case p.Cooldown <= 0:
		return sandpool.Errorf(sandpool.Invalid, "", "cooldownPeriodInSeconds",
			"The cooldown must be longer than zero.")
	}
	return nil
}

// merge is want with what the pool it replaces decides. The caller holds mu.
func (m *Manager) merge(want sandpool.Pool, now time.Time) (sandpool.Pool, error) {
	next := want.Clone()
	next.State, next.Problem, next.Revision, next.Template,
		next.ImageDigest = sandpool.InProgress, "", 1, "", ""
	next.CreatedAt, next.UpdatedAt, next.CreatedBy = now, now, want.UpdatedBy
	p := m.pools[want.ID.Key()]
	if p == nil {
		return next, nil
	}
	old := p.pool
	if old.State == sandpool.Deleting {
		return next, BeingDeleted(want.ID, "sessionPool")
	}
	next.ID, next.CreatedAt, next.CreatedBy = old.ID, old.CreatedAt, old.CreatedBy
	next.Revision = old.Revision
	if old.SameSettings(next) {
		next.UpdatedAt, next.UpdatedBy = old.UpdatedAt, old.UpdatedBy
	}
	if !old.Spec.SameSandbox(next.Spec) {
		next.Revision++
		return next, nil
	}
	next.Template, next.ImageDigest = old.Template, old.ImageDigest
	if old.State != sandpool.Failed {
		next.State, next.Problem = old.State, old.Problem
	}
	if p.renews(next) {
		next.ImageDigest, next.State, next.Problem = "", sandpool.InProgress, ""
	}
	return next, nil
}

// renews reports whether an update has the pool's image looked up again, though nothing else of
// its sandboxes changes: a registry's tag may mean another image by now.
func (p *poolState) renews(next sandpool.Pool) bool {
	return (next.Spec.Kind == sandpool.CustomContainer || p.guest.Renews) &&
		next.Template != "" && !strings.Contains(next.Spec.Image, "@")
}

// Kind returns the kind of a pool. Unlike Pool it copies nothing: every request asks.
func (m *Manager) Kind(ctx context.Context, id sandpool.PoolID) (sandpool.ContainerType, error) {
	if err := m.ready(ctx); err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.pool(id)
	if err != nil {
		return "", err
	}
	return p.pool.Spec.Kind, nil
}

// Pool returns a pool, or an error of class NotFound. Another server's is as the store has it.
func (m *Manager) Pool(ctx context.Context, id sandpool.PoolID) (sandpool.Pool, error) {
	if err := m.ready(ctx); err != nil {
		return sandpool.Pool{}, err
	}
	m.mu.Lock()
	p, err := m.pool(id)
	if err == nil {
		defer m.mu.Unlock()
		return m.shown(p), nil
	}
	m.mu.Unlock()
	if !m.shared() {
		return sandpool.Pool{}, err
	}
	rows, failed := m.store.Pools(ctx)
	if failed != nil {
		return sandpool.Pool{}, failed
	}
	at := slices.IndexFunc(rows, func(p sandpool.Pool) bool { return p.ID.Key() == id.Key() })
	if at < 0 {
		return sandpool.Pool{}, err
	}
	return rows[at], nil
}

// shown is a pool as its owner sees it. The caller holds mu.
func (m *Manager) shown(p *poolState) sandpool.Pool {
	shown := p.pool.Clone()
	shown.Notice = m.notice(p)
	return shown
}

// Pools returns all pools, ordered by PoolID.Key, those of other servers as the store has them.
func (m *Manager) Pools(ctx context.Context) ([]sandpool.Pool, error) {
	from, below := sandpool.Scope{}.Keys()
	return m.PoolsBetween(ctx, from, below, math.MaxInt32)
}

// PoolsBetween returns those pools whose keys are at least from and less than below, at most limit
// of them, ordered by key.
func (m *Manager) PoolsBetween(ctx context.Context, from, below string,
	limit int) ([]sandpool.Pool, error) {
	if err := m.ready(ctx); err != nil {
		return nil, err
	}
	rows, err := m.store.PoolsBetween(ctx, from, below, limit)
	if err != nil {
		return nil, err
	}
	m.showOwned(rows)
	return rows, nil
}

// PoolsNamed finds pools by a part of their names, as store.Pools describes.
func (m *Manager) PoolsNamed(ctx context.Context, from, below, part string,
	look, limit int) (store.Found, error) {
	if err := m.ready(ctx); err != nil {
		return store.Found{}, err
	}
	f, err := m.store.PoolsNamed(ctx, from, below, part, look, limit)
	if err != nil {
		return store.Found{}, err
	}
	m.showOwned(f.Pools)
	return f, nil
}

// showOwned replaces the rows of pools that this server owns by what it knows of them.
func (m *Manager) showOwned(rows []sandpool.Pool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, row := range rows {
		if p := m.pools[row.ID.Key()]; p != nil {
			rows[i] = m.shown(p)
		}
	}
}

// mergeSecrets says what a pool's secrets become: their values, for the store, and their
// versions, for the pool's spec. A given secret without a value keeps the one that the pool has.
// Memory holds the versions alone; the values are read from the store when they are needed.
func (m *Manager) mergeSecrets(ctx context.Context, id sandpool.PoolID,
	given sandpool.Secrets) (sandpool.Secrets, map[string]string, error) {
	m.mu.Lock()
	var old map[string]string
	if p := m.pools[id.Key()]; p != nil {
		old = maps.Clone(p.pool.Spec.Secrets)
	}
	m.mu.Unlock()
	if given == nil {
		return nil, old, nil
	}
	stored := sandpool.Secrets{}
	if len(old) > 0 {
		var err error
		if stored, err = m.store.Secrets(ctx, id); err != nil {
			return nil, nil, err
		}
	}
	values, versions := sandpool.Secrets{}, map[string]string{}
	for _, name := range given.Names() {
		value, had := stored[name]
		switch {
		case given[name].IsZero() && !had:
			return nil, nil, sandpool.Errorf(sandpool.Invalid, "SecretValueMissing",
				"properties.secrets",
				"The secret %q has no value, and the session pool has none of this name to keep. Send its value.", name)
		case given[name].IsZero(), had && given[name].Equal(value):
			values[name], versions[name] = value, old[name]
		default:
			values[name], versions[name] = given[name], rand.Text()
		}
	}
	return values, versions, nil
}

// secrets returns the values of a pool's secrets.
func (m *Manager) secrets(ctx context.Context, p sandpool.Pool) (sandpool.Secrets, error) {
	if len(p.Spec.Secrets) == 0 {
		return nil, nil
	}
	s, err := m.store.Secrets(ctx, p.ID)
	if err != nil {
		return nil, fmt.Errorf("read the pool's secrets: %w", err)
	}
	return s, nil
}

// Secret returns a secret of a pool, without a value if there is none of this name.
func (m *Manager) Secret(ctx context.Context, id sandpool.PoolID,
	name string) (sandpool.Secret, error) {
	p, err := m.Pool(ctx, id)
	if err != nil {
		return sandpool.Secret{}, err
	}
	all, err := m.secrets(ctx, p)
	return all[name], err
}

// Status is a pool in numbers.
type Status struct {
	Ready    int // warm and unclaimed
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
	// Snapshot is what its sandboxes start from, on disk; zero if there is none, or it is not known
	// yet.
	Snapshot sandbox.Kept
	// Read is the bytes that its sandboxes have read since the server started, nearly all of them
	// pages of snapshots, and Refills counts the ready sandboxes that were started since.
	Read, Refills int64
	// Refused counts, since the server started, the claims for which the machine had no room.
	Refused int64
	// Egress is what the sandboxes were refused on the network since the server started; nil if
	// they have none.
	Egress *sandpool.Refusals
	// Notice is sandpool.Pool.Notice.
	Notice string
	// Wanted is how many are to be ready now, and Because why, if that is not the usual number.
	Wanted  int
	Because string
	// PullFailures counts, since the server started, the preparations whose image could not be had.
	PullFailures int64
	// Earlier are those of Ready, Starting and Claimed that are of an earlier revision.
	Earlier struct{ Ready, Starting, Claimed int }
	// Claims counts the calls of Acquire since the server started.
	Claims map[sandpool.ClaimOutcome]int64
}

// Status returns the pool in numbers.
func (m *Manager) Status(ctx context.Context, id sandpool.PoolID) (Status, error) {
	if err := m.ready(ctx); err != nil {
		return Status{}, err
	}
	if err := m.readRefusals(ctx, id.Key()); err != nil {
		return Status{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.pool(id)
	if err != nil {
		return Status{}, err
	}
	s := Status{Waiting: p.line.Len(), RefillFailures: p.refills, Crashes: p.crashes,
		PullFailures: p.prep.pulls,
		Refused:      p.refused, Notice: m.notice(p), Snapshot: m.snapshots[p.pool.Template],
		Claims:  map[sandpool.ClaimOutcome]int64{},
		Refills: p.refilled, Read: p.read}
	s.Wanted, s.Because = ahead.Want(time.Now(), p.pool.ReadySessions, p.pool.Spec.Ready,
		&p.ahead.Claims)
	if p.pool.Spec.Network.Enabled() {
		sum := p.tally.Sum()
		s.Egress = &sum
	}
	for outcome, n := range p.claims {
		s.Claims[sandpool.ClaimOutcome(outcome)] = n
	}
	for _, b := range m.sandboxes {
		if b.pool != p {
			continue
		}
		s.Read += b.read
		earlier := 0
		if b.row.Revision != p.pool.Revision {
			earlier = 1
		}
		switch b.row.State {
		case sandpool.Starting:
			s.Starting, s.Earlier.Starting = s.Starting+1, s.Earlier.Starting+earlier
		case sandpool.Ready:
			s.Ready, s.Earlier.Ready = s.Ready+1, s.Earlier.Ready+earlier
		case sandpool.Claimed:
			s.Claimed, s.Earlier.Claimed = s.Claimed+1, s.Earlier.Claimed+earlier
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
	for b := range maps.Values(m.sandboxes) {
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
		return sandbox.Stats{}, sandpool.Errorf(sandpool.Unsupported, "", "",
			"This engine does not measure sandboxes.")
	}
	return reader.Stats(ctx, handleOf(s))
}
