// Package cores keeps a sandbox on one core while what it does is short, and lets it go
// wherever the scheduler likes once it computes.
//
// A short execution is a few dozen hand-overs between threads of a sandbox, of which one runs while the others
// wait. Linux likes to wake a thread on a core that is idle. In a virtual machine that takes some
// 50 µs, since the idle core has left for the hypervisor; on the core of the thread that wakes it, 4 µs.
// But two sandboxes that compute on one core would get half of it each while another
// core may be idle, so a call that takes 40 ms of processor time ends the stay.
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
	// look is how old a call is when its processor time is first looked at, and how often the
	// calls are gone through. No time is a deadline: one more look costs 20 µs.
	look = 10 * time.Millisecond
	// lastLook is the longest time between two looks at one call, which doubles from look on.
	lastLook = 160 * time.Millisecond
	// short is the processor time in one call, after the first look, that ends a stay. The
	// first answers of many new sessions at once take 6 ms each, or twice that on a slow day, and must
	// not: to end a stay takes a millisecond by itself.
	short = 40 * time.Millisecond
	// linger is how long the watching goes on without a call. To begin costs more than to go on.
	linger = time.Second
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

	mu       sync.Mutex  // guards what follows
	stays    map[int]int // the sandboxes on each core
	calls    map[*Stay]*call
	watching bool
}

// call is a call of a sandbox that has not been answered.
type call struct {
	next  time.Time     // of the looks
	pause time.Duration // between this look and the one after it
	seen  bool
	used  time.Duration // at the first look
}

// Stay is the time that a sandbox spends on one core. The methods of a nil Stay do nothing.
type Stay struct {
	cores *Cores
	group Group
	core  int // -1 once it is over; guarded by cores.mu
}

// New finds the cores that this process may use.
func New() (*Cores, error) {
	c := &Cores{stays: map[int]int{}, calls: map[*Stay]*call{}}
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
	core := slices.MinFunc(slices.Sorted(maps.Keys(c.stays)), func(a, b int) int { return c.stays[a] - c.stays[b] })
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
	c.calls[s] = &call{next: time.Now().Add(look), pause: look}
	if !c.watching {
		c.watching = true
		go c.watch()
	}
}

// Answered says that it has answered.
func (s *Stay) Answered() {
	if s == nil {
		return
	}
	s.cores.mu.Lock()
	defer s.cores.mu.Unlock()
	delete(s.cores.calls, s)
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
	return true
}

// watch looks at calls until there has been none for a while.
func (c *Cores) watch() {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for last := time.Now(); ; {
		<-tick.C
		due, some := c.due()
		for _, s := range due {
			c.inspect(s)
		}
		if some {
			last = time.Now()
		} else if time.Since(last) > linger && c.rest() {
			return
		}
	}
}

// due returns the stays whose calls are to be looked at, and whether there are any calls.
func (c *Cores) due() (due []*Stay, some bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s, call := range c.calls {
		if now := time.Now(); !now.Before(call.next) {
			call.pause = min(2*call.pause, lastLook)
			call.next = now.Add(call.pause)
			due = append(due, s)
		}
	}
	return due, len(c.calls) > 0
}

// rest ends the watching unless there has been a call just now.
func (c *Cores) rest() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watching = len(c.calls) > 0
	return !c.watching
}

// inspect ends the stay of a group that computes. A group of which nothing can be learned
// is about to end.
func (c *Cores) inspect(s *Stay) {
	if used, err := s.group.CPUTime(); err == nil && c.computes(s, used) {
		_ = s.Free()
	}
}

// computes notes the processor time of a group, and reports whether its call has taken much.
func (c *Cores) computes(s *Stay, used time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := c.calls[s]
	if call == nil {
		return false // answered meanwhile
	}
	if !call.seen {
		call.seen, call.used = true, used
	}
	return used-call.used >= short
}
