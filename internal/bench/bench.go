package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sandpool/sandpool/client"
)

// Options say how much to measure. A zero field means the default.
type Options struct {
	// N is how many new sessions are measured one by one (default 100); round trips
	// are measured ten times as often.
	N int
	// Burst is how many new sessions are asked for at once (default 100). Fewer
	// are kept ready where memory does not suffice.
	Burst int
	// Cold is how many claims with nothing ready are measured (default 10).
	Cold int
	// Refill is how many sandboxes are drained to measure refilling (default 20).
	Refill int
	// Idle is for how long idle sandboxes are watched (default 10 s).
	Idle time.Duration
	// Progress hears what is under way; nil means nobody.
	Progress func(step, detail string)
	// Between is called between single samples, so that a peer is measured under
	// the very conditions of ours; nil means nothing to do.
	Between func(ctx context.Context, sample int) error
}

func (o Options) withDefaults() Options {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&o.N, 100)
	def(&o.Burst, 100)
	def(&o.Cold, 10)
	def(&o.Refill, 20)
	if o.Idle <= 0 {
		o.Idle = 10 * time.Second
	}
	if o.Progress == nil {
		o.Progress = func(string, string) {}
	}
	if o.Between == nil {
		o.Between = func(context.Context, int) error { return nil }
	}
	return o
}

// Report is what a run found.
type Report struct {
	Started  string    `json:"started"` // RFC 3339
	Endpoint string    `json:"endpoint"`
	Machine  Machine   `json:"machine"`
	Measures []Measure `json:"measures"`
	// Notes are what a reader has to know, such as a burst smaller than asked for.
	Notes []string `json:"notes"`
	// Failures are the texts of the first few errors behind the counts.
	Failures []string `json:"failures"`
}

// maxFailures bounds Report.Failures.
const maxFailures = 10

// bench is one run.
type bench struct {
	client *client.Client
	opts   Options
	prefix string // of the names of everything the run makes
	each   int64  // bytes that one ready sandbox takes; see weigh
	report Report
}

// Run measures the server that c talks to. It makes pools of its own, one at a time,
// and deletes them and all their sessions before it returns, also when it fails.
func Run(ctx context.Context, c *client.Client, opts Options) (Report, error) {
	b := &bench{client: c, opts: opts.withDefaults(), prefix: "bench-" +
		strings.ToLower(rand.Text()[:8])}
	b.report = Report{Started: time.Now().UTC().Format(time.RFC3339), Endpoint: c.Endpoint(),
		Machine: ThisMachine(),
		Notes:   []string{}, Failures: []string{}}
	for _, part := range []func(context.Context) error{b.oneByOne, b.burst, b.cold, b.refill} {
		if err := part(ctx); err != nil {
			return b.report, err
		}
	}
	return b.report, nil
}

func (b *bench) add(m Measure) { b.report.Measures = append(b.report.Measures, m) }

func (b *bench) note(format string, args ...any) {
	b.report.Notes = append(b.report.Notes, fmt.Sprintf(format, args...))
}

// failed counts err in s and keeps its text.
func (b *bench) failed(s *series, err error) {
	s.errors++
	if len(b.report.Failures) < maxFailures {
		b.report.Failures = append(b.report.Failures, err.Error())
	}
}

// answer runs 1+1 and returns how long the whole call took; an answer other than 2 is
// an error.
func (b *bench) answer(ctx context.Context, pool, id string) (time.Duration, client.Execution,
	error) {
	begin := time.Now()
	e, err := b.client.Execute(ctx, pool, id, client.Run{Code: "1+1", Timeout: time.Minute})
	took := time.Since(begin)
	if err == nil && string(e.Result.ExecutionResult) != "2" {
		err = fmt.Errorf("1+1 in session %q is %s, status %s: %s", id, e.Result.ExecutionResult,
			e.Status, e.Result.Stderr)
	}
	return took, e, err
}

// oneByOne measures new sessions, one after another with all sandboxes ready before
// each, and then round trips in a live one.
func (b *bench) oneByOne(ctx context.Context) error {
	const ready = 3
	return b.withPool(ctx, "one", ready, ready+3, func(pool string) error {
		if err := b.weigh(ctx, pool); err != nil {
			return err
		}
		var claim, first series
		for i := range b.opts.N {
			b.opts.Progress("new sessions one by one", fmt.Sprintf("%d/%d", i+1, b.opts.N))
			if err := errors.Join(b.opts.Between(ctx, i), b.settled(ctx, pool)); err != nil {
				return err
			}
			id := b.identifier("one", i)
			took, e, err := b.answer(ctx, pool, id)
			if err != nil {
				b.failed(&first, err)
			} else {
				first.duration(took)
				if d, ok := e.Timing["claim"]; ok {
					claim.duration(d)
				} else {
					claim.errors++
				}
			}
			if err := b.client.DeleteSession(ctx, pool, id); err != nil {
				b.failed(&first, fmt.Errorf("delete session: %w", err))
			}
		}
		b.add(claim.measure("claim", "ms", "a ready sandbox is given to a new identifier; "+
			"measured by the server (Server-Timing)"))
		b.add(first.measure(NewSession, "ms", "POST executions with a new identifier, 1+1, until "+
			"the answer is read; one at a time, 3 ready before each"))
		return b.roundTrips(ctx, pool)
	})
}

// roundTrips measures 1+1 in one live session.
func (b *bench) roundTrips(ctx context.Context, pool string) error {
	const warm = 20 // calls that let connection and caches settle; none is counted
	if err := b.settled(ctx, pool); err != nil {
		return err
	}
	id := b.identifier("live", 0)
	var trips series
	for i := range warm + 10*b.opts.N {
		took, _, err := b.answer(ctx, pool, id)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case i < warm:
		case err != nil:
			b.failed(&trips, err)
		default:
			trips.duration(took)
		}
		b.opts.Progress("round trips", fmt.Sprintf("%d/%d", i+1, warm+10*b.opts.N))
	}
	b.add(trips.measure(RoundTrip, "ms", "POST executions with 1+1 in a live session, one after "+
		"another on a kept-alive connection"))
	return b.client.DeleteSession(ctx, pool, id)
}

// cold measures claims in a pool that keeps nothing ready.
func (b *bench) cold(ctx context.Context) error {
	return b.withPool(ctx, "cold", 0, 2, func(pool string) error {
		var s series
		for i := range b.opts.Cold {
			b.opts.Progress("claims with nothing ready", fmt.Sprintf("%d/%d", i+1, b.opts.Cold))
			if err := errors.Join(b.opts.Between(ctx, i), b.settled(ctx, pool)); err != nil {
				return err
			}
			id := b.identifier("cold", i)
			took, _, err := b.answer(ctx, pool, id)
			if err != nil {
				b.failed(&s, err)
				continue
			}
			s.duration(took)
			if err := b.client.DeleteSession(ctx, pool, id); err != nil {
				b.failed(&s, fmt.Errorf("delete session: %w", err))
			}
		}
		b.add(s.measure(ColdClaim, "ms",
			"as new session, in a pool with no ready sandboxes: one is restored for the call"))
		return nil
	})
}

// identifier names a session of this run.
func (b *bench) identifier(part string, i int) string {
	return fmt.Sprintf("%s-%s-%d", b.prefix, part, i)
}
