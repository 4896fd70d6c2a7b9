package gateway

import (
	"cmp"
	"errors"
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

// bodyPace is that of a body which is kept in memory until it is whole.
const bodyPace = 32 << 10

// steady reads a request's body and gives up on one that stalls or crawls: a
// caller must not hold a session and a connection by sending a byte now and then.
type steady struct {
	w       http.ResponseWriter
	r       io.Reader
	control *http.ResponseController
	stall   time.Duration
	pace    int64 // slowest, if zero
	started time.Time
	read    int64
	err     error // the first failure, whatever became of it on its way
	stopped atomic.Bool
}

func newSteady(w http.ResponseWriter, r io.Reader, stall time.Duration) *steady {
	return &steady{w: w, r: r, control: http.NewResponseController(w), stall: stall,
		started: time.Now()}
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
	next, pace := now.Add(s.stall), s.started.Add(s.stall+
		time.Duration(s.read/cmp.Or(s.pace, slowest))*time.Second)
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
	switch ours := asError(err); {
	case ours != nil:
		return ours
	case errors.As(err, &big):
		return sandpool.Errorf(sandpool.TooLarge, "", "body",
			"The request body is larger than the limit of %d bytes.", big.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &sandpool.Error{Class: sandpool.Invalid, Code: codeValidation, Target: "body",
			Err:     err,
			Message: "The request body came too slowly; send it without pauses."}
	}
	return &sandpool.Error{Class: sandpool.Invalid, Code: codeValidation, Target: "body", Err: err,
		Message: "The request body ended early; send it whole."}
}
