package interpreter

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/budget"
)

// Agent is what an Interpreter asks of the program in its sandbox; agent.Client describes
// it. It is safe for use by several goroutines.
type Agent interface {
	Execute(ctx context.Context, r agent.ExecuteRequest) (agent.ExecuteResult, error)
	Upload(ctx context.Context, path string, r io.Reader, limit int64) (agent.FileInfo, error)
	List(ctx context.Context, dir string, recursive bool, room agent.Room) ([]agent.FileInfo, error)
	Stat(ctx context.Context, path string) (agent.FileInfo, error)
	Open(ctx context.Context, path, rangeHeader string) (*agent.Content, error)
	Delete(ctx context.Context, path string) error
	// Close drops idle connections.
	Close()
}

var _ Agent = (*agent.Client)(nil)

// Session is what is needed of the session that a sandbox serves. A lease on it is one,
// also after its release.
type Session interface {
	// Sandbox says which sandbox it is, and the secret of its agent.
	Sandbox() sandpool.Sandbox
	// Dial connects to a TCP port inside the sandbox, until the session ends.
	Dial(ctx context.Context, port int) (net.Conn, error)
	// Context ends when the session ends, for whatever reason; its cause is an
	// error of class Ended that says which.
	Context() context.Context
}

// Options are a Set's settings. Zero means the default.
type Options struct {
	// MaxTimeout is the longest timeout that an execution may have; default 220 s. One that
	// waits for another of its session waits for that long.
	MaxTimeout time.Duration
	// Stall is how long the content of a file may make no progress; default 30 s.
	Stall time.Duration
	// Idle is called when large answers have been dealt with, so that their memory can be given
	// back to the machine. It must not block; nil means that nothing is done.
	Idle func()
	// Connect reaches the agent of a session that the Set has not met; nil means by the
	// agent's protocol.
	Connect func(Session) Agent
}

func (o Options) withDefaults() Options {
	if o.MaxTimeout <= 0 {
		o.MaxTimeout = agent.DefaultTimeout
	}
	if o.Stall <= 0 {
		o.Stall = 30 * time.Second
	}
	if o.Connect == nil {
		o.Connect = func(s Session) Agent { return agent.NewClient(s.Dial, s.Sandbox().Secret) }
	}
	return o
}

// Set is the interpreters of all sandboxes. Its methods may be called at the same time.
type Set struct {
	options Options
	work    *budget.Budget
	turns   *turns

	mu    sync.Mutex // guards the fields below it, and the session of each Interpreter
	known map[sandpool.SandboxID]*Interpreter
	found map[string]finding // by the key of a pool
}

// New returns a Set that knows no sandbox yet.
func New(o Options) *Set {
	return &Set{options: o.withDefaults(), work: budget.New(budget.Limits{Total: allRoom,
		Pool: poolRoom}, o.Idle), turns: &turns{of: map[string]chan struct{}{}},
		known: map[sandpool.SandboxID]*Interpreter{}, found: map[string]finding{}}
}

// Interpreter runs code and keeps files in one sandbox. The paths of files are
// relative to agent.DataDir.
//
// Every method fails with an error of class Ended if the session ends under it, of
// class Unavailable if the sandbox does not answer in time, with the cause of
// ctx if that ends, and otherwise with what the agent answers.
type Interpreter struct {
	set     *Set
	agent   Agent
	session Session // nil while nobody has claimed the sandbox; set once, before Of returns
	views   atomic.Int64
}

// Of returns the interpreter in the session's sandbox. It is forgotten when the session ends.
func (s *Set) Of(session Session) *Interpreter {
	id := session.Sandbox().ID
	s.mu.Lock()
	defer s.mu.Unlock()
	in, ok := s.known[id]
	if !ok {
		in = &Interpreter{set: s, agent: s.options.Connect(session)}
		s.known[id] = in
	}
	if in.session == nil {
		in.session = session
		context.AfterFunc(session.Context(), func() {
			s.forget(id, in)
			in.agent.Close()
		})
	}
	return in
}

func (s *Set) forget(id sandpool.SandboxID, in *Interpreter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[id] == in {
		delete(s.known, id)
	}
}
