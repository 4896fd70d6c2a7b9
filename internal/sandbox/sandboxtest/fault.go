package sandboxtest

import (
	"context"
	"time"

	"github.com/sandpool/sandpool/internal/sandbox"
)

// Call names a method of sandbox.Runtime, to order faults for and to count.
type Call string

// The calls of a Fake.
const (
	Prepare Call = "prepare"
	Start   Call = "start"
	Dial    Call = "dial"
	Stop    Call = "stop"
	List    Call = "list"
	Wait    Call = "wait"
	Record  Call = "record"
	Prune   Call = "prune"
	Network Call = "network"
)

// Fault is what goes wrong in one call. The zero Fault is a call that works.
type Fault struct {
	// After delays the call.
	After time.Duration
	// Until holds the call back until the channel is closed.
	Until <-chan struct{}
	// Err is what the call returns.
	Err error
	// Leave, of a Start with Err, leaves a half-started sandbox behind, as a
	// kill -9 of the engine's process does.
	Leave bool
	// Exit, of a Start, ends the sandbox as soon as Start has returned.
	Exit *sandbox.Exit
}

// wait passes the time that the fault takes, or returns the context's error.
func (f Fault) wait(ctx context.Context) error {
	if f.After > 0 {
		timer := time.NewTimer(f.After)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if f.Until != nil {
		select {
		case <-f.Until:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// order is a Fault for the next n calls; a negative n means all.
type order struct {
	n     int
	fault Fault
}

// Order makes the next n calls meet the fault, after those ordered before. A
// negative n means every call until the next Forget.
func (f *Fake) Order(c Call, n int, fault Fault) {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	w.orders[c] = append(w.orders[c], order{n, fault})
}

// Forget drops the faults ordered for c that no call has met.
func (f *Fake) Forget(c Call) {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.orders, c)
}

// Count returns how often c was called.
func (f *Fake) Count(c Call) int {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts[c]
}

// next counts a call and takes the fault ordered for it.
func (w *world) next(c Call) Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[c]++
	queue := w.orders[c]
	if len(queue) == 0 {
		return Fault{}
	}
	fault := queue[0].fault
	if queue[0].n > 0 {
		queue[0].n--
	}
	if queue[0].n == 0 {
		w.orders[c] = queue[1:]
	}
	return fault
}
