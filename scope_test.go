package sandpool

import (
	"strings"
	"testing"
)

// ladder is a scope of each kind, the widest first; each contains those after it.
func ladder() []Scope {
	pool := PoolID{Subscription: "s", ResourceGroup: "g", Name: "p"}.Scope()
	prefix := pool
	prefix.Identifier, prefix.Prefix = "tenant-7-", true
	longer := pool
	longer.Identifier, longer.Prefix = "tenant-7-a", true
	return []Scope{{}, {Subscription: "s"}, {Subscription: "s", ResourceGroup: "g"}, pool,
		prefix, longer, pool.Session("tenant-7-abc")}
}

func TestScopeContains(t *testing.T) {
	all := ladder()
	for i, wide := range all {
		for j, narrow := range all {
			if got := wide.Contains(narrow); got != (i <= j) {
				t.Errorf("%s contains %s: %v", wide, narrow, got)
			}
			if !wide.Touches(narrow) {
				t.Errorf("%s does not touch %s", wide, narrow)
			}
		}
	}
	pool := all[3]
	for _, apart := range [][2]Scope{
		{pool, PoolID{Subscription: "s", ResourceGroup: "g", Name: "p2"}.Scope()},
		{pool, PoolID{Subscription: "s", ResourceGroup: "g2", Name: "p"}.Scope()},
		{pool, PoolID{Subscription: "s2", ResourceGroup: "g", Name: "p"}.Scope()},
		{all[1], {Subscription: "s2"}},
		{all[4], pool.Session("tenant-70-a")},
		{all[4], pool.Session("Tenant-7-a")},
		{all[6], pool.Session("tenant-7-abcd")},
		{all[6], pool.Session("tenant-7-ABC")},
	} {
		if apart[0].Touches(apart[1]) {
			t.Errorf("%s touches %s", apart[0], apart[1])
		}
	}
	if same := (PoolID{Subscription: "S", ResourceGroup: "G", Name: "P"}).Scope(); !pool.Contains(
		same) {
		t.Error("the case of a resource's name matters")
	}
}

// TestScopeWithAGap: a field that was forgotten must not widen a scope.
func TestScopeWithAGap(t *testing.T) {
	for _, s := range []Scope{{Pool: "p"}, {ResourceGroup: "g"}, {Subscription: "s", Pool: "p"},
		{Identifier: "abcd"}, {Subscription: "s", ResourceGroup: "g", Identifier: "abcd"}, {
			Prefix: true},
		{Subscription: "s", Prefix: true}, {Subscription: "s", ResourceGroup: "g", Pool: "p",
			Prefix: true}} {
		for _, o := range ladder() {
			if s.Contains(o) {
				t.Errorf("%+v contains %s", s, o)
			}
		}
	}
}

func TestParseScope(t *testing.T) {
	for _, s := range append(ladder(), PoolID{"s", "g", "p"}.Scope().Session("a/b%*?"),
		PoolID{"s", "g", "p"}.Scope().Session("abc*")) {
		if got, err := ParseScope(s.String()); err != nil || got != s {
			t.Errorf("%s is read as %+v, %v", s, got, err)
		}
		folded := strings.Replace(strings.Replace(s.String(), "resourceGroups", "RESOURCEGROUPS",
			1), "Microsoft.App", "microsoft.app", 1)
		if got, err := ParseScope(folded); err != nil || got != s {
			t.Errorf("%s is read as %+v, %v", folded, got, err)
		}
	}
	const pool = "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/p"
	for _, bad := range []string{"", "//", "s", "/subscriptions", "/subscriptions/",
		"/subscriptions//resourceGroups/g",
		"/subscriptions/s/", "/subscriptions/s/x/y", "/resourceGroups/g", pool + "/", pool +
			"/identifiers", pool + "/identifiers/",
		pool + "/identifiers/*", pool + "/identifiers/abc", pool + "/identifiers/abcd/x", pool +
			"/identifiers/ab%zz",
		pool + "/identifiers/ab%20cd", pool + "/identifiers/" + strings.Repeat("x", 129) +
			"*", pool + "/sessions/abcd"} {
		if got, err := ParseScope(bad); ClassOf(err) != Invalid || err == nil {
			t.Errorf("%q is read as %+v, %v", bad, got, err)
		}
	}
}

func FuzzParseScope(f *testing.F) {
	for _, s := range ladder() {
		f.Add(s.String())
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseScope(text)
		if err != nil {
			return
		}
		if again, err := ParseScope(s.String()); err != nil || again != s {
			t.Fatalf("%q is %+v, and its own form %q is %+v, %v", text, s, s, again, err)
		}
		if !s.Contains(s) {
			t.Fatalf("%q does not contain itself", s)
		}
	})
}
