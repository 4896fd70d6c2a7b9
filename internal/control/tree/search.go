package tree

import (
	"context"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

// Searcher finds pools by a part of their names.
type Searcher interface {
	// PoolsNamed is that of store.Pools.
	PoolsNamed(ctx context.Context, from, below, part string, look, limit int) (store.Found, error)
}

// A page of a search is bounded work, whatever it finds: it looks at so many names, and each
// question to the store, of which a caller with many grants needs one for each, counts as some.
const (
	looks    = 5000
	question = 50
)

// Search returns at most some of the pools in ranges that come after a key and have part, in lower
// case, in their names; last is the key after which to search on, and empty at the end. Before the
// end there may be fewer than some, and none.
func Search(ctx context.Context, pools Searcher, ranges []Range, after, part string,
	some int) (found []sandpool.Pool, last string, err error) {
	at, left := after, looks
	for _, r := range ranges {
		if after != "" {
			r.From = max(r.From, sandpool.Next(after))
		}
		if r.From >= r.Below {
			continue
		}
		if left <= 0 {
			return found, at, nil
		}
		f, err := pools.PoolsNamed(ctx, r.From, r.Below, part, left, some+1-len(found))
		if err != nil {
			return nil, "", err
		}
		found = append(found, f.Pools...)
		switch {
		case len(found) > some:
			return found[:some], found[some-1].ID.Key(), nil
		case f.Looked == left:
			return found, f.Last, nil
		case f.Looked > 0:
			at = f.Last
		case after == "" || r.From != sandpool.Next(after):
			at = r.From // no pool has this key
		}
		left -= f.Looked + question
	}
	return found, "", nil
}
