package guest

import (
	"sync"

	"github.com/sandpool/sandpool/internal/agent"
)

// feed holds the events of a running cell for a client that may read slowly or
// not at all. It is bounded by what a result may hold, so the cell never waits for it. All
// methods of a nil feed do nothing.
type feed struct {
	wake chan struct{}

	mu     sync.Mutex // guards all below
	events []agent.Event
	left   [2]int    // bytes that each stream may still add
	parts  [2][]byte // an incomplete rune at the end of each stream
}

func newFeed(limit int) *feed {
	return &feed{wake: make(chan struct{}, 1), left: [2]int{limit, limit}}
}

func (f *feed) stdout() func([]byte) { return f.stream(0) }
func (f *feed) stderr() func([]byte) { return f.stream(1) }

func (f *feed) stream(i int) func([]byte) {
	if f == nil {
		return nil
	}
	return func(p []byte) { f.write(i, p) }
}

func (f *feed) write(i int, p []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p = p[:min(len(p), f.left[i])]
	f.left[i] -= len(p)
	data := append(f.parts[i], p...)
	whole := wholeRunes(data)
	f.parts[i] = append([]byte(nil), data[len(whole):]...)
	if len(whole) == 0 {
		return
	}
	ev := agent.Event{Stdout: string(whole)}
	if i == 1 {
		ev = agent.Event{Stderr: string(whole)}
	}
	f.add(ev)
}

func (f *feed) display(d agent.Display) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add(agent.Event{Display: &d})
}

func (f *feed) clear(wait bool) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add(agent.Event{Clear: &agent.Clear{Wait: wait}})
}

// add appends under mu. Small pieces of one stream become one event.
func (f *feed) add(ev agent.Event) {
	if n := len(f.events); n > 0 && isText(ev) && isText(f.events[n-1]) {
		last := &f.events[n-1]
		if (ev.Stdout != "") == (last.Stdout != "") && len(last.Stdout)+len(last.Stderr) < 32<<10 {
			last.Stdout += ev.Stdout
			last.Stderr += ev.Stderr
			return
		}
	}
	f.events = append(f.events, ev)
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func isText(ev agent.Event) bool { return ev.Stdout != "" || ev.Stderr != "" }

// take returns the events since the last call.
func (f *feed) take() []agent.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	events := f.events
	f.events = nil
	return events
}
