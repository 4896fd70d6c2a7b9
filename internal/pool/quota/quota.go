// Package quota holds each principal to a number of sessions at a time, of all pools together.
//
// The store's rows are what is counted: they say who began each session, outlive the server, and
// are the same for all servers of one store. A principal's claims of one server take turns from the
// count to the row, so that no two of them fit into one place. Servers do not wait for each other:
// claims of one principal that several servers carry out at the same instant may together go beyond
// by one for each further server.
package quota

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
)

// Code is the code of errors of a claim beyond the quota.
const Code = "PrincipalMaxSessionsReached"

// Refused reports whether err says that a principal has as many sessions as it may.
func Refused(err error) bool {
	var e *sandpool.Error
	return errors.As(err, &e) && e.Code == Code
}

// pause is when a claim that was refused may be tried again: when one of the principal's sessions
// ends by itself is not known here.
const pause = 10 * time.Second

// Counter counts sessions; store.Sandboxes does.
type Counter interface {
	// SessionsOf counts the sessions that a principal has begun, besides that of an identifier.
	SessionsOf(ctx context.Context, by string, besides sandpool.PoolID,
		identifier sandpool.Identifier) (int, error)
}

// Quota is that of every principal. Its zero value has no bound.
type Quota struct {
	most    int
	counter Counter

	mu    sync.Mutex // guards turns
	turns map[string]*turn
}

// turn is a principal's, whose claim holds the token.
type turn struct {
	token chan struct{}
	users int // holder and waiters; the entry goes with the last
}

// New returns the Quota of most sessions; zero means any number.
func New(most int, counter Counter) *Quota {
	return &Quota{most: most, counter: counter, turns: map[string]*turn{}}
}

// Enter waits for the turn of the principal by, and checks that it may have one session more, for
// the identifier. leave is to be called when the claim is in the store, or has failed. A principal
// with as many as it may is an error of class Unavailable with Code.
func (q *Quota) Enter(ctx context.Context, by string, pool sandpool.PoolID,
	identifier sandpool.Identifier) (leave func(), err error) {
	if q.most <= 0 || by == "" {
		return func() {}, nil
	}
	leave, err = q.take(ctx, by)
	if err != nil {
		return nil, err
	}
	n, err := q.counter.SessionsOf(ctx, by, pool, identifier)
	if err == nil && n >= q.most {
		err = &sandpool.Error{Class: sandpool.Unavailable, Code: Code, Target: "identifier",
			RetryAfter: pause,
			Message: fmt.Sprintf("The caller's sessions of all pools together are %d, and the "+
				"quota limits.caller_sessions of this server is %d. Delete one of them, or wait "+
				"until one has ended.", n, q.most)}
	}
	if err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// take waits for the turn of a principal.
func (q *Quota) take(ctx context.Context, by string) (leave func(), err error) {
	q.mu.Lock()
	t := q.turns[by]
	if t == nil {
		t = &turn{token: make(chan struct{}, 1)}
		t.token <- struct{}{}
		q.turns[by] = t
	}
	t.users++
	q.mu.Unlock()
	drop := func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(q.turns, by)
		}
	}
	select {
	case <-t.token:
		return sync.OnceFunc(func() { t.token <- struct{}{}; drop() }), nil
	case <-ctx.Done():
		drop()
		return nil, context.Cause(ctx)
	}
}
