package event

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sandpool/sandpool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func poolID(name string) sandpool.PoolID {
	return sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: name}
}

// counts returns the Count fields of events, which the tests number them by.
func counts(events []Event) (out []int64) {
	for _, e := range events {
		out = append(out, e.Count)
	}
	return out
}

// fill observes n events of a pool, counted from one.
func fill(b *Bus, pool string, n int) {
	for i := range n {
		b.Observe(Event{Name: SandboxStarted, Pool: poolID(pool), Count: int64(i + 1)})
	}
}

// TestEveryNameIsDescribed: a name without a kind would have no stream.
func TestEveryNameIsDescribed(t *testing.T) {
	seen := map[string]Name{}
	for name, k := range kinds {
		if k.stream == "" || k.text == "" || name == "" {
			t.Errorf("%q is %+v", name, k)
		}
		if other, ok := seen[k.text]; ok {
			t.Errorf("%s and %s have one text", name, other)
		}
		seen[k.text] = name
	}
}

func TestRecent(t *testing.T) {
	b := New()
	fill(b, "one", 3)
	b.Observe(Event{Name: SweepFailed, Count: 100})
	fill(b, "TWO", 2)
	all := b.Recent(Query{})
	if got := counts(all.Events); !cmp.Equal(got, []int64{1, 2, 3, 100, 1, 2}) || all.Missed {
		t.Errorf("the server's events are %v, missed %v", got, all.Missed)
	}
	for i, e := range all.Events {
		if e.Time.IsZero() || i > 0 && e.Seq != all.Events[i-1].Seq+1 {
			t.Errorf("event %d is %+v", i, e)
		}
	}
	first := b.Recent(Query{Pool: poolID("two"), Limit: 1})
	if got := counts(first.Events); !cmp.Equal(got, []int64{1}) {
		t.Errorf("the first page is %v", got)
	}
	if got := counts(b.Recent(Query{Pool: poolID("two"), After: first.Next,
		Limit: 1}).Events); !cmp.Equal(got, []int64{2}) {
		t.Errorf("the second page is %v", got)
	}
	if p := b.Recent(Query{Pool: poolID("none")}); len(p.Events) != 0 || p.Missed ||
		p.Next != all.Next {
		t.Errorf("a pool without events: %+v", p)
	}
	if p := b.Recent(Query{After: all.Next + 1<<40}); len(p.Events) != 6 {
		t.Errorf("a number of the future gives %d events", len(p.Events))
	}
}

// TestRing: a full ring keeps the newest, in order, and says that there were more.
func TestRing(t *testing.T) {
	for _, extra := range []int{0, 1, 2, perPool - 1, perPool, 3*perPool + 7} {
		b := New()
		fill(b, "one", perPool+extra)
		p := b.Recent(Query{Pool: poolID("one")})
		if len(p.Events) != perPool || p.Events[0].Count != int64(extra+1) ||
			p.Missed != (extra > 0) {
			t.Errorf("%d too many: %d kept from %d on, missed %v", extra, len(p.Events),
				p.Events[0].Count, p.Missed)
		}
		for i := range p.Events {
			after := b.Recent(Query{Pool: poolID("one"), After: p.Events[i].Seq})
			if len(after.Events) != perPool-1-i || after.Missed {
				t.Fatalf("%d after the event %d, missed %v", len(after.Events), i, after.Missed)
			}
		}
	}
}

// TestNoisyPool: the events of one pool push out no other's, and those of all are bounded by
// forgetting the pools that were quiet longest.
func TestNoisyPool(t *testing.T) {
	b := New()
	fill(b, "quiet", 5)
	fill(b, "noisy", 10*inAll)
	if got := b.Recent(Query{Pool: poolID("quiet")}); len(got.Events) != 5 || got.Missed {
		t.Errorf("%d events of the quiet pool are left, missed %v", len(got.Events), got.Missed)
	}
	last := b.Recent(Query{Pool: poolID("quiet")}).Next
	for i := range inPools {
		fill(b, fmt.Sprint("pool", i), 3)
	}
	kept := 0
	for _, p := range b.pools {
		kept += len(p.events)
	}
	if kept != b.kept || kept > inPools || len(b.pools) != b.quiet.Len() {
		t.Errorf("%d events of %d pools are kept, counted as %d of %d; the bound is %d", kept,
			len(b.pools), b.kept, b.quiet.Len(), inPools)
	}
	if got := b.Recent(Query{Pool: poolID("quiet")}); len(got.Events) != 0 || !got.Missed {
		t.Errorf("%d events of the quiet pool are left, missed %v", len(got.Events), got.Missed)
	}
	if got := b.Recent(Query{Pool: poolID(fmt.Sprint("pool", inPools-1)), After: last}); len(
		got.Events) != 3 {
		t.Errorf("%d events of the last pool", len(got.Events))
	}
}

// TestRestart: a reader that goes on after a restart gets all that is new, and learns that
// it may have missed something.
func TestRestart(t *testing.T) {
	old := New()
	fill(old, "one", 3)
	last := old.Recent(Query{}).Next
	b := New()
	b.start += 10
	b.seq += 10 // a clock as coarse as the test is fast
	fill(b, "one", 2)
	if p := b.Recent(Query{Pool: poolID("one"), After: last}); len(p.Events) != 2 || !p.Missed {
		t.Errorf("%d events, missed %v", len(p.Events), p.Missed)
	}
}

// TestTextsAreBounded: what an event keeps does not depend on who caused it.
func TestTextsAreBounded(t *testing.T) {
	b := New()
	long := strings.Repeat("ü", 10<<20)
	b.Observe(Event{Name: PoolFailed, Message: long, Outcome: long, By: long,
		Err: errors.New(long)})
	e := b.Recent(Query{}).Events[0]
	for _, s := range []string{e.Message, e.Outcome, e.By, e.Err.Error()} {
		if len(s) > maxText+len("…") || !strings.HasSuffix(s, "ü…") {
			t.Errorf("%d bytes are kept, the last of them %q", len(s), s[len(s)-6:])
		}
	}
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New()
		fill(b, "one", 1)
		next := b.Recent(Query{}).Next
		var wait sync.WaitGroup
		for range 3 {
			wait.Go(func() {
				p := b.Follow(t.Context(), Query{Pool: poolID("one"), After: next})
				if got := counts(p.Events); !cmp.Equal(got, []int64{7}) {
					t.Errorf("followers get %v", got)
				}
			})
		}
		synctest.Wait()
		fill(b, "two", 1)
		synctest.Wait()
		b.Observe(Event{Name: PoolReady, Pool: poolID("one"), Count: 7})
		wait.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if p := b.Follow(ctx, Query{After: b.Recent(Query{}).Next}); len(p.Events) != 0 {
			t.Errorf("a follower gets %v after its time", p.Events)
		}
		time.AfterFunc(time.Minute, b.EndFollowing)
		for range 2 {
			if p := b.Follow(t.Context(), Query{After: b.Recent(Query{}).Next}); len(
				p.Events) != 0 {
				t.Errorf("a follower gets %v when the server stops", p.Events)
			}
		}
		b.EndFollowing()
	})
}

// sink takes events when the test lets it.
type sink struct {
	let chan struct{} // nil: always
	mu  sync.Mutex
	got []Event
}

func (s *sink) Consume(_ context.Context, events []Event) {
	if s.let != nil {
		<-s.let
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, events...)
}

// seen are the numbers of what it has taken.
func (s *sink) seen() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return counts(s.got)
}

// TestRun: sinks get every event once and in order, those that matter at once, and at the end
// what is left.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := &sink{}, &sink{}
		b := New(one, two)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		b.Observe(Event{Name: PoolCreated, Count: 1})
		go func() { done <- b.Run(ctx) }()
		synctest.Wait()
		if got := one.seen(); !cmp.Equal(got, []int64{1}) {
			t.Errorf("at once: %v", got)
		}
		b.Observe(Event{Name: SessionAllocated, Count: 2})
		synctest.Wait()
		if got := one.seen(); !cmp.Equal(got, []int64{1}) {
			t.Errorf("an event of level debug woke the sinks: %v", got)
		}
		<-time.After(passInterval)
		synctest.Wait()
		if got := one.seen(); !cmp.Equal(got, []int64{1, 2}) {
			t.Errorf("a moment later: %v", got)
		}
		b.Observe(Event{Name: SessionEnded, Count: 3})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if !cmp.Equal(one.seen(), []int64{1, 2, 3}) ||
			!cmp.Equal(two.seen(), []int64{1, 2, 3}) {
			t.Errorf("in the end: %v and %v", one.seen(), two.seen())
		}
	})
}

// TestSlowSink: a sink that does not take events holds nobody up, and learns how many it did
// not get.
func TestSlowSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &sink{let: make(chan struct{})}
		b := New(slow)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		b.Observe(Event{Name: PoolCreated, Count: -1})
		synctest.Wait()
		fill(b, "one", 3*inAll)
		cancel()
		close(slow.let)
		if err := <-done; err != nil {
			t.Error(err)
		}
		got := slow.got
		if len(got) != 2+inAll || got[1].Name != EventsLost || got[1].Count != 2*inAll ||
			got[2].Count != 2*inAll+1 {
			t.Errorf("%d events, %+v, %+v", len(got), got[1], got[2])
		}
	})
}

func TestLog(t *testing.T) {
	var out bytes.Buffer
	s := Log(slog.New(slog.NewTextHandler(&out, nil)))
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s.Consume(t.Context(), []Event{
		{Name: SandboxEnded, Time: at, Pool: poolID("python"), Sandbox: "sb1",
			Outcome: "out of memory", Message: "It used more.\nlevel=ERROR",
			Took: time.Second, Count: 3, By: "token:x", Retry: at, Err: errors.New("disk")},
		{Name: SessionAllocated, Time: at, Sandbox: "sb2"},
		{Name: AdoptionFailed, Time: at},
	})
	want := `time=2030-01-02T03:04:05.000Z level=WARN msg="a sandbox ended by itself" event=SandboxEnded pool=g/python sandbox=sb1 by=token:x ` +
		`outcome="out of memory" message="It used more.\nlevel=ERROR" took=1s count=3 retry=2030-01-02T03:04:05.000Z error=disk
time=2030-01-02T03:04:05.000Z level=ERROR msg="sandboxes of an earlier run cannot be adopted" event=AdoptionFailed
`
	if got := out.String(); got != want {
		t.Errorf("the log is\n%s, want\n%s", got, want)
	}
}

// BenchmarkObserve is what a claim pays for its event.
func BenchmarkObserve(b *testing.B) {
	bus := New()
	e := Event{Name: SessionAllocated, Pool: sandpool.PoolID{
		Subscription: sandpool.DefaultSubscription, ResourceGroup: "default", Name: "python"},
		Sandbox: "k3jx5h2b6c7d8e9f", Outcome: "ready", Took: time.Millisecond}
	b.ReportAllocs()
	for b.Loop() {
		bus.Observe(e)
	}
}
