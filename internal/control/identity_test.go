package control

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// TestIdentities: a pool keeps its principal as long as it has one, and what cannot be had is
// refused by name.
func TestIdentities(t *testing.T) {
	k := newKit(t, Options{Identities: true})
	body := func(kind, settings, audiences string) string {
		return fmt.Sprintf(`{"identity":{"type":%q},"properties":{"managedIdentitySettings":%s,`+
			`"sandpool":{"identityAudiences":%s}}}`, kind, settings, audiences)
	}
	const system, main = "SystemAssigned", `[{"identity":"system","lifecycle":"main"}]`
	r := k.want(201, k.do("PUT", pypool, body(system, main,
		`["https://dynamicsessions.io/","api://app/.default","api://app"]`)))
	made := r.pool
	if id := made.Identity; id == nil || id.Type != system ||
		!sandpool.IsManagedPrincipal(id.PrincipalID) ||
		id.TenantID != sandpool.DefaultSubscription {
		t.Fatalf("the identity is %+v", id)
	}
	if s := made.Properties.ManagedIdentitySettings; !slices.Equal(s,
		[]api.ManagedIdentitySetting{{Identity: "system", Lifecycle: "Main"}}) {
		t.Errorf("the settings are %+v", s)
	}
	if a := made.Properties.Sandpool.IdentityAudiences; !slices.Equal(a,
		[]string{"https://dynamicsessions.io", "api://app"}) {
		t.Errorf("the audiences are %q", a)
	}
	same := func(r reply) {
		t.Helper()
		if r.pool.Identity == nil || r.pool.Identity.PrincipalID != made.Identity.PrincipalID {
			t.Errorf("now it is %s", r.body)
		}
	}
	same(k.want(200, k.do("PATCH", pypool, `{"properties":{"sandpool":{"identityAudiences":null}}}`)))
	same(k.want(200, k.do("PATCH", pypool, `{"identity":{"type":"SystemAssigned","principalId":`+
		`"5a9d9001-0000-8000-8000-000000000000"}}`)))
	same(k.want(200, k.do("PUT", pypool, body(system, `[{"identity":"System"}]`, "[]"))))
	k.want(400, k.do("PATCH", pypool, `{"identity":{"type":"None"}}`)) // its setting says otherwise
	r = k.want(200, k.do("PUT", pypool, body("None", "[]", "[]")))
	if r.pool.Identity != nil || r.pool.Properties.ManagedIdentitySettings != nil {
		t.Errorf("without an identity: %s", r.body)
	}
	r = k.want(200, k.do("PUT", pypool, body(system, main, "[]")))
	if r.pool.Identity.PrincipalID == made.Identity.PrincipalID {
		t.Error("a principal that had ended is there again")
	}
	const at = "properties.managedIdentitySettings[0]"
	for body, target := range map[string]string{
		body("UserAssigned", "[]", "[]"):                                      "identity.userAssignedIdentities",
		body("SystemAssigned, UserAssigned", "[]", "[]"):                      "identity.userAssignedIdentities",
		body("SystemAssigned,Other", "[]", "[]"):                              "identity.type",
		body("None", main, "[]"):                                              at + ".identity",
		body(system, `[{"identity":"/subscriptions/x"}]`, "[]"):               at + ".identity",
		body(system, `[{"identity":"system","lifecycle":"Init"}]`, "[]"):      at + ".lifecycle",
		body(system, `[{"identity":"system","lifecycle":"All"}]`, "[]"):       at + ".lifecycle",
		body(system, `[{"identity":"system","lifecycle":"Sometimes"}]`, "[]"): at + ".lifecycle",
		body(system, main[:len(main)-1]+`,{"identity":"system"}]`, "[]"):      at[:len(at)-3] + "[1].lifecycle",
		body(system, main, `["*"]`):                                           "properties.sandpool.identityAudiences",
		body(system, main, `["https://x.example/*"]`):                         "properties.sandpool.identityAudiences",
		body(system, main, `["a b"]`):                                         "properties.sandpool.identityAudiences",
		body(system, main, `["/"]`):                                           "properties.sandpool.identityAudiences",
		body(system, main, `["a","b","c","d","e","f","g","h","i","j","k","l",`+
			`"m","n","o","p","q","r","s","t","u"]`): "properties.sandpool.identityAudiences",
	} {
		if r := k.do("PUT", pypool, body); r.status != 400 || r.err.Target != target {
			t.Errorf("%s: status %d, %s", body, r.status, r.body)
		}
	}
}

// TestAssignedToPools: a pool's principal can be given roles as long as there is one; no issuer's
// word makes somebody else that principal, and its roles end with it.
func TestAssignedToPools(t *testing.T) {
	var ended []api.RoleAssignment
	now := time.Now()
	k := newKit(t, Options{Identities: true, Foreign: true, Now: func() time.Time { return now },
		Ended: func(a api.RoleAssignment) { ended = append(ended, a) }})
	k.want(201, k.do("PUT", pypool, `{"identity":{"type":"SystemAssigned"}}`))
	principal := k.want(200, k.do("GET", pypool, "")).pool.Identity.PrincipalID
	role := func(name, principal, ends string) reply {
		return k.do("PUT", pypool+assignmentsOf+"/"+name, fmt.Sprintf(`{"properties":{"principalId":`+
			`%q,"roleDefinitionId":"0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0","sandpool":{"expiresAt":`+
			`%q}}}`, principal, ends))
	}
	k.want(400, role("a0", sandpool.NewManagedPrincipal(), ""))
	k.want(201, role("a1", principal, ""))
	k.want(201, role("a2", "5b1c2d3e-0000-4000-8000-000000000001",
		now.Add(time.Hour).UTC().Format(time.RFC3339)))
	if g, err := k.control.OfPool(t.Context(), principal); len(g) != 1 || err != nil {
		t.Errorf("the pool has %v, %v", g, err)
	}
	if g, err := k.control.Assigned(t.Context(), []string{principal}); len(g) != 0 || err != nil {
		t.Errorf("who says to be the pool has %v, %v", g, err)
	}
	if n, err := k.control.ForgetEnded(t.Context()); n != 0 || err != nil || len(ended) != 0 {
		t.Errorf("ForgetEnded = %d, %v, before anything has ended", n, err)
	}
	k.want(200, k.do("PUT", pypool, `{"identity":{"type":"None"}}`))
	now = now.Add(2 * time.Hour)
	if n, err := k.control.ForgetEnded(t.Context()); n != 2 || err != nil || len(ended) != 2 {
		t.Errorf("ForgetEnded = %d, %v, and told of %d", n, err, len(ended))
	}
	if n, err := k.control.ForgetEnded(t.Context()); n != 0 || err != nil || len(ended) != 2 {
		t.Errorf("a second time ForgetEnded = %d, %v, and told of %d", n, err, len(ended))
	}
}
