package pool

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

type statusCmd struct {
	naming
	Watch bool          `short:"w" help:"Show it repeatedly, until Ctrl-C."`
	Every time.Duration `default:"2s" help:"Time between refreshes with --watch." placeholder:"TIME"`
}

// Run shows a pool's sandboxes.
func (c *statusCmd) Run(ctx context.Context, a *console.App) error {
	name, cl, err := c.open(a)
	if err != nil {
		return err
	}
	if c.Watch && c.Every < 100*time.Millisecond {
		return console.UsageError("--every is too short; use 100ms or more")
	}
	look := func(w io.Writer, width, _ int) error {
		s, err := cl.PoolStatus(ctx, name)
		if err != nil {
			return err
		}
		if a.JSON() {
			if c.Watch {
				return a.PrintJSONLine(s)
			}
			return a.PrintJSON(s)
		}
		return writeStatus(w, width, s)
	}
	if c.Watch {
		return a.Watch(ctx, c.Every, look)
	}
	return look(a.Stdout, 0, 0)
}

// writeStatus writes a pool's status for people.
func writeStatus(w io.Writer, width int, s api.PoolStatus) error {
	fmt.Fprintf(w,
		"%s: %d ready of %d, %d of at most %d sessions, %d starting, %d stopping, %d waiting\n",
		s.ProvisioningState, s.Ready, s.ReadySessions, s.Claimed, s.MaxSessions, s.Starting,
		s.Stopping, s.Waiting)
	if s.Pull != nil {
		fmt.Fprintf(w, "%s: %s\n", pullStep(*s.Pull), pullDetail(*s.Pull))
	}
	if s.Crashes+s.PullFailures > 0 {
		fmt.Fprintf(w, "since the server started %d sandboxes ended by themselves, and "+
			"the image could not be had %d times\n", s.Crashes, s.PullFailures)
	}
	for _, text := range []string{s.Problem, s.Notice, s.ReadyBecause} {
		if text != "" {
			fmt.Fprintln(w, console.PrintableLines(text))
		}
	}
	if s.SnapshotBytes > 0 {
		fmt.Fprintf(w, "snapshot: %s\n", console.Bytes(s.SnapshotBytes))
	}
	if s.Refused > 0 {
		fmt.Fprintf(w, "%d claims found no room on the machine since the server started\n",
			s.Refused)
	}
	t := console.Table{Heading: []string{"SANDBOX", "STATE", "CREATED", "LAST USED", "MEMORY",
		"CPU"}}
	for _, b := range s.Sandboxes {
		row := []string{b.ID, b.State, b.CreatedAt, b.LastUsedAt, "", ""}
		if b.MemoryBytes != nil {
			row[4] = console.Bytes(*b.MemoryBytes)
		}
		if b.CPUSeconds != nil {
			row[5] = fmt.Sprintf("%.2fs", *b.CPUSeconds)
		}
		t.Add(row...)
	}
	if width > 0 {
		t.Leave(width, "LAST USED", "CREATED")
		t.Fit(width)
	}
	return t.Write(w)
}
