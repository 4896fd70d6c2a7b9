package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

// Crowd is a store with many pools. Copy makes copies of the pool "p00000" of the suite's group as
// the store does fastest, with the names p00001, p00002 and so on, until there are n.
type Crowd struct {
	Store store.Store
	Copy  func(ctx context.Context, n int) error
}

// crowdKey is the key of the pool with a number.
func crowdKey(n int) string {
	return sandpool.PoolID{Subscription: "Sub", ResourceGroup: "Group",
		Name: fmt.Sprintf("p%05d", n)}.Key()
}

// fill gives a store n pools.
func (c Crowd) fill(t testing.TB, n int) {
	t.Helper()
	if _, err := c.Store.CreatePool(t.Context(), samplePool("p00000"), nil, me); err != nil {
		t.Fatal(err)
	}
	if err := c.Copy(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

// page reads a page of 100 after the pool with a number.
func (c Crowd) page(t testing.TB, after int) {
	_, end := sandpool.Scope{Subscription: "Sub", ResourceGroup: "Group"}.Keys()
	pools, err := c.Store.PoolsBetween(t.Context(), crowdKey(after+1), end, 100)
	if err != nil || len(pools) != 100 || pools[0].ID.Key() != crowdKey(after+1) {
		t.Fatalf("the page after %d has %d pools, %v", after, len(pools), err)
	}
}

// Flat checks that a page of 10,000 pools is as much work as one of 200, at the beginning and at
// the end: by what it allocates, since each row that is read is some.
func Flat(t *testing.T, open func(t testing.TB) Crowd) {
	work := func(n, after int) float64 {
		c := open(t)
		c.fill(t, n)
		return testing.AllocsPerRun(10, func() { c.page(t, after) })
	}
	few := work(200, 0)
	for _, after := range []int{0, 9_800} {
		if many := work(10_000, after); many > 1.2*few {
			t.Errorf("the page after %d of 10,000 pools takes %.0f allocations, of 200 pools %.0f",
				after, many, few)
		}
	}
}

// Benchmark reads pages of few and of many pools.
func Benchmark(b *testing.B, open func(t testing.TB) Crowd) {
	for _, row := range []struct{ n, after int }{{200, 0}, {10_000, 0}, {10_000, 9_800}} {
		b.Run(fmt.Sprintf("%d,after=%d", row.n, row.after), func(b *testing.B) {
			c := open(b)
			c.fill(b, row.n)
			b.ReportAllocs()
			for b.Loop() {
				c.page(b, row.after)
			}
		})
	}
}
