package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool/lease"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/store"
)

// alone is the owner's name in the store of a server that shares it with none.
const alone = "alone"

// surveyTime bounds one look at the servers and their pools.
const surveyTime = 2 * time.Second

// tellEvery is the time between two complaints that there was no look.
const tellEvery = 10 * time.Second

// ownership is what a Manager knows of who owns which pool. Manager.mu guards it.
type ownership struct {
	sight  lease.Sight
	holds  map[string]store.Hold // as last seen, by PoolID.Key
	looked time.Time             // when that was
	until  time.Time             // when this Manager must stop serving from memory
	passed time.Time             // when it last passed a pool on
	acting bool                  // pools are being taken or passed on
	ending bool                  // it takes no more pools
	left   bool                  // it has left, and its beat says so
	told   time.Time             // when a failure was last told
}

func (m *Manager) owner() string {
	if m.options.Owner == "" {
		return alone
	}
	return m.options.Owner
}

// shared reports whether other servers may have the same store.
func (m *Manager) shared() bool { return m.options.Owner != "" }

// overdue reports whether this server could not show in time that it lives. Another server may
// serve its pools then, and this one learns of it when it reaches the store again. Until then it
// serves none from memory. One that is alone goes on. The caller holds mu.
func (m *Manager) overdue() bool { return m.shared() && !time.Now().Before(m.owned.until) }

// self is this server's row.
func (m *Manager) self() store.Server {
	place := m.options.Instance
	if p, ok := m.engine.(sandbox.Placer); ok {
		place = p.Place()
	}
	return store.Server{Name: m.options.Owner, Instance: m.options.Instance,
		Address: m.options.Address, Place: place, Locations: m.options.Locations}
}

// unserved is the error of preparing a pool whose location no server that lives serves. This one
// keeps the pool until one does.
func (m *Manager) unserved(p sandpool.Pool) error {
	return &sandpool.Error{Class: sandpool.Unavailable, Code: "LocationNotServed",
		Target: "location", Message: fmt.Sprintf("No server that runs serves the location %q. The "+
			"pool is prepared as soon as one does that has the location in its setting locations.",
			p.Location)}
}

// ownerFor is the name of the server that is to own a new pool of a location: this one, unless
// others serve the location and it does not.
func (m *Manager) ownerFor(location string) string {
	if !m.shared() || m.self().Serves(location) {
		return m.owner()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	fit, serve := m.owned.sight.Serving(m.owned.sight.Living(m.options.Patience, time.Now()),
		location)
	if !serve {
		return m.owner()
	}
	return lease.Least(fit, m.loads())
}

// loads counts the pools of each server. The caller holds mu.
func (m *Manager) loads() map[string]int {
	loads := map[string]int{}
	for _, h := range m.owned.holds {
		loads[h.Owner]++
	}
	return loads
}

// Locations returns the locations that the servers which share the store serve, those of this one
// first, whether they live or not; none if one of them that lives serves every location.
func (m *Manager) Locations() []string {
	if len(m.options.Locations) == 0 {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owned.sight.Locations(m.self(), m.options.Patience, time.Now())
}

// enrol makes this server one of those that share the store. A name that another one has, which
// lives, is store.ErrNameTaken.
func (m *Manager) enrol(ctx context.Context) error {
	var was int64
	for began := time.Now(); time.Since(began) < m.options.Patience; {
		list, err := m.store.Servers(ctx)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(list, func(s store.Server) bool { return s.Name == m.options.Owner })
		if at < 0 || list[at].Instance == m.options.Instance || list[at].Beat == 0 {
			break
		}
		if was != 0 && list[at].Beat != was {
			return fmt.Errorf("%w: a server at %q with the name %q shares this store; give this "+
				"one another name (the setting name)", store.ErrNameTaken, list[at].Address,
				m.options.Owner)
		}
		was = list[at].Beat
		pause := time.NewTimer(lease.Every)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
	return m.store.Join(ctx, m.self())
}

// keepOwning shows others that this server lives, and looks who owns what, until ctx ends.
func (m *Manager) keepOwning(ctx context.Context) {
	tick := time.NewTicker(lease.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := m.survey(ctx)
		m.mu.Lock()
		now := time.Now()
		if err != nil && ctx.Err() == nil && now.Sub(m.owned.told) > tellEvery {
			m.owned.told = now
			m.events.Observe(event.Event{Name: event.OwnershipUnsaved, Err: err})
		}
		m.beginActs()
		m.mu.Unlock()
	}
}

// survey shows that this server lives, and looks who owns what.
func (m *Manager) survey(ctx context.Context) error {
	m.looking.Lock()
	defer m.looking.Unlock()
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, surveyTime)
	defer cancel()
	m.mu.Lock()
	left := m.owned.left
	epochs := map[string]int64{}
	for key, p := range m.pools {
		epochs[key] = p.epoch
	}
	m.mu.Unlock()
	if !left {
		if err := m.store.Beat(ctx, m.options.Owner, m.options.Instance); err != nil {
			return err
		}
	}
	servers, err := m.store.Servers(ctx)
	if err != nil {
		return err
	}
	now := time.Now() // not earlier: see package lease
	list, err := m.store.Holds(ctx)
	if err != nil {
		return err
	}
	holds := make(map[string]store.Hold, len(list))
	for _, h := range list {
		holds[h.Pool.Key()] = h
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owned.sight, m.owned.holds, m.owned.looked = m.owned.sight.Look(servers, now), holds, now
	for key, epoch := range epochs {
		if p := m.pools[key]; p != nil && p.epoch == epoch && holds[key].Epoch != epoch &&
			!p.removing && !p.passing {
			m.disown(p)
		}
	}
	if !left {
		m.owned.until = began.Add(lease.Term(m.options.Patience))
	}
	return nil
}

// view is what a decision about owners looks at. The caller holds mu.
func (m *Manager) view() lease.View {
	v := lease.View{Me: m.options.Owner, Sight: m.owned.sight, Now: time.Now(),
		Patience: m.options.Patience, Passed: m.owned.passed}
	busy := map[*poolState]bool{}
	for _, b := range m.sandboxes {
		if b.row.Identifier != "" && b.row.State != sandpool.Stopping {
			busy[b.pool] = true
		}
	}
	for key, h := range m.owned.holds {
		one := lease.Pool{Hold: h}
		if p := m.pools[key]; p != nil && p.epoch == h.Epoch {
			one.Mine, one.Settled = true, !busy[p]
			for _, e := range p.sessions {
				one.Settled = one.Settled && e.claim == nil
			}
			one.Stuck = p.removing || p.passing || p.prep.running ||
				p.pool.State == sandpool.Deleting
		}
		v.Pools = append(v.Pools, one)
	}
	slices.SortFunc(v.Pools, func(a, b lease.Pool) int {
		return compareKeys(a.Hold.Pool, b.Hold.Pool)
	})
	return v
}

// beginActs takes the pools that this server should have, and passes on what it should not. The
// caller holds mu.
func (m *Manager) beginActs() {
	if m.owned.acting || m.owned.ending || m.overdue() {
		return
	}
	acts := lease.Next(m.view())
	if len(acts) == 0 {
		return
	}
	m.owned.acting = m.spawn(func(ctx context.Context) {
		err := m.carryOut(ctx, acts)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.owned.acting = false
		if err != nil && ctx.Err() == nil {
			m.events.Observe(event.Event{Name: event.OwnershipUnsaved, Err: err})
		}
	})
}

func (m *Manager) carryOut(ctx context.Context, acts []lease.Act) error {
	var take []store.Hold
	for _, a := range acts {
		if a.To == m.options.Owner {
			take = append(take, a.Hold)
			continue
		}
		m.mu.Lock()
		m.owned.passed = time.Now()
		m.mu.Unlock()
		if err := m.passOn(ctx, a); err != nil {
			return err
		}
	}
	if len(take) == 0 {
		return nil
	}
	// A Put that makes a pool has the row before memory: it must not be taken for a pool that its
	// owner does not know.
	m.rows.Lock()
	defer m.rows.Unlock()
	return m.adoptPools(ctx, take)
}

// OwnPools returns the pools that this server owns, ordered by PoolID.Key.
func (m *Manager) OwnPools(ctx context.Context) ([]sandpool.Pool, error) {
	if err := m.ready(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []sandpool.Pool
	for _, p := range m.pools {
		list = append(list, m.shown(p))
	}
	slices.SortFunc(list, func(a, b sandpool.Pool) int { return compareKeys(a.ID, b.ID) })
	return list, nil
}

func compareKeys(a, b sandpool.PoolID) int { return cmp.Compare(a.Key(), b.Key()) }

// passOn makes another server the owner of a pool. What runs goes on: requests that are under way
// here keep their sandboxes until they are answered.
func (m *Manager) passOn(ctx context.Context, a lease.Act) error {
	m.touch(ctx)
	m.rows.Lock()
	defer m.rows.Unlock()
	m.mu.Lock()
	p := m.pools[a.Hold.Pool.Key()]
	if p == nil || p.epoch != a.Hold.Epoch || p.removing {
		m.mu.Unlock()
		return nil
	}
	p.passing = true // from here on nobody gets a session from memory
	m.mu.Unlock()
	if err := m.options.Meter.Save(ctx); err != nil { // the new owner goes on with that
		m.events.Observe(event.Event{Name: event.UsageUnsaved, Pool: p.pool.ID, Err: err})
	}
	m.remember(ctx, p)
	epoch, err := m.store.Own(ctx, a.Hold.Pool, a.To, p.epoch)
	m.mu.Lock()
	defer m.mu.Unlock()
	p.passing = false
	if err != nil && !errors.Is(err, store.ErrNotOwner) {
		return err
	}
	if err == nil {
		m.owned.holds[p.pool.ID.Key()] = store.Hold{Pool: p.pool.ID, Owner: a.To, Epoch: epoch,
			Location: p.pool.Location}
	}
	p.keeps = true
	m.disown(p)
	return nil
}

// HandOver passes on all pools that other servers can have without losing a session, and takes no
// more. Run must be running.
func (m *Manager) HandOver(ctx context.Context) error {
	if !m.shared() {
		return nil
	}
	if err := m.ready(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	m.owned.ending = true
	m.mu.Unlock()
	return m.farewell(ctx)
}

// farewell passes on what it can, and says that this server has left if nothing of it remains.
func (m *Manager) farewell(ctx context.Context) error {
	if err := m.survey(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	acts := lease.Farewell(m.view())
	m.mu.Unlock()
	for _, a := range acts {
		if err := m.passOn(ctx, a); err != nil {
			return err
		}
	}
	m.mu.Lock()
	leave := len(m.pools) == 0 && !m.owned.left
	m.owned.left = m.owned.left || leave
	m.mu.Unlock()
	if !leave {
		return nil
	}
	m.looking.Lock() // no beat is under way, and none comes after this
	defer m.looking.Unlock()
	return m.store.Leave(ctx, m.options.Owner, m.options.Instance)
}

// Seat says which server owns a pool.
type Seat struct {
	// Here says that this one does.
	Here bool
	// Server is another one's name, and Address where it is reached; both are empty if there is no
	// such pool.
	Server, Address string
}

// freshness is how old what is known of owners may be when it does not name a pool.
const freshness = 100 * time.Millisecond

// Seat waits seatWait at most for a pool that this server is about to adopt, and looks for it every
// seatPause.
const (
	seatWait  = 10 * time.Second
	seatPause = 10 * time.Millisecond
)

// Seat returns which server owns a pool, as far as is known or, with anew, as it is now. A pool
// that nothing is known of is looked up in any case, so that one which another server has made is
// found at once.
func (m *Manager) Seat(ctx context.Context, id sandpool.PoolID, anew bool) (Seat, error) {
	if err := m.ready(ctx); err != nil {
		return Seat{}, err
	}
	key, began := id.Key(), time.Now()
	for {
		m.mu.Lock()
		if p := m.pools[key]; p != nil && !p.passing {
			m.mu.Unlock()
			return Seat{Here: true}, nil
		}
		h, known := m.owned.holds[key]
		if !known || anew || h.Owner == m.options.Owner ||
			m.owned.sight.Silence(h.Owner, time.Now()) >= m.options.Patience {
			m.beginActs() // it may be this server's to take
		}
		old := anew && m.owned.looked.Before(began) ||
			!known && time.Since(m.owned.looked) > freshness
		server, _ := m.owned.sight.Server(h.Owner)
		m.mu.Unlock()
		switch {
		case time.Since(began) > seatWait:
			return Seat{Here: true}, nil
		case old:
			if err := m.survey(context.WithoutCancel(ctx)); err != nil {
				return Seat{}, err
			}
			continue
		case !known:
			return Seat{}, nil
		case h.Owner != m.options.Owner:
			return Seat{Server: h.Owner, Address: server.Address}, nil
		}
		pause := time.NewTimer(seatPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return Seat{}, ctx.Err()
		}
	}
}

// Gone reports whether a server has died: it is silent, and has not said that it leaves.
func (m *Manager) Gone(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.owned.sight.Server(name)
	return ok && s.Beat != 0 && m.owned.sight.Silence(name, time.Now()) >= m.options.Patience
}

// Emptiest returns the server that is to own the next new pool: the one with the fewest.
func (m *Manager) Emptiest() Seat {
	m.mu.Lock()
	defer m.mu.Unlock()
	loads, name := m.loads(), m.options.Owner
	for _, other := range m.owned.sight.Living(m.options.Patience, time.Now()) {
		if loads[other] < loads[name] {
			name = other
		}
	}
	if name == m.options.Owner && !m.owned.ending {
		return Seat{Here: true}
	}
	server, _ := m.owned.sight.Server(name)
	return Seat{Server: name, Address: server.Address}
}
