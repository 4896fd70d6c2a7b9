package gvisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pattern"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/probe"
)

var errStopped = errors.New("the sandbox was stopped while it started")

// validID is what an ID may look like: it becomes a path element, a cgroup's
// name and an argument.
var validID = pattern.Lazy(`^[a-z0-9][a-z0-9-]*$`)

func checkID(id sandbox.ID) error {
	if len(id) > 63 || !validID().MatchString(string(id)) {
		return sandpool.Errorf(sandpool.Invalid, "InvalidSandboxID", "id",
			"The sandbox id %q must be 1 to 63 lower-case letters, digits and dashes, and not begin with a dash.", id)
	}
	return nil
}

// Start implements sandbox.Runtime.
func (e *Engine) Start(ctx context.Context, id sandbox.ID,
	p sandbox.Prepared) (sandbox.Handle, error) {
	own, ok := p.Engine.(*prepared)
	if !ok {
		return sandbox.Handle{}, invalid("prepared",
			"The template %q was not prepared by this engine; call Prepare first.", p.Key)
	}
	if err := e.checkNetwork(p.Template.Network); err != nil {
		return sandbox.Handle{}, err
	}
	own, err := own.with(p.Template.OwnEnv)
	if err != nil {
		return sandbox.Handle{}, err
	}
	watch := sandbox.NewStopwatch()
	if err := e.launch(ctx, id, own, p.Template.Network, watch); err != nil {
		return sandbox.Handle{}, err
	}
	if b := e.process(id); b != nil && p.Template.Channel && p.Template.Limits.CPU <= 1 {
		go e.bind(b)
	}
	h, err := newHandle(id, own)
	h.Steps = watch.Steps()
	return h, err
}

// times are how long the start of a sandbox of p may take, and how much of that its first process
// may take until it is ready. What the machine needs to get a process running is not counted
// against it.
func (e *Engine) times(p *prepared) (whole, ready time.Duration) {
	if p.snapshot != "" {
		return e.cfg.StartTimeout, e.cfg.StartTimeout
	}
	ready = p.template.BootTimeout()
	return e.cfg.StartTimeout + ready, ready
}

// launch starts a sandbox from a snapshot, or from nothing, and returns when
// it is ready. After an error nothing of it is left.
func (e *Engine) launch(ctx context.Context, id sandbox.ID, p *prepared,
	network sandpool.Network, watch *sandbox.Stopwatch) error {
	if err := checkID(id); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	release, err := e.ids.Take(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	whole, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	e.setStarting(id, func() { cut(errStopped) })
	defer e.setStarting(id, nil)
	timeout, _ := e.times(p)
	ctx, cancel := context.WithTimeoutCause(whole, timeout, notReady(id, timeout))
	defer cancel()

	if exists, err := e.exists(id); err != nil || exists {
		if err != nil {
			return err
		}
		return sandpool.Errorf(sandpool.Conflict, "SandboxExists", "id",
			"The sandbox %q exists already.", id)
	}
	var said *os.File
	if p.snapshot == "" && !p.template.Logs {
		if said, err = console(); err != nil {
			return err
		}
		defer said.Close()
	}
	if err := e.build(ctx, id, p, network, said, watch); err != nil {
		err = e.explain(ctx, id, p.template, err)
		e.endUnready(whole, id, p)
		text := tail(said, consoleSize)
		if p.template.Logs {
			text = e.lastWords(ctx, id, p.template)
		}
		return errors.Join(saying(err, text, p.template.Logs), e.demolish(ctx, id))
	}
	return nil
}

func notReady(id sandbox.ID, after time.Duration) error {
	return fmt.Errorf("the sandbox %q is not ready after %v", id, after)
}

// unreadyGrace is the longest time that a first process has to end after it did not become ready: a
// start that fails holds up others.
const unreadyGrace = 10 * time.Second

// endUnready asks the first process of a start that failed to end, and waits as long as its
// template grants, up to unreadyGrace. It does nothing after a start that was stopped, whose ctx
// has ended.
func (e *Engine) endUnready(ctx context.Context, id sandbox.ID, p *prepared) {
	b := e.process(id)
	if b == nil || ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, unreadyGrace)
	defer cancel()
	if h, err := newHandle(id, p); err == nil {
		e.askToEnd(ctx, b, h)
	}
}

// saying adds to err what the first process wrote. If that is kept for the template's owner, so is
// this.
func saying(err error, text string, owner bool) error {
	var known *sandpool.Error
	said := err
	if owner && errors.As(err, &known) && error(known) == err && known.Err != nil {
		said = known.Err // the sentence is said already
	}
	if text != "" {
		said = fmt.Errorf("%w; its first process said: %s", said, text)
	}
	if known == nil {
		return said
	}
	return sandbox.Saying(known, text, said)
}

// deathWait is how long a process takes at most from closing its sockets to its end.
const deathWait = time.Second

// explain adds to the error of a start what became of the process: a request
// that was cut off does not say why.
func (e *Engine) explain(ctx context.Context, id sandbox.ID, t sandbox.Template, err error) error {
	b := e.process(id)
	if b == nil || ctx.Err() != nil {
		return err
	}
	timer := time.NewTimer(deathWait)
	defer timer.Stop()
	select {
	case <-b.done:
	case <-timer.C:
		return err
	}
	if b.exit.Reason == sandbox.OutOfMemory {
		return broken(err, "SandboxOutOfMemory",
			"The sandbox needs more than its memory limit of %d MiB to start.", t.Limits.Memory>>20)
	}
	if report := e.crashReport(id); report != "" {
		return fmt.Errorf("%w; the sandbox process said: %s", err, report)
	}
	return err
}

func (e *Engine) setStarting(id sandbox.ID, cut func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if cut == nil {
		delete(e.starting, id)
		return
	}
	e.starting[id] = cut
}

// exists reports whether the host has anything of id.
func (e *Engine) exists(id sandbox.ID) (bool, error) {
	if _, err := os.Lstat(e.dir(id)); err == nil {
		return true, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	return e.cgroups.Exists(id)
}

// build takes the steps of a start, each of which demolish can undo.
func (e *Engine) build(ctx context.Context, id sandbox.ID, p *prepared, network sandpool.Network,
	console *os.File, watch *sandbox.Stopwatch) error {
	if err := os.Mkdir(e.dir(id), 0o700); err != nil {
		return fmt.Errorf("make the sandbox's directory: %w", err)
	}
	if err := e.cgroups.Create(id, p.template.Limits); err != nil {
		return err
	}
	s, err := e.spawn(id, p, console)
	if err != nil {
		return err
	}
	if p.template.Logs {
		if err := e.logs.Collect(id, e.dir(id)); err != nil {
			return errors.Join(err, s.ready.Close())
		}
	}
	watch.Lap("spawn")
	b, err := e.watch(id, s.pid, s.pidfd, s.channel, false)
	if err != nil {
		return errors.Join(err, s.ready.Close())
	}
	if err := s.wait(ctx); err != nil {
		return err
	}
	watch.Lap("boot")
	if err := preferToKill(s.pid); err != nil {
		return err
	}
	if err := e.setNetwork(ctx, b, network, p.snapshot != ""); err != nil {
		return err
	}
	if p.snapshot != "" {
		err = e.restore(ctx, id, p.snapshot)
	} else {
		err = notRun(e.run(ctx, id), p.template)
	}
	if err != nil {
		return err
	}
	watch.Lap("fill")
	if err := e.awaitReady(ctx, b, p); err != nil {
		return err
	}
	watch.Lap("ready")
	if err := s.calm(); err != nil {
		e.log.Debug("the sandbox process keeps an eager monitor thread", "sandbox",
			id, "error", err)
	}
	e.log.Debug("sandbox started", "sandbox", id, "restored", p.snapshot != "",
		inLog(watch.Steps()))
	// Until here only the template's own programs have run. They get what the
	// machine has: a restore under a limit of a quarter of a core takes seconds.
	if err := e.cgroups.LimitCPU(id, p.template.Limits.CPU); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(e.dir(id), startedName), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// Times between two attempts of a readiness check; the probe's own period may be shorter.
const (
	firstCheckWait = 2 * time.Millisecond
	lastCheckWait  = 100 * time.Millisecond
)

// awaitReady asks the sandbox until its probe passes, it ends or ctx does.
func (e *Engine) awaitReady(ctx context.Context, b *process, p *prepared) error {
	_, timeout := e.times(p)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, notReady(b.id, timeout))
	defer cancel()
	check := p.template.Ready.WithDefaults()
	asker := probe.New(check,
		func(ctx context.Context, port int) (net.Conn, error) { return e.dial(ctx, b.id, port) },
		func(ctx context.Context, args []string) error { return e.check(ctx, b, p, args) })
	defer asker.Close()
	wait, passes := check.Delay, 0
	if p.snapshot != "" {
		wait = 0 // the snapshot was taken after it
	}
	next := firstCheckWait
	var last error
	for {
		select {
		case <-b.done:
			err := fmt.Errorf("before it was ready: %w", ended(b.id, b.exit))
			if b.exit.Reason != sandbox.Exited {
				return err
			}
			return broken(err, "SandboxExited",
				"Its first process exited with code %d before it was ready.", b.exit.Code)
		case <-ctx.Done():
			err := fmt.Errorf("%w; its last readiness check: %w", context.Cause(ctx), last)
			if context.Cause(ctx) == errStopped || errors.Is(context.Cause(ctx), context.Canceled) {
				return err
			}
			return broken(err, "SandboxNotReady",
				"It did not pass its readiness check in time. The last attempt: %.300s.",
				attempt(last, check))
		case <-time.After(wait):
		}
		switch err := asker.Once(ctx); {
		case err == nil:
			if passes++; passes >= check.Successes {
				return nil
			}
		case last == nil || ctx.Err() == nil: // one that was cut off says nothing of the sandbox
			passes, last = 0, err
		}
		wait, next = next, min(2*next, lastCheckWait, check.Period)
	}
}

// attempt says how the last attempt of a check ended, without the words of the engine's own calls.
func attempt(err error, check sandpool.Probe) string {
	if err == nil {
		return "none was made"
	}
	if strings.HasSuffix(err.Error(), "connection was refused") {
		return fmt.Sprintf("nothing listens at port %d", max(check.HTTP.Port, check.TCP.Port))
	}
	return err.Error()
}

// notRun tells apart the faults of a template whose command cannot be run, or whose root is no
// place to run it. gVisor has no class for them.
func notRun(err error, t sandbox.Template) error {
	if err == nil {
		return nil
	}
	const place = "creating process: "
	if i := strings.LastIndex(err.Error(), place); i >= 0 {
		return broken(err, "SandboxCommandFailed", "Its command %.200q cannot be run: %.300s.",
			t.Args[0], err.Error()[i+len(place):])
	}
	for _, step := range []string{"create process working directory ", "creating mount point "} {
		if _, why, ok := strings.Cut(err.Error(), step); ok {
			return broken(err, "SandboxRootUnusable",
				"Its image has something else where a directory must be: %.300s.", why)
		}
	}
	return err
}

// broken is the error of a template that does not do what it promises, in words for its owner.
func broken(err error, code, format string, args ...any) error {
	known := sandpool.Errorf(sandpool.Invalid, code, "template", format, args...)
	known.Err = err
	return known
}

// check runs a program that says by its exit code whether the sandbox is ready.
func (e *Engine) check(ctx context.Context, b *process, p *prepared, args []string) error {
	who := handle{UID: p.user.UID, GID: p.user.GID, Groups: p.user.Groups}
	got, err := e.exec(ctx, b, who, sandbox.Program{Args: args, Env: p.environment(),
		Dir: p.template.Dir})
	if err == nil && got.Code != 0 {
		err = fmt.Errorf("%.120q exits with %d: %s", args[0], got.Code, got.Output)
	}
	return err
}

// inLog is what steps took, for the log.
func inLog(steps []sandpool.Step) slog.Attr {
	attrs := make([]any, len(steps))
	for i, s := range steps {
		attrs[i] = slog.Duration(s.Name, s.Took)
	}
	return slog.Group("took", attrs...)
}
