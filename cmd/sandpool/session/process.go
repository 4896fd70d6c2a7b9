package session

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// processCmd groups the commands of background processes.
type processCmd struct {
	Start  startProcessCmd  `cmd:"" help:"Start a process that goes on in the background."`
	List   listProcessesCmd `cmd:"" help:"List the background processes of a session."`
	Logs   processLogsCmd   `cmd:"" help:"Show what a background process has put out lately."`
	Wait   waitProcessCmd   `cmd:"" help:"Wait for the end of a background process, and exit with its code."`
	Signal signalProcessCmd `cmd:"" help:"Send a signal to a background process and its group."`
	Delete deleteProcessCmd `cmd:"" help:"End a background process with all that it has started, and forget it."`
}

// processName names one process.
type processName struct {
	console.SessionFlag
	console.PoolFlag
	ID string `arg:"" help:"Id of the process." placeholder:"ID"`
}

type startProcessCmd struct {
	console.SessionFlag
	console.PoolFlag
	ID      string            `name:"id" help:"Id of the process; without it one is made up." placeholder:"ID"`
	Env     map[string]string `help:"Add a variable to its environment; repeat for more." placeholder:"NAME=VALUE" mapsep:"none"`
	Workdir string            `help:"Where it starts, absolute or from /mnt/data." placeholder:"DIR"`
	Stdin   bool              `help:"Give it what this command reads from standard input."`
	Shell   bool              `help:"Take the one argument as text for a shell."`
	Command []string          `arg:"" passthrough:"partial" help:"Program and arguments." placeholder:"COMMAND"`
}

// maxProcessStdin bounds what a process is given to read: more belongs into a file.
const maxProcessStdin = 128 << 10

// Run starts a process and prints its id.
func (c *startProcessCmd) Run(ctx context.Context, a *console.App) error {
	req := api.ProcessRequest{ID: c.ID, Command: c.Command, Env: c.Env, WorkingDirectory: c.Workdir}
	if len(req.Command) > 0 && req.Command[0] == "--" {
		req.Command = req.Command[1:]
	}
	if c.Shell {
		req.ShellCommand, req.Command = strings.Join(req.Command, " "), nil
	}
	if c.Stdin {
		text, err := io.ReadAll(io.LimitReader(os.Stdin, maxProcessStdin+1))
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		if len(text) > maxProcessStdin {
			return fmt.Errorf("standard input has more than %d bytes: upload it as a file",
				maxProcessStdin)
		}
		req.Stdin = string(text)
	}
	cl, err := a.Client()
	if err != nil {
		return err
	}
	p, err := cl.StartProcess(ctx, c.Pool, string(c.Session), req)
	if err != nil {
		return err
	}
	if a.JSON() {
		return a.PrintJSON(p)
	}
	_, err = fmt.Fprintln(a.Stdout, console.Printable(p.ID))
	return err
}

type listProcessesCmd struct {
	console.SessionFlag
	console.PoolFlag
}

// Run lists the background processes of a session.
func (c *listProcessesCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	all, err := cl.Processes(ctx, c.Pool, string(c.Session))
	if err != nil {
		return err
	}
	if a.JSON() {
		return a.PrintJSON(all)
	}
	t := console.Table{Heading: []string{"ID", "PID", "STATUS", "CREATED", "COMMAND"}}
	for _, p := range all {
		t.Add(console.Printable(p.ID), strconv.Itoa(p.PID), status(p), p.CreatedAt,
			console.Printable(strings.Join(p.Command, " ")))
	}
	return t.Write(a.Stdout)
}

// status is how a process is, in a few words.
func status(p api.Process) string {
	switch {
	case p.ExitCode != nil:
		return "exited " + strconv.Itoa(*p.ExitCode)
	case p.Signal != 0:
		return "signal " + strconv.Itoa(p.Signal)
	}
	return "running"
}

type processLogsCmd struct {
	processName
	Follow bool `short:"f" help:"Go on with what it puts out, until it ends."`
}

// Run writes what a process has put out: its standard output to ours, its standard error to ours.
func (c *processLogsCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	out, errs := console.NewHarmless(a.Stdout), console.NewHarmless(a.Stderr)
	return cl.ProcessLogs(ctx, c.Pool, string(c.Session), c.ID, 0, c.Follow,
		func(e api.ProcessEvent) error {
			if a.JSON() {
				return a.PrintJSONLine(e)
			}
			var err error
			switch e.Type {
			case api.EventStdout:
				_, err = io.WriteString(out, e.Text)
			case api.EventStderr:
				_, err = io.WriteString(errs, e.Text)
			case api.EventLost:
				a.Say("%d pieces of output before this are kept no more", e.Lost)
			}
			return err
		})
}

type waitProcessCmd struct{ processName }

// Run waits for the end of a process.
func (c *waitProcessCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	p, err := cl.WaitProcess(ctx, c.Pool, string(c.Session), c.ID)
	if err != nil {
		return err
	}
	if a.JSON() {
		if err := a.PrintJSON(p); err != nil {
			return err
		}
	}
	if p.ExitCode != nil {
		return ended(*p.ExitCode, 0)
	}
	return ended(0, p.Signal)
}

type signalProcessCmd struct {
	processName
	Signal string `arg:"" optional:"" default:"TERM" help:"Signal, such as INT or 9." placeholder:"SIGNAL"`
}

// Run sends a signal.
func (c *signalProcessCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	return cl.SignalProcess(ctx, c.Pool, string(c.Session), c.ID, c.Signal)
}

type deleteProcessCmd struct{ processName }

// Run ends a process.
func (c *deleteProcessCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	return cl.DeleteProcess(ctx, c.Pool, string(c.Session), c.ID)
}
