package history

import (
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/event"
)

// window is one way to look back.
type window struct {
	name  string
	step  time.Duration
	steps int
}

// windows are the ways to look back.
func windows() [3]window {
	return [3]window{{api.HistoryHour, interval, int(time.Hour / interval)},
		{api.HistoryDay, 5 * time.Minute, 24 * 12}, {api.HistoryWeek, 30 * time.Minute, 7 * 48}}
}

// level is how a pool was at a moment.
type level struct {
	ready, claimed, starting, waiting, max int
	memory                                 int64
}

// bucket is what happened in one step, and how the pool was at its end.
type bucket struct {
	at                            int64 // its beginning, in units of the step
	fromReady, fresh, full, lost  int
	runs, badRuns                 int
	level                         level
	known                         bool // whether level is
	claim, answer, run, startTime *digest
}

// ring is the last steps of one window. Steps in which nothing was learned are absent.
type ring struct {
	window
	buckets []bucket // oldest first
}

// now returns the bucket of a time: a new one, the last one, or the last one in place of one that
// is over.
func (r *ring) now(t time.Time) *bucket {
	at := t.UnixNano() / int64(r.step)
	if n := len(r.buckets); n > 0 && r.buckets[n-1].at >= at {
		return &r.buckets[n-1]
	}
	drop := 0
	for drop < len(r.buckets) && r.buckets[drop].at <= at-int64(r.steps) {
		drop++
	}
	if drop > 0 {
		r.buckets = append(r.buckets[:0:0], r.buckets[drop:]...)
	}
	r.buckets = append(r.buckets, bucket{at: at})
	return &r.buckets[len(r.buckets)-1]
}

// observe counts an event of a pool.
func (b *bucket) observe(e event.Event) {
	into := func(d **digest) {
		if *d == nil {
			*d = new(digest)
		}
		(*d).add(e.Took)
	}
	switch e.Name {
	case event.SessionAllocated:
		if e.Outcome == sandpool.ClaimReady.String() {
			b.fromReady++
		} else {
			b.fresh++
		}
		into(&b.claim)
	case event.SessionRefused:
		b.full++
	case event.SessionAnswered:
		into(&b.answer)
	case event.SandboxStarted:
		into(&b.startTime)
	case event.SandboxNotStarted, event.SandboxEnded, event.SandboxSick:
		b.lost++
	case event.ExecutionEnded:
		b.runs++
		if e.Outcome != runOK {
			b.badRuns++
		}
		into(&b.run)
	}
}

// runOK is the outcome of an execution whose code ended well.
const runOK = "ok"

// point is the bucket as callers read it.
func (b *bucket) point(step time.Duration) api.HistoryPoint {
	p := api.HistoryPoint{Time: time.Unix(0, b.at*int64(step)).UTC().Format(time.RFC3339),
		ClaimsReady: b.fromReady, ClaimsNew: b.fresh, ClaimsFull: b.full, Lost: b.lost,
		Executions: b.runs, ExecutionFailures: b.badRuns,
		ClaimP50: b.claim.quantile(.5), ClaimP99: b.claim.quantile(.99),
		AnswerP50: b.answer.quantile(.5), AnswerP99: b.answer.quantile(.99),
		StartP50: b.startTime.quantile(.5), StartP99: b.startTime.quantile(.99),
		ExecutionP50: b.run.quantile(.5), ExecutionP99: b.run.quantile(.99)}
	if b.known {
		l := b.level
		p.Level = &api.HistoryLevel{Ready: l.ready, Claimed: l.claimed, Starting: l.starting,
			Waiting: l.waiting, MaxSessions: l.max, MemoryBytes: l.memory}
	}
	return p
}
