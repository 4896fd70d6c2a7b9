package mcp

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/interpreter"
)

// language is something that a pool's sandboxes run. Each has two tools, as at Azure's endpoint:
// one that gives out the id of a fresh environment, and one that runs code there. All are listed
// for every pool.
type language struct {
	title                string
	launchName           string
	launchOthers         []string
	runName, description string
	arguments            schema
	required             []string
	// shell says that the value of an execution is an exit status.
	shell bool
	// source returns the code that the sandbox runs.
	source func(runArguments) (string, error)
}

// runArguments are those of all languages together.
type runArguments struct {
	EnvironmentID      string       `json:"environmentId"`
	PythonCode         *string      `json:"pythonCode"`
	Code               *string      `json:"code"`
	ShellCommand       *string      `json:"shellCommand"`
	ExecCommandAndArgs []string     `json:"execCommandAndArgs"`
	Command            []string     `json:"command"`
	Timeout            *json.Number `json:"timeoutInSeconds"`
}

// languages is the table of languages.
func languages() []language {
	return []language{
		{
			title:      "Python",
			launchName: "launchPythonEnvironment",
			runName:    "runPythonCodeInRemoteEnvironment",
			description: "Run Python code in an environment. Variables, imports and files are kept " +
				"between calls. " +
				"The value of the last expression is in the result, figures are images. Files are in " +
				"/mnt/data.",
			arguments: schema{
				"pythonCode": text("The code, of any number of lines."),
			},
			required: []string{"pythonCode"},
			source:   pythonSource,
		},
		{
			title:        "shell",
			launchName:   "launchShell",
			launchOthers: []string{"launchShellEnvironment"},
			runName:      "runShellCommandInRemoteEnvironment",
			description: "Run a shell command in an environment: a line or script for bash as " +
				"shellCommand, or a program and its arguments as execCommandAndArgs. " +
				"Files are kept between calls; directories, variables and functions of the shell are not. " +
				"Files are in /mnt/data.",
			arguments: schema{
				"shellCommand": text("A command line or script for bash."),
				"execCommandAndArgs": schema{
					"type":        "array",
					"items":       schema{"type": "string"},
					"minItems":    1,
					"description": "A program and its arguments, run without a shell.",
				},
			},
			shell:  true,
			source: shellSource,
		},
	}
}

// launch is the tool that gives out an id. There is no session until something runs there.
func (l language) launch() tool {
	return tool{
		name:   l.launchName,
		others: l.launchOthers,
		title:  "Launch a " + l.title + " environment",
		description: "Get the id of a fresh environment for " + l.title + ". It starts with the " +
			"first call that uses it.",
		input: object(
			nil,
			schema{},
		),
		output: object(
			[]string{nameEnvironment},
			schema{nameEnvironment: text("The id of the environment.")},
		),
		call: func(c *call, _ context.Context, _ json.RawMessage) (sandpool.Identifier, toolResult, error) {
			id := newEnvironment()
			if err := c.may(id); err != nil {
				return id, toolResult{}, err
			}
			structured := map[string]string{nameEnvironment: string(id)}
			b, err := json.Marshal(structured)
			return id, toolResult{
				content:    []map[string]any{textContent(string(b))},
				structured: structured,
			}, err
		},
	}
}

// newEnvironment returns an id in the form that Azure's have, a UUID (RFC 9562, version 4).
func newEnvironment() sandpool.Identifier {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return sandpool.Identifier(
		fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]),
	)
}

// run is the tool that runs code.
func (l language) run() tool {
	properties := schema{nameEnvironment: environmentID(), nameTimeout: timeout()}
	for name, s := range l.arguments {
		properties[name] = s
	}
	return tool{
		name:        l.runName,
		title:       "Run " + l.title,
		description: l.description,
		input:       object(l.required, properties),
		output:      outcomeSchema(l.shell),
		call: func(c *call, ctx context.Context, raw json.RawMessage) (sandpool.Identifier, toolResult, error) {
			var args runArguments
			if err := arguments(raw, &args); err != nil {
				return "", toolResult{}, err
			}
			id, err := c.environment(args.EnvironmentID)
			if err != nil {
				return id, toolResult{}, err
			}
			code, err := l.source(args)
			if err != nil {
				return id, toolResult{}, err
			}
			timeout, err := c.s.timeout(args.Timeout)
			if err != nil {
				return id, toolResult{}, err
			}
			res, err := c.execute(ctx, id, agent.ExecuteRequest{Code: code, Timeout: timeout})
			return id, outcomeOf(id, res, timeout, l.shell), err
		},
	}
}

func pythonSource(a runArguments) (string, error) {
	code := a.PythonCode
	if code == nil {
		code = a.Code
	}
	if code == nil {
		return "", sandpool.Errorf(
			sandpool.Invalid,
			"InvalidArguments",
			"pythonCode",
			"The argument pythonCode is missing; it is the code to run.",
		)
	}
	return *code, nil
}

// maxArgument is the longest argument of a program, below Linux's bound of 128 KiB.
const maxArgument = 96 << 10

// shellSource is a command as a call of Python, whose value is the exit status. Both streams are
// the kernel's own, so output is seen while the command runs. A JSON string is one of Python, too.
func shellSource(a runArguments) (string, error) {
	argv := a.ExecCommandAndArgs
	if argv == nil {
		argv = a.Command
	}
	given := ", stdin=-3" // subprocess.DEVNULL
	switch {
	case a.ShellCommand != nil && argv != nil, a.ShellCommand == nil && len(argv) == 0:
		return "", sandpool.Errorf(
			sandpool.Invalid,
			"InvalidArguments",
			"shellCommand",
			"Give either shellCommand or execCommandAndArgs.",
		)
	case a.ShellCommand != nil && len(*a.ShellCommand) > maxArgument:
		argv = []string{"bash", "-s"}
		script, err := json.Marshal(*a.ShellCommand)
		if err != nil {
			return "", err
		}
		given = ", input=" + string(script) + ".encode()"
	case a.ShellCommand != nil:
		argv = []string{"bash", "-c", *a.ShellCommand}
	}
	list, err := json.Marshal(argv)
	if err != nil {
		return "", err
	}
	return `__import__("subprocess").run(` + string(list) + given + `).returncode`, nil
}

// environment returns the session that an argument names: the one of the MCP session if it names
// none, and without one a new one.
func (c *call) environment(named string) (sandpool.Identifier, error) {
	id := c.session.environment()
	switch {
	case named != "":
		var err error
		if id, err = sandpool.ParseIdentifier(named); err != nil {
			return id, err
		}
	case c.session == "":
		id = newEnvironment()
	}
	return id, c.may(id)
}

// timeout reads the time that an execution may take. More than the most is the most.
func (s *Server) timeout(n *json.Number) (time.Duration, error) {
	if n == nil {
		return s.o.MaxTimeout, nil
	}
	f, err := n.Float64()
	if err != nil || f < 1 || f != float64(int64(f)) {
		return 0, sandpool.Errorf(
			sandpool.Invalid,
			"InvalidArguments",
			nameTimeout,
			"The argument %s is %.20q; use a whole number of seconds, from 1.",
			nameTimeout,
			n.String(),
		)
	}
	if f > s.o.MaxTimeout.Seconds() {
		return s.o.MaxTimeout, nil
	}
	return time.Duration(f) * time.Second, nil
}

// execute runs code in an environment, and tells its caller how it goes if that has asked for it.
func (c *call) execute(
	ctx context.Context,
	id sandpool.Identifier,
	r agent.ExecuteRequest,
) (agent.ExecuteResult, error) {
	if len(r.Code) > agent.MaxCode {
		return agent.ExecuteResult{}, sandpool.Errorf(
			sandpool.TooLarge,
			"",
			"code",
			"The code has %d bytes, of at most %d; write large data to a file and read it from /mnt/data.",
			len(r.Code),
			agent.MaxCode,
		)
	}
	if n := int64(len(r.Code)); n > small {
		waits := c.s.queues.Share(c.holder(id))
		defer waits.Release()
		if err := waits.Try(n); err != nil {
			return agent.ExecuteResult{}, crowded(err)
		}
	}
	lease, err := c.s.pools.Acquire(ctx, c.pool.ID, id)
	if err != nil {
		return agent.ExecuteResult{}, err
	}
	defer lease.Release()
	in, x := c.s.within.Of(lease), interpreter.Execution{ExecuteRequest: r, Sent: c.sent}
	var res agent.ExecuteResult
	if c.stream != nil {
		res, err = c.follow(ctx, in, x)
	} else {
		var whole interpreter.Result
		if whole, err = in.Execute(ctx, x); err == nil {
			c.release = append(c.release, whole.Release)
			res = whole.ExecuteResult
		}
	}
	c.tell(lease.Sandbox().ID, res, err)
	return res, err
}

// follow runs code in the background, sends its output as progress, and returns its result.
func (c *call) follow(
	ctx context.Context,
	in *interpreter.Interpreter,
	x interpreter.Execution,
) (res agent.ExecuteResult, err error) {
	id := strings.ToLower(rand.Text())
	if _, err := in.Start(ctx, id, x); err != nil {
		return res, err
	}
	stop := c.stream.beat()
	err = in.Follow(ctx, id, 0, func(r agent.Record) (func() error, error) {
		return func() error {
			if part := r.Stdout + r.Stderr; part != "" {
				return c.stream.progress(part)
			}
			return nil
		}, nil
	})
	stop()
	if err != nil {
		// Nobody waits for it any more.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
		defer cancel()
		_, _ = in.Cancel(last, id) // the session ends it, at the latest
		return res, err
	}
	e, release, err := in.Execution(ctx, id)
	c.release = append(c.release, release)
	switch {
	case err != nil:
		return res, err
	case e.Result != nil:
		return *e.Result, nil
	case e.Fault != nil:
		return res, sandpool.Errorf(
			sandpool.Unavailable,
			"ExecutionFailed",
			"",
			"The code could not be run: %s",
			e.Fault.Message,
		)
	}
	return res, sandpool.Errorf(
		sandpool.Unavailable,
		"ExecutionFailed",
		"",
		"The code could not be run. Try again.",
	)
}

// cancelTime is how long the end of a call waits for its code to be told.
const cancelTime = 10 * time.Second

// tell lets observers know that code has run.
func (c *call) tell(id sandpool.SandboxID, res agent.ExecuteResult, err error) {
	word := "aborted"
	if err == nil {
		word = string(agent.Failed)
		switch res.Outcome {
		case agent.OK,
			agent.Interrupted,
			agent.TimeoutInterrupted,
			agent.TimeoutRestarted,
			agent.KernelDied:
			word = string(res.Outcome) // what an agent says is not repeated unread
		}
	}
	c.s.o.Events.Observe(
		event.Event{
			Name:    event.ExecutionEnded,
			Pool:    c.pool.ID,
			Sandbox: id,
			By:      c.who.Subject,
			Outcome: word,
			Took:    res.Duration,
		},
	)
}
