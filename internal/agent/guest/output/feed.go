package output

import (
	"sync"

	"github.com/sandpool/sandpool/internal/agent"
)

// Taker takes what a running cell puts out, piece by piece and in order. It is called by whoever
// has just read the piece, which waits for it, so it must not block.
type Taker interface {
	// Begun says that the cell runs: it does not wait for another any more.
	Begun()
	// Event is something that the cell has put out.
	Event(ev agent.Event)
	// Still says that the cell goes on, and has nothing to say at the moment.
	Still()
}

// Feed passes on what a running cell puts out, in whole runes, and no more than a result may hold
// of it. All methods of a nil Feed do nothing.
type Feed struct {
	mu    sync.Mutex // guards all below, and is held while the taker is called
	to    Taker
	left  [2]int    // bytes that each stream may still add
	parts [2][]byte // an incomplete rune at the end of each stream
}

// NewFeed returns a feed that passes on at most limit bytes of each stream.
func NewFeed(limit int, to Taker) *Feed { return &Feed{to: to, left: [2]int{limit, limit}} }

// Begin says that the cell runs.
func (f *Feed) Begin() { f.tell(func() { f.to.Begun() }) }

// Still says that the cell goes on without a word.
func (f *Feed) Still() { f.tell(func() { f.to.Still() }) }

// Display passes on what a cell shows.
func (f *Feed) Display(d agent.Display) {
	f.tell(func() { f.to.Event(agent.Event{Display: &d}) })
}

// Clear says that the output so far is to be forgotten, with wait only when there is new output.
func (f *Feed) Clear(wait bool) {
	f.tell(func() { f.to.Event(agent.Event{Clear: &agent.Clear{Wait: wait}}) })
}

// End passes on what a stream ends with that is no whole rune.
func (f *Feed) End() {
	f.tell(func() {
		for i, rest := range f.parts {
			if len(rest) > 0 {
				f.parts[i] = nil
				f.to.Event(textEvent(i, rest))
			}
		}
	})
}

func textEvent(stream int, text []byte) agent.Event {
	if stream == 1 {
		return agent.Event{Stderr: string(text)}
	}
	return agent.Event{Stdout: string(text)}
}

func (f *Feed) tell(what func()) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	what()
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
	if len(whole) > 0 {
		f.to.Event(textEvent(i, whole))
	}
}
