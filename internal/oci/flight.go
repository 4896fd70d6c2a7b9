package oci

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/sandpool/sandpool"
)

// flights lets all who want the same image at the same time wait for one pull.
type flights struct {
	mu sync.Mutex // guards what follows
	by map[digest]*flight
}

// flight is one pull that is under way.
type flight struct {
	done chan struct{} // closed when err is set
	err  error

	mu       sync.Mutex // guards what follows
	last     Progress
	watchers []func(Progress)
}

// do runs pull, or waits until somebody else's pull of the same image has ended. progress is told
// how either goes. A pull that ends because its own caller gave up is taken over by who waits.
func (f *flights) do(ctx context.Context, d digest, progress func(Progress),
	pull func(report func(Progress)) error) error {
	for {
		f.mu.Lock()
		if f.by == nil {
			f.by = map[digest]*flight{}
		}
		other, ok := f.by[d]
		if !ok {
			break
		}
		f.mu.Unlock()
		leave := other.watch(progress)
		select {
		case <-ctx.Done():
			leave()
			return ctx.Err()
		case <-other.done:
		}
		if !ofItsCaller(other.err) {
			return other.err
		}
	}
	own := &flight{done: make(chan struct{})}
	f.by[d] = own
	f.mu.Unlock()
	own.watch(progress)
	own.err = pull(own.report)
	f.mu.Lock()
	delete(f.by, d)
	f.mu.Unlock()
	close(own.done)
	return own.err
}

// ofItsCaller says whether a pull failed by what its own caller brought: patience or credentials.
// Others bring their own.
func ofItsCaller(err error) bool {
	var known *sandpool.Error
	return errors.Is(err, context.Canceled) || errors.As(err, &known) &&
		slices.Contains([]string{CodeCredentials, CodeSlow}, known.Code)
}

// watch has progress told from now on, until leave is called.
func (f *flight) watch(progress func(Progress)) (leave func()) {
	if progress == nil {
		return func() {}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last != (Progress{}) {
		progress(f.last)
	}
	f.watchers = append(f.watchers, progress)
	at := len(f.watchers) - 1
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.watchers[at] = nil
	}
}

func (f *flight) report(p Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = p
	for _, w := range f.watchers {
		if w != nil {
			w(p)
		}
	}
}
