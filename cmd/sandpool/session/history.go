package session

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// historyCmd is "sandpool session history".
type historyCmd struct {
	console.SessionFlag
	console.PoolFlag
	After  int64 `help:"Show what ran after the execution of this number." placeholder:"NUMBER"`
	Forget bool  `help:"Drop what is kept instead of showing it."`
}

// Help says where a history comes from.
func (historyCmd) Help() string {
	return "A pool keeps what its sessions run if it was made or changed with --history. The " +
		"code stands after '>', what it wrote to standard error after '!'. Of long texts the " +
		"beginning is kept. A session may have ended: its history stays for a while."
}

// Run shows what sessions ran, the oldest first.
func (c *historyCmd) Run(ctx context.Context, a *console.App) error {
	cl, err := a.Client()
	if err != nil {
		return err
	}
	name := string(c.Session)
	if c.Forget {
		if err := cl.ForgetSessionHistory(ctx, c.Pool, name); err != nil {
			return err
		}
		a.Say("the history of session %s of pool %s is forgotten", console.Printable(name), c.Pool)
		return nil
	}
	h, err := cl.SessionHistory(ctx, c.Pool, name, c.After)
	if err != nil {
		return err
	}
	if a.JSON() {
		return a.PrintJSON(h)
	}
	if len(h.Value) == 0 {
		a.Say("nothing is kept of session %s", console.Printable(name))
	}
	for i, e := range h.Value {
		if i > 0 {
			fmt.Fprintln(a.Stdout)
		}
		if err := writeExecution(a.Stdout, e); err != nil {
			return fmt.Errorf("write the history: %w", err)
		}
	}
	return nil
}

// writeExecution writes an execution as people read it.
func writeExecution(w io.Writer, e api.PastExecution) error {
	var b strings.Builder
	began := e.Began
	if t, err := time.Parse(time.RFC3339Nano, e.Began); err == nil {
		began = t.UTC().Format(time.DateTime)
	}
	how := "running"
	if e.Outcome != "" {
		how = fmt.Sprintf("%s after %.3f s", e.Outcome, e.Seconds)
	}
	where := strings.Trim(e.Kernel+"/"+e.Context, "/")
	if where != "" {
		where = ", in " + where
	}
	by := ""
	if e.By != "" {
		by = ", by " + e.By
	}
	fmt.Fprintf(&b, "[%d] %s UTC, %s%s%s\n", e.Number, console.Printable(began),
		console.Printable(how), console.Printable(by), console.Printable(where))
	block(&b, "> ", e.Code)
	block(&b, "", e.Stdout)
	block(&b, "! ", e.Stderr)
	block(&b, "", e.Result)
	block(&b, "! ", e.Error)
	if e.Displays > 0 {
		fmt.Fprintf(&b, "(figures and the like, not kept: %d)\n", e.Displays)
	}
	if len(e.Cut) > 0 {
		fmt.Fprintf(&b, "(only the beginning is kept of: %s)\n",
			console.Printable(strings.Join(e.Cut, ", ")))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// block writes a text with something before each line.
func block(b *strings.Builder, before, text string) {
	text = strings.TrimSuffix(text, "\n")
	if text == "" {
		return
	}
	for line := range strings.SplitSeq(text, "\n") {
		b.WriteString(before + console.PrintableText(line) + "\n")
	}
}
