package usage

import (
	"strconv"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
)

// BenchmarkExecution is what an execution pays for being counted.
func BenchmarkExecution(b *testing.B) {
	m, err := New(event.Discard{}, &faults{}, DefaultSettings(), nil)
	if err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		m.Began(sandpool.Sandbox{ID: sandpool.SandboxID(strconv.Itoa(i)), Identifier: "some",
			ClaimedAt: time.Now()}, 1)
	}
	counted := m.Observer(event.Discard{})
	for b.Loop() {
		counted.Observe(event.Event{Name: event.ExecutionEnded, Sandbox: "500"})
	}
}

// BenchmarkSession is what a new session pays for being recorded, and its end.
func BenchmarkSession(b *testing.B) {
	m, err := New(event.Discard{}, &faults{}, DefaultSettings(), nil)
	if err != nil {
		b.Fatal(err)
	}
	row := sandpool.Sandbox{ID: "one", Identifier: "customer-0001-conversation",
		ClaimedAt: time.Now()}
	for b.Loop() {
		m.Began(row, 1)
		m.Ended(row, 1)
		m.Left(row.ID)
	}
}
