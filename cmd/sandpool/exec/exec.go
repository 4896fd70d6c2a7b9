// Package exec is the command exec: where code comes from, the session that it runs in, and how
// its output, its figures and its end reach the terminal.
package exec

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// maxSource bounds the code that exec reads from a file or from stdin.
const maxSource = 64 << 20

// Cmd runs code. Where the code comes from is decided by this rule, first
// match wins:
//
//  1. -c CODE: CODE, and no argument beside it; or --file FILE: that file's content.
//  2. No argument, or "-": stdin, if that is not a terminal.
//  3. The argument names something that exists: that file's content.
//  4. The argument looks like a file's name (one word that ends in .py, .ipy,
//     .js, .mjs, .cjs, .ts or .sh, or has a slash and letters): an error, because somebody
//     mistyped it.
//  5. Otherwise the argument is the code.
type Cmd struct {
	Source      string              `arg:"" optional:"" help:"File to run, '-' for stdin, or the code itself if there is no such file and it does not look like a file's name."`
	Code        *string             `short:"c" help:"Code to run; in a Shell pool, a command." placeholder:"CODE"`
	File        string              `short:"f" help:"File to run, whatever its name." placeholder:"FILE"`
	Session     console.SessionName `aliases:"identifier" help:"Session to run in (also --identifier), 4 to 128 characters. Without it the code runs in a session of its own that is deleted afterwards." placeholder:"NAME"`
	Interactive bool                `short:"i" help:"Run cell by cell what is typed, after the code if there is any, and show output while it comes. Without a terminal, stdin is one cell."`
	Keep        bool                `help:"Keep the session that exec made for itself."`
	Timeout     time.Duration       `help:"Longest run, in seconds or such as 30s. Without it the server's default." placeholder:"DURATION"`
	Context     string              `help:"Context of the session to run in: a kernel of its own that shares the files." placeholder:"NAME"`
	Kernel      string              `help:"Kernel of the context, which is made unless it is there: python, node, shell or another that the image has." placeholder:"KERNEL"`
	Env         map[string]string   `help:"Variable for the run alone; repeat it for more." placeholder:"NAME=VALUE" mapsep:"none"`
	Workdir     string              `help:"Working directory for the run alone, below /mnt/data unless absolute." placeholder:"DIR"`
	Figures     string              `help:"Directory for figures, made if it is missing." default:"." placeholder:"DIR"`
	console.PoolFlag
}

// Help documents the rule in the command's help.
func (Cmd) Help() string {
	return "The code is Python, JavaScript or shell commands: whatever the pool runs. " +
		"It is CODE of -c, or the content of --file; else, without an argument or with '-', " +
		"stdin; else the file that the argument names; " +
		"else, unless the argument is one word that looks like a file's name, the argument " +
		"itself.\n\n" +
		"stdout and stderr of the code go to stdout and stderr, then the text of what it " +
		"displayed " +
		"and the value of its last expression to stdout. " +
		"Figures are saved as figure-1.png and so on, never over a file that exists, and named " +
		"on stderr. " +
		"A terminal gets text and colours of what a session prints, and no other escape " +
		"sequence.\n\n" +
		"With -i cells are typed, in the pool's language or that of --kernel: a cell ends when no " +
		"bracket, quote or block is open, a block of Python at an empty line, and what is " +
		"pasted is one cell. Terminals that can (kitty, iTerm2, sixel) show figures. Ctrl-C " +
		"interrupts a cell, again cancels it; Ctrl-D ends.\n\n" +
		"The exit code is 1 if the code failed; code that ends with sys.exit(N) sets it to N, " +
		"and a shell command sets it to the command's own."
}

// Output is the result of exec as JSON.
type Output struct {
	Pool    string `json:"pool"`
	Session string `json:"session"`
	Kept    bool   `json:"kept"` // the session still exists
	Status  string `json:"status"`
	Stdout  string `json:"stdout"`
	Stderr  string `json:"stderr"`
	// Result is the value of the last expression; "" means it has none.
	Result json.RawMessage `json:"result"`
	// ExitCode is that of a command of a Shell pool.
	ExitCode     *int  `json:"exitCode,omitempty"`
	Milliseconds int64 `json:"executionTimeInMilliseconds"`
	api.ExecutionExtras
	// Figures are the names of the files that figures were saved to. Their
	// bytes are in no other field.
	Figures []string `json:"figures"`
}

// Run runs the code and prints what came of it.
func (c *Cmd) Run(ctx context.Context, a *console.App) error {
	if c.Timeout < 0 {
		return console.UsageError("--timeout is negative")
	}
	if c.Keep && c.Session != "" {
		return console.UsageError("--keep belongs to a session that exec makes for itself; one " +
			"named by --session is always kept")
	}
	if c.Interactive {
		return c.interact(ctx, a)
	}
	code, err := c.source(ctx, a.Stdin)
	if err != nil {
		return err
	}
	cl, err := a.Client()
	if err != nil {
		return err
	}
	// Code may have run for an hour when its figures are saved.
	if err := os.MkdirAll(c.Figures, 0o777); err != nil {
		return console.UsageError("--figures: " + err.Error())
	}
	session, own := string(c.Session), c.Session == ""
	if own {
		session = NewIdentifier()
	}
	e, err := cl.Execute(ctx, c.Pool, session, client.Run{Code: code, Timeout: c.Timeout,
		Context: c.Context, Kernel: c.Kernel, Env: c.Env, Dir: c.Workdir})
	if own {
		c.endOwn(ctx, a, cl, session, err == nil && !sessionEnded(e.Result))
	}
	if err != nil {
		return err
	}
	return c.print(a, e, session)
}

// harmless is a with streams that show on a terminal what the session says, and end what ends
// their lines.
func harmless(a *console.App) (shown *console.App, end func() error) {
	out, errs := console.NewHarmless(a.Stdout), console.NewHarmless(a.Stderr)
	return &console.App{Globals: a.Globals, Stdin: a.Stdin, Stdout: out, Stderr: errs},
		func() error { return errors.Join(out.EndLine(), errs.EndLine()) }
}

// endOwn deletes the session that exec made for itself, or says how to go on in
// it. Unless alive, nothing came of the session, and there is nothing to say of it.
func (c *Cmd) endOwn(ctx context.Context, a *console.App, cl *client.Client, session string,
	alive bool) {
	if c.Keep && alive {
		a.Say("session %s is kept; go on with --session %s", session, session)
		return
	}
	// Deleted also when the user pressed Ctrl-C: that is what ends the code.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	err := cl.DeleteSession(ctx, c.Pool, session)
	if alive && err != nil && sandpool.ClassOf(err) != sandpool.NotFound {
		a.Say("session %s was not deleted and ends with the pool's cooldown: %v", session, err)
	} else if alive && !a.JSON() {
		a.Say("ran in a session of its own, deleted now; --session NAME or --keep keeps " +
			"variables and files")
	}
}

// source applies the rule of Cmd.
func (c *Cmd) source(ctx context.Context, stdin io.Reader) (string, error) {
	switch {
	case c.Code != nil && c.Source+c.File != "", c.Source != "" && c.File != "":
		return "", console.UsageError(
			"give the code with -c, with --file or as an argument, and once")
	case c.Code != nil && *c.Code == "":
		return "", console.UsageError("the code of -c is empty")
	case c.Code != nil:
		return *c.Code, nil
	case c.File != "":
		f, err := os.Open(c.File)
		if err != nil {
			return "", console.UsageError("--file: " + err.Error())
		}
		defer f.Close()
		return readSource(c.File, f)
	case c.Source == "" || c.Source == "-":
		if f, ok := stdin.(*os.File); ok && c.Source == "" && term.IsTerminal(int(f.Fd())) {
			return "", console.UsageError(
				"no code: give a file, -c CODE, the code itself, or pipe it in\n" +
					"for example: sandpool exec 'print(6*7)'; -i runs what is typed")
		}
		return readSource("stdin", console.Interruptible(ctx, stdin))
	}
	f, err := os.Open(c.Source)
	switch {
	case err == nil:
		defer f.Close()
		return readSource(c.Source, f)
	case looksLikeFile(c.Source):
		return "", console.UsageError(fmt.Sprintf(
			"there is no file %q; to run that text as code, use -c", c.Source))
	case errors.Is(err, fs.ErrPermission):
		return "", console.UsageError(err.Error())
	}
	return c.Source, nil
}

// looksLikeFile reports whether text that names no file was meant to name one. A
// slash between numbers is a division.
func looksLikeFile(s string) bool {
	if strings.ContainsAny(s, " \t\n\"'()=") {
		return false
	}
	ends := func(suffix string) bool { return strings.HasSuffix(s, suffix) }
	return slices.ContainsFunc([]string{".py", ".ipy", ".js", ".mjs", ".cjs", ".ts", ".sh"},
		ends) ||
		strings.Contains(s, "/") && strings.ContainsFunc(s, unicode.IsLetter)
}

func readSource(name string, r io.Reader) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSource+1))
	if err != nil {
		return "", fmt.Errorf("read code from %q: %w", name, err)
	}
	if len(data) > maxSource {
		return "", console.UsageError(fmt.Sprintf("the code in %q is over %s", name,
			console.Bytes(maxSource)))
	}
	return string(data), nil
}

// thrownAway reports whether the session ends with the command.
func (c *Cmd) thrownAway() bool { return c.Session == "" && !c.Keep }

// print shows what came of the code, on both streams or as JSON. Figures that
// cannot be saved do not keep the rest from being shown.
func (c *Cmd) print(a *console.App, e client.Execution, session string) error {
	a, end := harmless(a)
	result, images := splitResult(e.Result)
	saved, unsaved := saveFigures(c.Figures, images)
	for _, name := range saved {
		a.Say("saved %s", name)
	}
	var err error
	if a.JSON() {
		r := e.Result
		extras := r.ExecutionExtras
		extras.Images = nil
		err = a.PrintJSON(Output{Pool: c.Pool, Session: session, Kept: !c.thrownAway() &&
			!sessionEnded(r), Status: e.Status,
			Stdout: r.Stdout, Stderr: r.Stderr, Result: result, ExitCode: e.ExitCode,
			Milliseconds: r.Milliseconds, ExecutionExtras: extras, Figures: saved})
	} else {
		err = printStreams(a, e, result, c.thrownAway())
	}
	if err := errors.Join(err, end(), unsaved); err != nil {
		return err
	}
	if code := exitCode(e); code != console.ExitDone {
		return console.ExitError(code)
	}
	return nil
}

// NewIdentifier returns an identifier that nobody can guess.
func NewIdentifier() string { return "exec-" + strings.ToLower(rand.Text()) }
