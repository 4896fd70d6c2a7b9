package issuer

import (
	"context"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

// TestManaged: a token of a pool's identity is taken for what the pool allows, as long as whoever
// knows pools says so, and says whose it is.
func TestManaged(t *testing.T) {
	k := newKit(t)
	k.Address = base
	pool := sandpool.Pool{ID: sandpool.PoolID{Subscription: Tenant, ResourceGroup: "g",
		Name: "python"}}
	pool.Spec.Identity.Principal = "5a9d9001-0000-8000-8000-000000000001"
	pool.Spec.Identity.InSessions = true
	own := pool.Identities()[0]
	text, ends, err := k.IssueManaged(pool, own, "https://dynamicsessions.io")
	if err != nil || !ends.Equal(k.now.Add(ManagedLifetime)) {
		t.Fatalf("%v, %v", ends, err)
	}
	if err := k.verify(text); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("where pools have no identities: %v", err)
	}
	gone := false
	k.Managed = func(_ context.Context, id sandpool.PoolID, object,
		audience string) (auth.Principal, error) {
		if gone || id.Key() != pool.ID.Key() || object != pool.Spec.Identity.Principal ||
			audience != "https://dynamicsessions.io" {
			t.Errorf("asked for %v %s %s", id, object, audience)
			return auth.Principal{}, refused()
		}
		return auth.Principal{Subject: "identity:" + object}, nil
	}
	p, err := k.Verify(t.Context(), auth.Credential{Kind: auth.Bearer, Text: text})
	if err != nil || p.Subject != "identity:"+pool.Spec.Identity.Principal || !p.Ends.Equal(ends) {
		t.Errorf("%+v, %v", p, err)
	}
	other, _, err := k.IssueManaged(pool, own, "api://app")
	if err != nil || k.verify(other) == nil {
		t.Errorf("a token for something else is taken (%v)", err)
	}
	for name, change := range map[string]func(*claims){
		"no pool":        func(c *claims) { c.Resource = "" },
		"a group":        func(c *claims) { c.Resource = "/subscriptions/s/resourceGroups/g" },
		"not a path":     func(c *claims) { c.Resource = "../.." },
		"another tenant": func(c *claims) { c.Tenant = "other" },
		"two audiences":  func(c *claims) { c.Audience = append(c.Audience, "api://app") },
		"no end":         func(c *claims) { c.Expiry = nil },
		"no subject":     func(c *claims) { c.Subject = "" },
	} {
		parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		var c claims
		if err := parsed.UnsafeClaimsWithoutVerification(&c); err != nil {
			t.Fatal(err)
		}
		change(&c)
		changed, err := jwt.Signed(k.keys.signing().signer).Claims(c).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		if err := k.verify(changed); sandpool.ClassOf(err) != sandpool.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	k.now = k.now.Add(ManagedLifetime + skew + time.Second)
	if err := k.verify(text); sandpool.ClassOf(err) != sandpool.Unauthenticated {
		t.Errorf("after its end: %v", err)
	}
}

// TestUserAssigned: a token of an identity that is a resource of its own names it, and the pool
// that has it, which is asked for.
func TestUserAssigned(t *testing.T) {
	k := newKit(t)
	k.Address = base
	pool := sandpool.Pool{ID: sandpool.PoolID{Subscription: Tenant, ResourceGroup: "g",
		Name: "python"}}
	one := sandpool.AssignedIdentity{ID: "/subscriptions/s/resourceGroups/g/providers/" +
		"Microsoft.ManagedIdentity/userAssignedIdentities/one", Principal: "p1", Client: "c1"}
	text, _, err := k.IssueManaged(pool, one, "https://dynamicsessions.io")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	k.Managed = func(_ context.Context, id sandpool.PoolID, object,
		_ string) (auth.Principal, error) {
		if asked++; id.Key() != pool.ID.Key() || object != "p1" {
			t.Errorf("asked for %v %s", id, object)
		}
		return auth.Principal{Subject: "identity:" + object}, nil
	}
	if err := k.verify(text); err != nil || asked != 1 {
		t.Errorf("%v, and asked %d times", err, asked)
	}
	parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var c claims
	if err := parsed.UnsafeClaimsWithoutVerification(&c); err != nil {
		t.Fatal(err)
	}
	if c.Subject != "identity:p1" || c.Object != "p1" || c.App != "c1" || c.Resource != one.ID ||
		c.Holder != pool.ID.String() {
		t.Errorf("the claims are %+v", c)
	}
	c.Holder = "" // then nobody knows whether a pool still has it
	changed, err := jwt.Signed(k.keys.signing().signer).Claims(c).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	if err := k.verify(changed); sandpool.ClassOf(err) != sandpool.Unauthenticated || asked != 1 {
		t.Errorf("without the pool: %v, and asked %d times", err, asked)
	}
}
