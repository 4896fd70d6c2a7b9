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
	"github.com/sandpool/sandpool/internal/history/executions"
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
	// only is the kinds of pools whose lists have the tools; nil means that all have.
	only []sandpool.ContainerType
	// source returns what the sandboxes of a kind of pool run.
	source func(sandpool.ContainerType, runArguments) (agent.ExecuteRequest, error)
}

// runArguments are those of all languages together.
type runArguments struct {
	EnvironmentID      string       `json:"environmentId"`
	PythonCode         *string      `json:"pythonCode"`
	JavaScriptCode     *string      `json:"javaScriptCode"`
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
			description: "Run Python code in an environment. Variables, imports and files are " +
				"kept between calls. The value of the last expression is in the result, figures " +
				"are images. Files are in /mnt/data.",
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
				"Files are kept between calls, in /mnt/data; in a pool of type Shell the " +
				"directory, " +
				"variables and functions are kept, too.",
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
		{
			title:      "JavaScript",
			launchName: "launchNodeEnvironment",
			runName:    "runJavaScriptCodeInRemoteEnvironment",
			description: "Run JavaScript or TypeScript in Node in an environment. Variables and " +
				"files are kept between calls. The value of the last expression is in the " +
				"result. Files are in /mnt/data.",
			arguments: schema{"javaScriptCode": text("The code, of any number of lines.")},
			required:  []string{"javaScriptCode"},
			only:      []sandpool.ContainerType{sandpool.NodeLTS},
			source:    nodeSource,
		},
	}
}

// launch is the tool that gives out an id. There is no session until something runs there.
func (l language) launch() tool {
	t := launchTool(l.launchName, l.title)
	t.others, t.only = l.launchOthers, l.only
	return t
}

// launchTool is a tool that gives out the id of an environment for something.
func launchTool(name, of string) tool {
	return tool{
		name:  name,
		title: "Launch a " + of + " environment",
		description: "Get the id of a fresh environment for " + of + ". It starts with the " +
			"first call that uses it.",
		input: object(nil, schema{}),
		output: object(
			[]string{nameEnvironment},
			schema{nameEnvironment: text("The id of the environment.")},
		),
		call: func(
			c *call, _ context.Context, _ json.RawMessage,
		) (sandpool.Identifier, toolResult, error) {
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
		only:        l.only,
		call: func(
			c *call, ctx context.Context, raw json.RawMessage,
		) (sandpool.Identifier, toolResult, error) {
			var args runArguments
			if err := arguments(raw, &args); err != nil {
				return "", toolResult{}, err
			}
			id, err := c.environment(args.EnvironmentID)
			if err != nil {
				return id, toolResult{}, err
			}
			x, err := l.source(c.pool.Spec.Kind, args)
			if err != nil {
				return id, toolResult{}, err
			}
			if x.Timeout, err = c.s.timeout(args.Timeout); err != nil {
				return id, toolResult{}, err
			}
			res, err := c.execute(ctx, id, x)
			return id, outcomeOf(id, res, x.Timeout, l.shell), err
		},
	}
}

func pythonSource(kind sandpool.ContainerType, a runArguments) (x agent.ExecuteRequest, err error) {
	code := a.PythonCode
	if code == nil {
		code = a.Code
	}
	switch {
	case code == nil:
		return x, invalidArgument("pythonCode",
			"The argument pythonCode is missing; it is the code.")
	case kind == sandpool.PythonLTS:
		x.Code = *code
	case kind == sandpool.Shell: // a process of its own for each call
		x.Args, x.Stdin = []string{"python3", "-"}, *code
	default:
		return x, notHere(kind, "Python")
	}
	return x, nil
}

func shellSource(kind sandpool.ContainerType, a runArguments) (x agent.ExecuteRequest, err error) {
	argv := a.ExecCommandAndArgs
	if argv == nil {
		argv = a.Command
	}
	switch {
	case (a.ShellCommand == nil) == (len(argv) == 0):
		return x, invalidArgument("shellCommand", "Give either shellCommand or execCommandAndArgs.")
	case kind == sandpool.Shell && a.ShellCommand != nil:
		x.Code = *a.ShellCommand
	case kind == sandpool.Shell:
		x.Args = argv
	case kind == sandpool.PythonLTS:
		x.Code, err = viaPython(a.ShellCommand, argv)
	case kind == sandpool.NodeLTS:
		x.Code, err = viaNode(a.ShellCommand, argv)
	default:
		return x, notHere(kind, "shell commands")
	}
	return x, err
}

func nodeSource(kind sandpool.ContainerType, a runArguments) (x agent.ExecuteRequest, err error) {
	code := a.JavaScriptCode
	if code == nil {
		code = a.Code
	}
	switch {
	case code == nil:
		return x, invalidArgument("javaScriptCode",
			"The argument javaScriptCode is missing; it is the code.")
	case kind != sandpool.NodeLTS:
		return x, notHere(kind, "JavaScript")
	}
	x.Code = *code
	return x, nil
}

func notHere(kind sandpool.ContainerType, what string) error {
	return sandpool.Errorf(sandpool.Unsupported, "ToolNotSupported", "",
		"Sandboxes of this pool have the type %s and do not run %s.", kind, what)
}

func invalidArgument(name, format string, args ...any) error {
	return sandpool.Errorf(sandpool.Invalid, "InvalidArguments", name, format, args...)
}

// maxArgument is the longest argument of a program, below Linux's bound of 128 KiB.
const maxArgument = 96 << 10

// viaPython is a command as a call of Python, whose value is the exit status. Both streams are the
// kernel's own, so output is seen while the command runs. A JSON string is one of Python, too.
func viaPython(script *string, argv []string) (string, error) {
	given := ", stdin=-3" // subprocess.DEVNULL
	switch {
	case script != nil && len(*script) > maxArgument:
		argv = []string{"bash", "-s"}
		text, err := json.Marshal(*script)
		if err != nil {
			return "", err
		}
		given = ", input=" + string(text) + ".encode()"
	case script != nil:
		argv = []string{"bash", "-c", *script}
	}
	list, err := json.Marshal(argv)
	if err != nil {
		return "", err
	}
	return `__import__("subprocess").run(` + string(list) + given + `).returncode`, nil
}

// viaNode is viaPython for Node.
func viaNode(script *string, argv []string) (string, error) {
	given := `stdio: ["ignore", "inherit", "inherit"]`
	switch {
	case script != nil && len(*script) > maxArgument:
		argv = []string{"bash", "-s"}
		text, err := json.Marshal(*script)
		if err != nil {
			return "", err
		}
		given = `stdio: ["pipe", "inherit", "inherit"], input: ` + string(text)
	case script != nil:
		argv = []string{"bash", "-c", *script}
	}
	name, err := json.Marshal(argv[0])
	if err != nil {
		return "", err
	}
	rest, err := json.Marshal(argv[1:])
	if err != nil {
		return "", err
	}
	return `((r) => { if (r.error) throw r.error; return r.status ?? 128 })(require("child_process")` +
		`.spawnSync(` + string(name) + `, ` + string(rest) + `, {` + given + `}))`, nil
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
		return 0, sandpool.Errorf(sandpool.Invalid, "InvalidArguments", nameTimeout,
			"The argument %s is %.20q; use a whole number of seconds, from 1.", nameTimeout,
			n.String())
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
	size := len(r.Code) + len(r.Stdin)
	for _, arg := range r.Args {
		size += len(arg)
	}
	if size > agent.MaxCode {
		return agent.ExecuteResult{}, sandpool.Errorf(sandpool.TooLarge, "", "code",
			"The code has %d bytes, of at most %d; write large data to a file and read it from "+
				"/mnt/data.",
			size, agent.MaxCode)
	}
	if n := int64(size); n > small {
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
	kept := c.s.o.History.BeginIn(ctx, lease, executions.Start{Pool: c.pool.ID, Identifier: id,
		Request: r})
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
	word := wordOf(res, err)
	kept.End(executions.End{Outcome: word, Took: res.Duration, Result: &res, Err: err})
	c.tell(lease.Sandbox().ID, word, res.Duration)
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
		return res, sandpool.Errorf(sandpool.Unavailable, "ExecutionFailed", "",
			"The code could not be run: %s", e.Fault.Message)
	}
	return res, sandpool.Errorf(sandpool.Unavailable, "ExecutionFailed", "",
		"The code could not be run. Try again.")
}

// cancelTime is how long the end of a call waits for its code to be told.
const cancelTime = 10 * time.Second

// wordOf is the word for an execution's end; what an agent says is not repeated unread.
func wordOf(res agent.ExecuteResult, err error) string {
	if err != nil {
		return "aborted"
	}
	switch res.Outcome {
	case agent.OK, agent.Interrupted, agent.TimeoutInterrupted, agent.TimeoutRestarted,
		agent.KernelDied:
		return string(res.Outcome)
	}
	return string(agent.Failed)
}

// tell lets observers know that code has run.
func (c *call) tell(id sandpool.SandboxID, outcome string, took time.Duration) {
	c.s.o.Events.Observe(event.Event{Name: event.ExecutionEnded, Pool: c.pool.ID, Sandbox: id,
		By: c.who.Subject, Outcome: outcome, Took: took})
}
