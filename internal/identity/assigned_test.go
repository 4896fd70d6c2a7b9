package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
)

func idOf(name string) string {
	return "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/" +
		"userAssignedIdentities/" + name
}

// assign gives the pool identities beside or instead of its own.
func (k *kit) assign(own bool, names ...string) {
	k.set(func() {
		is := &k.pool.Spec.Identity
		if !own {
			is.Principal, is.InSessions = "", false
		}
		k.there = map[string]string{}
		for _, name := range names {
			is.Assigned = append(is.Assigned, sandpool.AssignedIdentity{ID: idOf(name),
				Principal: "p-" + name, Client: "c-" + name, InSessions: true})
			k.there[idOf(name)] = "p-" + name
		}
	})
}

// TestWhose: a request gets the token of the identity that it names, in each of the ways to name
// one; without a name that of the pool itself, or of the only one; and no other.
func TestWhose(t *testing.T) {
	const pools = "5a9d9001-0000-8000-8000-000000000001"
	for name, row := range map[string]struct {
		own    bool
		have   string
		query  string
		status int
		whose  string
	}{
		"the only one":              {false, "one", "", 200, "p-one"},
		"the pool's own by default": {true, "one two", "", 200, pools},
		"none of two":               {false, "one two", "", 400, ""},
		"by client id":              {false, "one two", "client_id=c-two", 200, "p-two"},
		"in capitals":               {false, "one two", "client_id=C-TWO", 200, "p-two"},
		"by object id":              {true, "one two", "object_id=p-one", 200, "p-one"},
		"by principal id":           {true, "one two", "principal_id=p-one", 200, "p-one"},
		"by resource id":            {true, "one", "mi_res_id=" + idOf("one"), 200, "p-one"},
		"by the older name": {true, "one", "msi_res_id=" + strings.ToUpper(idOf("one")), 200,
			"p-one"},
		"the pool's by resource id": {true, "one", "mi_res_id=" + poolID("py").String(), 200, pools},
		"a principal as client":     {false, "one two", "client_id=p-two", 400, ""},
		"a client as object":        {false, "one two", "object_id=c-two", 400, ""},
		"one that it has not":       {false, "one", "client_id=c-two", 400, ""},
		"another's resource id":     {false, "one", "mi_res_id=" + idOf("two"), 400, ""},
		"another pool's":            {true, "one", "mi_res_id=" + poolID("other").String(), 400, ""},
		"a part of an id":           {false, "one", "mi_res_id=" + idOf("on"), 400, ""},
		"two names":                 {true, "one", "client_id=c-one&object_id=p-one", 400, ""},
		"two that differ":           {true, "one two", "client_id=c-one&mi_res_id=" + idOf("two"), 400, ""},
		"the pool's, which it lost": {false, "one", "client_id=" + pools, 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			k.assign(row.own, strings.Fields(row.have)...)
			b := k.box("a")
			status, got := k.say(b, request(good+"&"+row.query, own(b)))
			text, _ := got["access_token"].(string)
			if status != row.status || row.whose != "" &&
				!strings.Contains(text, "of "+row.whose+" for") {
				t.Errorf("%d %v, want %d and the token of %q", status, got, row.status, row.whose)
			}
			if want := "c" + strings.TrimPrefix(row.whose, "p"); strings.HasPrefix(row.whose,
				"p-") && got["client_id"] != want {
				t.Errorf("the client id is %v, want %s", got["client_id"], want)
			}
		})
	}
}

// TestEachItsOwn: the tokens of two identities are not mistaken for each other, and each is a
// record of its own.
func TestEachItsOwn(t *testing.T) {
	k := newKit(t)
	k.assign(true, "one", "two")
	b := k.box("a")
	seen := map[string]bool{}
	for _, query := range []string{"", "&client_id=c-one", "&client_id=c-two", ""} {
		_, got := k.say(b, request(good+query, own(b)))
		seen[fmt.Sprint(got["access_token"])] = true
	}
	k.set(func() {
		if len(seen) != 3 || k.issues != 3 || len(k.done) != 3 ||
			k.done[1].Who != "identity:p-one" || k.done[1].Name != "identity one" {
			t.Errorf("%d tokens of %d issued, and the records %+v", len(seen), k.issues, k.done)
		}
	})
}

// TestAssignedEnds: an identity that was deleted, made anew, taken from the pool or from its
// sessions gives no more tokens, also not those that a sandbox was given a moment ago; nor are they
// taken.
func TestAssignedEnds(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*world)
		status int
	}{
		"deleted":    {func(w *world) { w.there = nil }, 403},
		"made anew":  {func(w *world) { w.there[idOf("one")] = "p-new" }, 403},
		"taken away": {func(w *world) { w.pool.Spec.Identity.Assigned = nil }, 403},
		"not in sessions": {func(w *world) {
			w.pool.Spec.Identity.Assigned = []sandpool.AssignedIdentity{{ID: idOf("one"),
				Principal: "p-one", Client: "c-one"}}
		}, 403},
		"replaced": {func(w *world) {
			w.pool.Spec.Identity.Assigned[0].Principal, w.there[idOf("one")] = "p-new", "p-new"
		}, 200},
		"nobody knows": {func(w *world) { w.lost = errors.New("disk") }, 503},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			k.assign(false, "one")
			known, err := NewDirectory(k, k, func(context.Context, string) ([]sandpool.Grant,
				error) {
				return []sandpool.Grant{{Role: "reader"}}, nil
			}, k.clock)
			if err != nil {
				t.Fatal(err)
			}
			b := k.box("a")
			_, first := k.say(b, request(good, own(b)))
			p, err := known.Principal(t.Context(), k.pool.ID, "p-one", mine)
			if err != nil || p.Subject != "identity:p-one" || p.Name != "identity one" ||
				len(p.Grants) != 1 || !p.Is("p-one") {
				t.Fatalf("before: %v, %+v, %v", first, p, err)
			}
			k.set(func() { row.change(k.world) })
			status, got := k.say(b, request(good, own(b)))
			if status != row.status || got["access_token"] != nil &&
				got["access_token"] == first["access_token"] {
				t.Errorf("%d %v, want %d", status, got, row.status)
			}
			want := sandpool.Unauthenticated
			if row.status == 503 {
				want = sandpool.Unavailable
			}
			if _, err := known.Principal(t.Context(), k.pool.ID, "p-one", mine); err == nil ||
				sandpool.ClassOf(err) != want {
				t.Errorf("its token is taken: %v", err)
			}
		})
	}
}

// TestManyTokens: what a sandbox is remembered to have is bounded, whatever its pool allows.
func TestManyTokens(t *testing.T) {
	k := newKit(t)
	k.assign(true, "one")
	g := &guest{sandbox: sandpool.Sandbox{ID: "a", Pool: poolID("py")}, tokens: map[given]issued{}}
	for i := range 5 * maxTokens {
		if _, why := k.e.issue(g, k.pool, k.pool.Identities()[i%2], fmt.Sprint(i)); why != nil {
			t.Fatal(why)
		}
	}
	if len(g.tokens) > maxTokens {
		t.Errorf("%d tokens are remembered", len(g.tokens))
	}
}
