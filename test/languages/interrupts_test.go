package languages_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// TestInterruptedAtAnyMoment: an interrupt that comes at any moment of a cell, or between two, ends
// the cell or nothing. What the session knows stays.
func TestInterruptedAtAnyMoment(t *testing.T) {
	for _, l := range []struct {
		language, begin, kept, want string
		cells                       []string
	}{
		{"node", "globalThis.x = 41", "console.log(x + 1)", "42\n", []string{
			"1 + 1", "for (const end = Date.now() + 5; Date.now() < end;);", "await 1; 2",
			"await new Promise(r => setTimeout(r, 5))", "console.log('x'); await null",
			"process.once('SIGINT', () => {}); 1"}},
	} {
		t.Run(l.language, func(t *testing.T) {
			c := newMachine(t, l.language).restore(t)
			run(t, c, time.Minute, l.begin)
			over, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for {
					select {
					case <-over:
						return
					case <-time.After(rand.N(2 * time.Millisecond)):
					}
					if err := c.Interrupt(t.Context()); err != nil {
						t.Error(err)
						return
					}
				}
			}()
			interrupted := 0
			for n := range 600 {
				code := l.cells[n%len(l.cells)]
				res := run(t, c, time.Minute, code)
				if res.Outcome == agent.Interrupted {
					interrupted++
				}
				if res.KernelRestarted {
					t.Errorf("%s: %s, %+v", code, res.Outcome, res.Error)
					break
				}
			}
			close(over)
			<-done
			if res := run(t, c, time.Minute, l.kept); res.Stdout != l.want {
				t.Errorf("after interrupts: %s, %q, %+v", res.Outcome, res.Stdout, res.Error)
			}
			t.Logf("%d of 600 cells were interrupted", interrupted)
		})
	}
}

// TestInterruptedPrints: Node's streams print on after an interrupt has broken what they did.
func TestInterruptedPrints(t *testing.T) {
	c := newMachine(t, "node").restore(t)
	run(t, c, time.Minute, "globalThis.x = 42")
	for n := range 100 {
		res := run(t, c, 10*time.Millisecond, "for (;;) console.log('x'.repeat(100))")
		if res.Outcome != agent.TimeoutInterrupted {
			t.Fatalf("print %d: %s, %+v", n, res.Outcome, res.Error)
		}
		res = run(t, c, 5*time.Second, "console.log(x)")
		if res.Outcome != agent.OK || res.Stdout != "42\n" {
			t.Fatalf("after %d: %s, %.100q, %+v", n, res.Outcome, res.Stdout, res.Error)
		}
	}
}
