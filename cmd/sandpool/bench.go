package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/sandpool/sandpool/internal/bench"
)

type benchCmd struct {
	N      int           `short:"n" help:"New sessions to measure one by one; round trips are ten times as many." default:"100"`
	Burst  int           `aliases:"concurrency" help:"New sessions at once (also --concurrency)." default:"100"`
	Cold   int           `help:"Claims with nothing ready." default:"10"`
	Refill int           `help:"Sandboxes to drain for the refill rate." default:"20"`
	Idle   time.Duration `help:"Time to watch idle sandboxes for." default:"10s"`
}

// Help says what bench does to the server.
func (benchCmd) Help() string {
	return "Makes pools of its own on the server, one at a time, and deletes them with all their sessions. " +
		"Needs the role admin. stdout gets one table, or with --output json one document."
}

// Run measures and prints the report. It is printed also when the run was cut short.
func (c *benchCmd) Run(ctx context.Context, a *app) error {
	if c.N < 1 || c.Burst < 1 || c.Cold < 1 || c.Refill < 1 || c.Idle < time.Second {
		return usageError("-n, --burst, --cold and --refill are at least 1, --idle at least 1s")
	}
	cl, err := a.client()
	if err != nil {
		return err
	}
	p := newProgress(a.stderr)
	report, err := bench.Run(ctx, cl, bench.Options{N: c.N, Burst: c.Burst, Cold: c.Cold, Refill: c.Refill, Idle: c.Idle, Progress: p.update})
	p.clear()
	if err != nil {
		a.say("cut short; what was measured so far:")
	}
	if perr := printReport(a, report); perr != nil {
		return perr
	}
	return err
}

func printReport(a *app, r bench.Report) error {
	if a.json() {
		return a.printJSON(r)
	}
	m := r.Machine
	fmt.Fprintf(a.stdout, "%s, %d cores of %s, %d MB, Linux %s, load %s before, %s\n\n",
		r.Started, m.Cores, m.CPU, m.MemoryMB, m.Kernel, m.Load, r.Endpoint)
	t := table{heading: []string{"MEASURE", "UNIT", "N", "ERRORS", "P50", "P90", "P99", "MAX"}}
	for _, x := range r.Measures {
		t.add(x.Name, x.Unit, strconv.Itoa(x.N), strconv.Itoa(x.Errors),
			number(x.P50), number(x.P90), number(x.P99), number(x.Max))
	}
	if err := t.write(a.stdout); err != nil {
		return err
	}
	for _, n := range r.Notes {
		a.say("note: %s", n)
	}
	for _, f := range r.Failures {
		a.say("failed: %s", printable(f))
	}
	return nil
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) }
