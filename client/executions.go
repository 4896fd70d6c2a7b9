package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

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
		body: api.ExecuteRequest{ExecuteFields: fields}, timeout: wait,
	}, &out.Execution)
	if err != nil {
		return Execution{}, err
	}
	out.Timing = parseServerTiming(header)
	return out, nil
}

// fill writes what a run says beside its code.
func (run Run) fill(fields *api.ExecuteFields) {
	fields.Context, fields.Kernel = run.Context, run.Kernel
	fields.Env, fields.WorkingDirectory = run.Env, run.Dir
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
