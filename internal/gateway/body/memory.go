package body

import (
	"errors"
	"math"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/budget"
)

const (
	// Small is what a body has in bytes that does not count: a connection alone takes as much.
	Small = 64 << 10
	// most is of bodies on their way to a sandbox, as they were sent: code, mostly, of which there
	// are four copies at the moment it is passed on. A pool and a caller have part of it.
	most = 128 << 20
	part = 64 << 20
)

// Memory is what bodies on their way to sandboxes take.
type Memory struct {
	bodies *budget.Budget
	// queues is of code that waits in sandboxes, which is no memory of the server's: a session has
	// as much of it as one body may have, so that its sandbox is not filled by what waits.
	queues *budget.Budget
}

// NewMemory returns the memory of bodies of at most longest bytes each. idle is called when those
// that were large have been dealt with; nil means that nothing is.
func NewMemory(longest int64, idle func()) *Memory {
	return &Memory{
		bodies: budget.New(budget.Limits{Total: most, Pool: part, Caller: part}, idle),
		queues: budget.New(budget.Limits{Total: math.MaxInt64, Session: longest}, nil),
	}
}

// Caller is who sends a body.
type Caller interface {
	// Named returns the session's identifier if the request names it before its body does.
	Named() (string, error)
	// Holder is who memory is held for that is spent on the identifier's session.
	Holder(identifier string) budget.Holder
}

// Hold is the part of a Memory that one body of a Caller has, which is to be released. Nothing is
// taken for a small one.
type Hold struct {
	Of     *Memory
	Caller Caller

	bytes      int64
	body, wait *budget.Share // nil while the body is small
}

// Take makes room for n bytes more of the body, or refuses it.
func (h *Hold) Take(n int64) error {
	h.bytes += n
	return h.each(func(s *budget.Share) error { return s.Try(n) })
}

// Settle charges the session of a large body that has named it itself.
func (h *Hold) Settle(identifier sandpool.Identifier) error {
	if h.bytes == 0 {
		return nil
	}
	if named, err := h.Caller.Named(); err != nil || named != "" {
		return nil
	}
	h.wait = h.Of.queues.Share(h.Caller.Holder(string(identifier)))
	return refusal(h.wait.Try(h.bytes))
}

// Fits refuses a large body of n bytes for which there is no room at the moment.
func (h *Hold) Fits(n int64) error {
	return h.each(func(s *budget.Share) error { return s.Fits(n) })
}

func (h *Hold) each(do func(*budget.Share) error) error {
	if h.body == nil {
		named, _ := h.Caller.Named() // what is wrong with it is said when the body has been read
		holder := h.Caller.Holder(named)
		h.body, h.wait = h.Of.bodies.Share(holder), h.Of.queues.Share(holder)
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

// Sent gives back what the server held: the code is the sandbox's now.
func (h *Hold) Sent() {
	if h.body != nil {
		h.body.Release()
	}
}

// Pass returns what the code that waits takes of its session's part, for whoever gives it back
// from now on; nil if that is nothing.
func (h *Hold) Pass() *budget.Share {
	share := h.wait
	h.wait = nil
	return share
}

// Release gives everything back.
func (h *Hold) Release() {
	if h.body != nil {
		h.body.Release()
	}
	if h.wait != nil {
		h.wait.Release()
	}
}
