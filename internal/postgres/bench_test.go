package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpool/sandpool"
)

// BenchmarkClaim claims one session after the other in a pool that has many.
func BenchmarkClaim(b *testing.B) {
	for _, held := range []int{0, 1_000, 10_000} {
		b.Run(fmt.Sprint(held), func(b *testing.B) {
			s := open(b, database(b))
			p := sandpool.Pool{ID: sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "p"},
				MaxSessions: 1 << 20, Cooldown: time.Hour, State: sandpool.Succeeded, Revision: 1}
			epoch, err := s.CreatePool(b.Context(), p, nil, "owner")
			if err != nil {
				b.Fatal(err)
			}
			claim := func(n int) error {
				id := fmt.Sprint("session-", n)
				_, _, err := s.Claim(b.Context(), sandpool.ClaimRequest{Pool: p.ID,
					Identifier: sandpool.Identifier(id), Revision: 1, Max: p.MaxSessions,
					Epoch: epoch, Now: time.Now(), NewID: sandpool.SandboxID(id), NewSecret: "x"})
				return err
			}
			var group errgroup.Group
			group.SetLimit(64)
			for n := range held {
				group.Go(func() error { return claim(n) })
			}
			if err := group.Wait(); err != nil {
				b.Fatal(err)
			}
			n := held
			for b.Loop() {
				if err := claim(n); err != nil {
					b.Fatal(err)
				}
				n++
			}
		})
	}
}
