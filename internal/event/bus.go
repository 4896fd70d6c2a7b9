package event

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
)

// The bounds of what a Bus keeps, in events.
const (
	inAll   = 4096
	perPool = 256
	inPools = 16384
)

// Sink is given events in order, each once, from one goroutine. It may block.
type Sink interface {
	Consume(ctx context.Context, events []Event)
}

// passInterval is how long an event of level Debug may wait for its sinks. Those are made on
// the way of claims and executions, where waking a goroutine for each would cost more than
// all the rest of it; others are passed on at once.
const passInterval = time.Second

// Bus is the Observer of a server; see the package comment.
type Bus struct {
	sinks []Sink
	now   func() time.Time
	start uint64        // the number before the first event
	wake  chan struct{} // one token: there is something to pass on

	mu     sync.Mutex // guards the fields below it
	seq    uint64
	all    ring
	pools  map[string]*poolRing // by the key of the pool
	quiet  list.List            // of *poolRing, the one that was quiet longest in front
	kept   int                  // events in pools
	gone   uint64               // the greatest number in a ring that was dropped
	change chan struct{}        // closed by the next event; nil if nobody waits
	over   chan struct{}        // closed by EndFollowing
}

// poolRing is the events of one pool.
type poolRing struct {
	ring
	key   string
	place *list.Element
}

var _ Observer = (*Bus)(nil)

// New returns a Bus that passes events on to the sinks while Run runs.
func New(sinks ...Sink) *Bus {
	start := uint64(time.Now().UnixMicro())
	return &Bus{sinks: sinks, now: time.Now, start: start, wake: make(chan struct{}, 1), seq: start,
		all: ring{most: inAll}, pools: map[string]*poolRing{}, over: make(chan struct{})}
}

// Observe implements Observer.
func (b *Bus) Observe(e Event) {
	e = e.bounded()
	if e.Time.IsZero() {
		e.Time = b.now()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	e.Seq = b.seq
	b.all.add(e)
	if e.Pool != (sandpool.PoolID{}) {
		b.keep(e)
	}
	if b.change != nil {
		close(b.change)
		b.change = nil
	}
	if e.Name.Level() > Debug {
		select {
		case b.wake <- struct{}{}:
		default: // it is awake
		}
	}
}

// keep puts e among its pool's events. The caller holds mu.
func (b *Bus) keep(e Event) {
	key := e.Pool.Key()
	p := b.pools[key]
	if p == nil {
		p = &poolRing{ring: ring{most: perPool, gone: b.gone}, key: key}
		p.place = b.quiet.PushBack(p)
		b.pools[key] = p
	} else {
		b.quiet.MoveToBack(p.place)
	}
	before := len(p.events)
	p.add(e)
	b.kept += len(p.events) - before
	for b.kept > inPools {
		old := b.quiet.Remove(b.quiet.Front()).(*poolRing)
		delete(b.pools, old.key)
		b.kept -= len(old.events)
		b.gone = max(b.gone, old.last())
	}
}

// last is the number of the ring's newest event, or zero.
func (r *ring) last() uint64 {
	if len(r.events) == 0 {
		return 0
	}
	return r.events[(r.next+len(r.events)-1)%len(r.events)].Seq
}

// Query says which events a reader wants.
type Query struct {
	// Pool is the pool whose events they are; the zero PoolID means all events of the server.
	Pool sandpool.PoolID
	// After is the number of the last event that the reader has seen; zero means none. One
	// that the server has not reached yet, as after a clock was set back, means none too.
	After uint64
	// Limit bounds the events of one answer; zero means as many as are kept.
	Limit int
}

// Page is an answer to a Query.
type Page struct {
	Events []Event // the oldest first
	// Next is Query.After for the events that follow.
	Next uint64
	// Missed says that there were events after Query.After that are not kept any more.
	Missed bool
}

// Recent returns what is kept.
func (b *Bus) Recent(q Query) Page {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.page(q)
}

// page answers q. The caller holds mu.
func (b *Bus) page(q Query) Page {
	if q.Limit <= 0 {
		q.Limit = inAll
	}
	if q.After > b.seq {
		q.After = 0
	}
	r := &b.all
	if q.Pool != (sandpool.PoolID{}) {
		r = &ring{gone: b.gone}
		if p := b.pools[q.Pool.Key()]; p != nil {
			r = &p.ring
		}
	}
	page := Page{Events: r.after(q.After, q.Limit), Next: b.seq}
	page.Missed = q.After < r.gone || q.After != 0 && q.After < b.start
	if n := len(page.Events); n == q.Limit {
		page.Next = page.Events[n-1].Seq
	}
	return page
}

// EndFollowing makes all calls of Follow return, now and from now on: the server waits for
// its requests when it stops.
func (b *Bus) EndFollowing() {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.over:
	default:
		close(b.over)
	}
}

// Follow is Recent that waits for an event if there is none. When ctx ends it returns what it
// has, which is nothing.
func (b *Bus) Follow(ctx context.Context, q Query) Page {
	for {
		b.mu.Lock()
		page := b.page(q)
		if len(page.Events) > 0 || ctx.Err() != nil {
			b.mu.Unlock()
			return page
		}
		if b.change == nil {
			b.change = make(chan struct{})
		}
		change := b.change
		b.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
		case <-b.over:
			return page
		}
	}
}

// Run passes events on to the sinks until ctx ends, and then those that are left. It may be
// called once.
func (b *Bus) Run(ctx context.Context) error {
	tick := time.NewTicker(passInterval)
	defer tick.Stop()
	last := b.start
	for ctx.Err() == nil {
		select {
		case <-b.wake:
		case <-tick.C:
		case <-ctx.Done():
		}
		last = b.pass(ctx, last)
	}
	b.pass(ctx, last)
	return nil
}

// pass passes on what came after the event of number last, and returns the new last.
func (b *Bus) pass(ctx context.Context, last uint64) uint64 {
	page := b.Recent(Query{After: last})
	if len(page.Events) == 0 {
		return last
	}
	if page.Missed {
		page.Events = append([]Event{b.lost(last, page.Events[0])}, page.Events...)
	}
	for _, s := range b.sinks {
		s.Consume(ctx, page.Events)
	}
	return page.Next
}

// lost is the event of sinks that fell behind: they have seen last, and now first is the
// oldest that is kept.
func (b *Bus) lost(last uint64, first Event) Event {
	return Event{Seq: first.Seq - 1, Time: b.now(), Name: EventsLost,
		Count: int64(first.Seq - 1 - last)}
}
