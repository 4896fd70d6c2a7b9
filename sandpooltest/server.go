package sandpooltest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/interpreter"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
	"github.com/sandpool/sandpool/internal/sqlite"
)

// Pool is the name of the pool that a new server has.
const Pool = "python"

// startTime bounds what New waits for. It is only there to end a hang.
const startTime = 2 * time.Minute

// Options are what a test may choose. The zero value is a server whose code does nothing.
type Options struct {
	// Run says what code does; nil means that all code ends well and says nothing. Calls for one
	// session come one after another, those for several at the same time. It should return when
	// ctx ends, which it does at the code's timeout and when the caller is gone.
	Run func(ctx context.Context, c Code) Outcome
	// MaxSessions bounds the sessions of Pool; zero means 100.
	MaxSessions int
	// Log gets the server's log; nil discards it.
	Log *slog.Logger
}

// Server is a running server.
type Server struct {
	// URL is where the API is, without a trailing slash.
	URL string
	// Token is an administrator's.
	Token string

	options Options
	engine  *sandboxtest.Fake
	manager *pool.Manager
	client  *client.Client
	undo    []func() error // by Close, the last first

	mu     sync.Mutex // guards agents
	agents map[sandpool.SandboxID]*agentOf
}

// New starts a server with one pool, Pool, which can be used at once. The server ends with the
// test. What goes wrong ends the test.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := Start(context.WithoutCancel(t.Context()), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Start is New for programs that are no tests. Values of ctx reach Run; its end does not end the
// server, which Close does.
func Start(ctx context.Context, o Options) (_ *Server, err error) {
	s := &Server{options: o, engine: sandboxtest.New(nil),
		agents: map[sandpool.SandboxID]*agentOf{}}
	s.undo = append(s.undo, func() error { s.engine.Close(); return nil })
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("sandpooltest: %w", err), s.Close())
		}
	}()
	if s.options.Log == nil {
		s.options.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := os.MkdirTemp("", "sandpooltest-")
	if err != nil {
		return nil, err
	}
	s.undo = append(s.undo, func() error { return os.RemoveAll(dir) })
	handler, err := s.assemble(ctx, filepath.Join(dir, "sandpool.db"))
	if err != nil {
		return nil, err
	}
	srv := httptest.NewServer(handler)
	s.undo = append(s.undo, func() error { srv.Close(); return nil })
	s.URL = srv.URL
	if s.client, err = client.New(client.Config{Endpoint: s.URL, Token: s.Token}); err != nil {
		return nil, err
	}
	s.undo = append(s.undo, func() error { s.client.CloseIdle(); return nil })
	if err := s.makePool(ctx); err != nil {
		return nil, fmt.Errorf("make the pool: %w", err)
	}
	return s, nil
}

// assemble opens the store at path and puts the parts before it that the API is made of.
func (s *Server) assemble(ctx context.Context, path string) (http.Handler, error) {
	store, err := sqlite.Open(ctx, s.options.Log, path)
	if err != nil {
		return nil, err
	}
	s.undo = append(s.undo, store.Close)
	tokens, err := auth.NewTokens(store, nil)
	if err != nil {
		return nil, err
	}
	row, text, err := auth.NewToken("sandpooltest", []sandpool.Grant{{Role: auth.Admin}},
		time.Time{}, time.Now())
	if err != nil {
		return nil, err
	}
	if err := store.PutToken(ctx, row); err != nil {
		return nil, err
	}
	s.Token = text
	bus := event.New(event.Log(s.options.Log))
	if s.manager, err = pool.New(bus, store, s.engine, pool.Options{Guest: guest}); err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	g, life := errgroup.WithContext(life)
	g.Go(func() error { return bus.Run(life) })
	g.Go(func() error { return s.manager.Run(life) })
	s.undo = append(s.undo, func() error {
		end()
		if err := g.Wait(); !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	within := interpreter.New(interpreter.Options{Connect: s.connect})
	return routes(s.options.Log, bus, s.manager, tokens, within)
}

// Close ends the server and all its sessions. Calling it again does nothing.
func (s *Server) Close() error {
	var errs []error
	for _, undo := range slices.Backward(s.undo) {
		errs = append(errs, undo())
	}
	s.undo = nil
	return errors.Join(errs...)
}

// makePool makes Pool and waits until it can be used.
func (s *Server) makePool(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	most, ready := cmp.Or(s.options.MaxSessions, 100), 0
	_, err := s.client.PutPool(ctx, Pool, api.SessionPool{
		Location: "local",
		Properties: &api.SessionPoolProperties{
			ContainerType:      string(sandpool.PythonLTS),
			PoolManagementType: "Dynamic",
			ScaleConfiguration: &api.ScaleConfiguration{
				MaxConcurrentSessions: &most, ReadySessionInstances: &ready},
		}})
	return err
}

// Client returns a client of the server, an administrator. It is closed with the server.
func (s *Server) Client() *client.Client { return s.client }

// PoolEndpoint is the address below which the data plane of Pool is, as SDKs want it.
func (s *Server) PoolEndpoint() string { return s.client.PoolEndpoint(Pool) }

// EndSession ends the session that identifier has in Pool as if its sandbox had used more memory
// than it may, and returns when the server has noticed. An identifier without a session is an error
// of class NotFound.
func (s *Server) EndSession(ctx context.Context, identifier string) error {
	id := s.client.PoolID(Pool)
	session, err := s.manager.Session(ctx, id, sandpool.Identifier(identifier))
	if err != nil {
		return err
	}
	s.engine.End(session.Sandbox, sandbox.Exit{Reason: sandbox.OutOfMemory, Code: 137})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		now, err := s.manager.Session(ctx, id, sandpool.Identifier(identifier))
		switch {
		case sandpool.ClassOf(err) == sandpool.NotFound, err == nil &&
			now.Sandbox != session.Sandbox:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
