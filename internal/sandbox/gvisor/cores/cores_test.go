package cores

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/need"
)

// crew is a group of this process's own threads.
type crew struct {
	mu      sync.Mutex
	ids     []int
	used    time.Duration
	late    int // threads that appear only when they are listed for the second time
	looks   atomic.Int64
	vanish  bool
	release chan struct{}
}

func newCrew(t *testing.T, threads int) *crew {
	t.Helper()
	c := &crew{release: make(chan struct{})}
	t.Cleanup(func() { close(c.release) })
	for range threads {
		c.ids = append(c.ids, c.hire())
	}
	return c
}

// hire makes a thread.
func (c *crew) hire() int {
	id := make(chan int)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		id <- unix.Gettid()
		<-c.release
	}()
	return <-id
}

func (c *crew) Threads() ([]int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.vanish {
		return nil, errors.New("it is gone")
	}
	ids := append([]int(nil), c.ids...)
	for ; c.late > 0; c.late-- {
		c.ids = append(c.ids, c.hire())
	}
	return ids, nil
}

func (c *crew) CPUTime() (time.Duration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looks.Add(1)
	return c.used, nil
}

// work makes it look as if the threads had computed for d.
func (c *crew) work(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used += d
}

// where returns the number of cores that every thread may use, and one of them.
func (c *crew) where(t *testing.T) (count, core int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, id := range c.ids {
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(id, &set); err != nil {
			t.Fatal(err)
		}
		if i > 0 && set.Count() != count {
			t.Fatalf("thread %d of %d may use %d cores, those before it %d", i, len(c.ids),
				set.Count(), count)
		}
		count = set.Count()
		for core = 0; !set.IsSet(core); core++ {
		}
	}
	return count, core
}

// settle waits until the group has been looked at more often than now.
func (c *crew) settle(t *testing.T, times int64) {
	t.Helper()
	want := c.looks.Load() + times
	eventually(t, "nobody looks", func() bool { return c.looks.Load() >= want })
}

func newCores(t *testing.T) *Cores {
	t.Helper()
	need.TwoCores(t)
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func bind(t *testing.T, c *Cores, g Group) *Stay {
	t.Helper()
	s, err := c.Bind(g)
	if err != nil || s == nil {
		t.Fatalf("a stay %v, error %v", s, err)
	}
	t.Cleanup(func() { s.Leave() })
	return s
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick, end := time.NewTicker(time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("after a minute: %s", what)
		}
	}
}

// Groups are spread over the cores, and the place of one that has left is taken again.
func TestBind(t *testing.T) {
	c := newCores(t)
	first, second := newCrew(t, 3), newCrew(t, 3)
	first.late = 2
	stay := bind(t, c, first)
	bind(t, c, second)
	count, core := first.where(t)
	count2, core2 := second.where(t)
	if count != 1 || count2 != 1 || core == core2 {
		t.Errorf("two groups may use %d and %d cores, %d and %d; want one each, and not the same",
			count, count2, core, core2)
	}
	stay.Leave()
	stay.Leave()
	third := newCrew(t, 1)
	bind(t, c, third)
	if _, again := third.where(t); len(c.stays) == 2 && again != core {
		t.Errorf("the third group is on core %d beside the second, although the first has left "+
			"core %d", again, core)
	}
	if err := c.Free(first); err != nil {
		t.Fatal(err)
	}
	if count, _ := first.where(t); count != c.all.Count() {
		t.Errorf("a free group may use %d cores, want %d", count, c.all.Count())
	}
}

// A group whose threads cannot be listed takes no place.
func TestBindFails(t *testing.T) {
	c := newCores(t)
	if s, err := c.Bind(&crew{vanish: true}); err == nil || s != nil {
		t.Errorf("a group that is gone has a stay %v, error %v", s, err)
	}
	for core, n := range c.stays {
		if n != 0 {
			t.Errorf("%d groups on core %d, want none", n, core)
		}
	}
}

// A call that computes ends the stay, however long it has waited before.
func TestBusy(t *testing.T) {
	c := newCores(t)
	g := newCrew(t, 2)
	s := bind(t, c, g)
	s.Called()
	g.settle(t, 2)
	g.late = 1
	g.work(short)
	eventually(t, "a group that computes is on one core", func() bool {
		count, _ := g.where(t)
		return count == c.all.Count()
	})
	s.Answered()
	s.Called() // has nothing to say any more
	c.mu.Lock()
	defer c.mu.Unlock()
	for core, n := range c.stays {
		if n != 0 || len(c.calls) != 0 {
			t.Errorf("%d calls are left, and %d stays on core %d", len(c.calls), n, core)
		}
	}
}

// A group that computes without a call is let go, one that does a little is not, and one that
// has never been called is not even looked at.
func TestBackground(t *testing.T) {
	c := newCores(t)
	busy, calm, ready := newCrew(t, 2), newCrew(t, 2), newCrew(t, 1)
	for _, g := range []*crew{busy, calm} {
		s := bind(t, c, g)
		s.Called()
		s.Answered()
	}
	bind(t, c, ready)
	busy.settle(t, 1)
	calm.settle(t, 1)
	busy.work(lastRest)
	calm.work(rest / 10)
	eventually(t, "a group that computes between calls is on one core", func() bool {
		count, _ := busy.where(t)
		return count == c.all.Count()
	})
	calm.settle(t, 1)
	if count, _ := calm.where(t); count != 1 {
		t.Errorf("a calm group may use %d cores, want 1", count)
	}
	if n := ready.looks.Load(); n > 0 {
		t.Errorf("a group that has not been called was looked at %d times", n)
	}
}

// Short calls, long ones that wait, and work between calls do not.
func TestQuiet(t *testing.T) {
	c := newCores(t)
	g := newCrew(t, 2)
	s := bind(t, c, g)
	for range 100 {
		s.Called()
		g.work(short) // before the first look
		s.Answered()
	}
	s.Called()
	g.settle(t, 3)
	g.work(short - 1)
	g.settle(t, 2)
	if count, _ := g.where(t); count != 1 {
		t.Errorf("a quiet group may use %d cores, want 1", count)
	}
}

// Calls are not watched once there have been none for a while, are watched again when there
// is one, and nothing is once what has been called has left.
func TestRest(t *testing.T) {
	c := newCores(t)
	g := newCrew(t, 1)
	s := bind(t, c, g)
	state := func() watching {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.state
	}
	for range 2 {
		s.Called()
		if state() != callers {
			t.Fatal("a call is not watched")
		}
		g.settle(t, 1)
		s.Answered()
		eventually(t, "the watching goes on", func() bool { return state() == resting })
	}
	s.Leave()
	eventually(t, "the watcher stays", func() bool { return state() == nothing })
	if len(c.rests) != 0 {
		t.Errorf("%d are still to be looked at", len(c.rests))
	}
}

// A sandbox that is bound to nothing can be used like any other.
func TestNone(t *testing.T) {
	var s *Stay
	s.Called()
	s.Answered()
	s.Leave()
}
