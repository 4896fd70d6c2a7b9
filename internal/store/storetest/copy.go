package storetest

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

// Whole is a store with all that a copy has to carry but tokens, which are not of this contract.
type Whole interface {
	store.Store
	store.Documents
	store.Usages
	store.Sealing
}

// manyRows is more than a store may send at a time.
const manyRows = 1234

// Copied fills a store, which is empty, has it carried to another, and checks that the other says
// the same and goes on where the first ended.
func Copied(t *testing.T, from Whole, carry func(t *testing.T) Whole) {
	s := &suite{T: t, Target: Target{Store: from}}
	s.pool = s.putPool("python")
	oldest := s.fillForCopy(from)
	into := carry(t)
	s.wantSame(from, into)

	s.Store = into
	r := s.request("somebody")
	r.Epoch = 2
	if got := s.claim(r, sandpool.ClaimReady); got.ID != oldest.ID {
		s.Errorf("the copy gives %s out first, want the oldest, %s", got.ID, oldest.ID)
	}
	late := s.used("late", 90, 1)
	s.putUsage(100, late)
	all, err := usageOf(s, into)
	s.must(err)
	if last := all[len(all)-1].Sandbox; last != late.Sandbox {
		s.Errorf("the last record is that of %s, want the one that was written last", last)
	}
}

// fillForCopy puts something into every place, and returns the sandbox that is ready longest.
func (s *suite) fillForCopy(from Whole) (oldest sandpool.Sandbox) {
	s.Helper()
	s.create(samplePool("full"), sandpool.Secrets{"a": sandpool.NewSecret("one"),
		"empty": sandpool.NewSecret("")})
	s.ready(0)
	s.claim(s.request("alice"), sandpool.ClaimReady)
	oldest = s.ready(1)
	for range 3 { // which were made at one moment, in an order
		s.ready(1)
	}
	s.insert(2)
	stopped := s.ready(2)
	s.must(from.Stopping(s.Context(), stopped.ID, "why", 1))
	s.must(from.Mourn(s.Context(), sandpool.Loss{Pool: s.pool, Identifier: "lost",
		Reason: "out of memory", Until: at(100)}, at(0), 1))
	for i := range manyRows {
		s.must(from.PutDocument(s.Context(), store.Document{Kind: "kind",
			Key: fmt.Sprintf("%04d \u00fc", i), Text: `{"a": "\u0000"}`}))
	}
	ended := s.used("b", 5, 1)
	ended.Ended = true
	s.putUsage(10, s.used("a", 0, 10), ended)
	s.must(from.Reseal(s.Context(), "", "key-1", func(v store.Secret) (string, error) {
		return "sealed " + v.Value, nil
	}))
	s.own(me, 1)
	return oldest
}

// wantSame checks that two stores say the same.
func (s *suite) wantSame(a, b Whole) {
	s.Helper()
	ctx := s.Context()
	pools, err := a.Pools(ctx)
	s.must(err)
	for name, read := range map[string]func(w Whole) (any, error){
		"pools":      func(w Whole) (any, error) { return w.Pools(ctx) },
		"holds":      func(w Whole) (any, error) { return w.Holds(ctx) },
		"sandboxes":  func(w Whole) (any, error) { return w.Sandboxes(ctx) },
		"losses":     func(w Whole) (any, error) { return w.Losses(ctx) },
		"documents":  func(w Whole) (any, error) { return w.Documents(ctx, "kind", "") },
		"key":        func(w Whole) (any, error) { return w.SealedBy(ctx) },
		"usage":      func(w Whole) (any, error) { return usageOf(s, w) },
		"of secrets": func(w Whole) (any, error) { return secretsOf(s, w, pools) },
	} {
		want, err := read(a)
		s.must(err)
		got, err := read(b)
		s.must(err)
		if diff := cmp.Diff(want, got); diff != "" {
			s.Errorf("the copy has other %s: -want +got\n%s", name, diff)
		}
	}
}

func usageOf(s *suite, w Whole) (all []sandpool.Usage, err error) {
	err = w.Usage(s.Context(), store.UsageQuery{}, func(u sandpool.Usage) error {
		all = append(all, u)
		return nil
	})
	return all, err
}

func secretsOf(s *suite, w Whole, pools []sandpool.Pool) (map[string]string, error) {
	all := map[string]string{}
	for _, p := range pools {
		secrets, err := w.Secrets(s.Context(), p.ID)
		if err != nil {
			return nil, err
		}
		for name, v := range secrets {
			all[p.ID.Name+"/"+name] = v.Reveal()
		}
	}
	return all, nil
}
