package gateway

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/budget"
)

// What callers can make the server hold, in bytes. Nothing that is smaller than small counts: a
// connection alone takes as much.
const (
	small = 64 << 10
	// allBodies is of bodies on their way to a sandbox, as they were sent: code, mostly, of which
	// there are four copies at the moment it is passed on. A pool and a caller have bodiesPart of
	// it.
	allBodies  = 128 << 20
	bodiesPart = 64 << 20
	// allAnswers is of large answers on their way to callers. A pool has poolAnswers of it,
	// and a caller callerAnswers.
	allAnswers    = 384 << 20
	poolAnswers   = 128 << 20
	callerAnswers = 64 << 20
	// largeAnswer is what an answer may have without waiting for room.
	largeAnswer = 4 << 20
	// answerTime is how long a large answer waits for room.
	answerTime = 30 * time.Second
)

// memory is what callers make the server hold.
type memory struct {
	bodies, answers *budget.Budget
	// queues is of code that waits in sandboxes, which is no memory of the server's: a session has
	// as much of it as one body may have, so that its sandbox is not filled by what waits.
	queues *budget.Budget
}

func newMemory(o Options) memory {
	return memory{
		bodies: budget.New(budget.Limits{Total: allBodies, Pool: bodiesPart, Caller: bodiesPart},
			o.Idle),
		answers: budget.New(budget.Limits{Total: allAnswers, Pool: poolAnswers,
			Caller: callerAnswers}, o.Idle),
		queues: budget.New(budget.Limits{Total: math.MaxInt64, Session: o.MaxBody}, nil),
	}
}

// holder is who the memory of the call is held for.
func (c *call) holder(identifier string) budget.Holder {
	h := budget.Holder{Pool: c.pool.Key()}
	if p, ok := auth.FromContext(c.r.Context()); ok {
		h.Caller = p.Subject
	}
	if identifier != "" {
		h.Session = h.Pool + "/" + identifier
	}
	return h
}

// hold is the memory of one body. Nothing is taken for a small one.
type hold struct {
	of         *memory
	call       *call
	bytes      int64
	body, wait *budget.Share // nil while the body is small
}

// take makes room for n bytes more of the body, or refuses it.
func (h *hold) take(n int64) error {
	h.bytes += n
	return h.each(func(s *budget.Share) error { return s.Try(n) })
}

// settle charges the session of a large body that has named it itself.
func (h *hold) settle(identifier sandpool.Identifier) error {
	if named, err := h.call.named(); err != nil || named != "" {
		return nil
	}
	h.wait = h.of.queues.Share(h.call.holder(string(identifier)))
	return refusal(h.wait.Try(h.bytes))
}

// fits refuses a large body of n bytes for which there is no room at the moment.
func (h *hold) fits(n int64) error {
	return h.each(func(s *budget.Share) error { return s.Fits(n) })
}

func (h *hold) each(do func(*budget.Share) error) error {
	if h.body == nil {
		named, _ := h.call.named() // what is wrong with it is said when the body has been read
		holder := h.call.holder(named)
		h.body, h.wait = h.of.bodies.Share(holder), h.of.queues.Share(holder)
	}
	err := do(h.wait)
	if err == nil {
		err = do(h.body)
	}
	return refusal(err)
}

// refusal says to the caller what err, a FullError, means.
func refusal(err error) error {
	var full *budget.FullError
	if !errors.As(err, &full) {
		return err
	}
	e := &sandpool.Error{Class: sandpool.Unavailable, Code: "TooMuchCodeWaiting", Target: "code",
		RetryAfter: time.Second}
	switch full.Kind {
	case budget.OfSession:
		e.Message = "The session has as much code waiting as it may have. Wait for its " +
			"executions, or upload large data as a file."
	case budget.OfServer:
		e.Message = "The server has as much code on its way to sandboxes as it may have. Try again."
	default:
		e.Message = "The pool, or its caller, has as much code on its way to sandboxes as it may " +
			"have. Try again."
	}
	return e
}

// sent gives back what the server held: the code is the sandbox's now.
func (h *hold) sent() {
	if h.body != nil {
		h.body.Release()
	}
}

// pass returns what the code that waits takes of its session's part, for whoever gives it back
// from now on; nil if that is nothing.
func (h *hold) pass() *budget.Share {
	share := h.wait
	h.wait = nil
	return share
}

// release gives everything back.
func (h *hold) release() {
	if h.body != nil {
		h.body.Release()
	}
	if h.wait != nil {
		h.wait.Release()
	}
}

// deliver sends an answer, which counts against its caller's part as far as it has not been taken.
func (g *Gateway) deliver(c *call, status int, b *arm.Answer) error {
	if b.Size() <= largeAnswer {
		return b.Send(c.w, status, nil)
	}
	share := g.memory.answers.Share(c.holder(""))
	defer share.Release()
	wait, cancel := context.WithTimeout(c.r.Context(), answerTime)
	defer cancel()
	if err := share.Take(wait, b.Size()); err != nil {
		if gone := c.r.Context().Err(); gone != nil {
			return context.Cause(c.r.Context())
		}
		return &sandpool.Error{Class: sandpool.Unavailable, Err: err,
			Message: "Too many large answers wait to be read, of this caller, the pool or the " +
				"server. What was asked for is done. Read them, and write large results to files " +
				"in /mnt/data and download them."}
	}
	return b.Send(c.w, status, func() { share.Keep(b.Size()) })
}
