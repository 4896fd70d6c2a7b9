package output

import (
	"sync"

	"github.com/sandpool/sandpool/internal/agent"
)

// Feed holds the events of a running cell for a client that may read slowly or
// not at all. It is bounded by what a result may hold, so the cell never waits for it. All
// methods of a nil Feed do nothing.
type Feed struct {
	// Wake holds a value when there are events to take.
	Wake chan struct{}

	mu     sync.Mutex // guards all below
	events []agent.Event
	begun  bool
	left   [2]int    // bytes that each stream may still add
	parts  [2][]byte // an incomplete rune at the end of each stream
}

// NewFeed returns a feed that takes at most limit bytes of each stream.
func NewFeed(limit int) *Feed {
	return &Feed{Wake: make(chan struct{}, 1), left: [2]int{limit, limit}}
}

// Begin says that the cell runs: it does not wait for another any more.
func (f *Feed) Begin() {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun = true
	f.wake()
}

// Begun reports whether the cell runs, or has run.
func (f *Feed) Begun() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.begun
}

// Stdout returns what takes standard output.
func (f *Feed) Stdout() func([]byte) { return f.stream(0) }

// Stderr returns what takes standard error.
func (f *Feed) Stderr() func([]byte) { return f.stream(1) }

func (f *Feed) stream(i int) func([]byte) {
	if f == nil {
		return nil
	}
	return func(p []byte) { f.write(i, p) }
}

func (f *Feed) write(i int, p []byte) {
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

// Display adds what a cell shows.
func (f *Feed) Display(d agent.Display) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add(agent.Event{Display: &d})
}

// Clear adds that the output so far is to be forgotten, with wait only when there is new output.
func (f *Feed) Clear(wait bool) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.add(agent.Event{Clear: &agent.Clear{Wait: wait}})
}

// add appends under mu. Small pieces of one stream become one event.
func (f *Feed) add(ev agent.Event) {
	if n := len(f.events); n > 0 && isText(ev) && isText(f.events[n-1]) {
		last := &f.events[n-1]
		if (ev.Stdout != "") == (last.Stdout != "") && len(last.Stdout)+len(last.Stderr) < 32<<10 {
			last.Stdout += ev.Stdout
			last.Stderr += ev.Stderr
			return
		}
	}
	f.events = append(f.events, ev)
	f.wake()
}

func (f *Feed) wake() {
	select {
	case f.Wake <- struct{}{}:
	default:
	}
}

func isText(ev agent.Event) bool { return ev.Stdout != "" || ev.Stderr != "" }

// Take returns the events since the last call.
func (f *Feed) Take() []agent.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	events := f.events
	f.events = nil
	return events
}
