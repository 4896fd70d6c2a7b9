package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
)

// endGrace is how long the gateway waits, after a sandbox stopped answering,
// for the pool to find out why. An engine notices a dead sandbox within
// milliseconds; the rest is room for a loaded machine.
const endGrace = 3 * time.Second

// executeAs returns the operation that runs code and answers in the given envelope.
func executeAs(e envelope) func(*Gateway, *call) error {
	return func(g *Gateway, c *call) error { return g.execute(c, e) }
}

func (g *Gateway) execute(c *call, form envelope) error {
	x, err := g.options.readExecution(c.w, c.r)
	if err != nil {
		return err
	}
	identifier, err := c.identifierOr(x.identifier)
	if err != nil {
		return err
	}
	lease, err := g.pools.Acquire(c.r.Context(), c.pool, identifier)
	if err != nil {
		return err
	}
	defer lease.Release()

	t := timing{prepare: time.Since(c.started), claim: lease.ClaimTime(), start: lease.StartTime()}
	sent := time.Now()
	a, err := g.run(c.r.Context(), lease, x)
	if err != nil {
		return err
	}
	t.exchange, t.execute = time.Since(sent), a.took
	t.overall = time.Since(c.started)

	of := about{operation: operationID(c.r), identifier: identifier, sandbox: lease.Sandbox().ID, userAgent: c.r.UserAgent()}
	h := c.w.Header()
	h["Operation-Id"] = []string{of.operation}
	h["X-Ms-Session-Guid"] = []string{string(of.sandbox)}
	t.write(h)
	return arm.WriteJSON(c.w, http.StatusOK, form(a, of))
}

// run executes code in the leased sandbox. Whatever the code does to itself or its sandbox
// is an answer; an error is a fault of the server, or a caller that has gone.
func (g *Gateway) run(ctx context.Context, l Lease, x execution) (answer, error) {
	inner, cancel := within(ctx, l)
	defer cancel()
	started := time.Now()
	res, err := g.clients.of(l).Execute(inner, agent.ExecuteRequest{Code: x.code, Timeout: x.timeout, MaxOutput: x.maxOutput})
	if err == nil {
		return answerOf(res, x), nil
	}
	if ctx.Err() != nil {
		return answer{}, context.Cause(ctx)
	}
	if ended := whyEnded(ctx, l, err); ended != nil {
		return abortedBy(ended, time.Since(started)), nil
	}
	return answer{}, unreachable(err)
}

// within returns a context for calls to l's sandbox: it ends with ctx and with the session.
func within(ctx context.Context, l Lease) (context.Context, context.CancelFunc) {
	inner, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.Context(), func() { cancel(context.Cause(l.Context())) })
	return inner, func() { stop(); cancel(nil) }
}

// whyEnded returns why the session ended under a call that failed with err, or nil
// if it did not end. The broken connection often comes before the news of the end.
func whyEnded(ctx context.Context, l Lease, err error) *sandpool.Error {
	if e := asError(err); e != nil && e.Class != sandpool.Ended {
		return nil // the agent has answered, so the sandbox lives
	}
	wait, cancel := context.WithTimeout(ctx, endGrace)
	defer cancel()
	select {
	case <-l.Context().Done():
	case <-wait.Done():
		if e := asError(err); e != nil && e.Class == sandpool.Ended {
			return e
		}
		return nil
	}
	if e := asError(context.Cause(l.Context())); e != nil {
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
	if asError(err) != nil {
		return err
	}
	return &sandpool.Error{Class: sandpool.Unavailable, Target: "identifier", Err: err,
		Message: "The session's sandbox did not answer. Try again; if it stays so, delete the session and start a new one."}
}
