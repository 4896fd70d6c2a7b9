package interpreter

import (
	"context"
	"crypto/rand"
	"net"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// seedBytes is how much fresh randomness a clone gets before its first use.
const seedBytes = 32

// dialer opens a byte stream to a port of one sandbox.
type dialer = func(ctx context.Context, port int) (net.Conn, error)

// Init makes a fresh clone an individual: it gives the agent its secret, the
// time, and randomness that no other clone has. What was connected for it stays
// so until the sandbox's session, or its end.
func (s *Set) Init(ctx context.Context, sb sandpool.Sandbox, dial dialer) error {
	return s.InitWith(ctx, sb, nil, dial)
}

// InitWith is Init of a clone that has environment of its own.
func (s *Set) InitWith(ctx context.Context, sb sandpool.Sandbox, env []sandbox.SecretVar,
	dial dialer) error {
	seed := make([]byte, seedBytes)
	if _, err := rand.Read(seed); err != nil {
		return err
	}
	c, in := s.meet(sb, dial)
	own := make(map[string]string, len(env))
	for _, v := range env {
		own[v.Name] = v.Value.Reveal()
	}
	_, err := c.Init(ctx, agent.InitRequest{Secret: sb.Secret, Seed: seed, Time: time.Now(),
		Env: own})
	if err == nil {
		err = s.attach(ctx, sb.ID, in, c, dial)
	}
	if err == nil {
		err = s.learn(ctx, sb, c)
	}
	return s.unless(err, sb.ID, in)
}

// Alive checks that the agent of an adopted sandbox answers and knows the
// sandbox's secret. Listing files takes all of the agent.
func (s *Set) Alive(ctx context.Context, sb sandpool.Sandbox, dial dialer) error {
	c, in := s.meet(sb, dial)
	_, err := c.List(ctx, "", false, nil) // no code has run in it that could have made many
	if err == nil {
		err = s.learn(ctx, sb, c)
	}
	return s.unless(err, sb.ID, in)
}

// meet makes the client of a sandbox that nobody has claimed.
func (s *Set) meet(sb sandpool.Sandbox, dial dialer) (*agent.Client, *Interpreter) {
	in := &Interpreter{set: s}
	c := agent.NewClient(func(ctx context.Context, port int) (net.Conn, error) {
		conn, err := dial(ctx, port)
		if err != nil {
			return nil, err
		}
		return &noticed{Conn: conn, closed: func() { s.drop(sb.ID, in) }}, nil
	}, sb.Secret)
	in.agent = c
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[sb.ID] = in
	return c, in
}

// attach gives c what its executions take: the sandbox's channel, or a connection to the agent's
// port.
func (s *Set) attach(ctx context.Context, id sandpool.SandboxID, in *Interpreter, c *agent.Client,
	dial dialer) error {
	conn, err := dial(ctx, sandbox.Channel)
	if err != nil {
		return c.Connect(ctx)
	}
	c.Attach(&noticed{Conn: conn, closed: func() { s.drop(id, in) }})
	return nil
}

// unless gives up the client of a sandbox that did not answer as it should.
func (s *Set) unless(err error, id sandpool.SandboxID, in *Interpreter) error {
	if err != nil {
		s.forget(id, in)
		in.agent.Close()
	}
	return err
}

// drop forgets a sandbox that ends before anybody has claimed it, which shows in a
// connection that ends. Those of a session end for other reasons too.
func (s *Set) drop(id sandpool.SandboxID, in *Interpreter) {
	s.mu.Lock()
	unclaimed := s.known[id] == in && in.session == nil
	if unclaimed {
		delete(s.known, id)
	}
	s.mu.Unlock()
	if unclaimed {
		// It has more connections than the one that ended, and whose lock may be held here.
		go in.agent.Close()
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
