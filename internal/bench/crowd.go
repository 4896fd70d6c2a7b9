package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// crowdResult is what one of many callers met.
type crowdResult struct {
	took  time.Duration
	claim time.Duration // of it, as the server says
	err   error
}

// crowd asks for n new sessions at once and returns what each caller met, and the
// time from the common start to the last answer.
func (b *bench) crowd(ctx context.Context, pool, part string, n int) ([]crowdResult,
	time.Duration) {
	results := make([]crowdResult, n)
	var begin time.Time
	start := make(chan struct{})
	var done sync.WaitGroup
	for i := range n {
		done.Go(func() {
			<-start
			_, e, err := b.answer(ctx, pool, b.identifier(part, i))
			results[i] = crowdResult{time.Since(begin), e.Timing["claim"], err}
		})
	}
	begin = time.Now()
	close(start)
	done.Wait()
	return results, time.Since(begin)
}

// endCrowd deletes the sessions that crowd made, a few at a time.
func (b *bench) endCrowd(ctx context.Context, pool, part string, results []crowdResult) {
	const atOnce = 8
	var s series
	var mu sync.Mutex // guards s and the report's failures
	tickets := make(chan struct{}, atOnce)
	var done sync.WaitGroup
	for i, r := range results {
		if r.err != nil {
			continue
		}
		tickets <- struct{}{}
		done.Go(func() {
			defer func() { <-tickets }()
			if err := b.client.DeleteSession(ctx, pool, b.identifier(part, i)); err != nil {
				mu.Lock()
				b.failed(&s, fmt.Errorf("delete session: %w", err))
				mu.Unlock()
			}
		})
	}
	done.Wait()
	if s.errors > 0 {
		b.note("%d sessions could not be deleted one by one; they went with their pool", s.errors)
	}
}

// rounds is how often what takes many sandboxes at once is measured, so that it has a median.
const rounds = 3

// burst measures many new sessions at once, and what ready and used sandboxes cost.
func (b *bench) burst(ctx context.Context) error {
	n := b.fits(b.opts.Burst)
	free := memInfo("MemAvailable")
	// A maximum of one more than are ready leaves the server one sandbox to start
	// while the burst is answered: what is measured is claiming, not refilling.
	return b.withPool(ctx, "burst", n, n+1, func(pool string) error {
		b.note("the burst and the figures per sandbox come from a pool with %d ready", n)
		if used := free - memInfo("MemAvailable"); used > 0 {
			var s series
			s.value(float64(used) / float64(n) / (1 << 20))
			b.add(s.measure("available memory per ready", "MB", "MemAvailable of the machine "+
				"before the pool was made less after, divided by the ready sandboxes"))
		}
		if err := b.idle(ctx, pool, "ready"); err != nil {
			return err
		}
		var claim, each, total series
		for i := range rounds {
			if err := b.settled(ctx, pool); err != nil {
				return err
			}
			b.opts.Progress("new sessions at once", fmt.Sprintf("%d, %d/%d", n, i+1, rounds))
			part := fmt.Sprintf("burst%d", i)
			results, all := b.crowd(ctx, pool, part, n)
			for _, r := range results {
				if r.err != nil {
					b.failed(&each, r.err)
					continue
				}
				claim.duration(r.claim)
				each.duration(r.took)
			}
			total.duration(all)
			if i == rounds-1 {
				if err := b.idle(ctx, pool, "claimed"); err != nil {
					return err
				}
			}
			b.endCrowd(ctx, pool, part, results)
		}
		total.errors = each.errors
		b.add(claim.measure("burst, claim", "ms",
			"the server's part in giving each of them a sandbox (Server-Timing)"))
		b.add(each.measure("burst", "ms", fmt.Sprintf(
			"%d new identifiers at once, 1+1 each: time from the common start to each answer", n)))
		b.add(total.measure("burst, all answered", "ms",
			fmt.Sprintf("time from the common start to the last of %d answers", n)))
		return nil
	})
}

// fits returns how many sandboxes, of n wanted, may exist at the same time: as many as
// the machine's available memory holds, less a margin for the rest of the machine.
func (b *bench) fits(n int) int {
	available := memInfo("MemAvailable") / 100 * 85
	if available == 0 {
		return n
	}
	most := max(1, int(available/b.each))
	if n > most {
		b.note("%d sandboxes at once were asked for; available memory holds %d of %d MB", n, most,
			b.each>>20)
	}
	return min(n, most)
}

// weigh finds out what one ready sandbox is charged for, before many are made.
func (b *bench) weigh(ctx context.Context, pool string) error {
	b.each = 256 << 20 // where the server cannot measure
	s, err := b.client.PoolStatus(ctx, pool)
	if err != nil {
		return err
	}
	for _, sandbox := range s.Sandboxes {
		if sandbox.MemoryBytes != nil && *sandbox.MemoryBytes > 1<<20 {
			b.each = *sandbox.MemoryBytes
		}
	}
	return nil
}

// refill measures how fast drained sandboxes are replaced.
func (b *bench) refill(ctx context.Context) error {
	n := b.fits(2*b.opts.Refill) / 2
	n = max(n, 1)
	return b.withPool(ctx, "refill", n, 2*n+1, func(pool string) error {
		var s, perCore series
		for i := range rounds {
			b.opts.Progress("refill", fmt.Sprintf("draining %d, %d/%d", n, i+1, rounds))
			part := fmt.Sprintf("refill%d", i)
			begin := time.Now()
			results, _ := b.crowd(ctx, pool, part, n)
			err := b.settled(ctx, pool)
			rate := float64(n) / time.Since(begin).Seconds()
			b.endCrowd(ctx, pool, part, results)
			if err := errors.Join(err, b.settled(ctx, pool)); err != nil {
				return err
			}
			for _, r := range results {
				if r.err != nil {
					b.failed(&s, r.err)
				}
			}
			s.value(rate)
			perCore.value(math.Round(100*rate/float64(b.report.Machine.Cores)) / 100)
		}
		perCore.errors = s.errors
		b.add(s.measure("refill", "sandboxes/s",
			fmt.Sprintf("from %d claims at once to %d ready again; the claims are in the time", n,
				n)))
		b.add(perCore.measure("refill per core", "sandboxes/s",
			"refill divided by the machine's cores"))
		return nil
	})
}
