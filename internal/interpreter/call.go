package interpreter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sandpool/sandpool"
)

const (
	// answerTime is for what takes no longer than the sandbox's disk does: to look at
	// files, list and delete them, to open one, and to take the next piece of one.
	answerTime = 60 * time.Second
	// executionGrace is for the way to the sandbox and back, and for the end of
	// code that does not yield to its timeout.
	executionGrace = 30 * time.Second
	// endGrace is how long a call waits, after its sandbox stopped answering,
	// for the pool to find out why. An engine notices a dead sandbox within
	// milliseconds; the rest is room for a loaded machine.
	endGrace = 3 * time.Second
)

// call is one call to a sandbox on its way.
type call struct {
	in       *Interpreter
	caller   context.Context
	ctx      context.Context // ends with the caller's, with the session, and when patience does
	patience *time.Timer
	release  func() bool // ends the watch on the session
	cancel   context.CancelCauseFunc
}

// begin returns a call that the sandbox has d to answer. It must be ended.
func (in *Interpreter) begin(ctx context.Context, d time.Duration) *call {
	c := &call{in: in, caller: ctx}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	session := in.session.Context()
	c.release = context.AfterFunc(session, func() { c.cancel(context.Cause(session)) })
	c.patience = time.AfterFunc(d, func() { c.cancel(silence(d)) })
	return c
}

// renew gives the sandbox d from now; pause gives it all the time there is, because it is
// not its turn.
func (c *call) renew(d time.Duration) { c.patience.Reset(d) }
func (c *call) pause()                { c.patience.Stop() }

func (c *call) end() {
	c.patience.Stop()
	c.release()
	c.cancel(nil)
}

// ask calls fn, which asks something of the sandbox that is answered within d.
func ask[T any](ctx context.Context, in *Interpreter, d time.Duration,
	fn func(*call) (T, error)) (T, error) {
	c := in.begin(ctx, d)
	defer c.end()
	v, err := fn(c)
	return v, c.explain(err)
}

// explain says what err, with which a call failed, means to its caller.
func (c *call) explain(err error) error {
	known := asError(err)
	switch {
	case err == nil:
		return nil
	case c.caller.Err() != nil && known == nil:
		return context.Cause(c.caller)
	}
	if s := silent(c.ctx); s != nil {
		return unreachable(s)
	}
	if known != nil && known.Class != sandpool.Ended {
		return err // the agent has answered, so the sandbox lives
	}
	if ended := c.whyEnded(known); ended != nil {
		return ended
	}
	return unreachable(err)
}

// whyEnded returns why the session ended under the call, or nil if it did not. The broken
// connection often comes before the news of the end. known is what there is to say otherwise.
func (c *call) whyEnded(known *sandpool.Error) error {
	session := c.in.session.Context()
	wait, cancel := context.WithTimeout(c.caller, endGrace)
	defer cancel()
	select {
	case <-session.Done():
	case <-wait.Done():
		if known != nil {
			return known
		}
		return nil
	}
	if e := asError(context.Cause(session)); e != nil {
		return e
	}
	return sandpool.Errorf(sandpool.Ended, "", "identifier", "The session ended.")
}

// asError returns the first sandpool.Error in err's chain, or nil.
func asError(err error) *sandpool.Error {
	var e *sandpool.Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// unreachable is the error of a sandbox that lives and does not answer.
func unreachable(err error) error {
	return &sandpool.Error{Class: sandpool.Unavailable, Target: "identifier", Err: err,
		Message: "The session's sandbox did not answer. Try again; if it stays so, delete the " +
			"session and start a new one."}
}

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
