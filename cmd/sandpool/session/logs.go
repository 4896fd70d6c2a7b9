package session

import (
	"context"
	"fmt"
	"io"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// logsCmd is "sandpool session logs".
type logsCmd struct {
	Session console.SessionName `aliases:"identifier" xor:"what" required:"" help:"Identifier of the session (also --identifier)." placeholder:"NAME"`
	Sandbox string              `xor:"what" required:"" help:"Sandbox of the pool to read instead, by its id in events; it need not have a session." placeholder:"ID"`
	console.PoolFlag
	Follow     bool `short:"f" help:"Keep printing what is written, until the sandbox ends."`
	Tail       int  `default:"-1" help:"Begin with the last N lines; by default with all that are kept." placeholder:"N"`
	Timestamps bool `short:"t" help:"Begin lines with their time."`
}

// Run writes what a session's sandbox wrote: its standard output to ours, its standard error to
// ours.
func (c *logsCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	out := &writer{a: a, times: c.Timestamps}
	logs := client.Logs{Follow: c.Follow, Sandbox: c.Sandbox}
	if c.Tail >= 0 {
		if logs.After, err = c.tail(ctx, cl, out); err != nil || !c.Follow {
			return err
		}
	}
	return cl.SessionLogs(ctx, c.Pool, string(c.Session), logs, out.write)
}

// tail writes the last lines that there are, and returns where what follows them begins.
func (c *logsCmd) tail(ctx context.Context, cl *client.Client, out *writer) (after string,
	err error) {
	var last []api.LogLine
	err = cl.SessionLogs(ctx, c.Pool, string(c.Session), client.Logs{Sandbox: c.Sandbox},
		func(l api.LogLine) error {
			after = l.Next
			if last = append(last, l); len(last) > c.Tail {
				last = last[1:]
			}
			return nil
		})
	for _, l := range last {
		if err == nil {
			err = out.write(l)
		}
	}
	return after, err
}

// writer writes lines of a log.
type writer struct {
	a      *console.App
	times  bool
	middle map[string]bool // streams whose last line was a part
}

func (w *writer) write(l api.LogLine) error {
	if w.a.JSON() {
		return w.a.PrintJSONLine(l)
	}
	if w.middle == nil {
		w.middle = map[string]bool{}
	}
	to := w.a.Stdout
	if l.Stream == "stderr" {
		to = w.a.Stderr
	}
	text := console.PrintableText(l.Text)
	if w.times && !w.middle[l.Stream] {
		text = console.Printable(l.Time) + " " + text
	}
	if w.middle[l.Stream] = l.Part; !l.Part {
		text += "\n"
	}
	if _, err := io.WriteString(to, text); err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	return nil
}
