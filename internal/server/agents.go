package server

import (
	"context"
	"crypto/rand"
	"net"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/gateway"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// seedBytes is how much fresh randomness a clone gets before its first use.
const seedBytes = 32

// dialer opens a byte stream to a port of one sandbox.
type dialer = func(ctx context.Context, port int) (net.Conn, error)

// agents keeps the connections to a ready sandbox, made when it was initialised, until
// the first request for its session takes them over. Opening another one would cost that
// request more than everything else on its way (4 ms of 6, measured).
type agents struct {
	mu    sync.Mutex // guards the fields below it
	idle  map[sandpool.SandboxID]*agent.Client
	found map[string]finding // by the key of a pool
}

// finding is what the sandboxes of a pool's revision hold.
type finding struct {
	revision int64
	since    time.Time // when the sandbox that was asked was made
	metadata agent.Metadata
}

func newAgents() *agents {
	return &agents{idle: map[sandpool.SandboxID]*agent.Client{}, found: map[string]finding{}}
}

// learn asks the first sandbox of a pool's revision what code finds in it, so that
// a question for it takes no session of the pool's.
func (a *agents) learn(ctx context.Context, s sandpool.Sandbox, c *agent.Client) error {
	a.mu.Lock()
	known := a.found[s.Pool.Key()].revision == s.Revision
	a.mu.Unlock()
	if known {
		return nil
	}
	md, err := c.Metadata(ctx)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.found[s.Pool.Key()] = finding{s.Revision, s.CreatedAt, md}
	return nil
}

// metadata implements gateway.Options.Metadata.
func (a *agents) metadata(p sandpool.Pool) (agent.Metadata, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.found[p.ID.Key()]
	if f.since.Before(p.CreatedAt) {
		delete(a.found, p.ID.Key()) // of an earlier pool of this name, whose revisions began at one, too
		return agent.Metadata{}, false
	}
	return f.metadata, f.revision == p.Revision
}

// init makes a fresh clone an individual: it gives the agent its secret, the
// time, and randomness that no other clone has.
func (a *agents) init(ctx context.Context, s sandpool.Sandbox, dial dialer) error {
	seed := make([]byte, seedBytes)
	if _, err := rand.Read(seed); err != nil {
		return err
	}
	c := a.client(s, dial)
	_, err := c.Init(ctx, agent.InitRequest{Secret: s.Secret, Seed: seed, Time: time.Now()})
	if err == nil {
		err = a.attach(ctx, s, dial, c)
	}
	if err == nil {
		err = a.learn(ctx, s, c)
	}
	return a.unless(err, s.ID, c)
}

// attach gives c what its executions take: the sandbox's channel, or a connection to the agent's port.
func (a *agents) attach(ctx context.Context, s sandpool.Sandbox, dial dialer, c *agent.Client) error {
	conn, err := dial(ctx, sandbox.Channel)
	if err != nil {
		return c.Connect(ctx)
	}
	c.Attach(&noticed{Conn: conn, closed: func() { a.drop(s.ID) }})
	return nil
}

// alive checks that the agent of an adopted sandbox answers and knows the
// sandbox's secret. Listing files takes all of the agent.
func (a *agents) alive(ctx context.Context, s sandpool.Sandbox, dial dialer) error {
	c := a.client(s, dial)
	_, err := c.List(ctx, "", false)
	if err == nil {
		err = a.learn(ctx, s, c)
	}
	return a.unless(err, s.ID, c)
}

// connect implements gateway.Options.Connect.
func (a *agents) connect(l gateway.Lease) gateway.Interpreter {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := l.Sandbox().ID
	if c, ok := a.idle[id]; ok {
		delete(a.idle, id)
		return c
	}
	return agent.NewClient(l.Dial, l.Sandbox().Secret)
}

// unless gives up the client of a sandbox that did not answer as it should.
func (a *agents) unless(err error, id sandpool.SandboxID, c *agent.Client) error {
	if err != nil {
		a.drop(id)
		c.Close()
	}
	return err
}

// client makes the client of a sandbox that nobody has claimed. Its place in a
// ends with its connection: a sandbox that is stopped unclaimed breaks that.
func (a *agents) client(s sandpool.Sandbox, dial dialer) *agent.Client {
	c := agent.NewClient(func(ctx context.Context, port int) (net.Conn, error) {
		conn, err := dial(ctx, port)
		if err != nil {
			return nil, err
		}
		return &noticed{Conn: conn, closed: func() { a.drop(s.ID) }}, nil
	}, s.Secret)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.idle[s.ID] = c
	return c
}

func (a *agents) drop(id sandpool.SandboxID) {
	a.mu.Lock()
	c := a.idle[id]
	delete(a.idle, id)
	a.mu.Unlock()
	if c != nil {
		// It has more connections than the one that ended, and whose lock may be held here.
		go c.Close()
	}
}

// noticed is a connection that says when it is closed.
type noticed struct {
	net.Conn
	closed func()
}

// Close implements net.Conn.
func (n *noticed) Close() error {
	n.closed()
	return n.Conn.Close()
}
