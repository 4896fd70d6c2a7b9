package pool_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/postgres"
	"github.com/sandpool/sandpool/internal/postgres/pgtest"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
	"github.com/sandpool/sandpool/internal/store"
	"github.com/sandpool/sandpool/internal/store/storetest"
)

// cable is the way from a server to the database: a socket that leads to the database's, and can be
// cut and held up.
type cable struct {
	t      *testing.T
	dir    string
	to     string
	accept net.Listener
	wait   sync.WaitGroup

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]bool
	cut   bool
	held  chan struct{} // closed when bytes may pass
}

// postgresSocket is the file that clients of a database look for in its folder.
const postgresSocket = ".s.PGSQL.5432"

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	dir, err := os.MkdirTemp("", "cable-") // short: the paths of sockets are
	if err != nil {
		t.Fatal(err)
	}
	open := make(chan struct{})
	close(open)
	c := &cable{t: t, dir: dir, to: to, conns: map[net.Conn]bool{}, held: open}
	if c.accept, err = net.Listen("unix", filepath.Join(dir, postgresSocket)); err != nil {
		t.Fatal(err)
	}
	c.wait.Go(c.serve)
	return c
}

func (c *cable) serve() {
	for {
		in, err := c.accept.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("unix", filepath.Join(c.to, postgresSocket))
		c.mu.Lock()
		if err != nil || c.cut {
			c.mu.Unlock()
			_ = in.Close()
			if err == nil {
				_ = out.Close()
			}
			continue
		}
		c.conns[in], c.conns[out] = true, true
		c.mu.Unlock()
		c.wait.Go(func() { c.copy(in, out) })
		c.wait.Go(func() { c.copy(out, in) })
	}
}

func (c *cable) copy(to, from net.Conn) {
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		c.mu.Lock()
		held := c.held
		c.mu.Unlock()
		<-held
		if n > 0 {
			if _, failed := to.Write(b[:n]); failed != nil {
				err = failed
			}
		}
		if err != nil {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, to)
	delete(c.conns, from)
	_ = to.Close()
	_ = from.Close()
}

// partition cuts all connections, and lets no other come, until it is mended.
func (c *cable) partition(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	for conn := range c.conns {
		_ = conn.Close()
	}
}

// pause holds up what passes, as a machine does that is stopped in its tracks, until resume.
func (c *cable) pause() (resume func()) {
	held := make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = held
	return func() { close(held) }
}

func (c *cable) close() {
	_ = c.accept.Close()
	c.partition(true)
	c.wait.Wait()
	if err := os.RemoveAll(c.dir); err != nil {
		c.t.Error(err)
	}
}

// chronicle is what the servers say of pools and sandboxes.
type chronicle struct {
	began time.Time
	mu    sync.Mutex // guards lines
	lines []string
}

type teller struct {
	*chronicle
	server string
}

// Observe implements event.Observer.
func (t teller) Observe(e event.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, fmt.Sprintf("%v %s %v %s %s %s %v", time.Since(t.began), t.server,
		e.Name, e.Sandbox, e.Outcome, e.Message, e.Err))
}

func (c *chronicle) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.lines, "\n")
}

// replica is a server of the history: a manager that lives, dies and comes back.
type replica struct {
	t      *testing.T
	name   string
	store  string
	engine *sandboxtest.Fake
	cable  *cable
	events event.Observer

	mu      sync.Mutex // guards what follows
	manager *pool.Manager
	kill    func()
}

// start begins a life. kill ends it as the end of a process does: nothing is said to anybody.
func (r *replica) start() {
	db, err := postgres.Open(r.t.Context(), slog.New(slog.DiscardHandler), r.store)
	if err != nil {
		r.t.Error(err)
		return
	}
	life := &life{}
	o := options()
	o.Owner, o.Instance, o.Patience = r.name, "instance of "+r.name, 2*time.Second
	o.SweepInterval = time.Second
	m, err := pool.New(r.events, mortalStore{db, life},
		mortalEngine{r.engine.Reopen(), life}, o)
	if err != nil {
		r.t.Error(err)
		return
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.manager = m
	var once sync.Once
	r.kill = func() {
		once.Do(func() {
			life.over.Store(true)
			cancel()
			if err := errors.Join(<-done, db.Close()); err != nil {
				r.t.Errorf("end of %s: %v", r.name, err)
			}
		})
	}
}

func (r *replica) end() {
	r.mu.Lock()
	kill := r.kill
	r.manager = nil
	r.mu.Unlock()
	if kill != nil {
		kill()
	}
}

func (r *replica) now() *pool.Manager {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.manager
}

// TestServersHistory: three servers on one PostgreSQL are killed, cut off from it and held up while
// clients claim and stop sessions at whichever owns the pool. What the clients see can be explained
// one step at a time: no identifier ever has two sandboxes, and no sandbox two identifiers. There
// are never more sessions than the maximum, and in the end nothing runs that nobody knows.
func TestServersHistory(t *testing.T) {
	pg, err := pgtest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	}()
	address, err := pg.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	socket := socketOf(t, address)
	fake := sandboxtest.New(nil)
	defer fake.Close()
	told := &chronicle{began: time.Now()}
	defer func() {
		if t.Failed() {
			t.Log(told.text())
		}
	}()
	var servers []*replica
	for i := range 3 {
		c := newCable(t, socket)
		defer c.close()
		r := &replica{t: t, name: fmt.Sprint("server-", i), engine: fake, cable: c,
			events: teller{told, fmt.Sprint("server-", i)},
			store:  strings.ReplaceAll(address, escaped(socket), escaped(c.dir))}
		r.start()
		defer r.end()
		servers = append(servers, r)
	}
	const most = 3
	if _, err := servers[0].now().Put(t.Context(), spec(2, most), nil); err != nil {
		t.Fatal(err)
	}
	h := &story{t: t, servers: servers}
	over := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 6 {
		clients.Go(func() { h.client(i, over) })
	}
	dice := rand.New(rand.NewPCG(7, 1))
	for _, fault := range []string{"kill", "cut", "hold", "cut", "kill", "hold"} {
		began := time.Now()
		h.fault(fault, servers[h.owner(dice)], dice)
		h.bounded(address, most)
		h.history.Settle(began) // calls from before it have had a whole fault's time
	}
	close(over)
	clients.Wait()
	h.history.Check(t)
	if n := h.got.Load(); n < 50 {
		t.Errorf("only %d requests got a session", n)
	}
	h.settled(fake)
}

// socketOf is the folder of the database's socket.
func socketOf(t *testing.T, address string) string {
	t.Helper()
	_, rest, ok := strings.Cut(address, "host=")
	host, _, _ := strings.Cut(rest, "&")
	if !ok {
		t.Fatalf("the address %q has no host", address)
	}
	return strings.ReplaceAll(host, "%2F", "/")
}

func escaped(path string) string { return strings.ReplaceAll(path, "/", "%2F") }

// story is what clients ask, and what happens meanwhile.
type story struct {
	t       *testing.T
	servers []*replica
	history storetest.History
	got     atomic.Int64
}

// client asks one server after the other, as if it had no idea who owns the pool.
func (h *story) client(n int, over <-chan struct{}) {
	dice := rand.New(rand.NewPCG(3, uint64(n)))
	for {
		select {
		case <-over:
			return
		case <-time.After(time.Duration(dice.IntN(20)) * time.Millisecond):
		}
		m := h.servers[dice.IntN(len(h.servers))].now()
		if m == nil {
			continue
		}
		identifier := sandpool.Identifier(fmt.Sprint("user-", dice.IntN(4)))
		ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
		if dice.IntN(6) == 0 {
			h.stop(ctx, n, m, identifier)
		} else {
			h.history.Acquire(n, identifier, func() sandpool.SandboxID {
				l, err := m.Acquire(ctx, python, identifier)
				if err != nil {
					return ""
				}
				defer l.Release()
				h.got.Add(1)
				return l.Sandbox().ID
			})
		}
		cancel()
	}
}

// stop ends the identifier's session, and tells the history whether it is known what became of it.
func (h *story) stop(ctx context.Context, n int, m *pool.Manager, identifier sandpool.Identifier) {
	h.history.TryStopSession(n, identifier, func() (found, known, refused bool) {
		err := m.StopSession(ctx, python, identifier)
		class := sandpool.ClassOf(err)
		// A write that was sent again may have been carried out the first time.
		sent := err != nil && strings.Contains(err.Error(), "end sandbox")
		refused = errors.Is(err, store.ErrNotOwner) && !sent ||
			err != nil && class == sandpool.NotFound &&
				strings.Contains(err.Error(), "pool \"python")
		return err == nil, err == nil || class == sandpool.NotFound, refused
	})
}

// owner is a server that has the pool, or any if none says so.
func (h *story) owner(dice *rand.Rand) int {
	for i, r := range h.servers {
		if m := r.now(); m != nil {
			if mine, err := m.OwnPools(h.t.Context()); err == nil && len(mine) > 0 {
				return i
			}
		}
	}
	return dice.IntN(len(h.servers))
}

// fault harms a server for longer than the others are patient, and mends it.
func (h *story) fault(what string, r *replica, dice *rand.Rand) {
	harm := time.After(time.Duration(3000+dice.IntN(1000)) * time.Millisecond)
	switch what {
	case "kill":
		r.end()
		<-harm
		r.start()
	case "cut":
		r.cable.partition(true)
		<-harm
		r.cable.partition(false)
	case "hold":
		resume := r.cable.pause()
		<-harm
		resume()
	}
	<-time.After(500 * time.Millisecond)
}

// bounded fails if the database has more sessions than the pool may have.
func (h *story) bounded(address string, most int) {
	h.t.Helper()
	db, err := postgres.Open(h.t.Context(), slog.New(slog.DiscardHandler), address)
	if err != nil {
		h.t.Error(err)
		return
	}
	rows, err := db.Sandboxes(h.t.Context())
	if err := errors.Join(err, db.Close()); err != nil {
		h.t.Error(err)
	}
	n := 0
	for _, b := range rows {
		if b.Identifier != "" && b.State != sandpool.Stopping {
			n++
		}
	}
	if n > most {
		h.t.Errorf("the pool has %d sessions of at most %d", n, most)
	}
}

// settled waits until one server owns the pool, and has all that runs.
func (h *story) settled(fake *sandboxtest.Fake) {
	h.t.Helper()
	var known, running []sandpool.SandboxID
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		known = nil
		owners := 0
		for _, r := range h.servers {
			if mine, err := r.now().OwnPools(h.t.Context()); err != nil || len(mine) == 0 {
				continue
			}
			owners++
			rows, _ := r.now().Sandboxes(h.t.Context(), python)
			for _, row := range rows {
				known = append(known, row.ID)
			}
		}
		slices.Sort(known)
		running = fake.Running()
		if owners == 1 && slices.Equal(known, running) {
			return
		}
	}
	h.t.Errorf("%v run, and the owner has %v", running, known)
}
