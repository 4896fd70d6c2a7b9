package budget

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestParts(t *testing.T) {
	b := New(Limits{Total: 100, Pool: 60, Caller: 50, Session: 30}, nil)
	at := func(pool, caller, session string) *Share {
		return b.Share(Holder{pool, caller, session})
	}
	full := func(err error, want Kind) {
		t.Helper()
		var e *FullError
		if errors.As(err, &e); e == nil && want != "" || e != nil && e.Kind != want {
			t.Errorf("error %v, want that of the %s", err, want)
		}
	}
	first, second := at("p", "c", "s"), at("p", "c", "t")
	full(first.Try(25), "")
	full(first.Try(5), "")
	full(at("p", "c", "s").Try(1), OfSession)
	full(second.Try(20), "")
	full(second.Try(1), OfCaller)
	full(at("p", "d", "u").Try(11), OfPool)
	full(at("p", "d", "u").Fits(11), OfPool)
	third := at("q", "d", "v")
	full(third.Try(30), "")
	full(at("r", "e", "w").Try(21), OfServer)
	full(at("r", "e", "w").Fits(20), "")
	second.Release()
	second.Release()
	full(at("r", "e", "w").Try(21), "")

	large := New(Limits{Total: 100, Pool: 60}, nil).Share(Holder{Pool: "p"})
	full(large.Try(1000), "") // alone, it is let in
	if large.bytes != 60 {
		t.Errorf("charged %d bytes, want all of the pool's", large.bytes)
	}
}

// TestTake checks that waiting is in order, and that nobody waits for another's part.
func TestTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Limits{Total: 100, Pool: 60}, nil)
		hold := b.Share(Holder{Pool: "p"})
		if err := hold.Take(t.Context(), 60); err != nil {
			t.Fatal(err)
		}
		order := make(chan string, 3)
		take := func(pool string, n int64) {
			s := b.Share(Holder{Pool: pool})
			if err := s.Take(t.Context(), n); err != nil {
				t.Error(err)
			}
			order <- pool
		}
		go take("p", 10)
		synctest.Wait()
		go take("q", 40)
		synctest.Wait()
		if got := <-order; got != "q" {
			t.Errorf("%s was first", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := b.Share(Holder{Pool: "r"}).Take(ctx, 1)
		var e *FullError
		if !errors.As(err, &e) || e.Kind != OfServer {
			t.Errorf("of a full server: %v", err)
		}
		hold.Keep(50)
		if got := <-order; got != "p" {
			t.Errorf("%s was next", got)
		}
	})
}

// TestIdle checks when memory is worth giving back.
func TestIdle(t *testing.T) {
	calls := 0
	b := New(Limits{Total: 100}, func() { calls++ })
	for _, tt := range []struct {
		bytes int64
		calls int
	}{{24, 0}, {25, 1}, {1, 1}, {100, 2}} {
		s, other := b.Share(Holder{}), b.Share(Holder{})
		if err := s.Try(tt.bytes); err != nil {
			t.Fatal(err)
		}
		_ = other.Try(0)
		s.Release()
		if calls != tt.calls {
			t.Errorf("after %d bytes: %d calls, want %d", tt.bytes, calls, tt.calls)
		}
	}
}

// TestWalk checks that no part is ever exceeded, and that all is given back.
func TestWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := Limits{Total: 100, Pool: 60, Caller: 50, Session: 30}
		b := New(limits, nil)
		name := rapid.SampledFrom([]string{"", "a", "b"})
		var shares []*Share
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				shares = append(shares, b.Share(Holder{name.Draw(t, "pool"), name.Draw(t, "caller"),
					name.Draw(t, "session")}))
			case 1, 2:
				if len(shares) > 0 {
					_ = rapid.SampledFrom(shares).Draw(t, "share").Try(rapid.Int64Range(0,
						200).Draw(t, "bytes"))
				}
			case 3:
				if len(shares) > 0 {
					rapid.SampledFrom(shares).Draw(t, "share").Keep(rapid.Int64Range(-1,
						100).Draw(t, "keep"))
				}
			}
			for p, n := range b.held {
				if n > b.limit(p.kind) || n < 0 {
					t.Fatalf("%v holds %d", p, n)
				}
			}
		}
		for _, s := range shares {
			s.Release()
		}
		if len(b.held) != 0 {
			t.Fatalf("left: %v", b.held)
		}
	})
}
