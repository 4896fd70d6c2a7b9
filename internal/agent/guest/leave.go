package guest

import (
	"context"
	"time"
)

// What becomes of a cell whose caller has left: it is interrupted until it yields. A cell may
// refuse to. Then it goes on until another call wants the kernel and has waited for as long as
// it would have let its own code run; the kernel is replaced, and the answer to that call says so.

// attend sees to it that the cell is interrupted once nobody waits for it, until what it
// returns is called.
func (c *cell) attend() (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	untold := context.AfterFunc(c.ctx, func() {
		defer close(ended)
		c.drop(over)
	})
	return func() {
		close(over)
		if !untold() {
			<-ended // an interrupt that comes later could hit the next cell
		}
	}
}

// drop interrupts the cell again and again until it is over.
func (c *cell) drop(over <-chan struct{}) {
	left := time.Now()
	for pause := firstRepeat; ; pause = min(2*pause, lastRepeat) {
		if c.d.impatient(left) {
			c.evicted.Store(true)
			c.k.kill()
		} else {
			c.k.interrupt()
		}
		select {
		case <-over:
			return
		case <-time.After(pause):
		}
	}
}

// The reasons why a kernel is not the one that the last answer was of.
const (
	lostBetween = "The interpreter ended after the last execution and was restarted. Variables " +
		"are lost; files are kept."
	lostEvicted = "The code of an earlier call, whose caller had left, did not react to " +
		"interrupts, so the interpreter was restarted. Variables are lost; files are kept."
	lostUnheard = "The interpreter ended under the code of an earlier call, whose caller had " +
		"left, and was restarted. Variables are lost; files are kept."
)

// whyLost says to the next call what became of this one.
func (c *cell) whyLost() string {
	if c.evicted.Load() {
		return lostEvicted
	}
	return lostUnheard
}

// waiter is a call that waits for its turn.
type waiter struct {
	since    time.Time
	patience time.Duration
}

// impatient reports whether a call has waited long enough for a cell that nobody waits for,
// since it came or since the cell's caller left, whichever was later.
func (d *Driver) impatient(left time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for w := range d.waiters {
		if w.patience > 0 && time.Since(later(w.since, left)) >= w.patience {
			return true
		}
	}
	return false
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// wait registers a call that waits, until what it returns is called.
func (d *Driver) wait(patience time.Duration) (over func()) {
	w := &waiter{since: time.Now(), patience: patience}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiters[w] = struct{}{}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.waiters, w)
	}
}

// yield is the turns that a cell has to end since its time is over.
type yield struct {
	turn  int
	since time.Time
}

// next begins a turn, if there is one more, and says whether the cell is to be interrupted.
func (y *yield) next(now time.Time) (interrupt, more bool) {
	if y.turn == 0 {
		y.since = now
	}
	if y.turn == yieldTurns || now.Sub(y.since) >= longestYield {
		return false, false
	}
	interrupt = y.turn == 0 || y.turn >= secondTry && (y.turn-secondTry)%5 == 0
	y.turn++
	return interrupt, true
}
