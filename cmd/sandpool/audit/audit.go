// Package audit is the command "sandpool audit": who changed what, who was refused, and whether the
// log of it is whole.
package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/internal/audit"
)

// patience is how long one question waits for a record; the server allows no more.
const patience = 30 * time.Second

// Cmd is "sandpool audit" and the commands below it.
type Cmd struct {
	List   listCmd   `cmd:"" default:"withargs" help:"Show records, the oldest first (the default)."`
	Verify verifyCmd `cmd:"" help:"Check every byte of the log."`
}

type listCmd struct {
	Follow  bool          `short:"f" help:"Go on with what happens, until Ctrl-C."`
	Who     string        `help:"Records of one principal, by its subject or name." placeholder:"NAME"`
	On      string        `help:"Records about a resource and what lies below it, by its path." placeholder:"PATH"`
	Outcome string        `help:"Records with one outcome: ${enum}." enum:",done,refused,failed" default:"" placeholder:"OUTCOME"`
	Since   time.Duration `help:"Records of the last time, such as 24h; without it all." placeholder:"DURATION"`
}

// Run writes records, the oldest first.
func (c *listCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	q := client.Audit{Who: c.Who, On: c.On, Outcome: c.Outcome}
	if c.Since > 0 {
		q.Since = time.Now().Add(-c.Since)
	}
	for {
		page, err := cl.Audit(ctx, q)
		if err != nil {
			return err
		}
		for _, r := range page.Value {
			if err := write(a, r); err != nil {
				return err
			}
		}
		if !c.Follow && page.Next == q.After {
			return nil
		}
		if q.After = page.Next; c.Follow {
			q.Wait = patience
		}
	}
}

func write(a *console.App, r api.AuditRecord) error {
	if a.JSON() {
		return a.PrintJSONLine(r)
	}
	who := r.Who
	switch {
	case who == "":
		who = "(nobody known)"
	case r.Name != "":
		who += " " + r.Name
	}
	line := fmt.Sprintf("%s  %-7s  %d  %-6s  %s  by %s from %s",
		r.Time.UTC().Format(time.RFC3339), r.Outcome, r.Status, r.Action, r.On, who, r.From)
	if r.Message != "" {
		line += ": " + r.Message
	}
	if r.LeftOut > 0 {
		line += fmt.Sprintf("  (%d refusals before it were not written)", r.LeftOut)
	}
	_, err := fmt.Fprintln(a.Stdout, console.Printable(line))
	return err
}

type verifyCmd struct {
	Dir  string `help:"Check the files of a log, such as those of a backup, in place of the server's." placeholder:"DIR" type:"path"`
	Head string `help:"With --dir: the hash that the newest record must have, as an earlier check printed it." placeholder:"HASH"`
}

// Run checks the log and says what it has found.
func (c *verifyCmd) Run(ctx context.Context, a *console.App) error {
	v, err := c.verify(ctx, a)
	if err != nil {
		return err
	}
	if a.JSON() {
		if err := a.PrintJSONLine(v); err != nil {
			return err
		}
	} else if v.Fault == "" {
		if _, err := fmt.Fprintf(a.Stdout, "%d records are whole, %d to %d; the newest has the "+
			"hash %s\n", v.Records, v.First, v.Last, v.Head); err != nil {
			return err
		}
	}
	if v.Fault != "" {
		return fmt.Errorf("the audit log is not whole after record %d: %s", v.Last, v.Fault)
	}
	return nil
}

func (c *verifyCmd) verify(ctx context.Context, a *console.App) (api.AuditVerification, error) {
	if c.Dir == "" {
		if c.Head != "" {
			return api.AuditVerification{}, console.UsageError(
				"--head is for --dir; a server knows the hash of its newest record")
		}
		cl, err := a.Client()
		if err != nil {
			return api.AuditVerification{}, err
		}
		return cl.VerifyAudit(ctx)
	}
	var head *audit.Hash
	if c.Head != "" {
		h, err := audit.ParseHash(c.Head)
		if err != nil {
			return api.AuditVerification{}, console.UsageError(err.Error())
		}
		head = &h
	}
	v, err := audit.Verify(c.Dir, head)
	return api.AuditVerification{Records: v.Records, First: v.First, Last: v.Last,
		Head: v.Head.String(), Fault: v.Fault}, err
}
