package proxy

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/sandpool/sandpool"
)

// A sandbox that ends closes its streams first, and on a busy machine it takes seconds until it is
// known to have ended. A request that has lost its stream must not tell of a fault of the container
// then: its caller would be told of the end by the next one, and twice of one thing. But most
// streams are lost by containers that live, and take the next connection at once. So one is made.

const (
	// deathTime is how long a port that took connections may take none, before the session counts
	// as one that lives.
	deathTime = 5 * time.Second
	// endGrace is the same of a port that has not taken any, or has been waited for in vain.
	endGrace = 300 * time.Millisecond
	// acceptTime is how long a connection stays open that somebody has accepted; where nobody
	// listens, some engines close it only then.
	acceptTime = 20 * time.Millisecond
)

// why returns the reason of the session's end if it has ended or is about to, and err otherwise,
// which is what happened to a stream to port.
func (s *session) why(port int, err error) error {
	ctx := s.to.Context()
	if ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.ask(port):
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// cut says what err means in the middle of an answer, whose caller cannot be told any more.
func (s *session) cut(err error) error {
	ctx := s.to.Context()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case asTold(err) != nil:
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return silent(err)
	}
	return &sandpool.Error{Class: sandpool.Unavailable, Code: codeUnreachable, Target: "container",
		Message: "The container closed the connection before its answer was whole.", Err: err}
}

// ask returns a channel that is closed when port takes a connection, the session ends, or neither
// happens for so long that the session lives on. All who ask meanwhile share one inquiry.
func (s *session) ask(port int) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.inquiries[port]; q != nil {
		return q
	}
	patience := endGrace
	if s.serving[port] {
		patience = deathTime
	}
	q := make(chan struct{})
	s.inquiries[port] = q
	go func() {
		defer close(q)
		ctx, cancel := context.WithTimeout(s.to.Context(), patience)
		defer cancel()
		serves := s.awaitPort(ctx, port)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.inquiries, port)
		s.serving[port] = serves
	}()
	return q
}

// served notes that port has answered.
func (s *session) served(port int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving[port] = true
}

// awaitPort reports whether port takes a connection before ctx ends.
func (s *session) awaitPort(ctx context.Context, port int) bool {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for next := 10 * time.Millisecond; ; next = min(2*next, deathTime/10) {
		select {
		case <-ctx.Done():
			return false
		case <-pause.C:
		}
		if s.accepts(ctx, port) {
			return true
		}
		pause.Reset(next)
	}
}

// accepts reports whether port takes a connection.
func (s *session) accepts(ctx context.Context, port int) bool {
	conn, err := s.to.Dial(ctx, port)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(acceptTime)) // the read will tell what is wrong
	n, err := conn.Read(make([]byte, 1))
	return n > 0 || errors.Is(err, os.ErrDeadlineExceeded)
}

// dialError says what a failed Dial means to the caller.
func (s *session) dialError(ctx context.Context, port int, err error) error {
	switch {
	case sandpool.ClassOf(err) == sandpool.Ended:
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return s.why(port, &sandpool.Error{Class: sandpool.Unavailable, Code: codeTimeout,
			Target:  "container",
			Message: "The container did not accept a connection in time.", Err: err})
	}
	return s.why(port, unreachable(port, err))
}
