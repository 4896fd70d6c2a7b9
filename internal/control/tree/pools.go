package tree

import (
	"cmp"
	"context"
	"iter"
	"slices"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

// Pools is what the tree knows of pools.
type Pools interface {
	// Between returns those pools whose keys are at least from and less than below, at most limit
	// of them, ordered by key.
	Between(ctx context.Context, from, below string, limit int) ([]sandpool.Pool, error)
	// Delete begins the deletion of a pool. An unknown one is no error.
	Delete(ctx context.Context, id sandpool.PoolID) error
}

// batch is how many pools are read at a time where all of a range are looked at.
const batch = 1000

// Range is pools by their keys: from the first, below the last.
type Range struct{ From, Below string }

// Readable returns the ranges of the pools in a scope that who may read, in the order of keys and
// without overlaps.
func Readable(who auth.Principal, in sandpool.Scope) []Range {
	from, below := in.Keys()
	var ranges []Range
	for _, part := range auth.Parts(who, auth.ReadPool, in) {
		r := Range{}
		r.From, r.Below = part.Keys()
		r.From, r.Below = max(r.From, from), min(r.Below, below)
		if r.From < r.Below {
			ranges = append(ranges, r)
		}
	}
	slices.SortFunc(ranges, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	return ranges
}

// Each yields the pools in ranges that come after a key, and reads them some at a time.
func Each(ctx context.Context, pools Pools, ranges []Range, after string,
	some int) iter.Seq2[sandpool.Pool, error] {
	return func(yield func(sandpool.Pool, error) bool) {
		for _, r := range ranges {
			if after != "" {
				r.From = max(r.From, sandpool.Next(after))
			}
			for more := r.From < r.Below; more; {
				page, err := pools.Between(ctx, r.From, r.Below, some)
				if err != nil {
					yield(sandpool.Pool{}, err)
					return
				}
				for _, p := range page {
					if !yield(p, nil) {
						return
					}
				}
				if more = len(page) == some; more {
					r.From = sandpool.Next(page[some-1].ID.Key())
				}
			}
		}
	}
}

// all returns every pool in a scope, whoever may read it.
func (t *Tree) all(ctx context.Context, in sandpool.Scope) (out []sandpool.Pool, err error) {
	from, below := in.Keys()
	return collect(Each(ctx, t.pools, []Range{{from, below}}, "", batch))
}

// readable returns the pools that the caller may read in a scope, ordered by key.
func (t *Tree) readable(ctx context.Context, in sandpool.Scope) ([]sandpool.Pool, error) {
	who, _ := auth.FromContext(ctx)
	return collect(Each(ctx, t.pools, Readable(who, in), "", batch))
}

// holds reports whether there is a pool in a scope that the caller may read.
func (t *Tree) holds(ctx context.Context, in sandpool.Scope) (bool, error) {
	who, _ := auth.FromContext(ctx)
	for _, err := range Each(ctx, t.pools, Readable(who, in), "", 1) {
		return err == nil, err
	}
	return false, nil
}

// holders returns the subscriptions, or the groups of one, that hold a pool which the
// caller may read: the first pool of each is read, and the others are passed over.
func (t *Tree) holders(ctx context.Context, in sandpool.Scope,
	of func(sandpool.PoolID) sandpool.Scope) (out []sandpool.Scope, err error) {
	who, _ := auth.FromContext(ctx)
	for _, r := range Readable(who, in) {
		for r.From < r.Below {
			page, err := t.pools.Between(ctx, r.From, r.Below, 1)
			if err != nil {
				return nil, err
			}
			if len(page) == 0 {
				break
			}
			found := of(page[0].ID)
			if !slices.ContainsFunc(out, found.Contains) {
				out = append(out, found)
			}
			_, r.From = found.Keys()
		}
	}
	return out, nil
}

func collect(each iter.Seq2[sandpool.Pool, error]) (out []sandpool.Pool, err error) {
	for p, err := range each {
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}
