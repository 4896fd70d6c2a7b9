package image

import (
	"context"
	"sync"
	"time"
)

// measureEvery is how often a build that runs a long step reports by itself.
const measureEvery = 3 * time.Second

// A reporter turns what happens in a build into Progress.
type reporter struct {
	report func(Progress)
	start  time.Time
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex // guards the rest, and serialises report
	now  Progress
	size func() int64
}

// newReporter reports to report, which may be nil, until stop. size measures Progress.Bytes.
func newReporter(ctx context.Context, report func(Progress), steps int,
	size func() int64) *reporter {
	ctx, cancel := context.WithCancel(ctx)
	r := &reporter{
		report: report, start: time.Now(), cancel: cancel, done: make(chan struct{}),
		now: Progress{Steps: steps}, size: size,
	}
	if report == nil {
		r.report = func(Progress) {}
	}
	go r.tick(ctx, report != nil)
	return r
}

// tick measures now and then: a walk over a root filesystem takes a tenth of a second, or a whole
// one where there are a hundred thousand files. A twentieth of the time may go into it.
func (r *reporter) tick(ctx context.Context, watched bool) {
	defer close(r.done)
	if !watched {
		return
	}
	t := time.NewTicker(measureEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		r.mu.Lock()
		size := r.size
		r.mu.Unlock()
		begin := time.Now()
		bytes := size()
		t.Reset(max(measureEvery, 20*time.Since(begin)))
		r.update(func(p *Progress) { p.Bytes, p.Note = bytes, "" })
	}
}

func (r *reporter) update(change func(*Progress)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.now)
	r.now.Elapsed = time.Since(r.start)
	r.report(r.now)
}

// step begins the next step.
func (r *reporter) step(name string) {
	r.update(func(p *Progress) { p.Step, p.Name, p.Note = min(p.Step+1, p.Steps), name, "" })
}

// name is the step that runs.
func (r *reporter) name() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now.Name
}

// note reports a line that a tool wrote.
func (r *reporter) note(line string) { r.update(func(p *Progress) { p.Note = line }) }

// measure changes how Progress.Bytes is measured.
func (r *reporter) measure(size func() int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size = size
}

// stop returns when nothing is reported any more.
func (r *reporter) stop() {
	r.cancel()
	<-r.done
}
