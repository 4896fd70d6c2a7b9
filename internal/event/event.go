package event

import (
	"strings"
	"time"

	"github.com/sandpool/sandpool"
)

// Event is something that happened. Fields that say nothing about it are zero.
type Event struct {
	// Seq orders events; the Bus sets it.
	Seq uint64
	// Time is when it happened; the Bus sets it if it is zero.
	Time time.Time
	Name Name
	Pool sandpool.PoolID
	// Sandbox is which sandbox, and so which session, it happened to.
	Sandbox sandpool.SandboxID
	// By is the subject of the principal who asked for it.
	By string
	// Trace is the id of the request's trace, if it is traced.
	Trace string
	// Outcome is one word for how it went; the name says which there are.
	Outcome string
	// Message is a sentence for those who use the pool.
	Message string
	// Took is how long it lasted.
	Took time.Duration
	// Count is how many there were.
	Count int64
	// Retry is when it is tried again.
	Retry time.Time
	// Err is the cause, for the machine's operator alone.
	Err error
}

// Observer is told what happens. Observe is called with locks held, from many goroutines:
// it does not block and calls nothing of the caller's.
type Observer interface {
	Observe(e Event)
}

// Discard is an Observer that forgets.
type Discard struct{}

// Observe implements Observer.
func (Discard) Observe(Event) {}

// maxText bounds each text of an event in bytes. It is ample for sentences of ours, and
// leaves no room for what a guest or a caller might put in one.
const maxText = 500

// clip cuts s to maxText at a character's boundary.
func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}

// clipped is an error that holds its text alone, and little of it: an event that is kept
// must not keep what its cause refers to.
type clipped string

func (c clipped) Error() string { return string(c) }

// bounded returns e with its texts clipped.
func (e Event) bounded() Event {
	e.Message, e.Outcome, e.By = clip(e.Message), clip(e.Outcome), clip(e.By)
	if e.Err != nil {
		e.Err = clipped(clip(e.Err.Error()))
	}
	return e
}
