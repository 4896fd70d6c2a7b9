package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// longestExecution is how long Execute waits when neither the request nor the
// context says: the longest that a server allows by default, and the way.
const longestExecution = 220*time.Second + executionGrace

// Run is a piece of code to execute.
type Run struct {
	// Code is the source; of a Shell pool, a command.
	Code string
	// Timeout bounds the run; zero means the server's default. It travels in whole
	// seconds, rounded up.
	Timeout time.Duration
	// OutputLimit bounds stdout and stderr, each, in bytes; zero means the
	// server's default.
	OutputLimit int
	// Context is the context of the session that the code runs in; "" means the default one. With a
	// Kernel the context is made unless it is there; a Kernel alone stands for the context of its
	// name.
	Context, Kernel string
	// Stdin is what the code reads, Env is added to the environment, and Dir is the working
	// directory, absolute or from /mnt/data: all for this run alone.
	Stdin string
	Env   map[string]string
	Dir   string
	// Traceparent is the caller's trace, as W3C writes it ("00-TRACE-SPAN-01"). The server's spans
	// hang below it, and the code finds its own place in the trace as TRACEPARENT.
	Traceparent string
}

// Execution is what came of a Run. Code that raised, ran out of time or out of
// memory is an Execution with status api.StatusFailed, not an error.
type Execution struct {
	api.Execution
	// Timing is where the server spent its time, by the names of its Server-Timing
	// header; "claim" is how long it took to give the identifier a sandbox.
	Timing map[string]time.Duration
}

// Failed reports whether the code did not run to its end, or a command's status is not zero.
func (e Execution) Failed() bool {
	if e.ExitCode != nil {
		return *e.ExitCode != 0
	}
	return e.Status != api.StatusSucceeded
}

// Execute runs code in the identifier's session, which is created if there is none. A Shell pool,
// which says that it takes no code, gets it as a command.
func (c *Client) Execute(ctx context.Context, pool, identifier string, run Run) (Execution, error) {
	e, err := c.execute(ctx, pool, identifier, run,
		api.ExecuteFields{Code: &run.Code, CodeInputType: "Inline", ExecutionType: "Synchronous"})
	if wantsCommand(err) {
		return c.execute(ctx, pool, identifier, run, api.ExecuteFields{ShellCommand: &run.Code})
	}
	return e, err
}

func (c *Client) execute(ctx context.Context, pool, identifier string, run Run,
	fields api.ExecuteFields) (Execution, error) {
	run.fill(&fields)
	wait := longestExecution
	if run.Timeout > 0 {
		wait = run.Timeout + executionGrace
	}
	var out Execution
	_, header, err := c.do(ctx, call{
		method: http.MethodPost, path: c.data(pool, "executions"), query: sessionQuery(identifier),
		body: api.ExecuteRequest{ExecuteFields: fields}, timeout: wait, header: run.header(),
	}, &out.Execution)
	if err != nil {
		return Execution{}, err
	}
	out.Timing = parseServerTiming(header)
	return out, nil
}

// header is what of a run is told beside the body.
func (run Run) header() http.Header {
	if run.Traceparent == "" {
		return http.Header{}
	}
	return http.Header{"Traceparent": {run.Traceparent}}
}

// fill writes what a run says beside its code.
func (run Run) fill(fields *api.ExecuteFields) {
	fields.Context, fields.Kernel = run.Context, run.Kernel
	fields.Env, fields.WorkingDirectory = run.Env, run.Dir
	fields.Traceparent = run.Traceparent != ""
	if run.Stdin != "" {
		fields.Stdin = &run.Stdin
	}
	if run.Timeout > 0 {
		n := json.Number(strconv.FormatInt(int64((run.Timeout+time.Second-1)/time.Second), 10))
		fields.TimeoutInSeconds = &n
	}
	if run.OutputLimit > 0 {
		n := json.Number(strconv.Itoa(run.OutputLimit))
		fields.OutputStreamsMaxLength = &n
	}
}

// sessionQuery is the query of a call on a session.
func sessionQuery(identifier string) url.Values {
	return url.Values{"identifier": {identifier}, "api-version": {dataVersion}}
}

// parseServerTiming reads the Server-Timing header (W3C Server Timing): metrics
// separated by commas, each "name;dur=milliseconds". What does not parse is left out.
func parseServerTiming(h http.Header) map[string]time.Duration {
	timing := map[string]time.Duration{}
	for _, metric := range strings.Split(strings.Join(h.Values("Server-Timing"), ","), ",") {
		parts := strings.Split(metric, ";")
		for _, p := range parts[1:] {
			value, ok := strings.CutPrefix(strings.TrimSpace(p), "dur=")
			if !ok {
				continue
			}
			if ms, err := strconv.ParseFloat(strings.Trim(value, `"`), 64); err == nil && ms >= 0 &&
				ms < 1e9 {
				timing[strings.TrimSpace(parts[0])] = time.Duration(ms * float64(time.Millisecond))
			}
		}
	}
	return timing
}

// longestEvent bounds an event: the largest are figures.
const longestEvent = 64 << 20

// endTime is how long a stream may take to end after its last event.
const endTime = time.Second

// pauses is how long a stream waits before it is taken up again, while nothing comes of it.
func pauses() []time.Duration {
	return []time.Duration{0, 200 * time.Millisecond, 500 * time.Millisecond, time.Second,
		2 * time.Second, 4 * time.Second}
}

// Stream runs code as Execute does, and yields its events as they happen. Execution of the last
// one, of type api.EventResult, is an api.Execution. A connection that breaks is taken up where it
// was. A loop that is left early cancels the code, and so does the end of ctx, which alone bounds
// how long it takes. After an error, nothing is yielded.
func (c *Client) Stream(ctx context.Context, pool, identifier string,
	run Run) iter.Seq2[api.ExecutionEvent, error] {
	return func(yield func(api.ExecutionEvent, error) bool) {
		s := &execution{c: c, path: c.data(pool, "executions"), id: rand.Text(),
			query: sessionQuery(identifier)}
		err := s.follow(ctx, s.start(run), func(e api.ExecutionEvent) bool { return yield(e, nil) })
		if !s.done {
			s.cancel(ctx)
		}
		if err != nil {
			yield(api.ExecutionEvent{}, err)
		}
	}
}

// execution is one whose events are read.
type execution struct {
	c        *Client
	path, id string
	query    url.Values
	last     int64
	// begun says that the server has taken it, done that it has ended, left that nobody reads on.
	begun, done, left bool
	// command says that the code is a command.
	command bool
	tries   int
}

// start is the call that starts it.
func (s *execution) start(run Run) call {
	f := api.ExecuteFields{Code: &run.Code}
	run.fill(&f)
	header := run.header()
	header.Set("Accept", "application/x-ndjson")
	header.Set("Operation-Id", s.id)
	return call{method: http.MethodPost, path: s.path, query: s.query, header: header,
		body: api.ExecuteRequest{ExecuteFields: f}}
}

// command makes of the call that starts code one that starts a command.
func (r call) command() call {
	body, _ := r.body.(api.ExecuteRequest)
	body.ShellCommand, body.Code = body.Code, nil
	r.body = body
	return r
}

// follow reads events until the last one, by as many calls as it takes.
func (s *execution) follow(ctx context.Context, r call, each func(api.ExecutionEvent) bool) error {
	for {
		err := s.read(ctx, r, each)
		switch {
		case s.done || s.left:
			return nil
		case wantsCommand(err) && !s.command:
			r, s.command = r.command(), true
			continue
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && (!s.begun || sandpool.ClassOf(err) != sandpool.Unavailable):
			return err
		}
		if s.tries == len(pauses()) {
			return &sandpool.Error{Class: sandpool.Unavailable, Code: CodeUnreachable,
				Target: "endpoint", Message: "The stream broke off, again and again.", Err: err}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pauses()[s.tries]):
		}
		s.tries++
		query := url.Values{"after": {strconv.FormatInt(s.last, 10)}}
		for name, values := range s.query {
			query[name] = values
		}
		r = call{method: http.MethodGet, path: s.path + "/" + s.id, query: query,
			header: http.Header{"Accept": {"application/x-ndjson"}}}
	}
}

// wantsCommand reports whether a pool has refused code because it takes commands.
func wantsCommand(err error) bool {
	var refused *sandpool.Error
	return errors.As(err, &refused) && refused.Code == "SessionPropertiesMissing" &&
		refused.Target == "shellCommand"
}

// read reads the events of one answer.
func (s *execution) read(ctx context.Context, r call, each func(api.ExecutionEvent) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := s.c.send(ctx, r)
	if err != nil {
		return err
	}
	s.begun = true
	defer resp.Body.Close() // not drained: it may go on for long
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 64<<10), longestEvent)
	for lines.Scan() {
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue // the server shows that it is there
		}
		var result struct{ Execution api.Execution }
		var e api.ExecutionEvent
		err := json.Unmarshal(text, &e)
		if err == nil && e.Type == api.EventResult {
			err = json.Unmarshal(text, &result)
			e.Execution = result.Execution
		}
		if err != nil {
			// A line that was cut off is read again.
			return s.c.unreachable(ctx, r, err)
		}
		if e.Type == api.EventError && e.Error != nil {
			return sandpool.Errorf(sandpool.Internal, e.Error.Code, "", "%s", e.Error.Message)
		}
		s.last, s.tries, s.done = e.Sequence, 0, e.Type == api.EventResult
		s.left = !each(e)
		if s.done { // read to its end, the connection serves the next call
			late := time.AfterFunc(endTime, cancel)
			_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
			late.Stop()
		}
		if s.left || s.done {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return s.c.unreachable(ctx, r, err)
	}
	return nil
}

// cancel ends the code of a reader who has left; there is nobody to tell how that went.
func (s *execution) cancel(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer stop()
	_, _, _ = s.c.do(ctx, call{method: http.MethodDelete, path: s.path + "/" + s.id,
		query: s.query}, nil)
}
