package plan

import (
	"cmp"
	"slices"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pool/room"
)

// Bounds of what is done at the same time.
const (
	MaxStops  = 16 // attempts to stop
	MaxChecks = 8  // questions whether a sandbox lives
)

// stable is how long a ready sandbox must live before earlier failures are forgiven.
const stable = 10 * time.Second

// A claim is worth more than a refill: restoring a sandbox keeps a core busy for
// longer than hundreds of claims take, or dozens of first answers. So while a burst of claims
// finds sandboxes ready, refills wait for a pause of Calm, but not longer than patience, or calmer
// if half of those that are wanted are ready still. When nothing is ready any more, the pause ends
// with the first requests of the sessions claimed.
const (
	Calm     = 300 * time.Millisecond
	patience = time.Second
	calmer   = 10 * time.Second
)

// Burst is a run of claims that found sandboxes ready, without a pause of Calm between them.
type Burst struct{ First, Last time.Time }

// Note records one more claim.
func (b *Burst) Note(now time.Time) {
	if now.Sub(b.Last) >= Calm {
		b.First = now
	}
	b.Last = now
}

// Snapshot is everything that a decision looks at.
type Snapshot struct {
	Pools    []Pool
	Strays   []Sandbox // sandboxes without a pool
	Starts   int       // how many may begin now
	Stops    int       // attempts in progress
	StopMost int       // attempts at the same time; MaxStops if it is less
	Checks   int       // questions in progress
	Draining bool      // nothing new is to be started
	Room     room.Ledger
}

// Pool is a pool and what it has.
type Pool struct {
	Key       string
	Pool      sandpool.Pool
	Prepared  bool      // the template of the present revision is
	Renew     bool      // but it is to be prepared anew, with an image that is looked up again
	Preparing bool      // a preparation runs
	PrepareAt time.Time // not before
	RefillAt  time.Time // not before; the zero time if no start failed lately
	Claims    int       // claims in progress
	Waiting   int       // callers in line for a slot who were not called yet
	Burst     Burst     // of claims of ready sandboxes
	Removing  bool      // its row is being deleted
	Trial     bool      // one sandbox has to start before the pool counts as prepared
	Liveness  bool      // its sandboxes are asked whether they live
	Roll      bool      // ready sandboxes of earlier revisions stay until there are new ones
	Size      room.Size // of its sandboxes, nothing in it unknown
	Sandboxes []Sandbox // longest in their state first
}

// Sandbox is one sandbox.
type Sandbox struct {
	ID       sandpool.SandboxID
	State    sandpool.SandboxState
	Revision int64
	Session  bool // carries an identifier
	Leases   int
	Used     time.Time // last use by its session
	Claimed  time.Time // when its session began
	Since    time.Time // when it entered its state
	Busy     bool      // a start or a stop is under way
	Checking bool      // a question is under way
	RetryAt  time.Time // no stop before
	CheckAt  time.Time // no question before
}

// Act names what an Action does.
type Act string

// The acts.
const (
	Prepare Act = "prepare" // the pool's template
	Refill  Act = "refill"  // start one ready sandbox
	Forgive Act = "forgive" // forget the pool's failures
	Check   Act = "check"   // ask whether the sandbox lives
	Retire  Act = "retire"  // end what the sandbox is for
	Stop    Act = "stop"    // attempt to stop a retired sandbox
	Remove  Act = "remove"  // delete the pool's row
	Short   Act = "short"   // say that the machine lacks what the pool needs; Reason names it
)

// Action is one thing to do now.
type Action struct {
	Act     Act
	Pool    string // key; empty of strays
	Sandbox sandpool.SandboxID
	Reason  string // of Retire and Short
}

// Next decides what to do now. It changes nothing and reads no clock.
func Next(s Snapshot, now time.Time) []Action {
	var todo []Action
	for _, p := range s.Pools {
		todo = append(todo, s.prepare(p, p.keep(now))...)
		todo = append(todo, p.retire(now)...)
	}
	todo = append(todo, s.giveUp(todo)...)
	todo = append(todo, s.stop(now)...)
	todo = append(todo, s.check(now)...)
	if !s.Draining {
		todo = append(todo, s.refill(now)...)
	}
	return todo
}

// keep looks after the pool itself.
func (p *Pool) keep(now time.Time) []Action {
	if p.Pool.State == sandpool.Deleting {
		if len(p.Sandboxes) == 0 && p.Claims == 0 && !p.Preparing && !p.Removing {
			return []Action{{Act: Remove, Pool: p.Key}}
		}
		return nil
	}
	if (!p.Prepared || p.Renew) && !p.Preparing && !now.Before(p.PrepareAt) {
		return []Action{{Act: Prepare, Pool: p.Key}}
	}
	if !p.Prepared {
		return nil
	}
	if !p.RefillAt.IsZero() && slices.ContainsFunc(p.Sandboxes, func(b Sandbox) bool {
		return b.State == sandpool.Ready && !now.Before(p.RefillAt.Add(stable)) &&
			now.Sub(b.Since) >= stable
	}) {
		return []Action{{Act: Forgive, Pool: p.Key}}
	}
	return nil
}

// Reasons to retire a sandbox that plan itself finds.
const (
	ReasonExpired = "the session ended after its cooldown without a request"
	ReasonStale   = "the session pool was changed"
	ReasonSurplus = "fewer ready sandboxes are wanted"
	ReasonDeleted = "the session pool was deleted"
	ReasonEvicted = "the session ended, idle, to make room for another in a full pool"
	ReasonOld     = "the session reached the longest time that it may live"
)

// retire finds the sandboxes whose time has come.
func (p *Pool) retire(now time.Time) []Action {
	var todo []Action
	end := func(b *Sandbox, reason string) {
		todo = append(todo, Action{Act: Retire, Pool: p.Key, Sandbox: b.ID, Reason: reason})
	}
	surplus := p.count(p.isReady) - p.target()
	if p.Claims > 0 {
		// A claim in progress counts as a session already, while memory shows
		// as ready what the store may have given to it: a burst of claims near
		// the maximum would have the rest of the ready sandboxes stopped under it. What
		// is too much shows when the claims are over.
		surplus = 0
	}
	old := p.count(p.isOld) - p.olds()
	for i := len(p.Sandboxes) - 1; i >= 0; i-- {
		b := &p.Sandboxes[i]
		switch {
		case b.State == sandpool.Stopping:
		case p.Pool.State == sandpool.Deleting:
			end(b, ReasonDeleted)
		case b.State == sandpool.Claimed && p.isOver(b, now):
			end(b, p.whyOver())
		case p.isOld(b) && old <= 0:
		case !b.Session && b.Revision != p.Pool.Revision:
			end(b, ReasonStale)
			if p.isOld(b) {
				old--
			}
		case p.isReady(b) && surplus > 0:
			end(b, ReasonSurplus)
			surplus--
		}
	}
	for _, b := range p.evictable(now) {
		end(&b, ReasonEvicted)
	}
	return todo
}

// evictable are the sessions that end for those who wait in line, longest idle first.
func (p *Pool) evictable(now time.Time) []Sandbox {
	most := p.Pool.Spec.EvictIdle
	if p.Waiting == 0 || most == 0 || p.Pool.State == sandpool.Deleting {
		return nil
	}
	// A session that is being stopped, or over by itself, is room already.
	room := p.count(func(b *Sandbox) bool {
		return b.Session && (b.State == sandpool.Stopping || b.State == sandpool.Claimed &&
			p.isOver(b, now))
	})
	var idle []Sandbox
	for _, b := range p.Sandboxes {
		if b.State == sandpool.Claimed && b.Leases == 0 && now.Sub(b.Used) >= most &&
			!p.isOver(&b, now) {
			idle = append(idle, b)
		}
	}
	slices.SortStableFunc(idle, func(a, b Sandbox) int { return a.Used.Compare(b.Used) })
	return idle[:min(len(idle), max(0, p.Waiting-room))]
}

// isOver reports whether the time of a session has passed. A lifecycle that waits for the
// container's exit has a bound of its own, which no request holds up.
func (p *Pool) isOver(b *Sandbox, now time.Time) bool {
	if l := p.Pool.Spec.Lifecycle; l.Type == sandpool.OnContainerExit {
		return l.MaxAlive > 0 && now.Sub(b.Claimed) >= l.MaxAlive
	}
	return b.Leases == 0 && now.Sub(b.Used) >= p.Pool.Cooldown
}

func (p *Pool) whyOver() string {
	if p.Pool.Spec.Lifecycle.Type == sandpool.OnContainerExit {
		return ReasonOld
	}
	return ReasonExpired
}

// check picks the sandboxes to ask whether they live, as many as may be asked at the same time.
func (s Snapshot) check(now time.Time) []Action {
	var todo []Action
	for _, p := range s.Pools {
		if !p.Liveness {
			continue
		}
		for _, b := range p.Sandboxes {
			alive := b.State == sandpool.Ready || b.State == sandpool.Claimed
			if alive && !b.Checking && !now.Before(b.CheckAt) &&
				len(todo) < MaxChecks-s.Checks {
				todo = append(todo, Action{Act: Check, Pool: p.Key, Sandbox: b.ID})
			}
		}
	}
	return todo
}

func (p *Pool) isReady(b *Sandbox) bool {
	return b.State == sandpool.Ready && b.Revision == p.Pool.Revision
}

func (p *Pool) isSession(b *Sandbox) bool {
	return b.State == sandpool.Claimed || b.State == sandpool.Starting && b.Session
}

// isOld reports whether b is ready, and was started from what the pool's sandboxes are not started
// from any more.
func (p *Pool) isOld(b *Sandbox) bool {
	return b.State == sandpool.Ready && b.Revision != p.Pool.Revision
}

// olds is how many ready sandboxes of earlier revisions stay, so that claims find one while the
// new ones start: as many as new ones are missing, and room for one of those to start within the
// pool's maximum.
func (p *Pool) olds() int {
	if !p.Roll || p.Pool.State == sandpool.Failed || p.Pool.State == sandpool.Deleting {
		return 0
	}
	ready := p.count(p.isReady)
	if ready == 0 && p.Claims > 0 {
		return p.count(p.isOld) // a claim in progress may have one already
	}
	free := p.Pool.MaxSessions - p.count(p.isSession) - ready - max(1, p.count(p.isRefill))
	return max(0, min(p.count(p.isOld), p.target()-ready, free))
}

// isRefill reports whether b is on its way to be ready.
func (p *Pool) isRefill(b *Sandbox) bool {
	return b.State == sandpool.Starting && !b.Session && b.Revision == p.Pool.Revision
}

func (p *Pool) count(is func(*Sandbox) bool) int {
	n := 0
	for i := range p.Sandboxes {
		if is(&p.Sandboxes[i]) {
			n++
		}
	}
	return n
}

// target is how many ready sandboxes the pool should have: what its owner
// wants, as far as the maximum of sessions leaves room to claim them.
func (p *Pool) target() int {
	return max(0, min(p.Pool.ReadySessions, p.Pool.MaxSessions-p.count(p.isSession)))
}

// stop picks the retired sandboxes to stop now, longest retired first.
func (s Snapshot) stop(now time.Time) []Action {
	type item struct {
		since time.Time
		todo  Action
	}
	var items []item
	add := func(pool string, sandboxes []Sandbox) {
		for i := range sandboxes {
			b := &sandboxes[i]
			if b.State == sandpool.Stopping && !b.Busy && !now.Before(b.RetryAt) {
				items = append(items, item{b.Since, Action{Act: Stop, Pool: pool, Sandbox: b.ID}})
			}
		}
	}
	for _, p := range s.Pools {
		add(p.Key, p.Sandboxes)
	}
	add("", s.Strays)
	slices.SortStableFunc(items, func(a, b item) int {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.todo.Sandbox, b.todo.Sandbox))
	})
	var todo []Action
	for _, each := range items[:min(len(items), max(0, max(MaxStops, s.StopMost)-s.Stops))] {
		todo = append(todo, each.todo)
	}
	return todo
}

// refill deals the free starts out among the pools that lack ready sandboxes, one each in turn, as
// far as the machine has room.
func (s *Snapshot) refill(now time.Time) []Action {
	lack := make([]int, len(s.Pools))
	for i, p := range s.Pools {
		lack[i] = p.lack(now)
	}
	var todo []Action
	for left := s.Starts; left > 0; {
		before := left
		for i, p := range s.Pools {
			if lack[i] > 0 && left > 0 && s.lacks(p) == "" {
				todo = append(todo, Action{Act: Refill, Pool: p.Key})
				s.Room.Take(p.Size.Ready)
				lack[i]--
				left--
			}
		}
		if left == before {
			break
		}
	}
	return append(todo, s.short(todo)...)
}

// lack is how many ready sandboxes the pool may start now. After a failure it
// is one at a time, until that one has proved itself.
func (p *Pool) lack(now time.Time) int {
	if p.Pool.State == sandpool.Deleting || !p.Prepared || now.Before(p.RefillAt) {
		return 0
	}
	if p.Trial {
		return 1 - p.count(func(b *Sandbox) bool {
			return b.State == sandpool.Starting && b.Revision == p.Pool.Revision
		})
	}
	if p.Pool.State != sandpool.Succeeded && !p.Renew {
		return 0
	}
	under := p.count(p.isRefill)
	lack := p.target() - p.count(p.isReady) - under
	if old := p.count(p.isOld); p.Roll && old > 0 {
		lack = min(lack, p.Pool.MaxSessions-p.count(p.isSession)-p.count(p.isReady)-under-old)
	}
	if !p.RefillAt.IsZero() {
		return min(lack, 1-under)
	}
	if p.inBurst(now) && (p.count(p.isReady) > 0 || p.answersFirst(now)) {
		return 0
	}
	return lack
}

// inBurst reports whether claims have just found sandboxes ready, for which refills wait.
func (p *Pool) inBurst(now time.Time) bool {
	if now.Sub(p.Burst.Last) >= Calm {
		return false
	}
	wait := patience
	if 2*p.count(p.isReady) >= p.target() {
		wait = calmer
	}
	return now.Sub(p.Burst.First) < wait
}

// answersFirst reports whether a session that has just begun still works on its first request.
func (p *Pool) answersFirst(now time.Time) bool {
	return slices.ContainsFunc(p.Sandboxes, func(b Sandbox) bool {
		return b.State == sandpool.Claimed && b.Leases > 0 && now.Sub(b.Since) < Calm
	})
}
