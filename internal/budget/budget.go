// Package budget bounds memory that callers make the server hold: what they send before it can
// be passed on, and what they have not taken yet. It is counted in bytes, before the memory is
// taken, against the whole server, and against the pool, the caller and the session that it is held
// for. So whoever fills a budget fills their own part of it, and nobody else waits for them.
//
// A request for more than a part may hold is charged that part, and no more: it is let in
// when nothing else of its holder is. Who holds memory that way is told from who may wait: Take
// waits in the order of arrival, past those whose own part is full, and Try never waits.
package budget

import (
	"container/list"
	"context"
	"fmt"
	"sync"
)

// Limits are the bytes that may be held at the same time. Zero means no bound of that kind, but
// Total is required.
type Limits struct {
	Total, Pool, Caller, Session int64
}

// Holder is who memory is held for. An empty name is not counted.
type Holder struct{ Pool, Caller, Session string }

// Kind says whose part of a budget it is.
type Kind string

// The kinds of part.
const (
	OfServer  Kind = "server"
	OfPool    Kind = "pool"
	OfCaller  Kind = "caller"
	OfSession Kind = "session"
)

// FullError says that a budget, or the part of somebody, has no room.
type FullError struct{ Kind Kind }

func (e *FullError) Error() string {
	return fmt.Sprintf("the memory that the %s may hold is taken", e.Kind)
}

// part is the bytes that one name of a kind holds.
type part struct {
	kind Kind
	name string
}

// Budget is memory that is shared out.
type Budget struct {
	limits Limits
	idle   func()

	mu      sync.Mutex // guards the fields below it
	held    map[part]int64
	peak    int64     // of all that is held, since nothing was
	waiting list.List // of *waiter, in the order of arrival
}

// waiter is a Take that waits.
type waiter struct {
	share *Share
	bytes int64
	done  chan struct{} // closed when it has its bytes
}

// muchMemory is worth giving back to the machine.
const muchMemory = 8 << 20

// New returns a Budget. idle, if not nil, is called when all of it has been given back after a
// quarter of it, or muchMemory, was held: that is the moment to give memory back to the machine. It
// must not block.
func New(l Limits, idle func()) *Budget {
	return &Budget{limits: l, idle: idle, held: map[part]int64{}}
}

// Share is what one request holds of a budget. It is used by one goroutine at a time.
type Share struct {
	of    *Budget
	parts [4]part // those that are counted come first
	n     int     // how many are
	bytes int64
}

// Share returns an empty share for h.
func (b *Budget) Share(h Holder) *Share {
	s := &Share{of: b}
	for _, p := range [...]part{{OfServer, "all"}, {OfPool, h.Pool}, {OfCaller, h.Caller},
		{OfSession, h.Session}} {
		if p.name != "" && b.limit(p.kind) > 0 {
			s.parts[s.n] = p
			s.n++
		}
	}
	return s
}

func (b *Budget) limit(k Kind) int64 {
	switch k {
	case OfPool:
		return b.limits.Pool
	case OfCaller:
		return b.limits.Caller
	case OfSession:
		return b.limits.Session
	}
	return b.limits.Total
}

// most is what a share may be charged at all.
func (s *Share) most() int64 {
	most := s.of.limits.Total
	for _, p := range s.parts[:s.n] {
		most = min(most, s.of.limit(p.kind))
	}
	return most
}

// charge is what asking for n more bytes costs s.
func (s *Share) charge(n int64) int64 { return max(min(n, s.most()-s.bytes), 0) }

// lacks returns the narrowest part that has no room for n bytes more, or "". The caller holds mu.
func (s *Share) lacks(n int64) Kind {
	for i := s.n - 1; i >= 0; i-- {
		if p := s.parts[i]; s.of.held[p]+n > s.of.limit(p.kind) {
			return p.kind
		}
	}
	return ""
}

// add changes what s holds. The caller holds mu.
func (s *Share) add(n int64) {
	for _, p := range s.parts[:s.n] {
		if s.of.held[p] += n; s.of.held[p] == 0 {
			delete(s.of.held, p)
		}
	}
	s.bytes += n
	s.of.peak = max(s.of.peak, s.of.held[s.parts[0]])
}

// Try takes n bytes more, or fails with a FullError.
func (s *Share) Try(n int64) error {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	n = s.charge(n)
	if kind := s.lacks(n); kind != "" {
		return &FullError{kind}
	}
	s.add(n)
	return nil
}

// Fits returns the FullError that Try would, and takes nothing.
func (s *Share) Fits(n int64) error {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if kind := s.lacks(s.charge(n)); kind != "" {
		return &FullError{kind}
	}
	return nil
}

// Take waits until it can take n bytes more, or returns a FullError when ctx ends.
func (s *Share) Take(ctx context.Context, n int64) error {
	b := s.of
	b.mu.Lock()
	n = s.charge(n)
	w := &waiter{share: s, bytes: n, done: make(chan struct{})}
	at := b.waiting.PushBack(w)
	b.serve()
	b.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.done:
		return nil
	default:
	}
	b.waiting.Remove(at)
	kind := s.lacks(n)
	if kind == "" {
		kind = OfServer // behind somebody who waits for more
	}
	b.serve()
	return &FullError{kind}
}

// serve lets those in who wait and can be: in order, past those whose own part is full. The
// caller holds mu.
func (b *Budget) serve() {
	for at := b.waiting.Front(); at != nil; {
		next := at.Next()
		w := at.Value.(*waiter)
		switch w.share.lacks(w.bytes) {
		case "":
			w.share.add(w.bytes)
			b.waiting.Remove(at)
			close(w.done)
		case OfServer:
			return // whoever comes later does not pass
		}
		at = next
	}
}

// Keep gives back all but n bytes.
func (s *Share) Keep(n int64) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if n = max(n, 0); n >= s.bytes {
		return
	}
	s.add(n - s.bytes)
	s.of.serve()
	if s.of.held[s.parts[0]] > 0 {
		return
	}
	if s.of.peak >= min(s.of.limits.Total/4, muchMemory) && s.of.idle != nil {
		s.of.idle()
	}
	s.of.peak = 0
}

// Release gives everything back. Calling it again does nothing.
func (s *Share) Release() { s.Keep(0) }
