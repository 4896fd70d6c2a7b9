// Package cores keeps a sandbox on one core while what it does is short, and lets it go
// wherever the scheduler likes once it computes.
//
// A short execution is a few dozen hand-overs between threads of a sandbox, of which one runs while
// the others wait. Linux likes to wake a thread on a core that is idle. In a virtual machine that
// takes some 50 µs, since the idle core has left for the hypervisor; on the core of the thread that
// wakes it, 4 µs. But two sandboxes that compute on one core would get half of it each while
// another core may be idle, so a call that takes 40 ms of processor time ends the stay, and so does
// code that a call has left behind and that takes an eighth of a core.
package cores

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// firstLook is how old a call is when its processor time is first looked at, and how often
	// the calls are gone through. No time is a deadline: one more look costs 20 µs.
	firstLook = 10 * time.Millisecond
	// lastLook is the longest time between two looks at one call, which doubles from firstLook on.
	lastLook = 160 * time.Millisecond
	// short is the processor time in one call, after the first look, that ends a stay. The
	// first answers of many new sessions at once take 6 ms each, or twice that on a slow day, and
	// must not: to end a stay takes a millisecond by itself.
	short = 40 * time.Millisecond
	// linger is how long calls are watched without there being one. To begin costs more than to go
	// on.
	linger = time.Second

	// rest is the time from a call's end to the first look at what goes on without a call, and
	// between this and the next; it doubles up to lastRest. The first look is only what the
	// second is compared with: what a call itself leaves to be done is over by then.
	rest     = time.Second
	lastRest = 8 * time.Second
	// background is the part of a core that what goes on without a call may take. A
	// neighbour on the same core hardly notices that much.
	background = 1. / 8
)

// Group is the threads of a sandbox.
type Group interface {
	// Threads returns the IDs of all threads (gettid(2)).
	Threads() ([]int, error)
	// CPUTime returns the processor time of all of them, those that have ended included.
	CPUTime() (time.Duration, error)
}

// Cores is the cores that this process may use.
type Cores struct {
	all unix.CPUSet

	wake chan struct{} // ends the sleep of a watcher that waits for no call

	mu    sync.Mutex      // guards what follows
	stays map[int]int     // the sandboxes on each core
	calls map[*Stay]*look // of calls that have not been answered
	rests map[*Stay]*look // of those that have been called, between calls
	state watching
}

// watching is what is being watched.
type watching int

const (
	nothing watching = iota // there is no watcher
	callers                 // the watcher looks at calls, and at the rest now and then
	resting                 // the watcher sleeps until the next look at a rest
)

// look is how a Stay is looked at.
type look struct {
	next  time.Time     // of the looks
	pause time.Duration // between this look and the one after it
	// when used was taken: at the first look at a call, at the last one at a rest
	seen time.Time
	used time.Duration // the processor time then
}

// Stay is the time that a sandbox spends on one core. The methods of a nil Stay do nothing.
type Stay struct {
	cores *Cores
	group Group
	core  int // -1 once it is over; guarded by cores.mu
}

// New finds the cores that this process may use.
func New() (*Cores, error) {
	c := &Cores{wake: make(chan struct{}, 1), stays: map[int]int{}, calls: map[*Stay]*look{},
		rests: map[*Stay]*look{}}
	if err := unix.SchedGetaffinity(0, &c.all); err != nil {
		return nil, fmt.Errorf("find the cores of this process: %w", err)
	}
	for i := range len(c.all) * 64 {
		if c.all.IsSet(i) {
			c.stays[i] = 0
		}
	}
	return c, nil
}

// Bind puts a group on the core with the fewest. Threads that it makes later are there as
// well. With one core there is nothing to choose, and the Stay is nil.
func (c *Cores) Bind(g Group) (*Stay, error) {
	if len(c.stays) < 2 {
		return nil, nil
	}
	c.mu.Lock()
	core := slices.MinFunc(slices.Sorted(maps.Keys(c.stays)), func(a, b int) int {
		return c.stays[a] - c.stays[b]
	})
	c.stays[core]++
	c.mu.Unlock()
	s := &Stay{cores: c, group: g, core: core}
	var one unix.CPUSet
	one.Set(core)
	if err := move(g, &one); err != nil {
		return nil, errors.Join(err, s.Free())
	}
	return s, nil
}

// Free lets a group run on all cores.
func (c *Cores) Free(g Group) error { return move(g, &c.all) }

// move sets where the threads of a group run. A thread that is made meanwhile may get its
// place from one that has not been moved, so it goes on until there is no new one.
func move(g Group, to *unix.CPUSet) error {
	moved := map[int]bool{}
	for more := true; more; {
		more = false
		threads, err := g.Threads()
		if err != nil {
			return fmt.Errorf("list the threads of a sandbox: %w", err)
		}
		for _, id := range threads {
			if moved[id] {
				continue
			}
			moved[id], more = true, true
			if err := unix.SchedSetaffinity(id, to); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("set the cores of a sandbox's thread: %w", err)
			}
		}
	}
	return nil
}

// Called says that the sandbox has been asked for something.
func (s *Stay) Called() {
	if s == nil {
		return
	}
	c := s.cores
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.core < 0 || c.calls[s] != nil {
		return
	}
	c.calls[s] = &look{next: time.Now().Add(firstLook), pause: firstLook}
	delete(c.rests, s)
	switch c.state {
	case nothing:
		go c.watch()
	case resting:
		select {
		case c.wake <- struct{}{}:
		default: // it wakes already
		}
	}
	c.state = callers
}

// Answered says that it has answered.
func (s *Stay) Answered() {
	if s == nil {
		return
	}
	c := s.cores
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls[s] != nil {
		delete(c.calls, s)
		c.rests[s] = &look{next: time.Now().Add(rest), pause: rest}
	}
}

// Free ends the stay and lets the sandbox run on all cores. After the end it does nothing.
func (s *Stay) Free() error {
	if !s.Leave() {
		return nil
	}
	return s.cores.Free(s.group)
}

// Leave ends the stay of a sandbox that is gone, and reports whether it had not ended before.
func (s *Stay) Leave() bool {
	if s == nil {
		return false
	}
	c := s.cores
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.core < 0 {
		return false
	}
	c.stays[s.core]--
	s.core = -1
	delete(c.calls, s)
	delete(c.rests, s)
	return true
}

// watch looks at what has been called, until that is gone.
func (c *Cores) watch() {
	for {
		c.watchCalls()
		for {
			pause, ok := c.untilRest()
			if !ok {
				return
			}
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
				c.inspect(c.dueRests())
				continue
			case <-c.wake:
			}
			timer.Stop()
			break
		}
	}
}

// watchCalls looks at calls until there has been none for a while.
func (c *Cores) watchCalls() {
	tick := time.NewTicker(firstLook)
	defer tick.Stop()
	lastCall, lastRests := time.Now(), time.Now()
	for {
		now := <-tick.C
		due, some := c.dueCalls()
		c.inspect(due)
		if now.Sub(lastRests) > rest {
			lastRests = now
			c.inspect(c.dueRests())
		}
		if some {
			lastCall = now
		} else if now.Sub(lastCall) > linger {
			return
		}
	}
}

// dueCalls returns the stays whose calls are to be looked at, and whether there are any calls.
func (c *Cores) dueCalls() (due []*Stay, some bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return dueOf(c.calls, lastLook), len(c.calls) > 0
}

// dueRests returns the stays that are to be looked at although they have no call.
func (c *Cores) dueRests() []*Stay {
	c.mu.Lock()
	defer c.mu.Unlock()
	return dueOf(c.rests, lastRest)
}

// dueOf returns whose turn it is, and says when the next will be.
func dueOf(looks map[*Stay]*look, last time.Duration) (due []*Stay) {
	now := time.Now()
	for s, l := range looks {
		if !now.Before(l.next) {
			l.pause = min(2*l.pause, last)
			l.next = now.Add(l.pause)
			due = append(due, s)
		}
	}
	return due
}

// untilRest returns how long the watcher may sleep. It reports false, and that there is no watcher
// any more, if there is nothing to watch; and no time at all if there is a call.
func (c *Cores) untilRest() (pause time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.wake: // by a call that watchCalls has seen
	default:
	}
	switch {
	case len(c.calls) > 0:
		c.wake <- struct{}{} // which is empty
		return lastRest, true
	case len(c.rests) == 0:
		c.state = nothing
		return 0, false
	}
	c.state = resting
	next := time.Now().Add(lastRest)
	for _, l := range c.rests {
		if l.next.Before(next) {
			next = l.next
		}
	}
	return max(time.Until(next), firstLook), true
}

// inspect ends the stays of groups that compute. A group of which nothing can be learned
// is about to end.
func (c *Cores) inspect(due []*Stay) {
	for _, s := range due {
		if used, err := s.group.CPUTime(); err == nil && c.computes(s, used) {
			_ = s.Free()
		}
	}
}

// computes notes the processor time of a group, and reports whether its call has taken much, or
// what goes on without one.
func (c *Cores) computes(s *Stay, used time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if call := c.calls[s]; call != nil {
		if call.seen.IsZero() {
			call.seen, call.used = now, used
		}
		return used-call.used >= short
	}
	between := c.rests[s]
	if between == nil {
		return false // it has left
	}
	before, then := between.used, between.seen
	between.used, between.seen = used, now
	return !then.IsZero() && (used-before).Seconds() >= background*now.Sub(then).Seconds()
}
