package executions

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/tracing"
)

// How much of a text is kept, in bytes.
const (
	maxCode   = 16 << 10
	maxOutput = 8 << 10
	maxName   = 256
)

// overhead is what an execution takes besides its texts, in bytes: so many short ones are bounded
// too.
const overhead = 1 << 10

// Start is an execution that is sent to its sandbox.
type Start struct {
	Pool       sandpool.PoolID
	Identifier sandpool.Identifier
	Sandbox    sandpool.SandboxID
	ID         string
	By         string // the subject of the principal
	Trace      string
	Request    agent.ExecuteRequest
}

// End is how an execution ended.
type End struct {
	Outcome string // one of few words
	Took    time.Duration
	// Result is looked at if there is no Err, which is why there is none.
	Result *agent.ExecuteResult
	Err    error
}

// Entry is an execution that is kept. A nil one is none, to which nothing happens.
type Entry struct {
	keeper *Keeper
	log    *log // nil once it is dropped
	began  time.Time
	ended  time.Time // zero while it runs
	size   int64
	view   api.PastExecution
}

// Begin keeps an execution that begins now; nil if its pool keeps none.
func (k *Keeper) Begin(s Start) *Entry {
	e := &Entry{keeper: k, began: k.now()}
	v := &e.view
	v.ID, v.Sandbox, v.By, v.TraceID = e.clip("id", s.ID, maxName), string(s.Sandbox),
		e.clip("by", s.By, maxName), s.Trace
	v.Kernel, v.Context = e.clip("kernel", s.Request.Kernel, maxName),
		e.clip("context", s.Request.Context, maxName)
	v.Code = e.clip("code", codeOf(s.Request), maxCode)
	v.Began = e.began.UTC().Format(time.RFC3339Nano)
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.pools[s.Pool.Key()]
	if p == nil {
		return nil
	}
	k.number++
	v.Number = k.number
	e.log = p.logOf(s.By, s.Identifier)
	e.log.expire(e.began)
	e.log = p.logOf(s.By, s.Identifier) // another one, if nothing was left in that
	e.log.entries = append(e.log.entries, e)
	e.resize(1)
	return e
}

// Session is what a Keeper asks of the session that runs an execution.
type Session interface {
	Sandbox() sandpool.Sandbox
	// History says how what it runs is to be kept; nil if it is not.
	History() *sandpool.History
}

// BeginIn is Begin for an execution of a session, by the principal of ctx and in its trace. A nil
// Keeper keeps nothing.
func (k *Keeper) BeginIn(ctx context.Context, in Session, s Start) *Entry {
	if k == nil || in.History() == nil {
		return nil
	}
	who, _ := auth.FromContext(ctx)
	s.Sandbox, s.By, s.Trace = in.Sandbox().ID, who.Subject, tracing.Of(ctx).TraceID()
	return k.Begin(s)
}

// codeOf is what a request runs, as text.
func codeOf(r agent.ExecuteRequest) string {
	if len(r.Args) == 0 {
		return r.Code
	}
	var b strings.Builder
	for i, a := range r.Args {
		if b.Len() > maxCode {
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(a[:min(len(a), maxCode+1)])
	}
	return b.String()
}

// End says how the execution ended. Only the first call counts.
func (e *Entry) End(end End) {
	if e == nil {
		return
	}
	k := e.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.log == nil || e.log.pool.gone || !e.ended.IsZero() {
		return
	}
	e.ended = k.now()
	v := &e.view
	v.Outcome, v.Seconds = end.Outcome, end.Took.Seconds()
	if r := end.Result; r != nil && end.Err == nil {
		v.Stdout = e.output("stdout", r.Stdout, r.StdoutTruncated)
		v.Stderr = e.output("stderr", r.Stderr, r.StderrTruncated)
		v.Result = e.clip("result", r.Text, maxOutput)
		v.Displays = len(r.Displays)
		if r.Error != nil {
			v.Error = e.clip("error", errorOf(*r.Error), maxOutput)
		}
	} else if end.Err != nil {
		v.Error = e.clip("error", reason(end.Err), maxOutput)
	}
	e.resize(0)
}

// errorOf is an exception as text: its traceback, which ends with its name and message. They stand
// before it if its end is not kept.
func errorOf(x agent.ExecutionError) string {
	short := x.Name
	if x.Message != "" {
		short += ": " + x.Message
	}
	switch {
	case x.Traceback == "":
		return short
	case len(x.Traceback) <= maxOutput:
		return x.Traceback
	}
	return short[:min(len(short), maxOutput/2)] + "\n" + x.Traceback
}

// reason is what users read of an error: what is behind it is for the log.
func reason(err error) string {
	var known *sandpool.Error
	switch {
	case errors.As(err, &known):
		return known.Message
	case errors.Is(err, context.Canceled):
		return "Its caller left before it had ended."
	}
	return "The server has no answer of it."
}

// output is the beginning of a stream; cut says that the sandbox has not sent all of it.
func (e *Entry) output(field, text string, cut bool) string {
	kept := e.clip(field, text, maxOutput)
	if cut && !slices.Contains(e.view.Cut, field) {
		e.view.Cut = append(e.view.Cut, field)
	}
	return kept
}

// clip returns a copy of the beginning of a text, and notes if that is not all: the text itself may
// be a part of something large.
func (e *Entry) clip(field, text string, most int) string {
	if len(text) > most {
		for most > 0 && !utf8.RuneStart(text[most]) {
			most--
		}
		text = text[:most]
		e.view.Cut = append(e.view.Cut, field)
	}
	return strings.Clone(strings.ToValidUTF8(text, "\ufffd"))
}

// resize counts what e takes by now; more is 1 if it is new. The caller holds mu.
func (e *Entry) resize(more int) {
	v, had := &e.view, e.size
	e.size = overhead + int64(len(v.ID)+len(v.By)+len(v.Kernel)+len(v.Context)+len(v.Code)+
		len(v.Stdout)+len(v.Stderr)+len(v.Result)+len(v.Error))
	e.log.add(e.size-had, more)
	e.keeper.fit(e.log)
}

// longestRun is for how long an execution without an end counts as one that runs.
const longestRun = 24 * time.Hour

// until is the time that the retention of e begins with.
func (e *Entry) until() time.Time {
	if e.ended.IsZero() {
		return e.began.Add(longestRun)
	}
	return e.ended
}

// drop forgets e, which is kept. The caller holds mu.
func (e *Entry) drop() {
	l := e.log
	e.log = nil
	at := slices.Index(l.entries, e)
	l.entries = slices.Delete(l.entries, at, at+1)
	l.add(-e.size, -1)
	e.view = api.PastExecution{}
	l.tidy()
}
