package control

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
)

const identitiesOf = "/providers/Microsoft.ManagedIdentity/userAssignedIdentities"

// inGroup is the id of an identity in a group of the subscription s1.
func inGroup(group, name string) string {
	return "/subscriptions/s1/resourceGroups/" + group + identitiesOf + "/" + name
}

// identity makes an identity and returns it.
func (k *kit) identity(id string) (out api.UserAssignedIdentity) {
	k.t.Helper()
	r := k.do("PUT", id, `{"location":"local"}`)
	if err := json.Unmarshal(r.body, &out); err != nil || r.status >= 300 {
		k.t.Fatalf("%s: %d %s, %v", id, r.status, r.body, err)
	}
	return out
}

// with sends a request with one more header.
func (k *kit) with(name, value, method, target, body string) int {
	k.t.Helper()
	req, err := http.NewRequestWithContext(k.t.Context(), method, k.srv.URL+target,
		strings.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+k.admin)
	req.Header.Set(name, value)
	resp, err := k.srv.Client().Do(req)
	if err != nil {
		k.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode
}

// TestUserAssignedIdentities: an identity is made, read, changed, listed and deleted like every
// resource, and who it is stays until it is deleted.
func TestUserAssignedIdentities(t *testing.T) {
	k := newKit(t, Options{Identities: true})
	one := inGroup("lab", "one")
	k.want(404, k.do("GET", one, ""))
	k.want(404, k.do("HEAD", one, ""))
	k.want(404, k.do("PATCH", one, `{"tags":{}}`))
	k.want(204, k.do("DELETE", one, ""))
	k.want(400, k.do("PUT", inGroup("lab", "-x-"), `{}`))
	k.want(400, k.do("PUT", inGroup("lab", "ab"), `{}`))
	k.want(400, k.do("PUT", one, `{"properties":{"isolationScope":"Planet"}}`))
	made := k.want(201, k.do("PUT", one+"?api-version=2018-11-30",
		`{"location":"local","tags":{"a":"b"},"properties":{"principalId":"me","clientId":"me"}}`))
	var is api.UserAssignedIdentity
	if err := json.Unmarshal(made.body, &is); err != nil {
		t.Fatal(err)
	}
	p := is.Properties
	if is.ID != one || is.Name != "one" || is.Type != api.UserAssignedIdentityType ||
		is.Location != "local" || is.Tags["a"] != "b" || p.TenantID != sandpool.DefaultSubscription ||
		!sandpool.IsManagedPrincipal(p.PrincipalID) || !sandpool.IsManagedPrincipal(p.ClientID) ||
		p.PrincipalID == p.ClientID || is.SystemData.CreatedAt == "" {
		t.Fatalf("the identity is %s", made.body)
	}
	same := func(r reply) {
		t.Helper()
		var now api.UserAssignedIdentity
		if err := json.Unmarshal(r.body, &now); err != nil || now.Properties.PrincipalID !=
			p.PrincipalID || now.Properties.ClientID != p.ClientID {
			t.Errorf("now it is %s", r.body)
		}
	}
	if tag := made.header.Get("Etag"); k.with("If-None-Match", tag, "GET", one, "") != 304 {
		t.Errorf("its ETag %s is not its own", tag)
	}
	same(k.want(200, k.do("GET", strings.ToLower(one), "")))
	k.want(204, k.do("HEAD", strings.ToUpper(one), ""))
	same(k.want(200, k.do("PUT", one, `{"location":"local","tags":{"a":"b"},`+
		`"properties":{"isolationScope":"regional"}}`)))
	tag := k.do("GET", one, "").header.Get("Etag")
	for i, row := range []struct {
		header, value, method, body string
		status                      int
	}{
		{"If-None-Match", tag, "GET", "", 304},
		{"If-None-Match", "*", "PUT", `{}`, 412},
		{"If-Match", `"other"`, "PUT", `{}`, 412},
		{"If-Match", `"other"`, "PATCH", `{}`, 412},
		{"If-Match", `"other"`, "DELETE", "", 412},
		{"If-Match", tag, "PATCH", `{"location":"Local","tags":{"c":"d"}}`, 200},
		{"If-Match", tag, "PATCH", `{"tags":{"e":"f"}}`, 412},
	} {
		if got := k.with(row.header, row.value, row.method, one, row.body); got != row.status {
			t.Errorf("%d: %s with %s: %s is %d, want %d", i, row.method, row.header, row.value, got,
				row.status)
		}
	}
	r := k.want(200, k.do("PATCH", one, `{}`))
	if same(r); !strings.Contains(string(r.body), `"tags":{"c":"d"}`) {
		t.Errorf("after PATCH: %s", r.body)
	}
	for _, method := range []string{"PUT", "PATCH"} {
		k.want(409, k.do(method, one, `{"location":"elsewhere"}`))
	}
	k.identity(inGroup("other", "two"))
	for target, want := range map[string][]string{
		"/subscriptions/s1" + identitiesOf:                    {"one", "two"},
		"/subscriptions/s2" + identitiesOf:                    nil,
		"/subscriptions/s1/resourceGroups/LAB" + identitiesOf: {"one"},
		"/subscriptions/s1/resources":                         {"one", "two"},
		"/subscriptions/s1/resourceGroups/other/resources":    {"two"},
	} {
		var got api.List[api.Resource]
		r := k.want(200, k.do("GET", target, ""))
		if err := json.Unmarshal(r.body, &got); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, one := range got.Value {
			names = append(names, one.Name)
		}
		if !slices.Equal(names, want) {
			t.Errorf("%s: %q, want %q", target, names, want)
		}
	}
	if r := k.want(200, k.do("GET", "/subscriptions/s1/providers/microsoft.managedidentity", "")); !strings.Contains(string(r.body), "userAssignedIdentities") {
		t.Errorf("the provider: %s", r.body)
	}
	k.want(200, k.do("DELETE", one, ""))
	k.want(204, k.do("DELETE", one, ""))
	if again := k.identity(one); again.Properties.PrincipalID == p.PrincipalID {
		t.Error("a new identity is the old one")
	}
	k.want(201, k.do("PUT", "/subscriptions/s1/resourceGroups/other", `{"location":"local"}`))
	k.want(202, k.do("DELETE", "/subscriptions/s1/resourceGroups/other", ""))
	k.want(404, k.do("GET", inGroup("other", "two"), ""))
}

// assigning is a request for a pool with identities.
func assigning(kind, settings string, ids ...string) string {
	var entries []string
	for _, id := range ids {
		entries = append(entries, fmt.Sprintf("%q:{}", id))
	}
	return fmt.Sprintf(`{"identity":{"type":%q,"userAssignedIdentities":{%s}},"properties":{`+
		`"managedIdentitySettings":%s,"sandpool":{"identityAudiences":["api://app"]}}}`, kind,
		strings.Join(entries, ","), settings)
}

// main is a setting that gives sessions tokens of an identity.
func main(id string) string { return fmt.Sprintf(`{"identity":%q,"lifecycle":"Main"}`, id) }

// TestAssigning: a pool is given identities, is shown with who they are, and loses those that a
// patch takes out.
func TestAssigning(t *testing.T) {
	k := newKit(t, Options{Identities: true})
	one, two := k.identity(inGroup("lab", "one")), k.identity(inGroup("lab", "two"))
	r := k.want(201, k.do("PUT", pypool, assigning("SystemAssigned, UserAssigned",
		"["+main("system")+","+main(strings.ToUpper(one.ID))+"]", strings.ToLower(one.ID), two.ID)))
	own := r.pool.Identity.PrincipalID
	check := func(r reply, kind string, ids []api.UserAssignedIdentity, settings ...string) {
		t.Helper()
		is := r.pool.Identity
		if is == nil || is.Type != kind || len(is.UserAssignedIdentities) != len(ids) {
			t.Fatalf("the identity is %s", r.body)
		}
		for _, one := range ids {
			if got := is.UserAssignedIdentities[one.ID]; got == nil ||
				got.PrincipalID != one.Properties.PrincipalID ||
				got.ClientID != one.Properties.ClientID {
				t.Errorf("%s is shown as %+v", one.ID, got)
			}
		}
		var got []string
		for _, s := range r.pool.Properties.ManagedIdentitySettings {
			got = append(got, s.Identity+" "+s.Lifecycle)
		}
		if !slices.Equal(got, settings) {
			t.Errorf("the settings are %q, want %q", got, settings)
		}
	}
	both := []api.UserAssignedIdentity{one, two}
	check(r, "SystemAssigned,UserAssigned", both, "system Main", one.ID+" Main", two.ID+" None")
	again := func(r reply) {
		t.Helper()
		check(r, "SystemAssigned,UserAssigned", both, "system Main", one.ID+" Main",
			two.ID+" None")
		if r.pool.Identity.PrincipalID != own {
			t.Errorf("the pool's own principal has changed: %s", r.body)
		}
	}
	again(k.want(200, k.do("PATCH", pypool, `{"tags":{"a":"b"}}`)))
	again(k.want(200, k.do("GET", pypool, "")))
	shown, err := json.Marshal(r.pool)
	if err != nil {
		t.Fatal(err)
	}
	again(k.want(200, k.do("PUT", pypool, string(shown)))) // as it was read, with who they are
	again(k.want(200, k.do("PATCH", pypool, fmt.Sprintf(
		`{"identity":{"userAssignedIdentities":{%q:{}}}}`, strings.ToUpper(two.ID)))))
	check(k.want(200, k.do("PATCH", pypool, fmt.Sprintf(
		`{"identity":{"userAssignedIdentities":{%q:null}}}`, strings.ToLower(one.ID)))),
		"SystemAssigned,UserAssigned", both[1:], "system Main", two.ID+" None")
	check(k.want(200, k.do("PATCH", pypool, `{"identity":{"type":"SystemAssigned"},"properties":{`+
		`"managedIdentitySettings":[{"identity":"system"}]}}`)), "SystemAssigned", nil, "system None")
	check(k.want(200, k.do("PATCH", pypool, fmt.Sprintf(`{"identity":{"type":"UserAssigned",`+
		`"userAssignedIdentities":{%q:{}}},"properties":{"managedIdentitySettings":[%s]}}`, one.ID,
		main(one.ID)))), "UserAssigned", both[:1], one.ID+" Main")
	r = k.want(200, k.do("PUT", pypool, `{"properties":{}}`))
	if r.pool.Identity != nil || r.pool.Properties.ManagedIdentitySettings != nil {
		t.Errorf("without identities: %s", r.body)
	}
}

// TestAssignedDeleted: as in Azure, an identity can be deleted while a pool has it. The pool keeps
// its name, can be changed, and does not get another one of that name by itself.
func TestAssignedDeleted(t *testing.T) {
	k := newKit(t, Options{Identities: true})
	one := k.identity(inGroup("lab", "one"))
	k.want(201, k.do("PUT", pypool, assigning("UserAssigned", "["+main(one.ID)+"]", one.ID)))
	k.want(200, k.do("DELETE", one.ID, ""))
	r := k.want(200, k.do("PATCH", pypool, `{"tags":{"a":"b"}}`))
	if got := r.pool.Identity.UserAssignedIdentities[one.ID]; got == nil ||
		got.PrincipalID != one.Properties.PrincipalID {
		t.Errorf("after its deletion: %s", r.body)
	}
	if got := r.pool.Properties.Sandpool.Notice; !strings.Contains(got, one.ID) {
		t.Errorf("the pool's notice is %q", got)
	}
	if is, err := k.control.UserAssigned(t.Context(), one.ID); is != "" || err != nil {
		t.Errorf("it is still there: %q, %v", is, err)
	}
	next := k.identity(one.ID)
	mine := k.token(auth.PoolContributor, sandpool.PoolID{Subscription: "s1",
		ResourceGroup: "lab", Name: "pypool"})
	k.want(403, k.as(mine, "PATCH", pypool, `{"tags":{"c":"d"}}`)) // it would be given the new one
	k.want(200, k.as(mine, "PATCH", pypool, fmt.Sprintf(
		`{"identity":{"type":"None","userAssignedIdentities":{%q:null}}}`, one.ID)))
	r = k.want(200, k.do("PUT", pypool, assigning("UserAssigned", "[]", one.ID)))
	if got := r.pool.Identity.UserAssignedIdentities[one.ID]; got == nil ||
		got.PrincipalID != next.Properties.PrincipalID {
		t.Errorf("with the new one: %s", r.body)
	}
	if got := r.pool.Properties.Sandpool.Notice; got != "" {
		t.Errorf("with the new one the pool's notice is %q", got)
	}
}

// TestAssigningAttacks: nobody gives a pool an identity that he may not assign, nor learns whether
// there is one; and what is no identity is refused by name.
func TestAssigningAttacks(t *testing.T) {
	k := newKit(t, Options{Identities: true})
	one, far := k.identity(inGroup("lab", "one")), k.identity(inGroup("far", "one"))
	k.want(201, k.do("PUT", pypool, assigning("UserAssigned", "[]", one.ID)))
	lab := sandpool.Scope{Subscription: "s1", ResourceGroup: "lab"}
	pool := sandpool.Scope{Subscription: "s1", ResourceGroup: "lab", Pool: "pypool"}
	ofPool, ofGroup := k.tokenOf(auth.PoolContributor, pool), k.tokenOf(auth.PoolContributor, lab)
	mixed := k.tokenOf(auth.PoolContributor, pool, sandpool.Scope{Subscription: "s1",
		ResourceGroup: "far", Pool: "pypool"})
	add := func(id string) string {
		return fmt.Sprintf(`{"identity":{"userAssignedIdentities":{%q:{}}}}`, id)
	}
	for name, row := range map[string]struct {
		token, id string
		status    int
	}{
		"of the pool alone":       {ofPool, far.ID, 403},
		"one that there is not":   {ofPool, inGroup("far", "none"), 403},
		"in capitals":             {ofPool, strings.ToUpper(far.ID), 403},
		"one that the pool has":   {ofPool, one.ID, 200},
		"of another group":        {ofGroup, far.ID, 403},
		"of a pool there":         {mixed, far.ID, 403},
		"a missing one of theirs": {ofGroup, inGroup("lab", "none"), 400},
	} {
		if r := k.as(row.token, "PATCH", pypool, add(row.id)); r.status != row.status {
			t.Errorf("%s: %d %s, want %d", name, r.status, r.body, row.status)
		}
	}
	r := k.as(ofPool, "PATCH", pypool, add(far.ID))
	s := k.as(ofPool, "PATCH", pypool, add(inGroup("far", "none")))
	if r.err.Message != s.err.Message || !strings.Contains(r.err.Message,
		"assign identities of the resource group") {
		t.Errorf("an answer tells whether there is one: %q, %q", r.err.Message, s.err.Message)
	}
	for _, method := range []string{"PUT", "PATCH", "DELETE"} {
		k.want(403, k.as(ofPool, method, one.ID, `{}`))
		k.want(403, k.as(ofGroup, method, far.ID, `{}`))
	}
	if r := k.want(404, k.as(ofGroup, "GET", far.ID, "")); r.err.Code != "ResourceNotFound" {
		t.Errorf("somebody else's: %s", r.body)
	}
	if r := k.as(ofGroup, "GET", "/subscriptions/s1"+identitiesOf, ""); strings.Contains(
		string(r.body), "/far/") || !strings.Contains(string(r.body), "/lab/") {
		t.Errorf("the list of somebody in a group: %s", r.body)
	}
	huge := map[string]any{}
	for i := range 2000 {
		huge[inGroup("lab", fmt.Sprint("i", i))] = struct{}{}
	}
	many, _ := json.Marshal(map[string]any{"identity": map[string]any{"type": "UserAssigned",
		"userAssignedIdentities": huge}})
	const at = "identity.userAssignedIdentities"
	for body, target := range map[string]string{
		add("/subscriptions/s1/resourceGroups/lab/providers/Microsoft.App/sessionPools/pypool"):      at,
		add("/subscriptions/s1/resourceGroups/lab/providers/Microsoft.ManagedIdentity/identities/x"): at,
		add(one.ID + "/federatedIdentityCredentials/x"):                                              at,
		add(one.ID + "/"): at, add("/" + one.ID): at, add("one"): at, add(""): at,
		add(strings.Replace(one.ID, "lab", "..", 1)):          at,
		add(strings.Replace(one.ID, "/one", "/%6fne", 1)):     at,
		add(strings.Replace(one.ID, "/one", "/K\u212ane", 1)): at,
		add(inGroup("lab", "none")):                           at, string(many): at,
		assigning("SystemAssigned", "[]", one.ID):                                               "identity.type",
		assigning("None", "[]", one.ID):                                                         "identity.type",
		assigning("UserAssigned;SystemAssigned", "[]", one.ID):                                  "identity.type",
		assigning("UserAssigned", "[]"):                                                         at,
		assigning("UserAssigned", "["+main("system")+"]", one.ID):                               "properties.managedIdentitySettings[0].identity",
		assigning("UserAssigned", "["+main(far.ID)+"]", one.ID):                                 "properties.managedIdentitySettings[0].identity",
		assigning("UserAssigned", "["+main(one.ID)+`,{"identity":"`+one.ID+`"}]`, one.ID):       "properties.managedIdentitySettings[1].lifecycle",
		`{"identity":{"type":"UserAssigned","userAssignedIdentities":{"` + one.ID + `":null}}}`: at,
	} {
		method := "PATCH"
		if strings.Contains(body, `"type"`) {
			method = "PUT"
		}
		r := k.do(method, pypool, body)
		if r.status != 400 || r.err.Target != target {
			t.Errorf("%.300s: %d %.300s, want 400 of %s", body, r.status, r.body, target)
		}
	}
	k.want(400, k.do("PATCH", pypool, `{"identity":{"userAssignedIdentities":["x"]}}`))
	k.want(400, k.do("PATCH", pypool, fmt.Sprintf(
		`{"identity":{"userAssignedIdentities":{%q:{"x":1}}}}`, one.ID)))
	got := k.want(200, k.do("GET", pypool, "")).pool.Identity.UserAssignedIdentities
	if keys := slices.Collect(maps.Keys(got)); !slices.Equal(keys, []string{one.ID}) {
		t.Errorf("after all attacks the pool has %q", keys)
	}
}

// TestAssignedElsewhere: where sandboxes cannot have identities, user-assigned ones are refused as
// the others are.
func TestAssignedElsewhere(t *testing.T) {
	k := newKit(t, Options{})
	one := k.identity(inGroup("lab", "one"))
	if r := k.do("PUT", pypool, assigning("UserAssigned", "[]", one.ID)); r.status != 400 ||
		r.err.Target != "identity.type" || r.err.Code != codeUnsupported {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// TestRolesOfAssigned: an identity can be given roles while it is there, by the id of its principal
// and not by its client id; its roles end with it.
func TestRolesOfAssigned(t *testing.T) {
	var ended []api.RoleAssignment
	now := time.Now()
	k := newKit(t, Options{Identities: true, Foreign: true, Now: func() time.Time { return now },
		Ended: func(a api.RoleAssignment) { ended = append(ended, a) }})
	one := k.identity(inGroup("lab", "one"))
	k.want(201, k.do("PUT", pypool, `{}`))
	role := func(name, principal string) reply {
		return k.do("PUT", pypool+assignmentsOf+"/"+name, fmt.Sprintf(`{"properties":{"principalId":`+
			`%q,"roleDefinitionId":"0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0"}}`, principal))
	}
	k.want(400, role("a0", one.Properties.ClientID))
	k.want(201, role("a1", one.Properties.PrincipalID))
	if g, err := k.control.OfPool(t.Context(), one.Properties.PrincipalID); len(g) != 1 ||
		err != nil {
		t.Errorf("the identity has %v, %v", g, err)
	}
	ids := []string{one.Properties.PrincipalID}
	if g, err := k.control.Assigned(t.Context(), ids); len(g) != 0 || err != nil {
		t.Errorf("who says to be the identity has %v, %v", g, err)
	}
	if n, err := k.control.ForgetEnded(t.Context()); n != 0 || err != nil {
		t.Errorf("ForgetEnded = %d, %v, before anything has ended", n, err)
	}
	k.want(200, k.do("DELETE", one.ID, ""))
	k.identity(one.ID)
	if n, err := k.control.ForgetEnded(t.Context()); n != 1 || err != nil || len(ended) != 1 {
		t.Errorf("ForgetEnded = %d, %v, and told of %d", n, err, len(ended))
	}
	k.want(400, role("a2", one.Properties.PrincipalID))
}
