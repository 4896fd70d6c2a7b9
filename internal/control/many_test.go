package control

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
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
	for _, row := range []struct {
		name, token, target string
		most, want          int // rows that are read, and pools in the answer
	}{
		{"the first page", k.admin, rg + version, 101, 100},
		{"one in the middle", k.admin, middle, 101, 100},
		{"of the subscription", k.admin, "/subscriptions/s1/providers/Microsoft.App/sessionPools",
			101, 100},
		{"a search", k.admin, rg + version + "&search=p012", 101, 100},
		{"a search for one", k.admin, rg + version + "&search=P01234", 1, 1},
		{"a search for none", k.admin, rg + version + "&search=python", 0, 0},
		{"who may read one", one, "/subscriptions/s1/providers/Microsoft.App/sessionPools", 1, 1},
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
	bad := k.want(400, k.do("GET",
		"/subscriptions/s1/providers/Microsoft.App/sessionPools?search=p", ""))
	if !strings.Contains(bad.err.Message, "within a resource group") {
		t.Errorf("a search of a subscription: %s", bad.body)
	}
	for _, query := range []string{"&search=p%00", "&search=p%ff", "&search=%0a", "&$skipToken=AAA",
		"&$skipToken=_w"} { // which no store is to be asked for
		k.want(400, k.do("GET", rg+version+query, ""))
	}
}
