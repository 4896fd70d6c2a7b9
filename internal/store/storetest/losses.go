package storetest

import (
	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

func (s *suite) wantLosses(from store.Store, want ...sandpool.Loss) {
	s.Helper()
	got, err := from.Losses(s.Context())
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		s.Errorf("Losses: %v, -want +got\n%s", err, diff)
	}
}

// losses are kept until they are forgotten, their time has passed or their pool is deleted.
func losses(s *suite) {
	other := s.putPool("other")
	a := sandpool.Loss{Pool: s.pool, Identifier: "a", Reason: "out of memory", Until: at(100)}
	b := sandpool.Loss{Pool: s.pool, Identifier: "b", Reason: "killed", Until: at(50)}
	c := sandpool.Loss{Pool: other, Identifier: "a", Reason: "crashed", Until: at(10)}
	s.wantLosses(s.Store)
	for _, l := range []sandpool.Loss{a, b, c} {
		s.must(s.Store.Mourn(s.Context(), l, at(0), 1))
	}
	s.wantLosses(s.Store, c, a, b) // other comes before python
	s.wantLosses(s.Reopen(s.T), c, a, b)

	a.Reason, a.Until = "again", at(200)
	// the time of b, and not of another pool's, has passed
	s.must(s.Store.Mourn(s.Context(), a, at(50), 1))
	s.wantLosses(s.Store, c, a)

	s.must(s.Store.Forget(s.Context(), s.pool, "nobody", 1))
	s.must(s.Store.Forget(s.Context(), s.pool, "a", 1))
	s.must(s.Store.Forget(s.Context(), s.pool, "a", 1))
	s.wantLosses(s.Store, c)
	s.must(s.Store.DeletePool(s.Context(), other, 1))
	s.wantLosses(s.Store)

	gone := sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "gone"}
	s.wantClass(s.Store.Mourn(s.Context(), sandpool.Loss{Pool: gone, Identifier: "a", Until: at(9)},
		at(0), 1), sandpool.NotFound)
	s.must(s.Store.Forget(s.Context(), gone, "a", 1))
}
