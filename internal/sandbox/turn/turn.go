// Package turn is how engines keep the promise that calls for one sandbox come one after the other
// (see package sandbox): a mutual exclusion for each key, whose waiters leave when their context
// ends.
package turn

import (
	"context"
	"sync"
)

// Keys has one turn for each key. The zero value is ready.
type Keys[K comparable] struct {
	mu   sync.Mutex // guards held
	held map[K]*key
}

type key struct {
	turn  chan struct{} // holds one token while nobody has the turn
	users int           // holder and waiters; the entry goes with the last
}

// Take waits for the turn of k and returns what ends it, which is to be called once.
func (s *Keys[K]) Take(ctx context.Context, k K) (release func(), err error) {
	s.mu.Lock()
	if s.held == nil {
		s.held = map[K]*key{}
	}
	l := s.held[k]
	if l == nil {
		l = &key{turn: make(chan struct{}, 1)}
		l.turn <- struct{}{}
		s.held[k] = l
	}
	l.users++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(s.held, k)
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
