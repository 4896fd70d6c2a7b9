package exec

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// repl runs cells in one session, and shows what comes of them while they run.
type repl struct {
	cmd     *Cmd
	cl      *client.Client
	session string
	app     *console.App // its streams take what comes from the session
	end     func() error // of what they show
	// picture is where figures are shown, by graphics.
	picture  io.Writer
	graphics graphics
	keys     *keys // nil without a terminal
	// begun says that something was asked of the session, alive that it is there, exited that the
	// code has said that it is done.
	begun, alive, exited bool
	// sandbox is where the last cell ran.
	sandbox string
	// running says that the cell does not wait for another one, which is not ours to interrupt.
	running atomic.Bool
}

// interact runs the code that there is, and then what is typed, if somebody can.
func (c *Cmd) interact(ctx context.Context, a *console.App) error {
	if a.JSON() {
		return console.UsageError("--interactive shows text; --output json belongs to a single run")
	}
	in, ok := a.Stdin.(*os.File)
	typed := ok && console.IsTerminal(in)
	code, given := "", c.Code != nil || c.File != "" || c.Source != "" || !typed
	if given {
		var err error
		if code, err = c.source(ctx, a.Stdin); err != nil {
			return err
		}
	}
	cl, err := a.Client()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Figures, 0o777); err != nil {
		return console.UsageError("--figures: " + err.Error())
	}
	r := &repl{cmd: c, cl: cl, session: string(c.Session), picture: a.Stdout}
	r.app, r.end = harmless(a)
	if console.IsTerminal(a.Stdout) {
		r.graphics = graphicsOf(os.Getenv)
	}
	if c.Session == "" {
		r.session = NewIdentifier()
		defer func() {
			if r.begun {
				c.endOwn(ctx, a, cl, r.session, r.alive)
			}
		}()
	}
	if !typed {
		return r.run(ctx, code)
	}
	return r.converse(ctx, in, echoOf(a, in), code)
}

// converse runs code, unless it is "", and then what is typed until that ends.
func (r *repl) converse(ctx context.Context, in *os.File, echo io.Writer, code string) error {
	kernel, err := r.kernel(ctx)
	if err != nil {
		return err
	}
	lang := languageOf(console.Printable(kernel))
	past, err := openHistory(lang.name)
	if err != nil {
		r.app.Say("what is typed is not remembered: %v", err)
	}
	r.app.Say("%s in session %s of pool %s; Ctrl-C interrupts, Ctrl-D ends", lang.name, r.session,
		r.cmd.Pool)
	k, editor, restore, err := openTerminal(ctx, in, echo)
	if err != nil {
		return err
	}
	defer restore()
	r.keys = k
	if name := os.Getenv("TERM"); r.graphics == nil && name != "" && name != "dumb" &&
		console.IsTerminal(r.picture) {
		if _, err := io.WriteString(echo, askFeatures); err != nil {
			return err
		}
	}
	editor.History = past
	editor.AutoCompleteCallback = indent
	for {
		err := r.run(ctx, code)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case r.exited:
			return err
		}
		r.app.Report(err) // of a cell that failed, all is said
		code, err = r.cell(editor, lang)
		switch {
		case errors.Is(err, io.EOF):
			_, _ = io.WriteString(echo, "\n")
			return nil
		case strings.TrimSpace(code) == lang.end:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// kernel is what runs the code.
func (r *repl) kernel(ctx context.Context) (string, error) {
	if r.cmd.Kernel != "" {
		return r.cmd.Kernel, nil
	}
	if r.cmd.Session != "" {
		// A session that is not there yet has the pool's kernel, and what else is wrong, the next
		// call meets as well.
		list, _ := r.cl.Contexts(ctx, r.cmd.Pool, r.session)
		for _, c := range list {
			if c.Name == r.context() {
				return c.Kernel, nil
			}
		}
	}
	m, err := r.cl.Metadata(ctx, r.cmd.Pool)
	if err != nil {
		return "", err
	}
	switch m.JupyterKernel.Name {
	case "ipython":
		return "python", nil
	case "bash":
		return "shell", nil
	}
	return m.JupyterKernel.Name, nil
}

// context is where the cells run.
func (r *repl) context() string {
	switch {
	case r.cmd.Context != "":
		return r.cmd.Context
	case r.cmd.Kernel != "":
		return r.cmd.Kernel
	}
	return "default"
}

// indent makes four blanks of a tab.
func indent(line string, pos int, key rune) (string, int, bool) {
	const blanks = "    "
	if key != '\t' {
		return "", 0, false
	}
	return line[:pos] + blanks + line[pos:], pos + len(blanks), true
}

// cell reads a cell. What is pasted is one, which ends with what is typed after it.
func (r *repl) cell(editor *term.Terminal, lang language) (string, error) {
	text := ""
	for {
		editor.SetPrompt(lang.prompt)
		if text != "" {
			editor.SetPrompt(lang.more)
		}
		line, err := editor.ReadLine()
		pasted := errors.Is(err, term.ErrPasteIndicator)
		switch {
		case err != nil && !pasted:
			return "", err
		case line == "" && r.keys.wasCleared():
			text = ""
			continue
		case strings.TrimSpace(text+line) == "":
			continue
		}
		if text += line + "\n"; !pasted && !lang.open(text) {
			return text, nil
		}
	}
}

// run runs code, and returns a console.ExitError if that failed.
func (r *repl) run(ctx context.Context, code string) error {
	if code == "" && r.keys != nil {
		return nil
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	r.running.Store(false)
	stopped := r.interruptible(inner, cancel)
	r.begun = true
	c, err := r.cmd, error(nil)
	var ended *api.Execution
	for e, failed := range r.cl.Stream(inner, c.Pool, r.session, client.Run{Code: code,
		Timeout: c.Timeout, Context: c.Context, Kernel: c.Kernel, Env: c.Env, Dir: c.Workdir}) {
		if err = failed; err != nil {
			break
		}
		r.alive = true
		if x, ok := e.Execution.(api.Execution); ok {
			ended = &x
			continue
		}
		if err = r.show(e); err != nil {
			break
		}
	}
	stopped()
	switch {
	case ctx.Err() == nil && inner.Err() != nil && err != nil:
		r.app.Say("canceled")
		err = console.ExitError(console.ExitNegative)
	case err == nil && ended != nil:
		err = r.result(client.Execution{Execution: *ended})
	}
	return errors.Join(r.end(), err)
}

// interruptible has Ctrl-C interrupt what runs, and cancel what does not end by that. The function
// that it returns waits until no interrupt can come any more, which the next cell would get.
func (r *repl) interruptible(ctx context.Context, cancel func()) (stopped func()) {
	if r.keys == nil {
		return func() {}
	}
	var calls sync.WaitGroup
	presses := 0
	r.keys.during(func() {
		if presses++; presses > 1 {
			cancel()
			return
		}
		if !r.running.Load() {
			cancel()
			return
		}
		calls.Go(func() {
			bound, stop := context.WithTimeout(ctx, 10*time.Second)
			defer stop()
			if r.cl.InterruptContext(bound, r.cmd.Pool, r.session, r.context()) != nil {
				cancel()
			}
		})
	})
	return func() {
		r.keys.during(nil)
		calls.Wait()
	}
}

// show shows what happens in a cell.
func (r *repl) show(e api.ExecutionEvent) error {
	var err error
	switch e.Type {
	case api.EventStatus:
		r.running.Store(e.Status == api.StatusRunning)
	case api.EventStdout:
		_, err = io.WriteString(r.app.Stdout, e.Text)
	case api.EventStderr:
		_, err = io.WriteString(r.app.Stderr, e.Text)
	case api.EventDisplay:
		if img, ok := imageOf(e.Data); ok {
			return r.figures([]api.Image{img})
		}
		if text := e.Data["text/plain"]; text != "" {
			_, err = io.WriteString(r.app.Stdout, addLine("", text))
		}
	case api.EventClear:
		// What was printed before stays, as in a log.
	}
	return err
}

// figures shows figures where the terminal can, and saves those that it cannot show.
func (r *repl) figures(images []api.Image) error {
	var unshown []api.Image
	for _, img := range images {
		if err := r.end(); err != nil {
			return err
		}
		if r.graphics == nil && r.keys != nil && r.keys.sixels() {
			r.graphics = showSixel
		}
		if r.graphics.show(r.picture, img) != nil {
			unshown = append(unshown, img)
		}
	}
	saved, err := saveFigures(r.cmd.Figures, unshown)
	for _, name := range saved {
		r.app.Say("saved %s", name)
	}
	if err != nil {
		r.app.Say("%v", err)
	}
	return nil
}

// result shows how a cell ended, apart from what was shown before.
func (r *repl) result(e client.Execution) error {
	if err := r.end(); err != nil {
		return err
	}
	if r.sandbox != "" && e.SessionID != "" && e.SessionID != r.sandbox {
		r.app.Say("the session had ended, and this cell began it anew: variables and files of " +
			"before are gone")
	}
	r.sandbox = e.SessionID
	value, images := splitResult(e.Result)
	if err := printStreams(r.app, e, value, r.keys == nil && r.cmd.thrownAway()); err != nil {
		return err
	}
	if sessionEnded(e.Result) {
		r.alive = false
	}
	if err := r.figures(images); err != nil {
		return err
	}
	r.exited = e.Result.ErrorName == "SystemExit"
	if code := exitCode(e); code != console.ExitDone {
		return console.ExitError(code)
	}
	return nil
}
