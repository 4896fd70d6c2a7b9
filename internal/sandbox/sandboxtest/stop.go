package sandboxtest

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/sandbox"
)

// Stop implements sandbox.Runtime.
func (f *Fake) Stop(ctx context.Context, h sandbox.Handle) error {
	w := f.world
	fault := w.next(Stop)
	if err := fault.wait(ctx); err != nil {
		return err
	}
	if fault.Err != nil {
		return fault.Err
	}
	w.mu.Lock()
	b := w.sandboxes[h.ID]
	w.mu.Unlock()
	if b == nil {
		return nil
	}
	b.cancel()
	select {
	case <-b.settled:
	case <-ctx.Done():
		return ctx.Err()
	}
	if len(h.Data) > 0 {
		if err := b.hear(ctx); err != nil {
			return err
		}
	}
	w.remove(h.ID)
	return nil
}

// hear is what the first process does with its stop signal.
func (b *fakeSandbox) hear(ctx context.Context) error {
	t := b.template
	if t.Grace == 0 {
		return nil
	}
	for _, kv := range t.Env {
		if kv == "GUEST_SIGNALS=deaf" {
			return Fault{After: t.Grace}.wait(ctx)
		}
	}
	if b.input != nil && b.input.far != nil {
		_, _ = b.input.far.Write([]byte(unix.SignalName(sandbox.ParseSignal(t.StopSignal)) + "\n")) // the host may not listen
	}
	return nil
}

// remove deletes what is left of a sandbox whose Start has returned.
func (w *world) remove(id sandbox.ID) {
	w.mu.Lock()
	b := w.sandboxes[id]
	if b == nil {
		w.mu.Unlock()
		return
	}
	delete(w.sandboxes, id)
	w.endLog(id)
	w.exits[id] = sandbox.Exit{Reason: sandbox.Stopped}
	running := b.running
	if running {
		b.running, b.exit = false, w.exits[id]
		close(b.ended)
	}
	w.mu.Unlock()
	if running {
		b.halt()
	}
}

// List implements sandbox.Runtime.
func (f *Fake) List(ctx context.Context) ([]sandbox.Found, error) {
	w := f.world
	fault := w.next(List)
	if err := fault.wait(ctx); err != nil {
		return nil, err
	}
	if fault.Err != nil {
		return nil, fault.Err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []sandbox.Found
	for id, b := range w.sandboxes {
		found = append(found, sandbox.Found{ID: id, Running: b.running})
	}
	return found, nil
}

// Wait implements sandbox.Runtime.
func (f *Fake) Wait(ctx context.Context, h sandbox.Handle) (sandbox.Exit, error) {
	w := f.world
	fault := w.next(Wait)
	if err := fault.wait(ctx); err != nil {
		return sandbox.Exit{}, err
	}
	if fault.Err != nil {
		return sandbox.Exit{}, fault.Err
	}
	w.mu.Lock()
	b := w.sandboxes[h.ID]
	exit, gone := w.exits[h.ID]
	w.mu.Unlock()
	if b == nil {
		if gone {
			return exit, nil
		}
		return sandbox.Exit{Reason: sandbox.Killed}, nil
	}
	select {
	case <-b.ended:
		w.mu.Lock()
		defer w.mu.Unlock()
		return b.exit, nil
	case <-ctx.Done():
		return sandbox.Exit{}, ctx.Err()
	}
}

// defaultMemory is what a sandbox takes that nobody gave anything.
const defaultMemory = 1 << 20

// Take makes a sandbox take bytes of memory from now on.
func (f *Fake) Take(id sandbox.ID, bytes int64) {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if b := w.sandboxes[id]; b != nil {
		b.memory = bytes
	}
}

// Taken is the memory of all sandboxes that run, in bytes.
func (f *Fake) Taken() (sum int64) {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.sandboxes {
		if b.running {
			sum += b.memory
		}
	}
	return sum
}

// Stats implements sandbox.StatsReader. Every sandbox has one thread.
func (f *Fake) Stats(_ context.Context, h sandbox.Handle) (sandbox.Stats, error) {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.sandboxes[h.ID]
	if b == nil || !b.running {
		return sandbox.Stats{}, ended(h.ID)
	}
	s := b.used
	s.Memory, s.Threads = s.Memory+b.memory, 1
	s.CPUTime = max(s.CPUTime, time.Millisecond)
	return s, nil
}

// Use sets what Stats says of a sandbox, beside what Take adds.
func (f *Fake) Use(id sandbox.ID, s sandbox.Stats) {
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	if b := f.world.sandboxes[id]; b != nil {
		b.used = s
	}
}

// CPUTime implements sandbox.Weigher.
func (f *Fake) CPUTime(id sandbox.ID) (time.Duration, error) {
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	b := f.world.sandboxes[id]
	if b == nil || !b.running {
		return 0, ended(id)
	}
	return max(b.used.CPUTime, time.Millisecond), nil
}

// SetWeight implements sandbox.Weigher.
func (f *Fake) SetWeight(id sandbox.ID, weight int) error {
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	b := f.world.sandboxes[id]
	if b == nil {
		return ended(id)
	}
	b.weight = weight
	return nil
}

// Weight returns the last weight that was set, or that of a new sandbox.
func (f *Fake) Weight(id sandbox.ID) int {
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	if b := f.world.sandboxes[id]; b != nil && b.weight > 0 {
		return b.weight
	}
	return 100
}
