package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/budget"
	"github.com/sandpool/sandpool/internal/fault"
	"github.com/sandpool/sandpool/internal/gateway/live"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/history/executions"
	"github.com/sandpool/sandpool/internal/interpreter"
	"github.com/sandpool/sandpool/internal/tracing"
)

// begin starts an execution that goes on without its caller, and answers with where it is to be
// found, or with the stream of its events.
func (g *Gateway) begin(c *call, l Lease, identifier sandpool.Identifier, x execution,
	held *hold) error {
	id := operationID(c.r)
	in := g.within.Of(l)
	tracing.Of(c.r.Context()).Claim(c.pool.Name, l.Sandbox().ID, l.Claim(), time.Now())
	kept := g.keepExecution(c, l, identifier, id, x.ExecuteRequest)
	e, err := in.Start(c.r.Context(), id, interpreter.Execution{ExecuteRequest: x.ExecuteRequest,
		Sent: held.sent})
	if err != nil {
		kept.End(executions.End{Outcome: aborted, Err: err})
		return err
	}
	hold, err := g.pools.Acquire(context.WithoutCancel(c.r.Context()), c.pool, identifier)
	if err != nil {
		kept.End(executions.End{Outcome: aborted, Err: err})
		return err
	}
	hold.Unattended()
	go g.keep(c, hold, id, held.pass(), kept)
	of := wire.About{Operation: id, Identifier: identifier, Sandbox: l.Sandbox().ID,
		UserAgent: c.r.UserAgent()}
	h := c.w.Header()
	h["Operation-Id"] = []string{id}
	h["X-Ms-Session-Guid"] = []string{string(of.Sandbox)}
	h.Set("Operation-Location", g.operation(c, identifier, id))
	if form := live.Wanted(c.r); form != "" {
		return g.follow(c, in, of, form, 0)
	}
	h.Set("Retry-After", "1")
	return arm.WriteJSON(c.w, http.StatusAccepted, wire.Pending(e, of))
}

// keep holds a session, and the room of the code that waits in it, for as long as an execution goes
// on: nobody may ask for it meanwhile.
func (g *Gateway) keep(c *call, l Lease, id string, code *budget.Share, kept *executions.Entry) {
	defer l.Release()
	if code != nil {
		defer code.Release()
	}
	e, err := g.within.Of(l).Wait(l.Context(), id)
	span := tracing.Of(c.r.Context())
	switch {
	case err == nil && e.Outcome != "":
		traceCell(span, time.Now().Add(-e.Took), e.Took, outcomeOf(e.Outcome))
		g.tell(c, span, l.Sandbox().ID, outcomeOf(e.Outcome), e.Took)
		if kept != nil {
			g.keepResult(l, e, kept)
		}
	case err == nil || l.Context().Err() != nil:
		g.tell(c, span, l.Sandbox().ID, aborted, 0)
		kept.End(executions.End{Outcome: aborted, Err: cmp.Or(err, context.Cause(l.Context()))})
	default:
		kept.End(executions.End{Outcome: aborted, Err: err})
		g.log.WarnContext(l.Context(), "wait for an execution", "session", l.Sandbox().ID, "error",
			err)
	}
}

// keepResult keeps what an execution without a caller has put out.
func (g *Gateway) keepResult(l Lease, e agent.Execution, kept *executions.Entry) {
	whole, release, err := g.within.Of(l).Execution(l.Context(), e.ID)
	defer release()
	kept.End(executions.End{Outcome: outcomeOf(e.Outcome), Took: e.Took, Result: whole.Result,
		Err: err})
}

// operation is the absolute URL at which an execution is found.
func (g *Gateway) operation(c *call, identifier sandpool.Identifier, id string) string {
	base := g.options.PublicURL
	if base == "" {
		base = arm.BaseURL(c.r)
	}
	q := "identifier=" + url.QueryEscape(string(identifier))
	if v, err := c.query.Get("api-version"); err == nil && v != "" {
		q = "api-version=" + url.QueryEscape(v) + "&" + q
	}
	return base + strings.TrimRight(c.r.URL.EscapedPath(), "/") + "/" + url.PathEscape(id) + "?" + q
}

// existing calls fn with the interpreter of the call's session, which must be there: a question for
// an execution makes no session.
func (g *Gateway) existing(c *call, fn func(in *interpreter.Interpreter,
	of wire.About) error) error {
	identifier, err := c.identifier()
	if err != nil {
		return err
	}
	if _, err := g.pools.Session(c.r.Context(), c.pool, identifier); err != nil {
		if lost := g.pools.Lost(c.r.Context(), c.pool, identifier); lost != nil {
			return lost
		}
		if c.name != "" && sandpool.ClassOf(err) == sandpool.NotFound {
			return noExecution(c.name)
		}
		return err
	}
	lease, err := g.pools.Acquire(c.r.Context(), c.pool, identifier)
	if err != nil {
		return err
	}
	defer lease.Release()
	return fn(g.within.Of(lease), wire.About{Operation: c.name, Identifier: identifier,
		Sandbox: lease.Sandbox().ID, UserAgent: c.r.UserAgent()})
}

func noExecution(id string) error {
	return sandpool.Errorf(sandpool.NotFound, "ExecutionNotFound", "executionId",
		"No execution available for operation Id: %s. The answer of a synchronous one is in the "+
			"response to its POST.", clip(id))
}

// getExecution answers with an execution that was started, as far as it has come, or with the
// stream of its events after the one that the caller names.
func (g *Gateway) getExecution(c *call) error {
	form := live.Wanted(c.r)
	after, err := c.after()
	if err != nil {
		return err
	}
	return g.existing(c, func(in *interpreter.Interpreter, of wire.About) error {
		if form != "" {
			return g.follow(c, in, of, form, after)
		}
		e, release, err := in.Execution(c.r.Context(), of.Operation)
		defer release()
		if err != nil {
			return err
		}
		if e.State != agent.ExecutionEnded {
			c.w.Header().Set("Retry-After", "1")
		}
		b, err := arm.Encode(wire.Ended(e, of))
		if err != nil {
			return err
		}
		e = agent.Execution{}
		release()
		return g.deliver(c, http.StatusOK, b)
	})
}

// after reads the number of the event that a caller has seen last.
func (c *call) after() (int64, error) {
	s, err := c.query.Get("after")
	if s == "" {
		s = c.r.Header.Get("Last-Event-Id")
	}
	if err != nil || s == "" {
		return 0, err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, sandpool.Errorf(sandpool.Invalid, codeValidation, "after",
			"The query parameter 'after' (or the header Last-Event-ID) is %q; use the sequence "+
				"number of the last event that you have.", clip(s))
	}
	return n, nil
}

// listExecutions lists what was started in the session.
func (g *Gateway) listExecutions(c *call) error {
	return g.existing(c, func(in *interpreter.Interpreter, of wire.About) error {
		all, err := in.Executions(c.r.Context())
		if err != nil {
			return err
		}
		list := api.PendingExecutions{Value: make([]api.PendingExecution, len(all))}
		for i, e := range all {
			of.Operation = e.ID
			list.Value[i] = wire.Pending(e, of)
		}
		return arm.WriteJSON(c.w, http.StatusOK, list)
	})
}

// cancelExecution ends an execution and answers with what it is then.
func (g *Gateway) cancelExecution(c *call) error {
	return g.existing(c, func(in *interpreter.Interpreter, of wire.About) error {
		e, err := in.Cancel(c.r.Context(), of.Operation)
		if err != nil {
			return err
		}
		return arm.WriteJSON(c.w, http.StatusOK, wire.Pending(e, of))
	})
}

// follow sends the events of an execution after a number, as they come, until the last. The
// execution goes on whether or not the caller reads.
func (g *Gateway) follow(c *call, in *interpreter.Interpreter, of wire.About, form live.Form,
	after int64) (err error) {
	began := time.Now()
	defer func() { tracing.Of(c.r.Context()).Since("stream", began, err) }()
	form.Header(c.w.Header())
	control := http.NewResponseController(c.w)
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	begun, gone := false, false
	send := func(ev api.ExecutionEvent) (func() error, error) {
		b, err := form.Encode(ev)
		if err != nil {
			return nil, err
		}
		return func() error {
			begun = true
			err := g.push(c, control, b)
			gone = err != nil
			return err
		}, nil
	}
	err = in.Follow(c.r.Context(), of.Operation, after, func(r agent.Record) (func() error,
		error) {
		return send(wire.EventOf(r, of))
	})
	if err == nil || !begun || gone || c.r.Context().Err() != nil {
		return err
	}
	// The caller has a part of the stream: the rest cannot come, and why is its last event.
	e := asError(err)
	if e == nil || e.Class == sandpool.Internal {
		return err
	}
	last, failed := send(api.ExecutionEvent{Type: api.EventError,
		Error: &api.ErrorDetail{Code: cmp.Or(e.Code, fault.Code(e.Class)), Message: e.Message,
			Details: []api.ErrorDetail{}}})
	if failed != nil {
		return failed
	}
	return last()
}

// sayLost is the whole stream of an execution that was not begun, since its session was lost
// before.
func (g *Gateway) sayLost(c *call, form live.Form, lost *sandpool.Error, of wire.About) error {
	form.Header(c.w.Header())
	control := http.NewResponseController(c.w)
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
	for _, ev := range wire.LostEvents(lost, of) {
		b, err := form.Encode(ev)
		if err != nil {
			return err
		}
		if err := g.push(c, control, b); err != nil {
			return err
		}
	}
	return nil
}

// push writes a part of a stream, which counts against its caller's part of memory while it is
// large and has not been taken.
func (g *Gateway) push(c *call, control *http.ResponseController, b []byte) error {
	if len(b) > largeAnswer {
		share := g.memory.answers.Share(c.holder(""))
		defer share.Release()
		wait, cancel := context.WithTimeout(c.r.Context(), answerTime)
		defer cancel()
		if err := share.Take(wait, int64(len(b))); err != nil {
			return sandpool.Errorf(sandpool.Unavailable, "", "", "Too many large answers wait to "+
				"be read. Read them, and continue after the last event that you have.")
		}
	}
	for len(b) > 0 {
		piece := b[:min(len(b), small)]
		b = b[len(piece):]
		if err := control.SetWriteDeadline(time.Now().Add(g.options.Stall)); err != nil &&
			!errors.Is(err, http.ErrNotSupported) {
			return fmt.Errorf("set the write deadline: %w", err)
		}
		if _, err := c.w.Write(piece); err != nil {
			return arm.NotTaken(err)
		}
	}
	if err := control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) &&
		!errors.Is(err, io.EOF) {
		return arm.NotTaken(err)
	}
	return nil
}
