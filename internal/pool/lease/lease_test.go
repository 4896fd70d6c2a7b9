package lease_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pool/lease"
	"github.com/sandpool/sandpool/internal/store"
)

// peer is a server of the walk, with a clock of its own.
type peer struct {
	name   string
	offset time.Duration // of its clock
	dead   bool
	cut    bool // from the database
	sight  lease.Sight
	mine   map[string]int64 // epochs, by pool
	until  time.Time        // by its clock
	passed time.Time
}

// ring is the database and the servers, and what time it really is.
type ring struct {
	now   time.Time
	rows  map[string]*store.Server
	holds []store.Hold
	peers []*peer
	beat  int64
}

func (r *ring) clock(p *peer) time.Time { return r.now.Add(p.offset) }

func poolID(i int) sandpool.PoolID {
	return sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: fmt.Sprintf("p%02d", i)}
}

func newRing(servers, pools int, place func(i int) string) *ring {
	r := &ring{now: time.Unix(1_800_000_000, 0), rows: map[string]*store.Server{}}
	for i := range servers {
		p := &peer{name: fmt.Sprint("server-", i), offset: time.Duration(i*i) * time.Hour}
		r.peers = append(r.peers, p)
		r.join(p, place(i))
	}
	for i := range pools {
		r.holds = append(r.holds, store.Hold{Pool: poolID(i), Owner: "server-0", Epoch: 1})
	}
	return r
}

func (r *ring) join(p *peer, place string) {
	r.beat++
	r.rows[p.name] = &store.Server{Name: p.name, Place: place, Beat: r.beat}
	p.mine, p.sight, p.until = map[string]int64{}, lease.Sight{}, time.Time{}
}

// look is one survey of a server and what comes of it.
func (r *ring) look(p *peer) {
	if p.dead || p.cut {
		return
	}
	began := r.clock(p)
	r.beat++
	r.rows[p.name].Beat = r.beat
	var rows []store.Server
	for _, row := range r.rows {
		rows = append(rows, *row)
	}
	p.sight = p.sight.Look(rows, r.clock(p))
	view := lease.View{Me: p.name, Sight: p.sight, Now: r.clock(p), Patience: lease.Patience,
		Passed: p.passed}
	for _, h := range r.holds {
		key := h.Pool.Key()
		if p.mine[key] != h.Epoch {
			delete(p.mine, key)
		}
		view.Pools = append(view.Pools, lease.Pool{Hold: h, Mine: p.mine[key] != 0})
	}
	p.until = began.Add(lease.Term(lease.Patience))
	for _, a := range lease.Next(view) {
		for i := range r.holds {
			if r.holds[i] != a.Hold {
				continue
			}
			r.holds[i].Owner, r.holds[i].Epoch = a.To, a.Hold.Epoch+1
			if a.To == p.name {
				p.mine[a.Hold.Pool.Key()] = a.Hold.Epoch + 1
			} else {
				delete(p.mine, a.Hold.Pool.Key())
				p.passed = r.clock(p)
			}
		}
	}
}

// serves reports whether a server would serve a pool from memory now.
func (r *ring) serves(p *peer, key string) bool {
	return !p.dead && p.mine[key] != 0 && r.clock(p).Before(p.until)
}

// check fails if two servers would serve one pool.
func (r *ring) check(t *testing.T) {
	t.Helper()
	for _, h := range r.holds {
		var who []string
		for _, p := range r.peers {
			if r.serves(p, h.Pool.Key()) {
				who = append(who, p.name)
			}
		}
		if len(who) > 1 {
			t.Fatalf("%v serve %s", who, h.Pool.Name)
		}
	}
}

// run lets time pass, with every server looking at its own moments.
func (r *ring) run(t *testing.T, random *rand.Rand, d time.Duration) {
	t.Helper()
	const step = 50 * time.Millisecond
	for end := r.now.Add(d); r.now.Before(end); r.now = r.now.Add(step) {
		for _, i := range random.Perm(len(r.peers)) {
			if random.Int64N(int64(lease.Every/step)) == 0 {
				r.look(r.peers[i])
				r.check(t)
			}
		}
	}
}

// wantServed fails unless each pool is served by a server that lives.
func (r *ring) wantServed(t *testing.T) {
	t.Helper()
	for _, h := range r.holds {
		if !slices.ContainsFunc(r.peers, func(p *peer) bool { return r.serves(p, h.Pool.Key()) }) {
			t.Fatalf("nobody serves %s, which is %s's", h.Pool.Name, h.Owner)
		}
	}
}

// TestWalk: servers die, come back, are cut off from the database and reach it again, with clocks
// that are hours apart. Never do two of them serve one pool, and soon after the last change each
// pool is served.
func TestWalk(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			r := newRing(4, 7, func(i int) string { return fmt.Sprint("place ", i%2) })
			for range 60 {
				p := r.peers[random.IntN(len(r.peers))]
				switch {
				case p.dead:
					p.dead = false
					r.join(p, r.rows[p.name].Place)
				case p.cut:
					p.cut = false
				case random.IntN(2) == 0:
					p.dead = true
				default:
					p.cut = true
				}
				r.run(t, random, time.Duration(random.IntN(6000))*time.Millisecond)
			}
			r.peers[0].cut = false
			if r.peers[0].dead {
				r.peers[0].dead = false
				r.join(r.peers[0], "place 0")
			}
			r.run(t, random, 2*lease.Patience+5*time.Second)
			r.wantServed(t)
		})
	}
}

// TestReplacedInTime: four seconds and a half after a death each pool has a server, which leaves
// half a second to adopt it.
func TestReplacedInTime(t *testing.T) {
	r := newRing(3, 9, func(int) string { return "here" })
	tick := func(d time.Duration) {
		for end := r.now.Add(d); r.now.Before(end); {
			for i, p := range r.peers {
				if i > 0 {
					r.look(p)
				}
			}
			r.now = r.now.Add(lease.Every)
		}
	}
	r.look(r.peers[0])
	tick(2 * time.Second)
	r.look(r.peers[0])
	r.peers[0].dead = true
	tick(4500 * time.Millisecond)
	r.wantServed(t)
	for _, p := range r.peers[1:] {
		if n := len(p.mine); n < 4 || n > 5 {
			t.Errorf("%s has %d of 9 pools", p.name, n)
		}
	}
}

// TestOutage: the database is away for a while, and nobody loses a pool by it.
func TestOutage(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	r := newRing(3, 6, func(i int) string { return fmt.Sprint("place ", i) })
	r.run(t, random, 5*time.Minute)
	before := slices.Clone(r.holds)
	for _, p := range r.peers {
		p.cut = true
	}
	r.run(t, random, time.Minute)
	// They come back one after the other.
	for _, p := range r.peers {
		p.cut = false
		r.run(t, random, lease.Patience/3)
	}
	r.run(t, random, time.Minute)
	if diff := cmp.Diff(before, r.holds); diff != "" {
		t.Error(diff)
	}
}

// view is what server "me" sees of others that live, one of which died.
func view(pools ...lease.Pool) lease.View {
	rows := []store.Server{{Name: "dead", Place: "near", Beat: 1}, {Name: "far", Place: "far",
		Beat: 1}, {Name: "me", Place: "near", Beat: 1}}
	var sight lease.Sight
	now := time.Unix(1000, 0)
	for range 8 {
		now = now.Add(lease.Every)
		for i := range rows[1:] {
			rows[i+1].Beat++
		}
		sight = sight.Look(rows, now)
	}
	return lease.View{Me: "me", Sight: sight, Now: now, Patience: lease.Patience, Pools: pools,
		Passed: now}
}

func pool(i int, owner string, settled bool) lease.Pool {
	return lease.Pool{Hold: store.Hold{Pool: poolID(i), Owner: owner, Epoch: 1},
		Mine: owner == "me", Settled: settled}
}

// TestHeirs: what a dead server had goes to one that can adopt its sandboxes, though another has
// fewer pools.
func TestHeirs(t *testing.T) {
	v := view(pool(0, "dead", false), pool(1, "me", false), pool(2, "me", false))
	if acts := lease.Next(v); len(acts) != 1 || acts[0].To != "me" || acts[0].Hold.Pool != poolID(0) {
		t.Errorf("acts are %+v; want that the pool of the dead server is taken", acts)
	}
	v.Me = "far"
	v.Pools[1].Mine, v.Pools[2].Mine = false, false
	if acts := lease.Next(v); len(acts) != 0 {
		t.Errorf("acts of the server elsewhere are %+v; want none", acts)
	}
}

// TestEven: a pool with sessions stays where its sandboxes are, and one without moves.
func TestEven(t *testing.T) {
	v := view(pool(0, "me", false), pool(1, "me", false), pool(2, "me", true))
	v.Passed = v.Passed.Add(-lease.Rest)
	if acts := lease.Next(v); len(acts) != 1 || acts[0].To != "far" ||
		acts[0].Hold.Pool != poolID(2) {
		t.Errorf("acts are %+v; want that the pool without sessions moves", acts)
	}
	v.Pools[2].Settled = false
	if acts := lease.Next(v); len(acts) != 0 {
		t.Errorf("acts are %+v; want that sessions stay where they are", acts)
	}
	v.Pools[2].Settled, v.Pools[2].Stuck = true, true
	if acts := lease.Next(v); len(acts) != 0 {
		t.Errorf("acts are %+v; want none while the pool is stuck", acts)
	}
}

// TestFarewell: a server that ends gives away what loses nothing by it.
func TestFarewell(t *testing.T) {
	v := view(pool(0, "me", false), pool(1, "me", true))
	if acts := lease.Farewell(v); len(acts) != 1 || acts[0].Hold.Pool != poolID(1) ||
		acts[0].To != "far" {
		t.Errorf("acts are %+v; want that the pool without sessions goes elsewhere", acts)
	}
}

// TestLeft: a server that has left is replaced at once.
func TestLeft(t *testing.T) {
	now := time.Unix(1000, 0)
	sight := lease.Sight{}.Look([]store.Server{{Name: "gone"}, {Name: "me", Beat: 7}}, now)
	acts := lease.Next(lease.View{Me: "me", Sight: sight, Now: now, Patience: lease.Patience,
		Pools: []lease.Pool{pool(0, "gone", false), pool(1, "unheard of", false)}})
	if len(acts) != 2 {
		t.Errorf("acts are %+v; want that both pools are taken", acts)
	}
}
