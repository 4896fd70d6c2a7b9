package limit

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

// enter reports whether a request is let in, and leaves at once.
func enter(t *testing.T, g *Gate, name string) bool {
	t.Helper()
	leave, err := g.Enter(name)
	if err != nil {
		return false
	}
	leave()
	return true
}

func TestRate(t *testing.T) {
	c := &clock{time.Now()}
	g := New(Principal, Limits{Rate: 10, Burst: 3}, c.now)
	for i, want := range []bool{true, true, true, false, false} {
		if got := enter(t, g, "a"); got != want {
			t.Errorf("request %d: %v", i, got)
		}
	}
	if !enter(t, g, "b") {
		t.Error("one at its limit takes from another")
	}
	_, err := g.Enter("a")
	var e *sandpool.Error
	if e, _ = err.(*sandpool.Error); e == nil || e.RetryAfter != 100*time.Millisecond ||
		e.Code != "TooManyRequests" || !strings.Contains(e.Message, "10 requests a second") {
		t.Errorf("the refusal is %+v", err)
	}
	c.at = c.at.Add(100 * time.Millisecond) // refusals have taken nothing
	if !enter(t, g, "a") || enter(t, g, "a") {
		t.Error("after the time that was named it is not one more")
	}
}

func TestConcurrent(t *testing.T) {
	g := New(Pool, Limits{Concurrent: 2}, nil)
	first, err1 := g.Enter("p")
	_, err2 := g.Enter("p")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if enter(t, g, "p") || !enter(t, g, "q") {
		t.Error("the limit does not hold, or holds for others")
	}
	first()
	first() // counts once
	if !enter(t, g, "p") {
		t.Error("who has left is counted")
	}
	if _, err := g.Enter("p"); err != nil {
		t.Fatal(err)
	}
	if enter(t, g, "p") {
		t.Error("who has left twice is counted twice")
	}
}

// TestRefusedTakesNothing: a request that is refused for its number takes nothing of the rate.
func TestRefusedTakesNothing(t *testing.T) {
	c := &clock{time.Now()}
	g := New(Principal, Limits{Rate: 1, Burst: 2, Concurrent: 1}, c.now)
	leave, err := g.Enter("a")
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if enter(t, g, "a") {
			t.Fatal("two at a time")
		}
	}
	leave()
	if !enter(t, g, "a") {
		t.Error("the refusals have used the rate up")
	}
}

func TestNone(t *testing.T) {
	var none *Gate
	for range 100 {
		if !enter(t, none, "a") || !enter(t, New(Principal, Limits{}, nil), "a") ||
			!enter(t, New(Principal, Limits{Rate: 1, Burst: 1}, nil), "") {
			t.Fatal("a limit that nobody has set")
		}
	}
}

// TestForgets: names that are at rest take no room for ever, and those that are not are kept.
func TestForgets(t *testing.T) {
	c := &clock{time.Now()}
	g := New(Principal, Limits{Rate: 1, Burst: 1, Concurrent: 1}, c.now)
	if _, err := g.Enter("busy"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 * sweepAt {
		if i%sweepAt == sweepAt-2 {
			c.at = c.at.Add(time.Minute)
		}
		enter(t, g, fmt.Sprint(i))
	}
	if n := len(g.each); n > sweepAt+1 {
		t.Errorf("%d are remembered", n)
	}
	if enter(t, g, "busy") {
		t.Error("who is under way is forgotten")
	}
}

func TestRace(t *testing.T) {
	g := New(Principal, Limits{Concurrent: 3}, nil)
	var mu sync.Mutex
	under, most := 0, 0
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			leave, err := g.Enter("a")
			if err != nil {
				return
			}
			mu.Lock()
			under++
			most = max(most, under)
			mu.Unlock()
			mu.Lock()
			under--
			mu.Unlock()
			leave()
		})
	}
	wg.Wait()
	if most > 3 || !enter(t, g, "a") {
		t.Errorf("%d at a time", most)
	}
}

func TestValidate(t *testing.T) {
	for want, l := range map[string]Limits{
		"":                            {Rate: 1, Burst: 2, Concurrent: 3},
		"x.requests_per_second is -1": {Rate: -1},
		"x.burst is 5":                {Burst: 5},
		"x.burst is -5":               {Rate: 1, Burst: -5},
		"x.concurrent is -1":          {Concurrent: -1},
	} {
		err := l.Validate("x")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func BenchmarkEnter(b *testing.B) {
	g := New(Principal, Limits{Rate: 1e12, Concurrent: 1000}, nil)
	b.ReportAllocs()
	for b.Loop() {
		leave, err := g.Enter("token:abcdefgh")
		if err != nil {
			b.Fatal(err)
		}
		leave()
	}
}
