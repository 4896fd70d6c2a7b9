package pool_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool/room"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

const mb = 1 << 20

// machine has so much memory, of which the sandboxes of an engine take.
type machine struct {
	fake     atomic.Pointer[sandboxtest.Fake]
	memory   atomic.Int64
	disk     atomic.Int64
	pressure atomic.Int64 // percent
	broken   atomic.Bool
}

func (m *machine) Measure(time.Time) (room.Machine, error) {
	if m.broken.Load() {
		return room.Machine{}, errors.New("the machine hides its memory")
	}
	return room.Machine{Left: room.Amount{Memory: m.memory.Load() - m.fake.Load().Taken(),
		Disk: m.disk.Load(), Threads: 1 << 20},
		Pressure: float64(m.pressure.Load()) / 100}, nil
}

// measured runs do with a manager that measures a machine of so much memory, whose reserve is 100
// MB.
func measured(t *testing.T, memory int64, do func(w *world, m *machine)) {
	within(t, func(w *world) {
		m := &machine{}
		m.fake.Store(w.fake)
		m.memory.Store(memory)
		m.disk.Store(1 << 40)
		w.options.Machine, w.options.Reserve = m, room.Amount{Memory: 100 * mb, Disk: 1 << 30,
			Threads: 100}
		w.restart()
		do(w, m)
	})
}

// grow makes all sandboxes of the pool take what is usual: ready ones 40 MB, sessions 100 MB.
func (w *world) grow() {
	rows, err := w.Sandboxes(w.Context(), python)
	w.must(err)
	for _, row := range rows {
		bytes := int64(40 * mb)
		if row.State == sandpool.Claimed {
			bytes = 100 * mb
		}
		w.fake.Take(row.ID, bytes)
	}
	w.pass(2 * time.Second)
}

// wantMachineFull fails the test unless err says what the machine lacks, and when to come back.
func (w *world) wantMachineFull(err error, lack string) {
	w.Helper()
	var e *sandpool.Error
	if !errors.As(err, &e) || e.Class != sandpool.Unavailable || e.Code != "MachineFull" ||
		e.RetryAfter <= 0 ||
		!strings.Contains(e.Message, "Error happened when allocating pod") ||
		!strings.Contains(e.Message, "not enough "+lack) {
		w.Errorf("error is %+v, want that the machine has not enough %s", err, lack)
	}
}

// Of twice the sessions that fit, those beyond are refused, in time for those that are there: there
// is never less left than the reserve, and ready sandboxes are given up before.
func TestMachineFull(t *testing.T) {
	measured(t, 1500*mb, func(w *world, m *machine) {
		w.put(spec(5, 100))
		w.grow()
		served, refused := 0, 0
		for n := range 24 {
			l, err := w.Acquire(w.Context(), python, sandpool.Identifier(fmt.Sprint("user-", n)))
			if err != nil {
				refused++
				w.wantMachineFull(err, "memory")
				continue
			}
			served++
			l.Release()
			w.grow()
			if left := m.memory.Load() - w.fake.Taken(); left < 100*mb {
				w.Fatalf("after %d sessions %d MB are left of the machine, less than the reserve",
					served, left/mb)
			}
		}
		if served < 8 || served > 14 || refused != 24-served {
			w.Errorf("%d sessions were served and %d refused", served, refused)
		}
		s := w.status()
		// What is still ready is too little for one more session.
		if s.Ready > 2 || s.Refused != int64(refused) ||
			!strings.Contains(s.Notice, "of 5 are ready") {
			w.Errorf("the full machine's pool is %+v", s)
		}
		if p := w.pool(); p.Notice != s.Notice || p.Problem != "" {
			w.Errorf("the pool says %q and %q", p.Notice, p.Problem)
		}
		// What else the engine knows is said as well.
		w.fake.Note("The nodes pull the image.")
		if p := w.pool(); p.Notice != s.Notice+" The nodes pull the image." {
			w.Errorf("with what the engine says the pool says %q", p.Notice)
		}
		w.fake.Note("")
		for n := range served {
			w.acquire(sandpool.Identifier(fmt.Sprint("user-", n)), sandpool.ClaimExisting).Release()
		}
		w.must(w.StopSession(w.Context(), python, "user-0"))
		w.must(w.StopSession(w.Context(), python, "user-1"))
		w.pass(2 * time.Second)
		l, err := w.Acquire(w.Context(), python, "user-100")
		w.must(err)
		l.Release()
	})
}

// A burst is bounded by what was measured before it, not by what is measured after.
func TestMachineFullInABurst(t *testing.T) {
	measured(t, 1500*mb, func(w *world, m *machine) {
		w.put(spec(0, 100))
		w.acquire("first", sandpool.ClaimNew).Release()
		w.grow()
		outcomes := make(chan error)
		for n := range 50 {
			go func() {
				l, err := w.Acquire(w.Context(), python,
					sandpool.Identifier(fmt.Sprint("user-", n)))
				if err == nil {
					l.Release()
				}
				outcomes <- err
			}()
		}
		served := 0
		for range 50 {
			if err := <-outcomes; err == nil {
				served++
			} else {
				w.wantMachineFull(err, "memory")
			}
		}
		w.grow()
		if left := m.memory.Load() - w.fake.Taken(); left < 100*mb || served < 5 {
			w.Errorf("%d sessions were served, and %d MB are left", served, left/mb)
		}
	})
}

// A pool at its maximum says so, whatever the machine has, and costs nobody a ready sandbox.
func TestFullPoolOnAFullMachine(t *testing.T) {
	measured(t, 500*mb, func(w *world, m *machine) {
		w.put(spec(0, 1))
		other := spec(2, 5)
		other.ID.Name = "other"
		_, err := w.Put(w.Context(), other, nil)
		w.must(err)
		w.settle()
		l := w.acquire("user-1", sandpool.ClaimNew)
		l.Release()
		m.memory.Store(250*mb + w.fake.Taken())
		w.pass(3 * time.Second)
		for n := range 100 {
			_, err := w.Acquire(w.Context(), python, sandpool.Identifier(fmt.Sprint("beyond-", n)))
			w.wantClass(err, sandpool.Full)
		}
		s, err := w.Status(w.Context(), other.ID)
		if err != nil || s.Ready != 2 {
			w.Errorf("the other pool is %+v, %v", s, err)
		}
		w.fake.Take(l.Sandbox().ID, 100*mb)
		w.acquire("user-1", sandpool.ClaimExisting).Release()
	})
}

// A claim that is refused all the same costs no pool its ready sandboxes.
func TestGivingUpThatWouldNotDo(t *testing.T) {
	measured(t, 2000*mb, func(w *world, m *machine) {
		w.put(spec(3, 10))
		w.grow()
		big := spec(0, 5)
		big.ID.Name = "big"
		_, err := w.Put(w.Context(), big, nil)
		w.must(err)
		w.settle()
		l, err := w.Acquire(w.Context(), big.ID, "user-1")
		w.must(err)
		l.Release()
		w.fake.Take(l.Sandbox().ID, 1000*mb)
		w.pass(2 * time.Second)
		_, err = w.Acquire(w.Context(), big.ID, "user-2")
		w.wantMachineFull(err, "memory")
		w.wantReady(3)
		w.acquire("user-3", sandpool.ClaimReady).Release()
	})
}

// A claim passes over ready sandboxes that were given up, however many wait for their turn to be
// stopped, and takes room once.
func TestClaimPassesOverTheGivenUp(t *testing.T) {
	measured(t, 4000*mb, func(w *world, m *machine) {
		w.put(spec(40, 50))
		w.grow()
		stops := make(chan struct{})
		w.fake.Order(sandboxtest.Stop, -1, sandboxtest.Fault{Until: stops})
		release := sync.OnceFunc(func() { w.fake.Forget(sandboxtest.Stop); close(stops) })
		defer release()
		w.put(spec(0, 50))
		w.wantReady(0)
		for n := range 3 {
			w.acquire(sandpool.Identifier(fmt.Sprint("user-", n)), sandpool.ClaimNew).Release()
		}
		release()
		w.pass(3 * time.Second)
		w.wantCounts(0, 0, 3, 0)
	})
}

// wantReady checks how many are ready.
func (w *world) wantReady(ready int) {
	w.Helper()
	if s := w.status(); s.Ready != ready {
		w.Errorf("%d are ready, want %d", s.Ready, ready)
	}
}

// Sessions that grow take from ready sandboxes, which come back when there is room again.
func TestSessionsGrow(t *testing.T) {
	measured(t, 1000*mb, func(w *world, m *machine) {
		w.put(spec(3, 10))
		l := w.acquire("user-1", sandpool.ClaimReady)
		l.Release()
		w.settle()
		w.grow()
		w.wantReady(3)
		w.fake.Take(l.Sandbox().ID, 880*mb)
		w.pass(5 * time.Second)
		w.wantReady(0)
		if s := w.status(); s.Claimed != 1 {
			w.Errorf("the pool is %+v", s)
		}
		w.fake.Take(l.Sandbox().ID, 100*mb)
		w.pass(20 * time.Minute) // the size is learned again
		w.acquire("user-2", sandpool.ClaimReady).Release()
		w.settle()
		w.pass(2 * time.Second)
		if s := w.status(); s.Ready != 3 || s.Notice != "" {
			w.Errorf("with room again the pool is %+v", s)
		}
	})
}

// Disk and threads are as good a reason as memory, for claims and for the snapshot of a new pool.
func TestDiskFull(t *testing.T) {
	measured(t, 2000*mb, func(w *world, m *machine) {
		m.disk.Store(1 << 30)
		w.pass(2 * time.Second)
		w.put(spec(1, 10))
		if p := w.pool(); p.State != sandpool.InProgress ||
			!strings.Contains(p.Notice, "not enough disk space to prepare") {
			w.Errorf("the pool is %s: %q", p.State, p.Notice)
		}
		_, err := w.Acquire(w.Context(), python, "user-1")
		w.wantMachineFull(err, "disk space")
		m.disk.Store(1 << 40)
		w.pass(2 * time.Second)
		w.acquire("user-1", sandpool.ClaimReady).Release()
	})
}

// Under pressure nothing is refilled, and sessions are started one after the other; both end with
// it.
func TestPressure(t *testing.T) {
	measured(t, 400*mb, func(w *world, m *machine) {
		w.put(spec(0, 10))
		m.memory.Store(290 * mb)
		m.pressure.Store(90)
		w.pass(2 * time.Second)
		w.put(spec(2, 10))
		w.wantReady(0)
		if s := w.status(); !strings.Contains(s.Notice, "memory") {
			w.Errorf("the pool is %+v", s)
		}
		m.pressure.Store(0)
		m.memory.Store(2000 * mb)
		w.pass(2 * time.Second)
		w.wantReady(2)
	})
}

// A machine that cannot be measured any more is taken to be as it was.
func TestUnmeasured(t *testing.T) {
	measured(t, 1000*mb, func(w *world, m *machine) {
		w.put(spec(1, 10))
		m.broken.Store(true)
		w.take()
		w.pass(3 * time.Second)
		w.acquire("user-1", sandpool.ClaimReady).Release()
		names, _ := w.take()
		found := 0
		for _, n := range names {
			if n == event.MachineUnmeasured {
				found++
			}
		}
		if found == 0 {
			w.Errorf("events %v, want %s", names, event.MachineUnmeasured)
		}
	})
}

// A restarted server knows what its sessions take before it promises them more.
func TestRestartOnABusyMachine(t *testing.T) {
	measured(t, 1500*mb, func(w *world, m *machine) {
		w.put(spec(1, 100))
		for n := range 8 {
			l, err := w.Acquire(w.Context(), python, sandpool.Identifier(fmt.Sprint("user-", n)))
			w.must(err)
			l.Release()
			w.grow()
		}
		before := w.status()
		w.restart()
		m.fake.Store(w.fake)
		w.settle()
		if s := w.status(); s.Claimed != 8 || s.Ready != before.Ready {
			w.Errorf("after a restart the pool is %+v, before %+v", s, before)
		}
		w.pass(3 * time.Second)
		if s := w.status(); s.Claimed != 8 || s.Ready != before.Ready {
			w.Errorf("later the pool is %+v, before %+v", s, before)
		}
	})
}
