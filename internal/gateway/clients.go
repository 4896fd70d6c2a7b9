package gateway

import (
	"context"
	"sync"

	"github.com/sandpool/sandpool"
)

// clients keeps one Interpreter for each sandbox in use, so that calls share its
// open connections.
type clients struct {
	connect func(Lease) Interpreter
	mu      sync.Mutex // guards known
	known   map[sandpool.SandboxID]Interpreter
}

func newClients(connect func(Lease) Interpreter) *clients {
	return &clients{connect: connect, known: map[sandpool.SandboxID]Interpreter{}}
}

// of returns the interpreter in l's sandbox. It is forgotten when the session ends.
func (c *clients) of(l Lease) Interpreter {
	id := l.Sandbox().ID
	c.mu.Lock()
	defer c.mu.Unlock()
	if in, ok := c.known[id]; ok {
		return in
	}
	in := c.connect(l)
	c.known[id] = in
	context.AfterFunc(l.Context(), func() { c.forget(id, in) })
	return in
}

func (c *clients) forget(id sandpool.SandboxID, in Interpreter) {
	c.mu.Lock()
	delete(c.known, id)
	c.mu.Unlock()
	in.Close()
}
