package place_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox/kube/place"
)

// A pool has the namespace that knows its name best, whatever its spelling, and the usual one if
// none does.
func TestOf(t *testing.T) {
	n := place.Namespaces{"a": {"team-a-*", "other/*"}, "b": {"team-a-x*", "Team-A-One", "g/two"},
		"old": nil}
	for pool, want := range map[string]string{
		"g/team-a-1": "a", "g/TEAM-A-1": "a", "g/team-a-x1": "b", "g/team-a-one": "b",
		"other/any": "a", "g/two": "b", "h/two": "usual", "g/team-b": "usual",
		"other/team-a-x1": "b",
	} {
		group, name, _ := strings.Cut(pool, "/")
		id := sandpool.PoolID{Subscription: "s", ResourceGroup: group, Name: name}
		if got := n.Of(id, "usual"); got != want {
			t.Errorf("the pool %s is in %q, want %q", pool, got, want)
		}
	}
	if got := n.All("usual"); !slices.Equal(got, []string{"usual", "a", "b", "old"}) {
		t.Errorf("all namespaces are %q", got)
	}
	if got := (place.Namespaces)(nil).All("usual"); !slices.Equal(got, []string{"usual"}) {
		t.Errorf("without any they are %q", got)
	}
}

// What is no namespace, no pool, or a pool twice is named.
func TestValidate(t *testing.T) {
	if bad := (place.Namespaces{"a": {"x", "g/x", "y*"}, "b": nil}).Validate("usual"); len(bad) > 0 {
		t.Errorf("what is right is refused: %v", bad)
	}
	for want, n := range map[string]place.Namespaces{
		"lower-case":      {"Not A Label": nil},
		"leave it out":    {"usual": {"x"}},
		"is no pool":      {"a": {"a/b/c"}},
		"write a name":    {"a": {""}},
		"resource group":  {"a": {"[x"}},
		`pool of "a", to`: {"a": {"x"}, "b": {"X"}},
	} {
		bad := n.Validate("usual")
		if len(bad) != 1 {
			t.Fatalf("of %v: %v", n, bad)
		}
		for _, err := range bad {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("of %v: %v, want %q", n, err, want)
			}
		}
	}
}
