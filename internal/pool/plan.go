package pool

import (
	"cmp"
	"slices"
	"time"

	"github.com/sandpool/sandpool"
)

// maxStops bounds the attempts to stop in progress.
const maxStops = 16

// stable is how long a ready sandbox must live before earlier failures are forgiven.
const stable = 10 * time.Second

// A claim is worth more than a refill: restoring a sandbox keeps a core busy for
// longer than hundreds of claims take, or dozens of first answers. So while a burst of claims
// finds sandboxes ready, refills wait for a pause of calm, but not longer than patience. When
// nothing is ready any more, the pause ends with the first requests of the sessions claimed.
const (
	calm     = 300 * time.Millisecond
	patience = time.Second
)

// snapshot is everything that plan looks at.
type snapshot struct {
	pools    []poolView
	strays   []boxView // sandboxes without a pool
	starts   int       // how many may begin now
	stops    int       // attempts in progress
	draining bool
}

type poolView struct {
	key       string
	pool      sandpool.Pool
	prepared  bool      // the template of the present revision is
	preparing bool      // a preparation runs
	prepareAt time.Time // not before
	refillAt  time.Time // not before; the zero time if no start failed lately
	claims    int       // claims in progress
	burstAt   time.Time // first claim of a ready sandbox without a calm since
	claimedAt time.Time // last one
	removing  bool
	boxes     []boxView // longest in their state first
}

type boxView struct {
	id       sandpool.SandboxID
	state    sandpool.SandboxState
	revision int64
	session  bool // carries an identifier
	leases   int
	used     time.Time
	since    time.Time
	busy     bool // a start or a stop is under way
	retryAt  time.Time
}

// act names what an action does.
type act string

const (
	actPrepare act = "prepare" // the pool's template
	actRefill  act = "refill"  // start one ready sandbox
	actForgive act = "forgive" // forget the pool's failures
	actRetire  act = "retire"  // end what the sandbox is for
	actStop    act = "stop"    // attempt to stop a retired sandbox
	actRemove  act = "remove"  // delete the pool's row
)

type action struct {
	act    act
	pool   string // key; empty of strays
	box    sandpool.SandboxID
	reason string // of actRetire
}

// plan decides what to do now. It changes nothing and reads no clock.
func plan(s snapshot, now time.Time) []action {
	var todo []action
	for _, p := range s.pools {
		todo = append(todo, p.keep(now)...)
		todo = append(todo, p.retire(now)...)
	}
	todo = append(todo, s.stop(now)...)
	if !s.draining {
		todo = append(todo, s.refill(now)...)
	}
	return todo
}

// keep looks after the pool itself.
func (p poolView) keep(now time.Time) []action {
	if p.pool.State == sandpool.Deleting {
		if len(p.boxes) == 0 && p.claims == 0 && !p.preparing && !p.removing {
			return []action{{act: actRemove, pool: p.key}}
		}
		return nil
	}
	if !p.prepared {
		if p.preparing || now.Before(p.prepareAt) {
			return nil
		}
		return []action{{act: actPrepare, pool: p.key}}
	}
	if !p.refillAt.IsZero() && slices.ContainsFunc(p.boxes, func(b boxView) bool {
		return b.state == sandpool.Ready && !now.Before(p.refillAt.Add(stable)) && now.Sub(b.since) >= stable
	}) {
		return []action{{act: actForgive, pool: p.key}}
	}
	return nil
}

// Reasons to retire a sandbox that plan itself finds.
const (
	reasonExpired = "the session ended after its cooldown without a request"
	reasonStale   = "the session pool was changed"
	reasonSurplus = "fewer ready sandboxes are wanted"
	reasonDeleted = "the session pool was deleted"
)

// retire finds the sandboxes whose time has come.
func (p poolView) retire(now time.Time) []action {
	var todo []action
	end := func(b boxView, reason string) {
		todo = append(todo, action{act: actRetire, pool: p.key, box: b.id, reason: reason})
	}
	surplus := p.count(p.isReady) - p.target()
	if p.claims > 0 {
		// A claim in progress counts as a session already, while memory shows
		// as ready what the store may have given to it: a burst of claims near
		// the maximum would have the rest of the ready sandboxes stopped under it. What
		// is too much shows when the claims are over.
		surplus = 0
	}
	for _, b := range slices.Backward(p.boxes) {
		switch {
		case b.state == sandpool.Stopping:
		case p.pool.State == sandpool.Deleting:
			end(b, reasonDeleted)
		case b.state == sandpool.Claimed && b.leases == 0 && now.Sub(b.used) >= p.pool.Cooldown:
			end(b, reasonExpired)
		case !b.session && b.revision != p.pool.Revision:
			end(b, reasonStale)
		case p.isReady(b) && surplus > 0:
			end(b, reasonSurplus)
			surplus--
		}
	}
	return todo
}

func (p poolView) isReady(b boxView) bool {
	return b.state == sandpool.Ready && b.revision == p.pool.Revision
}

func (p poolView) isSession(b boxView) bool {
	return b.state == sandpool.Claimed || b.state == sandpool.Starting && b.session
}

// isRefill reports whether b is on its way to be ready.
func (p poolView) isRefill(b boxView) bool {
	return b.state == sandpool.Starting && !b.session && b.revision == p.pool.Revision
}

func (p poolView) count(is func(boxView) bool) int {
	n := 0
	for _, b := range p.boxes {
		if is(b) {
			n++
		}
	}
	return n
}

// target is how many ready sandboxes the pool should have: what its owner
// wants, as far as the maximum of sessions leaves room to claim them.
func (p poolView) target() int {
	return max(0, min(p.pool.ReadySessions, p.pool.MaxSessions-p.count(p.isSession)))
}

// stop picks the retired sandboxes to stop now, longest retired first.
func (s snapshot) stop(now time.Time) []action {
	type item struct {
		since time.Time
		todo  action
	}
	var items []item
	add := func(pool string, boxes []boxView) {
		for _, b := range boxes {
			if b.state == sandpool.Stopping && !b.busy && !now.Before(b.retryAt) {
				items = append(items, item{b.since, action{act: actStop, pool: pool, box: b.id}})
			}
		}
	}
	for _, p := range s.pools {
		add(p.key, p.boxes)
	}
	add("", s.strays)
	slices.SortStableFunc(items, func(a, b item) int {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.todo.box, b.todo.box))
	})
	var todo []action
	for _, each := range items[:min(len(items), max(0, maxStops-s.stops))] {
		todo = append(todo, each.todo)
	}
	return todo
}

// refill deals the free starts out among the pools that lack ready sandboxes, one each in turn.
func (s snapshot) refill(now time.Time) []action {
	lack := make([]int, len(s.pools))
	for i, p := range s.pools {
		lack[i] = p.lack(now)
	}
	var todo []action
	for left := s.starts; left > 0; {
		before := left
		for i, p := range s.pools {
			if lack[i] > 0 && left > 0 {
				todo = append(todo, action{act: actRefill, pool: p.key})
				lack[i]--
				left--
			}
		}
		if left == before {
			break
		}
	}
	return todo
}

// lack is how many ready sandboxes the pool may start now. After a failure it
// is one at a time, until that one has proved itself.
func (p poolView) lack(now time.Time) int {
	if p.pool.State != sandpool.Succeeded || !p.prepared || now.Before(p.refillAt) {
		return 0
	}
	under := p.count(p.isRefill)
	lack := p.target() - p.count(p.isReady) - under
	if !p.refillAt.IsZero() {
		return min(lack, 1-under)
	}
	if p.inBurst(now) && (p.count(p.isReady) > 0 || p.answersFirst(now)) {
		return 0
	}
	return lack
}

// inBurst reports whether claims have just found sandboxes ready.
func (p poolView) inBurst(now time.Time) bool {
	return now.Sub(p.claimedAt) < calm && now.Sub(p.burstAt) < patience
}

// answersFirst reports whether a session that has just begun still works on its first request.
func (p poolView) answersFirst(now time.Time) bool {
	return slices.ContainsFunc(p.boxes, func(b boxView) bool {
		return b.state == sandpool.Claimed && b.leases > 0 && now.Sub(b.since) < calm
	})
}
