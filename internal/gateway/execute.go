package gateway

import (
	"crypto/rand"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/gateway/body"
	"github.com/sandpool/sandpool/internal/gateway/live"
	"github.com/sandpool/sandpool/internal/gateway/request"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/history/executions"
	"github.com/sandpool/sandpool/internal/interpreter"
	"github.com/sandpool/sandpool/internal/tracing"
)

// executeAs returns the operation that runs code and answers in the given envelope, of those
// that know no executions without a caller.
func executeAs(e wire.Envelope) func(*Gateway, *call) error {
	return func(g *Gateway, c *call) error { return g.execute(c, e, false) }
}

// executeNew runs code and answers in the new envelope, with a stream, or with where the execution
// is to be found, as the caller wants it.
func (g *Gateway) executeNew(c *call) error { return g.execute(c, wire.New, true) }

func (g *Gateway) execute(c *call, form wire.Envelope, background bool) error {
	held := &body.Hold{Of: g.bodies, Caller: c}
	defer held.Release()
	// That there is no such pool is for Acquire to say, after all that is wrong with the request.
	parse := g.limits.Code
	if c.kind == sandpool.Shell {
		parse = g.limits.Command
		if !background {
			return notShell()
		}
	}
	x, err := g.options.readExecution(c.w, c.r, held, parse)
	if err != nil {
		if sandpool.ClassOf(err) == sandpool.Unavailable {
			held.Release()
			g.drain(c) // so that the caller gets to the answer
		}
		return err
	}
	if x.Command {
		form = wire.Shell
	}
	if x.Traced {
		x.Env = c.withTrace(x.Env)
	}
	identifier, err := c.identifierOr(x.Identifier)
	if err != nil {
		return err
	}
	if err := held.Settle(identifier); err != nil {
		return err
	}
	if x.Async && !background {
		return sandpool.Errorf(sandpool.Unsupported, wire.CodeUnsupported, "executionType",
			"This path takes synchronous executions only; send asynchronous ones to "+
				"'executions'.")
	}
	lease, err := g.pools.Acquire(c.r.Context(), c.pool, identifier)
	if err != nil {
		ended := asError(err)
		if ended == nil || ended.Class != sandpool.Ended {
			return err
		}
		return g.answerLost(c, ended, identifier, form, background)
	}
	defer lease.Release()
	if background && (x.Async || live.Wanted(c.r) != "") {
		return g.begin(c, lease, identifier, x, held)
	}
	return g.run(c, lease, identifier, x, held, form)
}

// readExecution reads the body of an execute call, whose memory h takes, and has it parsed.
func (o Options) readExecution(w http.ResponseWriter, r *http.Request, h *body.Hold,
	parse func([]byte) (request.Execution, error)) (x request.Execution, err error) {
	if r.ContentLength > o.MaxBody {
		return x, o.bodyTooLarge()
	}
	if r.ContentLength > body.Small {
		if err := h.Fits(r.ContentLength); err != nil {
			return x, err
		}
	}
	plain, err := arm.Body(w, r)
	if err != nil {
		return x, err
	}
	data, err := body.New(w, http.MaxBytesReader(w, plain, o.MaxBody), o.Stall).
		All(r.ContentLength, h.Take)
	if sandpool.ClassOf(err) == sandpool.TooLarge {
		return x, o.bodyTooLarge()
	}
	if err != nil {
		return x, err
	}
	if data, err = arm.UTF8(data, r.Header.Get("Content-Type")); err != nil {
		return x, err
	}
	return parse(data)
}

func (o Options) bodyTooLarge() error {
	return sandpool.Errorf(sandpool.TooLarge, "", "body",
		"The request body is larger than %d bytes; upload large data as a file and read it from "+
			"/mnt/data.", o.MaxBody)
}

// notShell refuses the paths of the api-versions before Shell pools.
func notShell() error {
	return sandpool.Errorf(sandpool.Unsupported, wire.CodeUnsupported, "path",
		"Shell execution is not supported in the API version of this path; send commands by POST "+
			"to 'executions'.")
}

// run runs code in a session and answers with what became of it.
func (g *Gateway) run(c *call, lease Lease, identifier sandpool.Identifier,
	x request.Execution, held *body.Hold, form wire.Envelope) error {
	operation := operationID(c.r)
	kept := g.options.History.BeginIn(c.r.Context(), lease, executions.Start{Pool: c.pool,
		Identifier: identifier, ID: operation, Request: x.ExecuteRequest})
	claim := lease.Claim()
	t := timing{prepare: time.Since(c.started), claim: claim.Took, start: claim.Start}
	sent := time.Now()
	run := interpreter.Execution{ExecuteRequest: x.ExecuteRequest, Sent: held.Sent}
	x.Code, x.Args, x.Stdin = "", nil, "" // it may wait for long, and is the sandbox's then
	res, err := g.within.Of(lease).Execute(c.r.Context(), run)
	var a wire.Answer
	outcome := aborted
	if err == nil {
		defer res.Release()
		a, outcome = wire.AnswerOf(res.ExecuteResult, x.Timeout), outcomeOf(res.Outcome)
	} else if ended := asError(err); ended != nil && ended.Class == sandpool.Ended {
		a = wire.AbortedBy(ended, time.Since(sent))
	} else {
		kept.End(executions.End{Outcome: outcome, Took: time.Since(sent), Err: err})
		return err
	}
	kept.End(executions.End{Outcome: outcome, Took: a.Took, Result: &res.ExecuteResult, Err: err})
	t.exchange, t.execute = time.Since(sent), a.Took
	t.overall = time.Since(c.started)
	id := lease.Sandbox().ID
	span := tracing.Of(c.r.Context())
	g.tell(c, span, id, outcome, a.Took)
	if claim.Outcome != sandpool.ClaimExisting {
		g.options.Events.Observe(event.Event{Name: event.SessionAnswered, Pool: c.pool,
			Sandbox: id, Took: t.overall, Trace: span.TraceID()})
	}
	if span != nil {
		traceParts(span, c.pool.Name, id, claim, sent, t.exchange, a.Took, outcome)
	}

	of := wire.About{Operation: operation, Identifier: identifier, Sandbox: id,
		UserAgent: c.r.UserAgent()}
	h := c.w.Header()
	h["Operation-Id"] = []string{of.Operation}
	h["X-Ms-Session-Guid"] = []string{string(of.Sandbox)}
	t.write(h)
	b, err := arm.Encode(form(a, of))
	if err != nil {
		return err
	}
	res.Release() // from now on it is the caller's pace that counts, and its part that is charged
	return g.deliver(c, http.StatusOK, b)
}

// aborted is the outcome of code that has no result.
const aborted = "aborted"

// answerLost answers an execution whose session was lost since its last call: nothing has run in a
// new one.
func (g *Gateway) answerLost(c *call, ended *sandpool.Error, identifier sandpool.Identifier,
	form wire.Envelope, background bool) error {
	of := wire.About{Operation: operationID(c.r), Identifier: identifier,
		UserAgent: c.r.UserAgent()}
	c.w.Header()["Operation-Id"] = []string{of.Operation}
	if stream := live.Wanted(c.r); background && stream != "" {
		return g.sayLost(c, stream, ended, of)
	}
	return arm.WriteJSON(c.w, http.StatusOK, form(wire.AbortedBy(ended, 0), of))
}

// tell lets observers know that code has run.
func (g *Gateway) tell(c *call, span *tracing.Span, id sandpool.SandboxID, outcome string,
	took time.Duration) {
	who, _ := auth.FromContext(c.r.Context())
	g.options.Events.Observe(event.Event{Name: event.ExecutionEnded, Pool: c.pool, Sandbox: id,
		By: who.Subject, Trace: span.TraceID(), Outcome: outcome, Took: took})
}

// traceParts tells of the parts of an execution. The cell's own time is known, and that it ended
// when the exchange did; the claim's, that it came before the code was sent.
func traceParts(span *tracing.Span, pool string, id sandpool.SandboxID, c sandpool.Claim,
	sent time.Time, exchange, cell time.Duration, outcome string) {
	span.Claim(pool, id, c, sent)
	way := span.Child("exchange", sent, exchange)
	traceCell(way, sent.Add(exchange-cell), cell, outcome)
	way.End()
}

// traceCell tells of code that has run, as a part of of.
func traceCell(of *tracing.Span, began time.Time, took time.Duration, outcome string) {
	code := of.Child("cell", began, took)
	code.Text("sandpool.outcome", outcome)
	if outcome != string(agent.OK) {
		code.Fail(outcome)
	}
	code.End()
}

// maxTraceState is what of a tracestate is handed on, in bytes: what everybody has to hand on
// (https://www.w3.org/TR/trace-context/#tracestate-limits).
const maxTraceState = 512

// withTrace adds to the environment of code or of a process the trace that its request belongs to,
// under the names by which OpenTelemetry finds one there
// (https://opentelemetry.io/docs/specs/otel/context/env-carriers/).
func (c *call) withTrace(env map[string]string) map[string]string {
	all := map[string]string{"TRACEPARENT": tracing.Parent(c.r, arm.TraceID(c.r.Context()))}
	state := strings.Join(c.r.Header.Values("Tracestate"), ",")
	if state != "" && len(state) <= maxTraceState && strings.IndexFunc(state, func(r rune) bool {
		return r < ' ' || r > '~'
	}) < 0 {
		all["TRACESTATE"] = state
	}
	maps.Copy(all, env)
	return all
}

// outcomeOf is the word for an execution's end; what an agent says is not repeated unread.
func outcomeOf(o agent.Outcome) string {
	switch o {
	case agent.OK, agent.Interrupted, agent.TimeoutInterrupted, agent.TimeoutRestarted,
		agent.KernelDied:
		return string(o)
	}
	return string(agent.Failed)
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
// stand in a header and a URL, or a random one.
func operationID(r *http.Request) string {
	const most = 128
	id := r.Header.Get("Operation-Id")
	if id != "" && len(id) <= most && strings.IndexFunc(id, unfit) < 0 {
		return id
	}
	return strings.ToLower(rand.Text())
}

func unfit(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' &&
		c != '_' && c != '.'
}
