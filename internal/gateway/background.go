package gateway

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/budget"
	"github.com/sandpool/sandpool/internal/gateway/body"
	"github.com/sandpool/sandpool/internal/gateway/live"
	"github.com/sandpool/sandpool/internal/gateway/request"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/history/executions"
	"github.com/sandpool/sandpool/internal/interpreter"
	"github.com/sandpool/sandpool/internal/tracing"
)

// begin starts an execution that goes on without its caller, and answers with where it is to be
// found, or with the stream of its events.
func (g *Gateway) begin(c *call, l Lease, identifier sandpool.Identifier, x request.Execution,
	held *body.Hold) error {
	id := operationID(c.r)
	tracing.Of(c.r.Context()).Claim(c.pool.Name, l.Sandbox().ID, l.Claim(), time.Now())
	kept := g.options.History.BeginIn(c.r.Context(), l, executions.Start{Pool: c.pool,
		Identifier: identifier, ID: id, Request: x.ExecuteRequest})
	run := interpreter.Execution{ExecuteRequest: x.ExecuteRequest, Sent: held.Sent}
	of := wire.About{Operation: id, Identifier: identifier, Sandbox: l.Sandbox().ID,
		UserAgent: c.r.UserAgent()}
	if form := live.Wanted(c.r); form != "" {
		return g.beginStream(c, l, run, of, form, held, kept)
	}
	in := g.within.Of(l)
	e, err := in.Start(c.r.Context(), id, run)
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
	go g.keep(c, hold, held.Pass(), kept, func(ctx context.Context) (agent.Execution, error) {
		return in.Wait(ctx, id)
	})
	g.locate(c, of)
	c.w.Header().Set("Retry-After", "1")
	return arm.WriteJSON(c.w, http.StatusAccepted, wire.Pending(e, of))
}

// locate says which execution it is, and where it is found.
func (g *Gateway) locate(c *call, of wire.About) {
	h := c.w.Header()
	h["Operation-Id"] = []string{of.Operation}
	h["X-Ms-Session-Guid"] = []string{string(of.Sandbox)}
	h.Set("Operation-Location", g.operation(c, of.Identifier, of.Operation))
}

// beginStream starts an execution that goes on without its caller, and answers with its events.
func (g *Gateway) beginStream(c *call, l Lease, x interpreter.Execution, of wire.About,
	form live.Form, held *body.Hold, kept *executions.Entry) error {
	hold, err := g.pools.Acquire(context.WithoutCancel(c.r.Context()), c.pool, of.Identifier)
	if err != nil {
		kept.End(executions.End{Outcome: aborted, Err: err})
		return err
	}
	hold.Unattended()
	var run *interpreter.Running
	err = g.follow(c, of, form, func(emit interpreter.Emit) (err error) {
		run, err = g.within.Of(l).Run(c.r.Context(), of.Operation, x,
			func(r agent.Record, more bool) (func() error, error) {
				if r.Number == 1 {
					g.locate(c, of)
				}
				return emit(r, more)
			})
		return err
	})
	switch {
	case run == nil:
		hold.Release()
		kept.End(executions.End{Outcome: aborted, Err: err})
	case run.Ended() != nil && kept == nil: // there is nothing to wait for
		g.keep(c, hold, held.Pass(), kept, run.Wait)
	default:
		go g.keep(c, hold, held.Pass(), kept, run.Wait)
	}
	return err
}

// keep holds a session, and the room of the code that waits in it, for as long as an execution goes
// on: nobody may ask for it meanwhile. wait returns when it has ended.
func (g *Gateway) keep(c *call, l Lease, code *budget.Share, kept *executions.Entry,
	wait func(context.Context) (agent.Execution, error)) {
	defer l.Release()
	if code != nil {
		defer code.Release()
	}
	e, err := wait(l.Context())
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
			return g.follow(c, of, form, func(emit interpreter.Emit) error {
				return in.Follow(c.r.Context(), of.Operation, after,
					func(r agent.Record) (func() error, error) { return emit(r, false) })
			})
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

// follow sends the events that read reads, as they come, until the last. The execution goes on
// whether or not the caller reads.
func (g *Gateway) follow(c *call, of wire.About, form live.Form,
	read func(interpreter.Emit) error) (err error) {
	began := time.Now()
	defer func() { tracing.Of(c.r.Context()).Since("stream", began, err) }()
	s := g.stream(c, form)
	defer s.close()
	err = read(func(r agent.Record, more bool) (func() error, error) {
		b, err := form.Encode(wire.EventOf(r, of))
		return func() error { return s.send(b, more) }, err
	})
	return s.end(err)
}

// sayLost is the whole stream of an execution that was not begun, since its session was lost
// before.
func (g *Gateway) sayLost(c *call, form live.Form, lost *sandpool.Error, of wire.About) error {
	s := g.stream(c, form)
	defer s.close()
	for _, ev := range wire.LostEvents(lost, of) {
		b, err := form.Encode(ev)
		if err != nil {
			return err
		}
		if err := s.send(b, false); err != nil {
			return err
		}
	}
	return nil
}
