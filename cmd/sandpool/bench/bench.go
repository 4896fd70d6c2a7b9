// Package bench is the command bench: it measures a running server and prints what it found.
package bench

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/sandpool/sandpool/cmd/sandpool/console"
	"github.com/sandpool/sandpool/internal/bench"
)

// Cmd measures a running server.
type Cmd struct {
	N      int           `short:"n" help:"New sessions to measure one by one; round trips are ten times as many." default:"100"`
	Burst  int           `aliases:"concurrency" help:"New sessions at once (also --concurrency)." default:"100"`
	Cold   int           `help:"Claims with nothing ready." default:"10"`
	Refill int           `help:"Sandboxes to drain for the refill rate." default:"20"`
	Idle   time.Duration `help:"Time to watch idle sandboxes for." default:"10s"`
}

// Help says what bench does to the server.
func (Cmd) Help() string {
	return "Makes pools of its own on the server, one at a time, and deletes them with all their " +
		"sessions. " +
		"Needs the role admin. stdout gets one table, or with --output json one document."
}

// Run measures and prints the report. It is printed also when the run was cut short.
func (c *Cmd) Run(ctx context.Context, a *console.App) error {
	if c.N < 1 || c.Burst < 1 || c.Cold < 1 || c.Refill < 1 || c.Idle < time.Second {
		return console.UsageError(
			"-n, --burst, --cold and --refill are at least 1, --idle at least 1s")
	}
	cl, err := a.Client()
	if err != nil {
		return err
	}
	p := console.NewProgress(a.Stderr)
	report, err := bench.Run(ctx, cl, bench.Options{N: c.N, Burst: c.Burst, Cold: c.Cold,
		Refill: c.Refill, Idle: c.Idle, Progress: p.Update})
	p.Clear()
	if err != nil {
		a.Say("cut short; what was measured so far:")
	}
	if perr := printReport(a, report); perr != nil {
		return perr
	}
	return err
}

func printReport(a *console.App, r bench.Report) error {
	if a.JSON() {
		return a.PrintJSON(r)
	}
	m := r.Machine
	fmt.Fprintf(a.Stdout, "%s, %d cores of %s, %d MB, Linux %s, load %s before, %s\n\n",
		r.Started, m.Cores, m.CPU, m.MemoryMB, m.Kernel, m.Load, r.Endpoint)
	t := console.Table{Heading: []string{"MEASURE", "UNIT", "N", "ERRORS", "P50", "P90", "P99",
		"MAX"}}
	for _, x := range r.Measures {
		t.Add(x.Name, x.Unit, strconv.Itoa(x.N), strconv.Itoa(x.Errors),
			number(x.P50), number(x.P90), number(x.P99), number(x.Max))
	}
	if err := t.Write(a.Stdout); err != nil {
		return err
	}
	for _, n := range r.Notes {
		a.Say("note: %s", n)
	}
	for _, f := range r.Failures {
		a.Say("failed: %s", console.Printable(f))
	}
	return nil
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
