package storetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

// usages returns the part of a store that keeps usage.
func (s *suite) usages(of store.Store) store.Usages {
	kept, ok := of.(store.Usages)
	if !ok {
		s.Fatal("the store keeps no usage")
	}
	return kept
}

// wantUsage checks what a store has, but the numbers, which must grow.
func (s *suite) wantUsage(from store.Store, q store.UsageQuery, want ...sandpool.Usage) {
	s.Helper()
	var got []sandpool.Usage
	last := q.After
	s.must(s.usages(from).Usage(s.Context(), q, func(u sandpool.Usage) error {
		if u.Number <= last {
			s.Errorf("record %d follows %d", u.Number, last)
		}
		last, got = u.Number, append(got, u)
		return nil
	}))
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(sandpool.Usage{}, "Number")); diff != "" {
		s.Errorf("Usage(%+v): -want +got\n%s", q, diff)
	}
}

// used is a record of a session that began at(began) and has lasted some seconds.
func (s *suite) used(sandbox sandpool.SandboxID, began, lasted int) sandpool.Usage {
	return sandpool.Usage{Sandbox: sandbox, Pool: s.pool, Identifier: sandpool.Identifier(
		sandbox).Hash(), By: "token:t", Began: at(began), Lasted: time.Duration(lasted) *
		time.Second, CPU: 3, Memory: 4, Disk: 5, Sent: 6, Executions: 7, Epoch: 1, Meter: "m",
		Written: 10 * time.Second}
}

func (s *suite) putUsage(elapsed int, records ...sandpool.Usage) {
	s.Helper()
	s.must(s.usages(s.Store).PutUsage(s.Context(), records, store.Mark{Meter: "m",
		Elapsed: time.Duration(elapsed) * time.Second, At: at(elapsed)}))
}

// usageFields: a record is kept whole, replaced by its writer, and goes on with its meter.
func usageFields(s *suite) {
	a, b := s.used("a", 0, 10), s.used("b", 5, 1)
	b.Ended = true
	s.putUsage(10, a, b)
	a.Seen, b.Seen = at(10), at(10)
	s.wantUsage(s.Store, store.UsageQuery{}, a, b)
	s.wantUsage(s.Reopen(s.T), store.UsageQuery{}, a, b)
	s.putUsage(12) // a mark alone: what has not ended has gone on
	a.Lasted, a.Unwritten, a.Seen, b.Seen = 12*time.Second, 2*time.Second, at(12), at(12)
	s.wantUsage(s.Store, store.UsageQuery{}, a, b)
	s.putUsage(11) // a mark that came late moves nothing back
	s.wantUsage(s.Store, store.UsageQuery{}, a, b)
	a.Lasted, a.CPU, a.Memory, a.Disk, a.Sent, a.Executions = 13*time.Second, 30, 40, 50, 60, 70
	a.Ended, a.Written, a.Unwritten = true, 13*time.Second, 0
	s.putUsage(20, a)
	a.Seen, b.Seen = at(20), at(20)
	s.wantUsage(s.Store, store.UsageQuery{}, a, b)
	stop := errors.New("stop")
	calls := 0
	err := s.usages(s.Store).Usage(s.Context(), store.UsageQuery{}, func(sandpool.Usage) error {
		calls++
		return stop
	})
	if !errors.Is(err, stop) || calls != 1 {
		s.Errorf("%d calls, %v", calls, err)
	}
}

// usageFenced: what an earlier owner of the pool still has to say changes nothing.
func usageFenced(s *suite) {
	mine := s.used("a", 0, 10)
	mine.Epoch = 2
	s.putUsage(10, mine)
	mine.Seen = at(10)
	theirs := s.used("a", 0, 99)
	theirs.Ended = true
	s.putUsage(10, theirs)
	s.wantUsage(s.Store, store.UsageQuery{}, mine)
	// one that the earlier owner has ended goes on with the later
	ended := s.used("b", 0, 10)
	ended.Ended = true
	s.putUsage(10, ended)
	ended.Ended, ended.Epoch, ended.Lasted = false, 2, 20*time.Second
	s.putUsage(10, ended)
	ended.Seen = at(10)
	s.wantUsage(s.Store, store.UsageQuery{}, mine, ended)
}

// usageTimes: records are found by the time in which their sessions were there.
func usageTimes(s *suite) {
	a, b, open := s.used("a", 0, 10), s.used("b", 20, 10), s.used("c", 25, 1)
	a.Ended, b.Ended = true, true
	s.putUsage(40, a, b, open)
	a.Seen, b.Seen, open.Seen = at(40), at(40), at(40)
	open.Lasted, open.Unwritten = 31*time.Second, 30*time.Second // until the mark
	for _, row := range []struct {
		since, until int
		want         []sandpool.Usage
	}{{-10, 100, []sandpool.Usage{a, b, open}}, {-10, 0, nil}, {-10, 1, []sandpool.Usage{a}},
		{9, 20, []sandpool.Usage{a}}, {11, 20, nil}, {5, 21, []sandpool.Usage{a, b}},
		{50, 60, []sandpool.Usage{open}}, {57, 60, nil}} {
		s.wantUsage(s.Store, store.UsageQuery{Since: at(row.since), Until: at(row.until)},
			row.want...)
	}
	var numbers []int64
	s.must(s.usages(s.Store).Usage(s.Context(), store.UsageQuery{}, func(u sandpool.Usage) error {
		numbers = append(numbers, u.Number)
		return nil
	}))
	s.wantUsage(s.Store, store.UsageQuery{After: numbers[0]}, b, open)
}

// usageTidied: what lost its sandbox ends when it was last seen, and old records are forgotten.
func usageTidied(s *suite) {
	tidy := func(b store.UsageBounds) {
		s.Helper()
		if _, err := s.usages(s.Store).TidyUsage(s.Context(), b); err != nil {
			s.Fatal(err)
		}
	}
	live := s.claim(s.request("user-1"), sandpool.ClaimNew)
	a, b := s.used(live.ID, 0, 10), s.used("zzzzzz", 0, 10)
	s.putUsage(15, a, b)
	a.Lasted, a.Unwritten, a.Seen = 15*time.Second, 5*time.Second, at(15)
	b.Lasted, b.Seen, b.Ended = 15*time.Second, at(15), true
	tidy(store.UsageBounds{Before: at(15), Most: 100})
	s.wantUsage(s.Store, store.UsageQuery{}, a, b)
	s.wantUsage(s.Store, store.UsageQuery{Live: true}, a)
	s.putUsage(30)
	a.Lasted, a.Unwritten, a.Seen, b.Seen = 30*time.Second, 20*time.Second, at(30), at(30)
	s.wantUsage(s.Store, store.UsageQuery{}, a, b)
	tidy(store.UsageBounds{Before: at(16), Most: 100}) // what has not ended is never too old
	s.wantUsage(s.Store, store.UsageQuery{}, a)

	var many []sandpool.Usage
	for i := range 5 {
		u := s.used(sandpool.SandboxID(fmt.Sprint("many-", i)), 100+i, 1)
		u.Ended = true
		many = append(many, u)
	}
	s.putUsage(30, many...)
	for i := range many {
		many[i].Seen = at(30)
	}
	tidy(store.UsageBounds{Before: at(0), Most: 3}) // the oldest go
	s.wantUsage(s.Store, store.UsageQuery{}, slices.Concat([]sandpool.Usage{a}, many[3:])...)
	s.must(s.Store.Stopping(s.Context(), live.ID, "", 1))
	s.must(s.Store.Remove(s.Context(), live.ID, 1))
	s.must(s.Store.DeletePool(s.Context(), s.pool, 1))
	tidy(store.UsageBounds{Before: at(0), Most: 3})
	a.Ended, a.Unwritten = true, 0
	s.wantUsage(s.Store, store.UsageQuery{}, slices.Concat([]sandpool.Usage{a}, many[3:])...)
}
