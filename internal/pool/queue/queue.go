// Package queue is the line before a full pool: who came first gets the slot that comes free first.
//
// A line knows nothing of slots. Whoever frees one says so, and the first in line is called; it
// asks for the slot itself and keeps its place until it leaves, so that nobody overtakes it while
// it asks. A call may be in vain, and costs one question then; a slot that comes free while
// somebody asks is not lost, because the line counts them.
package queue

import (
	"slices"

	"github.com/sandpool/sandpool"
)

// Line is who waits for a slot, in order. The zero value is an empty line. Its caller guards it.
type Line struct {
	places []*Place
	freed  int64
}

// Place is one caller's place in a line.
type Place struct {
	identifier sandpool.Identifier
	turn       chan struct{} // closed when called
	called     bool
}

// Len is how many have a place.
func (l *Line) Len() int { return len(l.places) }

// Waiting is how many of them were not called.
func (l *Line) Waiting() int {
	n := 0
	for _, p := range l.places {
		if !p.called {
			n++
		}
	}
	return n
}

// Mark is what Wait wants to know: taken before a slot is asked for, it tells whether one came
// free since.
func (l *Line) Mark() int64 { return l.freed }

// Join takes the last place.
func (l *Line) Join(identifier sandpool.Identifier) *Place {
	p := &Place{identifier: identifier, turn: make(chan struct{})}
	l.places = append(l.places, p)
	return p
}

// Wait returns what is closed when it is p's turn, after a question that began at mark was in vain.
func (l *Line) Wait(p *Place, mark int64) <-chan struct{} {
	if p.called {
		p.turn, p.called = make(chan struct{}), false
	}
	if l.freed != mark && l.places[0] == p {
		p.call()
	}
	return p.turn
}

// Free says that a slot came free: it calls the first who was not called yet.
func (l *Line) Free() {
	l.freed++
	for _, p := range l.places {
		if !p.called {
			p.call()
			return
		}
	}
}

// FreeAll says that everything has changed: it calls all.
func (l *Line) FreeAll() {
	l.freed++
	for _, p := range l.places {
		p.call()
	}
}

// Serve calls those who wait for the identifier, which has its session now.
func (l *Line) Serve(identifier sandpool.Identifier) {
	for _, p := range l.places {
		if p.identifier == identifier {
			p.call()
		}
	}
}

// Leave gives p's place up, and its turn, if it had one, to the next.
func (l *Line) Leave(p *Place) {
	if i := slices.Index(l.places, p); i >= 0 {
		l.places = slices.Delete(l.places, i, i+1)
		l.Free()
	}
}

func (p *Place) call() {
	if !p.called {
		p.called = true
		close(p.turn)
	}
}
