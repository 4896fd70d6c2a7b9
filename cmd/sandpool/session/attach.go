package session

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

type attachCmd struct {
	Name string `arg:"" optional:"" default:"main" help:"Terminal of the session, opened if it is not there."`
	console.SessionFlag
	console.PoolFlag
	End bool `help:"End the terminal, with all that runs in it, instead of attaching."`
}

// Help says how to leave.
func (attachCmd) Help() string {
	return "Opens a shell in the session, or joins the one that is open by the same name. " +
		"Ctrl-] leaves, and the shell goes on; exit ends it. A connection that breaks is made again. " +
		"The exit code is the shell's, and 0 after Ctrl-]."
}

const (
	leaveKey = 0x1d // Ctrl-]
	// againFor is how long a broken connection is tried to be made again.
	againFor   = 30 * time.Second
	againPause = 500 * time.Millisecond
)

// errLeft is why a view ends that the user has left.
var errLeft = errors.New("left")

// Run attaches the user's terminal to one in the session.
func (c *attachCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	if c.End {
		return cl.EndTerminal(ctx, c.Pool, string(c.Session), c.Name)
	}
	in, ok := a.Stdin.(*os.File)
	if !ok {
		return console.UsageError("attach needs an input that can be read")
	}
	v := &view{cmd: c, app: a, cl: cl, in: int(in.Fd())}
	if term.IsTerminal(v.in) {
		state, err := term.MakeRaw(v.in)
		if err != nil {
			return err
		}
		defer func() { _ = term.Restore(v.in, state) }()
		a.Say("attached to %s; Ctrl-] leaves\r", c.Name)
	}
	return v.run(ctx, in)
}

// view is the user's terminal on one of the session.
type view struct {
	cmd *attachCmd
	app *console.App
	cl  *client.Client
	in  int // the descriptor of the user's terminal
	now atomic.Pointer[client.Terminal]
}

// run views the terminal until its shell ends or the user leaves.
func (v *view) run(ctx context.Context, in io.Reader) error {
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	go func() {
		for range resized {
			if t := v.now.Load(); t != nil {
				_ = t.Resize(v.size()) // a connection that is lost is told its size when it is made
			}
		}
	}()
	typing := false
	lost := time.Time{}
	for {
		if !lost.IsZero() { // a terminal that is lost at once is not asked for without a pause
			select {
			case <-time.After(againPause):
			case <-ctx.Done():
			}
		}
		columns, rows := v.size()
		t, err := v.cl.Terminal(ctx, v.cmd.Pool, string(v.cmd.Session), v.cmd.Name, columns, rows)
		switch {
		case errors.Is(context.Cause(ctx), errLeft):
			return nil
		case err != nil && (lost.IsZero() || sandpool.ClassOf(err) != sandpool.Unavailable ||
			time.Since(lost) > againFor):
			return err
		case err != nil:
			continue
		}
		if !lost.IsZero() {
			_, _ = io.WriteString(v.app.Stdout, "\x1b[H\x1b[2J") // what was written last comes again
		}
		v.now.Store(t)
		if !typing {
			typing = true
			go v.typeIn(in, leave)
		}
		stop := context.AfterFunc(ctx, func() { _ = t.Close() })
		_, err = io.Copy(v.app.Stdout, t)
		stop()
		_ = t.Close()
		switch {
		case errors.Is(context.Cause(ctx), errLeft):
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			return ended(t.Exit())
		}
		lost = time.Now()
	}
}

// ended is the exit code of a shell as that of the command.
func ended(code, signal int) error {
	if signal != 0 {
		code = 128 + signal
	}
	if code == 0 {
		return nil
	}
	return console.ExitError(code)
}

// typeIn carries what the user types until that ends, or has the key that leaves in it.
func (v *view) typeIn(in io.Reader, leave context.CancelCauseFunc) {
	raw := term.IsTerminal(v.in)
	buf := make([]byte, 4096)
	for {
		n, err := in.Read(buf)
		for i, b := range buf[:n] {
			if raw && b == leaveKey {
				v.send(buf[:i])
				leave(errLeft)
				return
			}
		}
		v.send(buf[:n])
		if err != nil {
			return // a script's input is at its end; the shell goes on until it says exit
		}
	}
}

// send types; what is typed while the connection is lost is lost too.
func (v *view) send(p []byte) {
	if t := v.now.Load(); t != nil && len(p) > 0 {
		_, _ = t.Write(p)
	}
}

func (v *view) size() (columns, rows int) {
	columns, rows, err := term.GetSize(v.in)
	if err != nil || columns < 1 || rows < 1 {
		return 80, 24
	}
	return min(columns, 1000), min(rows, 1000)
}
