package gateway

import (
	"context"
	"io"
	"sync"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// Interpreter is what the gateway asks of the sandbox: to run code and to keep files.
// It is safe for use by several goroutines.
type Interpreter interface {
	Execute(ctx context.Context, r agent.ExecuteRequest) (agent.ExecuteResult, error)
	// The paths of files are relative to /mnt/data.
	Upload(ctx context.Context, path string, r io.Reader, limit int64) (agent.FileInfo, error)
	List(ctx context.Context, dir string, recursive bool) ([]agent.FileInfo, error)
	Stat(ctx context.Context, path string) (agent.FileInfo, error)
	Open(ctx context.Context, path, rangeHeader string) (*agent.Content, error)
	Delete(ctx context.Context, path string) error
	// Close drops idle connections.
	Close()
}

var _ Interpreter = (*agent.Client)(nil)

// connectAgent speaks the agent's protocol with l's sandbox. The client serves all
// later leases on the sandbox too: a lease dials as long as its session lives, also
// when it has been released.
func connectAgent(l Lease) Interpreter { return agent.NewClient(l.Dial, l.Sandbox().Secret) }

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
