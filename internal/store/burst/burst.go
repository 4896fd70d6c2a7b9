// Package burst lets calls that wait for the same turn be served together: whoever gets the turn
// serves all that wait, so that a burst costs fewer transactions than calls.
package burst

import (
	"context"
	"slices"
	"sync"
)

// Queue holds the calls that wait. It is ready to use when zero.
type Queue[T any] struct {
	mu      sync.Mutex // guards waiting
	waiting []*Call[T]
}

// Call is one call. Who serves it may change Value, and sets Err.
type Call[T any] struct {
	Value T
	Err   error
	done  chan struct{}
}

// Do returns value as it was served, by this goroutine or by another. A turn is a token in the
// channel turn, which comes back when the calls are served. The context bounds the wait for a turn
// and nothing after it: serve gets one that does not end.
func (q *Queue[T]) Do(ctx context.Context, turn chan struct{}, value T, serve func(context.Context,
	[]*Call[T])) (T, error) {
	if err := ctx.Err(); err != nil {
		return value, err
	}
	c := &Call[T]{Value: value, done: make(chan struct{})}
	q.mu.Lock()
	q.waiting = append(q.waiting, c)
	q.mu.Unlock()
	select {
	case <-c.done:
	case <-turn:
		// Now c is among those that wait, or was served in an earlier turn.
		if all := q.take(); len(all) > 0 {
			serve(context.WithoutCancel(ctx), all)
			for _, c := range all {
				close(c.done)
			}
		}
		turn <- struct{}{}
	case <-ctx.Done():
		if q.withdraw(c) {
			return value, ctx.Err()
		}
	}
	<-c.done
	return c.Value, c.Err
}

// withdraw reports whether nobody has begun to serve c, and nobody will.
func (q *Queue[T]) withdraw(c *Call[T]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, c)
	if i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	return i >= 0
}

// take returns the calls that wait.
func (q *Queue[T]) take() []*Call[T] {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.waiting
	q.waiting = nil
	return all
}
