// Package body takes in the bodies of requests, whose senders may mean harm. A body has a pace to
// keep (Reader), so that nobody holds a session and a connection by sending a byte now and then.
// What is kept in memory has a bound for each pool, caller and session (Memory, Hold), and is
// charged as it arrives and not as it is promised. A body that nobody wants any more is left in a
// way that its caller still gets the answer (Gate, Drain).
package body

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/gateway/wire"
)

const (
	// slowest is the average pace in bytes per second below which a request's body is given up.
	slowest = 4 << 10
	// gathered is that of a body which is kept in memory until it is whole.
	gathered = 32 << 10
	// drainMost and drainTime bound what is read of a refused body. Most clients look for the
	// answer only when they have sent everything.
	drainMost = 64 << 20
	drainTime = 5 * time.Second
)

// Reader reads a request's body and gives up on one that stalls or crawls: a
// caller must not hold a session and a connection by sending a byte now and then.
type Reader struct {
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

// New returns a Reader of r, which is the body of the request that w answers. Each wait for it ends
// after stall.
func New(w http.ResponseWriter, r io.Reader, stall time.Duration) *Reader {
	return &Reader{w: w, r: r, control: http.NewResponseController(w), stall: stall,
		started: time.Now()}
}

// Read reads within the stall limit.
func (s *Reader) Read(p []byte) (int, error) {
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
func (s *Reader) stop() {
	s.stopped.Store(true)
	_ = s.control.SetReadDeadline(time.Unix(1, 0))
}

// Or returns the failure of the body if there was one, and otherwise err: whoever reads the body on
// behalf of somebody else sees its failure under many names.
func (s *Reader) Or(err error) error {
	if s.err != nil && err != nil {
		return s.err
	}
	return err
}

// deadline is when the next bytes must be there: within the stall limit, and so
// that the average keeps above the slowest pace.
func (s *Reader) deadline(now time.Time) time.Time {
	next, pace := now.Add(s.stall), s.started.Add(s.stall+
		time.Duration(s.read/cmp.Or(s.pace, slowest))*time.Second)
	if pace.Before(next) {
		return pace
	}
	return next
}

// explain says what went wrong in the caller's terms.
func (s *Reader) explain(err error) error {
	var ours *sandpool.Error
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &big):
		return sandpool.Errorf(sandpool.TooLarge, "", "body",
			"The request body is larger than the limit of %d bytes.", big.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return invalid(err, "The request body came too slowly; send it without pauses.")
	}
	return invalid(err, "The request body ended early; send it whole.")
}

// BadForm is the error of a form that cannot be read for the reason err.
func BadForm(err error) error {
	return invalid(err, "The form is not valid multipart/form-data, or it ends early.")
}

func invalid(err error, message string) error {
	return &sandpool.Error{Class: sandpool.Invalid, Code: wire.CodeValidation, Target: "body",
		Err: err, Message: message}
}

// All reads the body to its end, to be kept in memory: so it has to come faster than one that is
// passed on. size is what the caller announced, or negative. Beyond a small body, take is asked
// before memory is spent, which is as bytes arrive and not as they are promised.
func (s *Reader) All(size int64, take func(int64) error) ([]byte, error) {
	s.pace = gathered
	b, taken := make([]byte, 0, min(max(size, 0), Small)+bytes.MinRead), int64(0)
	for {
		if len(b) == cap(b) {
			more := cap(b)
			if left := int(size) - cap(b) + bytes.MinRead; left > 0 {
				more = min(more, left) // and then it has the size that was announced
			}
			if need := int64(cap(b)+more-Small-bytes.MinRead) - taken; need > 0 {
				if err := take(need); err != nil {
					return nil, err
				}
				taken += need
			}
			b = append(make([]byte, 0, cap(b)+more), b...)
		}
		n, err := s.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return b, s.Or(err)
		}
	}
}

// setReadDeadline does nothing on a writer without a connection behind it.
func setReadDeadline(control *http.ResponseController, t time.Time) error {
	if err := control.SetReadDeadline(t); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// giveUp ends the connection with the answer. Otherwise the server would wait, without a
// deadline, for the rest of a body that nobody wants any more; and a read that fails, for whatever
// reason, cancels the contexts of all further requests on its connection.
func giveUp(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
}

// Drain reads what the body of a refused request still has, within bounds, so that its caller gets
// to the answer. patience is how long it may take at most.
func Drain(w http.ResponseWriter, r *http.Request, patience time.Duration) {
	control := http.NewResponseController(w)
	if setReadDeadline(control, time.Now().Add(min(drainTime, patience))) != nil {
		return
	}
	if _, err := io.CopyN(io.Discard, r.Body, drainMost); !errors.Is(err, io.EOF) {
		giveUp(w)
		return
	}
	_ = setReadDeadline(control, time.Time{})
}
