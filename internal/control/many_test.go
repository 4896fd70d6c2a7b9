package control

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/control/tree"
)

// TestManyPools: of 10,000 pools no more are read than a page has, wherever the page is, whatever
// is searched, and whoever asks. Pools of others are passed over.
func TestManyPools(t *testing.T) {
	k := newKit(t, Options{PageSize: 100})
	for _, group := range []string{"another", "lab", "zoo"} {
		for i := range 10_000 / 3 {
			id := sandpool.PoolID{Subscription: "s1", ResourceGroup: group,
				Name: fmt.Sprintf("p%05d", i)}
			k.pools.pools[id.Key()] = &fakePool{pool: sandpool.Pool{ID: id,
				State: sandpool.Succeeded, Spec: sandpool.Spec{Kind: sandpool.PythonLTS}}}
		}
	}
	middle := rg + version
	for range 17 {
		var page api.SessionPools
		if err := json.Unmarshal(k.want(200, k.do("GET", middle, "")).body, &page); err != nil {
			t.Fatal(err)
		}
		middle = page.NextLink
	}
	one := k.token(auth.Reader, sandpool.PoolID{Subscription: "s1", ResourceGroup: "zoo",
		Name: "p03000"})
	const all = "/subscriptions/s1/providers/Microsoft.App/sessionPools"
	for _, row := range []struct {
		name, token, target string
		most, want          int // rows that are read, and pools in the answer
	}{
		{"the first page", k.admin, rg + version, 101, 100},
		{"one in the middle", k.admin, middle, 101, 100},
		{"of the subscription", k.admin, all, 101, 100},
		{"a search", k.admin, rg + version + "&search=012", 3333, 100},
		{"a search for one", k.admin, rg + version + "&search=P01234", 3333, 1},
		{"a search for none", k.admin, rg + version + "&search=python", 3333, 0},
		{"a search of the subscription", k.admin, all + "?search=333", 5000, 8},
		{"a search for no name but a part of the path", k.admin, all + "?search=lab", 5000, 0},
		{"a search of who may read one", one, all + "?search=00", 1, 1},
		{"who may read one", one, all, 1, 1},
		{"the groups", k.admin, "/subscriptions/s1/resourceGroups", 3, 4},
		{"a group", k.admin, "/subscriptions/s1/resourceGroups/zoo", 1, 0},
		{"the subscriptions", k.admin, "/subscriptions", 1, 2},
	} {
		k.pools.rows = 0
		r := k.want(200, k.as(row.token, "GET", row.target, ""))
		var page struct{ Value []any }
		if err := json.Unmarshal(r.body, &page); err != nil {
			t.Fatal(err)
		}
		if k.pools.rows > row.most || len(page.Value) != row.want {
			t.Errorf("%s: %d rows were read for %d pools, want at most %d for %d", row.name,
				k.pools.rows, len(page.Value), row.most, row.want)
		}
	}
	for _, query := range []string{"&search=p%00", "&search=p%ff", "&search=%0a", "&$skipToken=AAA",
		"&$skipToken=_w"} { // which no store is to be asked for
		k.want(400, k.do("GET", rg+version+query, ""))
	}
}

// TestSearch: a search that is followed to its end finds every pool with the part in its name once,
// also where pages end by what they looked at, and for callers of many and of few pools.
func TestSearch(t *testing.T) {
	k := newKit(t, Options{PageSize: 10})
	var grants []sandpool.Scope
	for i := range 12_000 {
		id := sandpool.PoolID{Subscription: "s1", ResourceGroup: "lab",
			Name: fmt.Sprintf("p%05d", i)}
		k.pools.pools[id.Key()] = &fakePool{pool: sandpool.Pool{ID: id,
			State: sandpool.Succeeded, Spec: sandpool.Spec{Kind: sandpool.PythonLTS}}}
		if i%1000 == 25 {
			grants = append(grants, id.Scope())
		}
	}
	gone := sandpool.PoolID{Subscription: "s1", ResourceGroup: "lab", Name: "p00000a"}
	grants = append(grants, gone.Scope()) // a pool that is no more
	some := k.tokenOf(auth.Reader, grants...)
	for _, row := range []struct {
		token, part string
		want, most  int
	}{
		{k.admin, "1999", 2, 5000}, // 01999 and 11999
		{k.admin, "999", 12 + 9, 5000},
		{k.admin, "zz", 0, 5000},
		{some, "25", 12, 12},
	} {
		seen, link, pages := map[string]bool{}, rg+version+"&search="+row.part, 0
		for link != "" {
			k.pools.rows = 0
			var page api.SessionPools
			r := k.want(200, k.as(row.token, "GET", link, ""))
			if err := json.Unmarshal(r.body, &page); err != nil {
				t.Fatal(err)
			}
			for _, p := range page.Value {
				if seen[p.Name] || !strings.Contains(p.Name, row.part) {
					t.Errorf("a search for %q gives %q, seen before: %t", row.part, p.Name,
						seen[p.Name])
				}
				seen[p.Name] = true
			}
			if k.pools.rows > row.most || len(page.Value) > 10 {
				t.Errorf("a page for %q has %d pools of %d rows", row.part, len(page.Value),
					k.pools.rows)
			}
			link = page.NextLink
			if pages++; pages > 100 {
				t.Fatalf("a search for %q does not end", row.part)
			}
		}
		if len(seen) != row.want {
			t.Errorf("a search for %q found %d pools, want %d", row.part, len(seen), row.want)
		}
	}
}

// TestSearchOfManyScopes: a caller with a grant for each of many pools has them all searched, with
// a bounded number of questions for a page.
func TestSearchOfManyScopes(t *testing.T) {
	k := newKit(t, Options{})
	var ranges []tree.Range
	for i := range 1000 {
		id := sandpool.PoolID{Subscription: "s1", ResourceGroup: "lab",
			Name: fmt.Sprintf("p%05d", i)}
		if i%2 == 0 { // the others are no more
			k.pools.pools[id.Key()] = &fakePool{pool: sandpool.Pool{ID: id}}
		}
		from, below := id.Scope().Keys()
		ranges = append(ranges, tree.Range{From: from, Below: below})
	}
	found, pages, last := 0, 0, ""
	for pages == 0 || last != "" && pages < 50 {
		list, next, err := tree.Search(t.Context(), k.pools, ranges, last, "p", 100)
		if err != nil {
			t.Fatal(err)
		}
		found, last = found+len(list), next
		pages++
	}
	if found != 500 || pages < 10 || pages > 12 {
		t.Errorf("%d pools on %d pages, want 500 on about 10", found, pages)
	}
}
