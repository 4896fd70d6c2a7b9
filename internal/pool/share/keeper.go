package share

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sandpool/sandpool/internal/sandbox"
)

const (
	// busyPause is the time between looks while there are calls. A look reads a small file for each
	// sandbox that was called, some 10 µs.
	busyPause = 200 * time.Millisecond
	// calmPause is that between looks at all of them: code may compute without a call.
	calmPause = time.Second
	// sharePausing is how many times as long as a look took there is none after it.
	sharePausing = 50
	// mostLooks bounds the sandboxes that one look finds without a call.
	mostLooks = 256
)

// Keeper keeps the weights of the sandboxes that serve somebody. Its methods may be called at the
// same time, and take next to no time.
type Keeper struct {
	engine sandbox.Weigher
	light  int // weight
	spawn  func(func(context.Context)) bool

	mu      sync.Mutex // guards what follows
	members map[sandbox.ID]*member
	running bool          // there is a goroutine that looks
	wake    chan struct{} // ends its pause: there is a call
	budgets map[string]*budget
	swept   time.Time // when all were looked at
}

// member is a sandbox that serves somebody.
type member struct {
	account
	id     sandbox.ID
	tenant string
	calls  int
	idle   time.Duration // since the last look, in which there was no call
	free   time.Time     // since when there is none
	called bool          // since the last look
	looked time.Time     // when used was read; zero means never
	used   time.Duration
}

// New returns a Keeper of the sandboxes of an engine, which gives light ones a weight; with the
// standard one it only takes other weights back. spawn runs a function in a goroutine, with a
// context that ends when it is to return, or reports that there is no time for it any more. A
// Keeper without an engine does nothing.
func New(engine sandbox.Weigher, light int, spawn func(func(context.Context)) bool) *Keeper {
	return &Keeper{engine: engine, light: light, spawn: spawn, members: map[sandbox.ID]*member{},
		wake: make(chan struct{}, 1), budgets: map[string]*budget{}}
}

// Serve says whom a sandbox serves from now on. Of one that was adopted nobody knows the weight.
func (k *Keeper) Serve(id sandbox.ID, tenant string, adopted bool) {
	switch {
	case k.engine == nil:
		return
	case k.light == Standard:
		if adopted {
			k.spawn(func(context.Context) {
				_ = k.engine.SetWeight(id, Standard) // otherwise it has just ended
			})
		}
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.members[id] != nil {
		return
	}
	m := &member{id: id, tenant: tenant, free: time.Now()}
	if !adopted {
		m.weight = Standard
	}
	k.members[id] = m
	k.run()
}

// Called says that somebody waits for an answer of the sandbox.
func (k *Keeper) Called(id sandbox.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := k.members[id]
	if m == nil {
		return
	}
	if m.calls++; m.calls > 1 {
		return
	}
	m.idle += time.Since(m.free)
	m.called = true
	select {
	case k.wake <- struct{}{}:
	default: // it is awake
	}
}

// Answered says that somebody has been answered.
func (k *Keeper) Answered(id sandbox.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if m := k.members[id]; m != nil && m.calls > 0 {
		if m.calls--; m.calls == 0 {
			m.free = time.Now()
		}
	}
}

// Ended says that the sandbox serves nobody any more.
func (k *Keeper) Ended(id sandbox.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.members, id)
}

// run has somebody look, if nobody does. The caller holds mu.
func (k *Keeper) run() {
	if !k.running {
		k.running = k.spawn(k.watch)
	}
}

// watch looks until there is nothing to look at.
func (k *Keeper) watch(ctx context.Context) {
	pause := time.NewTimer(busyPause)
	defer pause.Stop()
	var wake chan struct{} // while a call is to end the pause
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake: // what was called a moment ago has done nothing yet
			wake = nil
			pause.Reset(busyPause)
			continue
		case <-pause.C:
		}
		began := time.Now()
		busy := k.look(began)
		if k.over() {
			return
		}
		next := max(busyPause, sharePausing*time.Since(began))
		wake = nil
		if !busy {
			next, wake = calmPause, k.wake
		}
		pause.Reset(next)
	}
}

// over reports whether there is nothing to look at, and nobody looks any more.
func (k *Keeper) over() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running = len(k.members) > 0
	return !k.running
}

// look looks at those that were called, and at all of them once a second. It reports whether it is
// to look soon again.
func (k *Keeper) look(now time.Time) (busy bool) {
	members := k.due(now)
	looks, seen := make([]look, 0, len(members)), make([]*member, 0, len(members))
	for _, m := range members {
		used, err := k.engine.CPUTime(m.id)
		if err != nil {
			continue // it has just ended
		}
		k.mu.Lock()
		if l, ok := m.look(time.Now(), used); ok {
			looks, seen = append(looks, l), append(seen, m)
		}
		busy = busy || m.calls > 0 || !m.light
		k.mu.Unlock()
	}
	k.mu.Lock()
	weights := decide(now, runtime.NumCPU(), k.light, k.budgets, looks)
	k.mu.Unlock()
	for i, m := range seen {
		if m.weight == weights[i] {
			continue
		}
		if k.engine.SetWeight(m.id, weights[i]) == nil { // otherwise it has just ended
			m.weight = weights[i]
		}
	}
	return busy
}

// due returns the members that are to be looked at, those first that were not for the longest time.
func (k *Keeper) due(now time.Time) (due []*member) {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.wake: // whoever has called is among them
	default:
	}
	var others []*member
	for _, m := range k.members {
		if m.called || m.calls > 0 || !m.light {
			due = append(due, m)
		} else {
			others = append(others, m)
		}
	}
	if now.Sub(k.swept) >= calmPause {
		k.swept = now
		slices.SortFunc(others, func(a, b *member) int { return a.looked.Compare(b.looked) })
		due = append(due, others[:min(len(others), mostLooks)]...)
	}
	return due
}

// look returns what was seen since the last look, if there was one. The caller holds the Keeper's
// mu.
func (m *member) look(now time.Time, used time.Duration) (l look, ok bool) {
	idle := m.idle
	if m.calls == 0 {
		idle += now.Sub(m.free)
	}
	l = look{account: &m.account, tenant: m.tenant, since: now.Sub(m.looked),
		used: used - m.used, idle: idle, called: m.calls > 0}
	ok = !m.looked.IsZero()
	m.idle, m.called, m.looked, m.used = 0, false, now, used
	if m.calls == 0 {
		m.free = now
	}
	return l, ok
}
