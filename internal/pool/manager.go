package pool

import (
	"context"
	"crypto/rand"
	"errors"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool/lease"
	"github.com/sandpool/sandpool/internal/pool/meter"
	"github.com/sandpool/sandpool/internal/pool/plan"
	"github.com/sandpool/sandpool/internal/pool/quota"
	"github.com/sandpool/sandpool/internal/pool/room"
	"github.com/sandpool/sandpool/internal/pool/share"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/store"
)

// Options are a Manager's settings. Zero durations and numbers mean the default that is named.
type Options struct {
	// Guest says what runs in a pool's sandboxes. It is asked whenever the pool has changed, and
	// answers at once. Required.
	Guest func(p sandpool.Pool) (Guest, error)
	// Owner names this server among those that share the store: the same one after a restart, and
	// no two that run at the same time. Empty means that nobody shares it.
	Owner string
	// Instance tells it from another that was given the same name by mistake; the same after a
	// restart. Required with Owner.
	Instance string
	// Address is where the other servers reach it, host:port; empty if they cannot.
	Address string
	// Locations are those whose pools this server serves, without commas; none means all. For a
	// pool of another location it starts nothing.
	Locations []string
	// Patience is how long a server may be silent before others take its pools; lease.Patience. It
	// must be the same for all.
	Patience time.Duration
	// MaxStarts bounds the sandboxes being started at the same time; two for each core.
	MaxStarts int
	// StartTimeout bounds one start, Init included, and the wait for a turn to start; 60 s. A
	// sandbox that boots has the time that its template grants besides.
	StartTimeout time.Duration
	// StopTimeout bounds one attempt to stop; 30 s. A stop is repeated until it succeeds.
	StopTimeout time.Duration
	// PrepareTimeout bounds making a pool's template ready; 15 min.
	PrepareTimeout time.Duration
	// SweepInterval is the time between comparisons of memory, store and engine; 30 s.
	SweepInterval time.Duration
	// Quota is how many sessions each principal may have at a time, of all pools; zero means any
	// number.
	Quota int
	// Queue is how callers of a full pool may wait, unless the pool says. Zero means not at all.
	Queue sandpool.Queue
	// By is the subject of the principal who asks, by the context of a call; nil means that nobody
	// knows.
	By func(context.Context) string
	// Author returns how whoever deletes a pool is written down; nil means that nobody is.
	Author func(context.Context) sandpool.Author
	// Keep is told when a pool that this server owns begins to keep, or keeps otherwise, what its
	// sessions run, and with nil when it does so no more, or is gone. It is called with locks held
	// and must not block. nil means that nobody is told.
	Keep func(id sandpool.PoolID, how *sandpool.History)
	// Meter counts what sessions use; nil means that nobody does.
	Meter meter.Meter
	// Claims keeps how often sessions of pools that forecast are claimed, so that a forecast goes
	// on with the next owner; nil means that nobody does.
	Claims store.Documents
	// Service is what sandboxes find on their loopback interface; nil means nothing.
	Service Service
	// Machine measures what sandboxes take from; nil means that there is always enough.
	Machine Machine
	// Reserve is what of it they leave to the server, and to those of them that run.
	Reserve room.Amount
	// LightWeight is the weight of sandboxes that compute little, of which others have
	// share.Standard; share.Light.
	LightWeight int
}

func (o *Options) complete() error {
	if o.Guest == nil {
		return errors.New("options: Guest is nil")
	}
	if o.Owner != "" && o.Instance == "" {
		return errors.New("options: an owner needs an instance")
	}
	if o.LightWeight < 0 || o.LightWeight > share.Light || o.MaxStarts < 0 ||
		o.StartTimeout < 0 || o.StopTimeout < 0 || o.PrepareTimeout < 0 ||
		o.SweepInterval < 0 || o.Patience < 0 ||
		o.Quota < 0 || o.Queue.Length < 0 || o.Queue.Wait < 0 {
		return errors.New("options: a number or duration is negative")
	}
	if o.By == nil {
		o.By = func(context.Context) string { return "" }
	}
	if o.Keep == nil {
		o.Keep = func(sandpool.PoolID, *sandpool.History) {}
	}
	if o.Meter == nil {
		o.Meter = meter.None{}
	}
	if o.LightWeight == 0 {
		o.LightWeight = share.Light
	}
	if o.MaxStarts == 0 {
		o.MaxStarts = 2 * runtime.NumCPU()
	}
	for _, each := range []struct {
		d         *time.Duration
		byDefault time.Duration
	}{
		{&o.StartTimeout, time.Minute}, {&o.StopTimeout, 30 * time.Second},
		{&o.PrepareTimeout, 15 * time.Minute}, {&o.SweepInterval, 30 * time.Second},
		{&o.Patience, lease.Patience},
	} {
		if *each.d == 0 {
			*each.d = each.byDefault
		}
	}
	return nil
}

// Manager keeps pools: it is the one writer of the store's sandboxes and the one caller of the
// engine. Its methods may be called from many goroutines, and wait until Run has adopted what
// an earlier process left.
type Manager struct {
	events  event.Observer
	store   store.Store
	engine  sandbox.Runtime
	options Options
	quota   *quota.Quota
	shares  *share.Keeper

	opened chan struct{} // closed when adoption is complete
	wake   chan struct{} // one token: there may be something to do
	lull   *time.Timer   // wakes Run when no ready sandbox was claimed for calm

	// rows serialises changes of pools' rows, so that the store sees them in
	// the order in which memory does. It is taken before mu.
	rows sync.Mutex
	// keys is held while snapshots are removed, and by a preparation that says which one it is
	// about to use. It is taken before mu.
	keys sync.Mutex
	// looking is held by whoever looks at the owners of pools. It is taken before mu.
	looking sync.Mutex
	// remembered is held while claims are read and written. It is taken after rows and before mu.
	remembered sync.Mutex

	mu        sync.Mutex            // guards everything below, and what hangs off it
	life      context.Context       // of Run; nil before, ended after
	pools     map[string]*poolState // by PoolID.Key
	owned     ownership
	sandboxes map[sandpool.SandboxID]*sandboxState
	starts    slots
	room      room.Ledger
	exhausted room.Resource           // what a claim lacked, with nothing left to give up
	measuring bool                    // that is under way
	keeping   bool                    // claims are being read or written
	tallying  bool                    // refusals are being read
	sweeping  bool                    // a sweep is under way
	sweepAt   time.Time               // no sweep before
	unpruned  bool                    // there may be snapshots that nothing needs
	pruning   bool                    // they are being removed
	snapshots map[string]sandbox.Kept // by their keys
	nudged    bool                    // a nudge is on its way
	stops     int                     // attempts to stop in progress
	checks    int                     // questions whether a sandbox lives, in progress
	draining  bool                    // StopAll was called
	empty     chan struct{}           // non-nil while StopAll waits; closed when sandboxes is empty
	closed    bool                    // Run waits for work: no more of it
	work      sync.WaitGroup
}

// New returns a Manager that serves once Run runs, and tells events what happens. The
// observer, the store, the engine and the options' required functions must not be nil.
func New(events event.Observer, rows store.Store, engine sandbox.Runtime, o Options) (*Manager,
	error) {
	if events == nil || rows == nil || engine == nil {
		return nil, errors.New("new pool manager: the observer, the store or the engine is nil")
	}
	if err := o.complete(); err != nil {
		return nil, errors.Join(errors.New("new pool manager"), err)
	}
	m := &Manager{
		events: events, store: rows, engine: engine, options: o,
		quota:  quota.New(o.Quota, rows),
		opened: make(chan struct{}), wake: make(chan struct{}, 1),
		pools:     map[string]*poolState{},
		sandboxes: map[sandpool.SandboxID]*sandboxState{},
		starts:    slots{limit: o.MaxStarts},
	}
	weigher, _ := engine.(sandbox.Weigher)
	m.shares = share.New(weigher, o.LightWeight, m.spawn)
	m.lull = time.AfterFunc(plan.Calm, m.kick)
	return m, nil
}

// openWait is how long a call waits for adoption before it answers "try again".
const openWait = 10 * time.Second

// ready waits until adoption is complete.
func (m *Manager) ready(ctx context.Context) error {
	select {
	case <-m.opened:
		return nil
	default:
	}
	timer := time.NewTimer(openWait)
	defer timer.Stop()
	select {
	case <-m.opened:
		return nil
	case <-timer.C:
		return unavailable(
			"The server is starting and still looks for the sandboxes that run; try again.", nil)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func unavailable(message string, err error) error {
	return &sandpool.Error{Class: sandpool.Unavailable, Message: message, RetryAfter: time.Second,
		Err: err}
}

// kick makes Run look for work.
func (m *Manager) kick() {
	select {
	case m.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// nudgeDelay is how long a nudge waits for others. A plan looks at every sandbox, so that a plan
// for each claim would make a burst of claims cost as its square.
const nudgeDelay = 20 * time.Millisecond

// nudge is kick for what may wait a little: many of them are one look. The caller holds mu.
func (m *Manager) nudge() {
	if m.nudged {
		return
	}
	m.nudged = true
	time.AfterFunc(nudgeDelay, func() {
		m.mu.Lock()
		m.nudged = false
		m.mu.Unlock()
		m.kick()
	})
}

// spawn runs do in a goroutine that Run waits for, with Run's context. It
// reports whether it does: not when Run has ended. The caller holds mu.
func (m *Manager) spawn(do func(context.Context)) bool {
	if m.life == nil || m.life.Err() != nil || m.closed {
		return false
	}
	life := m.life
	m.work.Go(func() { do(life) })
	return true
}

// undo returns a context for giving back what a cancelled call took.
func (m *Manager) undo(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), m.options.StopTimeout)
}

// newID returns an id with 130 random bits, of lower-case letters and digits.
func newID() sandpool.SandboxID { return sandpool.SandboxID(strings.ToLower(rand.Text())) }

// newSecret returns a secret with 130 random bits.
func newSecret() string { return rand.Text() }

// pool returns the state of a pool. The caller holds mu.
func (m *Manager) pool(id sandpool.PoolID) (*poolState, error) {
	p := m.pools[id.Key()]
	if p != nil && !p.passing && !m.overdue() {
		return p, nil
	}
	if p != nil && !p.passing {
		return nil, unavailable("The server has not reached its database for some seconds, and "+
			"another one may serve the session pool by now; try again.", store.ErrNotOwner)
	}
	if _, known := m.owned.holds[id.Key()]; known || p != nil {
		return nil, store.NotOwner(id)
	}
	return nil, sandpool.Errorf(sandpool.NotFound, "SessionPoolNotFound", "sessionPool",
		"There is no session pool %q in resource group %q.", id.Name, id.ResourceGroup)
}
