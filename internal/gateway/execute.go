package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strconv"
	"strings"
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
	a, giveBack, err := g.run(c.r.Context(), lease, x)
	if err != nil {
		return err
	}
	defer giveBack()
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
// is an answer; an error is a fault of the server, a sandbox that does not answer, or a caller
// that has gone. The answer's room is given back when it has been written.
func (g *Gateway) run(ctx context.Context, l Lease, x execution) (a answer, giveBack func(), err error) {
	inner, cancel := within(ctx, l)
	defer cancel(nil)
	defer newPatience(cancel, g.executionTime(x)).pause()
	started := time.Now()
	space := &share{of: g.room}
	res, err := g.clients.of(l).Execute(inner, agent.ExecuteRequest{Code: x.code, Timeout: x.timeout, MaxOutput: x.maxOutput, Room: space})
	if err == nil {
		return answerOf(res, x), space.giveBack, nil
	}
	space.giveBack()
	if ctx.Err() != nil {
		return answer{}, nil, context.Cause(ctx)
	}
	if s := silent(inner); s != nil {
		return answer{}, nil, unreachable(s)
	}
	if ended := whyEnded(ctx, l, err); ended != nil {
		return abortedBy(ended, time.Since(started)), func() {}, nil
	}
	return answer{}, nil, unreachable(err)
}

// within returns a context for calls to l's sandbox: it ends with ctx and with the session,
// and must be cancelled.
func within(ctx context.Context, l Lease) (context.Context, context.CancelCauseFunc) {
	inner, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.Context(), func() { cancel(context.Cause(l.Context())) })
	return inner, func(why error) { stop(); cancel(why) }
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

// timing is where the time of an execution went.
type timing struct {
	// prepare is from the request's arrival to the code's departure for the
	// sandbox; claim and start are the parts of it that the pool took.
	prepare, claim, start time.Duration
	// exchange is the round trip to the sandbox; execute what the code took there.
	exchange, execute time.Duration
	overall           time.Duration
}

// write sets the headers that callers of the service know, in whole
// milliseconds, and Server-Timing (https://www.w3.org/TR/server-timing/) with
// fractions. What the exchange took beyond the execution is the reading of the answer.
func (t timing) write(h http.Header) {
	set := func(name string, d time.Duration) {
		h[name] = []string{strconv.FormatInt(d.Milliseconds(), 10)}
	}
	set("X-Ms-Overall-Execution-Time", t.overall)
	set("X-Ms-Preparation-Time", max(t.prepare-t.claim-t.start, 0))
	set("X-Ms-Allocation-Time", t.claim+t.start)
	set("X-Ms-Execution-Request-Time", t.exchange)
	set("X-Ms-Execution-Read-Response-Time", max(t.exchange-t.execute, 0))
	set("X-Ms-Container-Execution-Duration", t.execute)
	b := make([]byte, 0, 128)
	b = appendMetric(b, "claim", t.claim)
	b = appendMetric(b, "start", t.start)
	b = appendMetric(b, "prepare", t.prepare)
	b = appendMetric(b, "exchange", t.exchange)
	b = appendMetric(b, "execute", t.execute)
	b = appendMetric(b, "total", t.overall)
	h["Server-Timing"] = []string{string(b)}
}

func appendMetric(b []byte, name string, d time.Duration) []byte {
	if len(b) > 0 {
		b = append(b, ", "...)
	}
	b = append(b, name...)
	b = append(b, ";dur="...)
	return strconv.AppendFloat(b, float64(d)/float64(time.Millisecond), 'f', 3, 64)
}

// operationID returns the id of an execution: the caller's own if it is fit to
// stand in a header and a URL, else a random one.
func operationID(r *http.Request) string {
	const most = 128
	id := r.Header.Get("Operation-Id")
	if id != "" && len(id) <= most && strings.IndexFunc(id, unfit) < 0 {
		return id
	}
	return strings.ToLower(rand.Text())
}

func unfit(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.'
}
