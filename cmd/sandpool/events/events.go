// Package events is the command "sandpool events": what has happened to pools and sessions.
package events

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// patience is how long one question waits for an event; the server allows no more.
const patience = 30 * time.Second

// Cmd is "sandpool events".
type Cmd struct {
	console.PoolFlag
	Server bool `help:"Events of the server and of all its pools, for administrators."`
	Follow bool `short:"f" help:"Keep printing events as they happen, until Ctrl-C."`
}

// Run writes events, the oldest first.
func (c *Cmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	q := client.Events{Pool: c.Pool}
	if c.Server {
		q.Pool = ""
	}
	for {
		page, err := cl.Events(ctx, q)
		if err != nil {
			return err
		}
		if page.Missed {
			a.Say("earlier events are not kept any more")
		}
		for _, e := range page.Value {
			if err := write(a, e); err != nil {
				return err
			}
		}
		if !c.Follow && len(page.Value) == 0 {
			return nil
		}
		if q.After = page.Next; c.Follow {
			q.Wait = patience
		}
	}
}

func write(a *console.App, e api.Event) error {
	if a.JSON() {
		return a.PrintJSONLine(e)
	}
	told := []string{e.Text}
	for _, more := range []string{e.Outcome, e.Message, e.Error} {
		if more != "" {
			told = append(told, more)
		}
	}
	if e.Seconds != nil {
		told = append(told, fmt.Sprintf("%.3gs", *e.Seconds))
	}
	line := fmt.Sprintf("%s  %-7s  %-18s  %-26s  %s", e.Time, e.Level, e.Name, e.Sandbox,
		strings.Join(told, "; "))
	_, err := fmt.Fprintln(a.Stdout, console.Printable(line))
	return err
}
