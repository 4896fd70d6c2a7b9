package auth

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sandpool/sandpool"
)

// TestParts: a pool lies in a part of a scope if, and only if, Allow permits what the parts are
// for, and no part lies in another.
func TestParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scope := func(label string) sandpool.Scope {
			var s sandpool.Scope
			depth := rapid.IntRange(0, 4).Draw(t, label)
			for i, into := range []*string{&s.Subscription, &s.ResourceGroup, &s.Pool,
				&s.Identifier} {
				if i < depth {
					*into = fmt.Sprint("n", rapid.IntRange(0, 1).Draw(t, "name"))
				}
			}
			return s
		}
		var p Principal
		for range rapid.IntRange(0, 4).Draw(t, "grants") {
			role := rapid.SampledFrom(Roles()).Draw(t, "role")
			p.Grants = append(p.Grants, sandpool.Grant{Role: role, Scope: scope("grant")})
		}
		on := scope("on")
		on.Pool, on.Identifier = "", ""
		parts := Parts(p, ReadPool, on)
		for i := range 8 {
			pool := sandpool.PoolID{Subscription: fmt.Sprint("n", i&1),
				ResourceGroup: fmt.Sprint("n", i>>1&1), Name: fmt.Sprint("n", i>>2)}.Scope()
			holds := func(s sandpool.Scope) bool { return s.Contains(pool) }
			in := slices.ContainsFunc(parts, holds)
			want := on.Contains(pool) && Allow(p, ReadPool, pool) == nil
			if in != want {
				t.Fatalf("%v of %v is in %v: %v, want %v", pool, on, parts, in, want)
			}
		}
		for i, a := range parts {
			for j, b := range parts {
				if i != j && a.Contains(b) {
					t.Fatalf("%v lies in %v", b, a)
				}
			}
		}
	})
}
