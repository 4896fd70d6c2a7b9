package gvisor

import (
	"context"
	"sync"

	"github.com/sandpool/sandpool/internal/sandbox"
)

// keyLocks is a mutual exclusion for each key. The zero value is ready.
type keyLocks struct {
	mu   sync.Mutex // guards held
	held map[string]*keyLock
}

type keyLock struct {
	turn  chan struct{} // holds one token while nobody has the lock
	users int           // holder and waiters; the entry goes with the last
}

// acquire waits for key and returns what releases it.
func (k *keyLocks) acquire(ctx context.Context, key string) (release func(), err error) {
	k.mu.Lock()
	if k.held == nil {
		k.held = map[string]*keyLock{}
	}
	l := k.held[key]
	if l == nil {
		l = &keyLock{turn: make(chan struct{}, 1)}
		l.turn <- struct{}{}
		k.held[key] = l
	}
	l.users++
	k.mu.Unlock()
	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.held, key)
		}
	}
	select {
	case <-l.turn:
		return func() { l.turn <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}

// historySize bounds what an engine remembers of stopped sandboxes.
const historySize = 4096

// history remembers the last IDs that were added. It needs a lock around it.
type history struct {
	set  map[sandbox.ID]bool
	ring []sandbox.ID
	next int
}

func (h *history) add(id sandbox.ID) {
	if h.set == nil {
		h.set = map[sandbox.ID]bool{}
	}
	if h.set[id] {
		return
	}
	h.set[id] = true
	if len(h.ring) < historySize {
		h.ring = append(h.ring, id)
		return
	}
	delete(h.set, h.ring[h.next])
	h.ring[h.next] = id
	h.next = (h.next + 1) % historySize
}

func (h *history) has(id sandbox.ID) bool { return h.set[id] }
