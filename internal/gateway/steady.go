package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool"
)

// slowest is the average pace in bytes per second below which a request's body
// is given up.
const slowest = 4 << 10

// steady reads a request's body and gives up on one that stalls or crawls: a
// caller must not hold a session and a connection by sending a byte now and then.
type steady struct {
	w       http.ResponseWriter
	r       io.Reader
	control *http.ResponseController
	stall   time.Duration
	started time.Time
	read    int64
	err     error // the first failure, whatever became of it on its way
	stopped atomic.Bool
}

func newSteady(w http.ResponseWriter, r io.Reader, stall time.Duration) *steady {
	return &steady{w: w, r: r, control: http.NewResponseController(w), stall: stall, started: time.Now()}
}

// Read reads within the stall limit.
func (s *steady) Read(p []byte) (int, error) {
	if err := setReadDeadline(s.control, s.deadline(time.Now())); err != nil {
		return 0, err
	}
	if s.stopped.Load() { // just now, so that the deadline is not stop's
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := s.r.Read(p)
	s.read += int64(n)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		// The server reads on, to notice a caller that leaves: that has no deadline.
		_ = setReadDeadline(s.control, time.Time{})
	default:
		giveUp(s.w)
		if s.err == nil && !s.stopped.Load() {
			s.err = s.explain(err)
		}
	}
	return n, err
}

// stop makes a Read in progress fail, which does not count as a failure of the body.
// It leaves the answer's header alone, which that Read may be about to change.
func (s *steady) stop() {
	s.stopped.Store(true)
	_ = s.control.SetReadDeadline(time.Unix(1, 0))
}

// deadline is when the next bytes must be there: within the stall limit, and so
// that the average keeps above the slowest pace.
func (s *steady) deadline(now time.Time) time.Time {
	next, pace := now.Add(s.stall), s.started.Add(s.stall+time.Duration(s.read/slowest)*time.Second)
	if pace.Before(next) {
		return pace
	}
	return next
}

// setReadDeadline does nothing on a writer without a connection behind it.
func setReadDeadline(control *http.ResponseController, t time.Time) error {
	if err := control.SetReadDeadline(t); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// giveUp ends the connection with the answer. The server would else wait, without a
// deadline, for the rest of a body that nobody wants any more; and a read that
// fails, for whatever reason, cancels the contexts of all further requests on its connection.
func giveUp(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
}

// or returns the failure of the body if there was one, else err: who reads the body on
// behalf of somebody else sees its failure under many names.
func (s *steady) or(err error) error {
	if s.err != nil && err != nil {
		return s.err
	}
	return err
}

// explain says what went wrong in the caller's terms.
func (s *steady) explain(err error) error {
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		return sandpool.Errorf(sandpool.TooLarge, "", "body", "The request body is larger than the limit of %d bytes.", big.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &sandpool.Error{Class: sandpool.Invalid, Code: codeValidation, Target: "body", Err: err,
			Message: "The request body came too slowly; send it without pauses."}
	}
	return &sandpool.Error{Class: sandpool.Invalid, Code: codeValidation, Target: "body", Err: err,
		Message: "The request body ended early; send it whole."}
}

// Deadlines of what is asked of a sandbox, which may never answer: it runs hostile code.
const (
	// answerTime is for what takes no longer than the sandbox's disk does: to look at
	// files, list and delete them, to open one, and to describe the interpreter.
	answerTime = 60 * time.Second
	// executionGrace is for the way to the sandbox and back, and for the end of
	// code that does not yield to its timeout.
	executionGrace = 30 * time.Second
)

// executionTime bounds an execution as the caller sees it. The cells of a session run
// in their order, so that one waits for another, which may take the longest timeout;
// with more cells before it, it is given up, unless the sandbox gets to it in time.
func (g *Gateway) executionTime(x execution) time.Duration {
	return x.timeout + g.options.MaxTimeout + executionGrace
}

// patience ends the context of calls to a sandbox that does nothing for too long.
type patience struct{ timer *time.Timer }

// newPatience returns a patience that ends with cancel after d.
func newPatience(cancel context.CancelCauseFunc, d time.Duration) *patience {
	return &patience{time.AfterFunc(d, func() { cancel(silence(d)) })}
}

// renew gives the sandbox d from now.
func (p *patience) renew(d time.Duration) { p.timer.Reset(d) }

// pause lets the sandbox be: it is not its turn.
func (p *patience) pause() { p.timer.Stop() }

// silence is why calls end when patience does.
type silence time.Duration

func (s silence) Error() string {
	return fmt.Sprintf("the sandbox has not answered within %v", time.Duration(s))
}

// silent returns the silence that ended ctx, or nil.
func silent(ctx context.Context) error {
	var s silence
	if ctx.Err() != nil && errors.As(context.Cause(ctx), &s) {
		return s
	}
	return nil
}
