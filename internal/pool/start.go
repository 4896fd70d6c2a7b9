package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// slots bounds the starts in progress. Claims queue for a slot; refills take
// one only if nobody queues. Manager.mu guards it.
type slots struct {
	limit, used int
	queue       []chan struct{} // closed to hand over a slot
	took        time.Duration   // how long a start took of late
}

func (s *slots) free() int { return max(0, s.limit-s.used-len(s.queue)) }

// wait is how long a claim that queues now will, if starts take what they took of late.
func (s *slots) wait() time.Duration {
	if s.free() > 0 {
		return 0
	}
	return s.took * time.Duration(len(s.queue)+1) / time.Duration(max(1, s.limit))
}

// learn follows how long starts take.
func (s *slots) learn(took time.Duration) {
	if s.took == 0 {
		s.took = took
	}
	s.took += (took - s.took) / 8
}

// give returns a slot, to the first in the queue if there is one.
func (s *slots) give() {
	s.used--
	s.resize(s.limit)
}

// resize sets the limit. Starts that are under way beyond it go on.
func (s *slots) resize(limit int) {
	s.limit = limit
	for s.used < s.limit && len(s.queue) > 0 {
		s.used++
		close(s.queue[0])
		s.queue = s.queue[1:]
	}
}

// errNoTurn is the end of a claim for which too many others start. It is nobody's fault.
var errNoTurn = errors.New("others were started all the time")

// takeSlot waits for a slot for b's start. A claim that would wait longer than starts may is
// refused at once.
func (m *Manager) takeSlot(ctx context.Context, b *sandboxState) error {
	m.mu.Lock()
	if m.starts.free() > 0 {
		m.starts.used++
		m.mu.Unlock()
		return nil
	}
	if m.starts.wait() >= m.options.StartTimeout {
		defer m.mu.Unlock()
		return m.tooBusy(b)
	}
	turn := make(chan struct{})
	m.starts.queue = append(m.starts.queue, turn)
	m.mu.Unlock()
	late := time.NewTimer(m.options.StartTimeout)
	defer late.Stop()
	select {
	case <-turn:
		return nil
	case <-late.C:
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.Index(m.starts.queue, turn); i >= 0 {
		m.starts.queue = slices.Delete(m.starts.queue, i, i+1)
	} else {
		m.starts.give() // it came at the same moment
	}
	if ctx.Err() == nil {
		return m.tooBusy(b)
	}
	return fmt.Errorf("wait for a turn to start: %w", context.Cause(ctx))
}

// tooBusy refuses a claim, as a machine does that lacks room. The caller holds mu.
func (m *Manager) tooBusy(b *sandboxState) error {
	b.pool.refused++
	m.events.Observe(event.Event{Name: event.SessionRefused, Pool: b.row.Pool,
		Outcome: "machine full: starts"})
	return &sandpool.Error{Class: sandpool.Unavailable, Code: "MachineFull", Target: "identifier",
		Message: fmt.Sprintf("Error happened when allocating pod for identifier %s in pool %s: "+
			"%d other sessions wait to be started, more than the machine can in %v. Try again "+
			"when they have.", b.row.Identifier, b.row.Pool.Name, len(m.starts.queue),
			m.options.StartTimeout),
		RetryAfter: min(max(m.starts.wait(), soonest), latest), Err: errNoTurn}
}

// start makes the sandbox of a state whose row is in the store. queue says that it has no
// slot yet. When it returns an error the identifier is free again and the
// sandbox is on its way out.
func (m *Manager) start(ctx context.Context, b *sandboxState, queue bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(b.ctx, func() { cancel(context.Cause(b.ctx)) })()
	row, err := m.boot(ctx, b, queue)
	m.mu.Lock()
	b.starting = false
	m.unpruned = m.unpruned || b.template != b.pool.pool.Template
	if err == nil && b.row.State != sandpool.Stopping {
		// The store may have given it to a claim before memory heard that it is ready.
		if b.row.State == sandpool.Starting {
			b.row, b.since, b.used = row, time.Now(), time.Now()
		}
		b.checkAt = time.Now()
		if live := b.pool.guest.Liveness; live != nil {
			b.checkAt = b.checkAt.Add(live.Delay)
		}
		m.watch(b)
		if b.row.Revision == b.pool.pool.Revision {
			m.endTrial(b.pool)
		}
		if !queue {
			b.pool.refilled++
		}
		m.kick()
		m.events.Observe(event.Event{Name: event.SandboxStarted, Pool: row.Pool, Sandbox: row.ID,
			Took: time.Since(row.CreatedAt)})
		m.mu.Unlock()
		return nil
	}
	b.row.Handle = row.Handle
	if b.row.State == sandpool.Stopping {
		err = context.Cause(b.ctx) // it was ended while it started
	} else {
		m.failed(ctx, b, err)
	}
	m.mu.Unlock()
	undo, done := m.undo(ctx)
	defer done()
	// Should this go wrong the next claim finds the row starting, knows better, and repeats it.
	if err := m.markStopping(undo, b); err != nil {
		m.events.Observe(event.Event{Name: event.SandboxUnsaved, Pool: row.Pool,
			Sandbox: row.ID, Err: err})
	}
	return startError(err)
}

// startError gives a failed start a class that callers can act on.
func startError(err error) error {
	if errors.Is(err, errSuperseded) {
		return err
	}
	var e *sandpool.Error
	if errors.As(err, &e) && (e.Class == sandpool.Unavailable || e.Class == sandpool.Ended) {
		return e
	}
	return unavailable("The sandbox for this session did not start; try again.", err)
}

// rowOf returns a copy of the state's row.
func (m *Manager) rowOf(b *sandboxState) sandpool.Sandbox {
	m.mu.Lock()
	defer m.mu.Unlock()
	return b.row
}

// guestOf returns what runs in the sandbox.
func (m *Manager) guestOf(b *sandboxState) Guest {
	m.mu.Lock()
	defer m.mu.Unlock()
	return b.pool.guest
}

// failed records a start that went wrong by itself, and retires the sandbox. The caller holds mu.
func (m *Manager) failed(ctx context.Context, b *sandboxState, err error) {
	onPurpose := b.row.State == sandpool.Stopping || ctx.Err() != nil ||
		errors.Is(err, errSuperseded) || errors.Is(err, errNoTurn)
	m.retire(b, ended("the sandbox did not start: %v", err))
	if onPurpose {
		return
	}
	reason, _ := sandbox.Reason(err)
	m.events.Observe(event.Event{Name: event.SandboxNotStarted, Pool: b.row.Pool, Sandbox: b.row.ID,
		Message: reason, Err: err})
	m.holdUp(b, "Sandboxes of this pool do not start: ", err)
	if b.row.Revision == b.pool.pool.Revision && !m.bootInstead(b.pool, err) {
		m.failTrial(b.pool, err)
	}
}

// holdUp slows the pool's refills down after a failure. The caller holds mu.
func (m *Manager) holdUp(b *sandboxState, what string, err error) {
	p := b.pool
	p.backoff.fail(time.Now())
	if b.row.Identifier == "" {
		p.refills++
	}
	if p.pool.State == sandpool.Succeeded && p.pool.Problem != what+err.Error() {
		p.blame(what, err)
		p.unsaved = true
	}
}

// boot starts the sandbox, makes it unlike its siblings and records it.
func (m *Manager) boot(ctx context.Context, b *sandboxState, queue bool) (sandpool.Sandbox, error) {
	row, watch := m.rowOf(b), sandbox.NewStopwatch()
	if queue {
		if err := m.takeSlot(ctx, b); err != nil {
			return row, err
		}
		watch.Lap("turn")
	}
	began := time.Now()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.starts.learn(time.Since(began))
		m.starts.give()
		m.kick()
	}()
	prepared, err := m.preparedInTime(ctx, b.pool, row.Revision)
	if err != nil {
		return row, err
	}
	m.mu.Lock()
	b.template = prepared.Key
	current := row.Revision == b.pool.pool.Revision && b.pool.pool.State != sandpool.Deleting
	m.mu.Unlock()
	if !current {
		return row, errSuperseded // what it was to start from may be gone
	}
	timeout := m.options.StartTimeout
	if prepared.Template.Start == sandbox.Boot {
		timeout += prepared.Template.BootTimeout()
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m.mu.Lock()
	b.network, b.told = b.pool.network(), true
	pool, network := b.pool.pool, b.network
	m.mu.Unlock()
	if prepared.Template.Network, err = m.withSecrets(ctx, pool, network); err != nil {
		return row, err
	}
	if name := m.guestOf(b).SecretVar; name != "" && prepared.Template.Start == sandbox.Boot {
		prepared.Template.SecretEnv = append(slices.Clone(prepared.Template.SecretEnv),
			sandbox.SecretVar{Name: name, Value: sandpool.NewSecret(row.Secret)})
	}
	m.withService(&prepared.Template, pool, row)
	watch.Lap("prepare")
	h, err := m.engine.Start(ctx, row.ID, prepared)
	if err != nil {
		return row, fmt.Errorf("start sandbox %q: %w", row.ID, err)
	}
	if err := m.setNetwork(ctx, b); err != nil { // the pool's may have changed meanwhile
		return row, err
	}
	if err := m.listen(ctx, pool, h); err != nil {
		return row, err
	}
	row.Handle = h.Data
	watch.Insert(h.Steps)
	m.mu.Lock()
	b.limit = prepared.Template.Limits.Memory
	m.mu.Unlock()
	if guest := m.guestOf(b); !guest.InitRestored || prepared.Template.Start == sandbox.Restore {
		if err := guest.Init(ctx, row, m.dialer(row)); err != nil {
			return row, fmt.Errorf("%w %q: %w", errInit, row.ID, m.explain(ctx, b, row, err))
		}
	}
	watch.Lap("init")
	if recorder, ok := m.engine.(sandbox.WorkingSetRecorder); ok {
		if err := recorder.RecordWorkingSet(ctx, prepared, h); err != nil {
			m.events.Observe(event.Event{Name: event.SandboxSlow, Pool: row.Pool,
				Sandbox: row.ID, Err: err})
		}
	}
	started, err := m.store.Started(ctx, row.ID, h.Data, time.Now(), b.pool.epoch)
	// If somebody else owns the pool now, an earlier try may have been carried out before, whose
	// answer did not come, and the new owner has given the sandbox to somebody. If not, nobody
	// knows it, and a sweep stops it.
	if err = m.fenced(b.pool, err); err != nil {
		return row, fmt.Errorf("record the start of sandbox %q: %w", row.ID, err)
	}
	watch.Lap("record")
	if row.Identifier != "" {
		m.mu.Lock()
		b.steps = watch.Steps()
		m.mu.Unlock()
	}
	return started, nil
}

// explainTime bounds the question why a sandbox could not be used: one that has
// ended is told apart at once, one that runs says nothing.
const explainTime = 100 * time.Millisecond

// explain adds to err how the sandbox ended, if it has.
func (m *Manager) explain(ctx context.Context, b *sandboxState, row sandpool.Sandbox,
	err error) error {
	ctx, cancel := context.WithTimeout(ctx, explainTime)
	defer cancel()
	exit, waitErr := m.engine.Wait(ctx, handleOf(row))
	if waitErr != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Errorf("%s: %w", b.endedBy(exit).Message, err)
}

// dialer dials into one sandbox.
func (m *Manager) dialer(row sandpool.Sandbox) Dialer {
	return func(ctx context.Context, port int) (net.Conn, error) {
		return m.engine.Dial(ctx, handleOf(row), port)
	}
}

// beginRefill starts one more ready sandbox in a goroutine. The caller holds mu.
func (m *Manager) beginRefill(p *poolState) {
	b := m.reserve(p, "", time.Now())
	m.starts.used++
	m.room.Take(b.promise())
	if !m.spawn(func(ctx context.Context) { m.refill(ctx, b) }) {
		m.starts.give()
		m.forget(b)
	}
}

func (m *Manager) refill(ctx context.Context, b *sandboxState) {
	if err := m.fenced(b.pool, m.store.Insert(ctx, m.rowOf(b), b.pool.epoch)); err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.starts.give()
		b.starting = false
		m.failed(ctx, b, fmt.Errorf("record a new sandbox: %w", err))
		return
	}
	// The outcome is in the state, and a failure in the pool's problem.
	_ = m.start(ctx, b, false)
}
