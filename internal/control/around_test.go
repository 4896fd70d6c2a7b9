package control

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

// TestTree: what clients ask for before they ask for a pool, in the spellings that they use.
func TestTree(t *testing.T) {
	k := newKit(t, Options{Locations: func() []string { return []string{"here"} }})
	k.want(201, k.do("PUT", pypool, "{}"))
	k.want(201, k.do("PUT", strings.Replace(pypool, "lab", "other", 1), "{}"))
	for _, c := range []struct{ method, target, want string }{
		{"GET", "/subscriptions?api-version=2022-12-01",
			`"subscriptionId":"s1","displayName":"sandpool","state":"Enabled"`},
		{"GET", "/subscriptions", `"subscriptionId":"` + sandpool.DefaultSubscription + `"`},
		{"GET", "/subscriptions/s1", `"id":"/subscriptions/s1"`},
		{"GET", "/tenants?api-version=2022-09-01", `"tenantId":"` + sandpool.DefaultSubscription +
			`"`},
		{"GET", "/subscriptions/s1/locations", `"name":"here"`},
		{"GET", "/subscriptions/s1/providers/Microsoft.App?api-version=2024-11-01",
			`{"resourceType":"sessionPools","locations":["here"]`},
		{"GET", "/subscriptions/s1/providers/microsoft.app", `"namespace":"Microsoft.App"`},
		{"POST", "/subscriptions/s1/providers/Microsoft.App/register",
			`"registrationState":"Registered","registrationPolicy"`},
		{"GET", "/subscriptions/s1/providers", `"value":[{"id":`},
		{"GET", "/subscriptions/s1/resourcegroups?api-version=2024-11-01", `"name":"lab"`},
		{"GET", "/subscriptions/s1/resourcegroups/lab",
			`"name":"lab","type":"Microsoft.Resources/resourceGroups","location":"here"`},
	} {
		if r := k.want(200, k.do(c.method, c.target, `{"location":"here"}`)); !strings.Contains(
			string(r.body), c.want) {
			t.Errorf("%s %s: %s", c.method, c.target, r.body)
		}
	}
	k.want(204, k.do("HEAD", "/subscriptions/s1/resourcegroups/lab", ""))
	k.want(404, k.do("HEAD", "/subscriptions/s1/resourcegroups/none", ""))
	k.want(404, k.do("GET", "/subscriptions/s1/resourceGroups/none", ""))
	k.want(404, k.do("GET", "/subscriptions/s1/providers/Microsoft.Compute", ""))
	k.want(400, k.do("GET", "/subscriptions/a%20b/locations", ""))
	k.want(400, k.do("PUT", "/subscriptions/s1/resourcegroups/a%20b", "{}"))
	k.want(401, k.as("x", "GET", "/subscriptions", ""))

	one := k.token(auth.SessionExecutor, sandpool.PoolID{Subscription: "s1", ResourceGroup: "lab",
		Name: "pypool"})
	r := k.want(200, k.as(one, "GET", "/subscriptions/s1/resourceGroups", ""))
	var groups struct{ Value []struct{ Name string } }
	if err := json.Unmarshal(r.body, &groups); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(r.body), "other") || len(groups.Value) != 2 {
		t.Errorf("a token of one pool sees the groups %s", r.body)
	}
}

// TestGroups: a group is made, tagged, listed, found by HEAD and deleted with all in it.
func TestGroups(t *testing.T) {
	k := newKit(t, Options{Locations: func() []string {
		return []string{"here", "There"}
	}})
	const group = "/subscriptions/s1/resourcegroups/Fresh"
	k.want(201, k.do("PUT", group, `{"location":"THERE","tags":{"a":"b"}}`))
	k.want(200, k.do("PUT", group, `{"location":"there","tags":{"a":"c"},"managedBy":"us"}`))
	k.want(409, k.do("PUT", group, `{"location":"here"}`))
	if r := k.want(400, k.do("PUT", group+"2", `{"location":"mars"}`)); !strings.Contains(
		r.err.Message, "here, There") {
		t.Errorf("an unknown location: %s", r.body)
	}
	if r := k.want(400, k.do("PUT", pypool, `{"location":"mars"}`)); !strings.Contains(
		r.err.Message, "here, There") {
		t.Errorf("an unknown location of a pool: %s", r.body)
	}
	k.want(204, k.do("HEAD", group, ""))
	if r := k.want(200, k.do("PATCH", strings.ToLower(group),
		`{"tags":{"x":"y"},"managedBy":"ours"}`)); !strings.Contains(
		string(r.body), `"location":"There","tags":{"x":"y"},"managedBy":"ours"`) {
		t.Errorf("after PATCH: %s", r.body)
	}
	inside := "/subscriptions/s1/resourceGroups/fresh/providers/Microsoft.App/sessionPools/one"
	k.want(201, k.do("PUT", inside, `{"location":"there"}`))
	env := "/subscriptions/s1/resourceGroups/fresh/providers/Microsoft.App/managedEnvironments/env"
	k.want(200, k.do("PUT", env, `{"location":"there","properties":{"zoneRedundant":null,"x":1}}`))
	k.want(200, k.do("PATCH", env, `{"location":"THERE","tags":{"t":"1"}}`))
	for _, method := range []string{"PUT", "PATCH"} {
		k.want(409, k.do(method, env, `{"location":"here"}`))
	}
	if r := k.want(200, k.do("GET", env, "")); !strings.Contains(string(r.body), `"x":1`) ||
		!strings.Contains(string(r.body), `"provisioningState":"Succeeded"`) {
		t.Errorf("the environment: %s", r.body)
	}
	for filter, want := range map[string]int{
		"": 2, "resourceGroup eq 'FRESH'": 2, "resourceType eq 'microsoft.app/SESSIONPOOLS'": 1,
		"name eq 'env' and resourceGroup eq 'fresh'": 1, "tagName eq 't' and tagValue eq '1'": 1,
		"tagName eq 't' and tagValue eq '2'": 0, "location eq 'here'": 0, "name eq 'it''s'": 0,
	} {
		target :=
			"/subscriptions/s1/resources?api-version=2024-11-01&$expand=createdTime&$filter=" +
				url.QueryEscape(filter)
		if r := k.want(200, k.do("GET", target, "")); strings.Count(string(r.body),
			`"id":`) != want {
			t.Errorf("%q: %s, want %d", filter, r.body, want)
		}
	}
	for _, filter := range []string{"x eq 'y'", "name ne 'y'", "name eq y",
		"name eq 'y' or name eq 'z'",
		"name eq 'y' and name eq 'z'", "name eq 'y", "and"} {
		r := k.want(400, k.do("GET", "/subscriptions/s1/resources?$filter="+
			url.QueryEscape(filter), ""))
		if r.err.Code != "InvalidFilterInQueryString" {
			t.Errorf("%q: %s", filter, r.body)
		}
	}
	if r := k.want(200,
		k.do("GET", "/subscriptions/s1/providers/Microsoft.App/locations/there/usages",
			"")); !strings.Contains(string(r.body), `"currentValue":1`) {
		t.Errorf("usage: %s", r.body)
	}

	reader := k.token(auth.SessionExecutor, sandpool.PoolID{})
	k.want(403, k.as(reader, "PUT", group, `{"location":"there"}`))
	k.want(403, k.as(reader, "DELETE", group, ""))
	k.want(403, k.as(reader, "PUT", env, `{}`))
	k.want(204, k.do("HEAD", env, ""))
	r := k.want(202, k.do("DELETE", group, ""))
	k.want(202, k.do("GET", r.header.Get("Location"), ""))
	k.want(404, k.do("GET", inside, "")) // the fake's pools go when they are looked at
	k.want(200, k.do("GET", r.header.Get("Location"), ""))
	k.want(404, k.do("HEAD", group, ""))
	k.want(404, k.do("GET", inside, ""))
	k.want(404, k.do("GET", env, ""))
}

// TestAssignments: an assignment is a grant, for as long as it is there.
func TestAssignments(t *testing.T) {
	k := newKit(t, Options{})
	k.want(201, k.do("PUT", pypool, "{}"))
	row, text, err := k.tokens.Create(t.Context(), "app", []sandpool.Grant{{
		Role: auth.MonitoringReader}}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	k.want(403, k.as(text, "GET", pypool, ""))
	const executor = "0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0"
	r := k.want(200,
		k.do("GET", pypool+"/providers/Microsoft.Authorization/roleDefinitions?$filter="+
			url.QueryEscape("roleName eq 'Azure ContainerApps Session Executor'"), ""))
	if !strings.Contains(string(r.body), executor) ||
		strings.Count(string(r.body), "roleName") != 1 {
		t.Errorf("the definition: %s", r.body)
	}
	assignment := pypool + "/providers/microsoft.authorization/roleassignments/a1"
	body := fmt.Sprintf(`{"properties":{"roleDefinitionId":"/subscriptions/s1/providers/`+
		`Microsoft.Authorization/roleDefinitions/%s","principalId":%q,"principalType":"ServicePrincipal"}}`,
		executor, row.ID)
	k.want(403, k.as(text, "PUT", assignment, body))
	k.want(403, k.as(k.token(auth.PoolContributor, sandpool.PoolID{}), "PUT", assignment, body))
	// An owner of one pool gives roles there, and nowhere else, whatever the path is called.
	owner := k.token(auth.Admin, sandpool.PoolID{Subscription: "s1", ResourceGroup: "lab",
		Name: "pypool"})
	for _, scope := range []string{"", "/subscriptions/s1", "/subscriptions/s1/resourceGroups/lab",
		pypool + "x"} {
		at := scope + "/providers/Microsoft.Authorization/roleAssignments/a1"
		k.want(403, k.as(owner, "PUT", at, body))
		k.want(403, k.as(owner, "DELETE", at, ""))
		k.want(403, k.as(owner, "GET", at, ""))
	}
	k.want(403, k.as(owner, "GET", "/sandpool/tokens", ""))
	k.want(201, k.as(owner, "PUT", assignment, body))
	k.want(200, k.as(owner, "GET", assignment, ""))
	k.want(403, k.as(text, "DELETE", assignment, ""))
	k.want(200, k.as(owner, "DELETE", assignment, ""))
	k.want(201, k.do("PUT", assignment, body))
	k.want(200, k.do("PUT", assignment, body))
	k.want(409, k.do("PUT", strings.Replace(assignment, "a1", "a2", 1), body))
	k.want(200, k.as(text, "GET", pypool, ""))
	k.want(403, k.as(text, "GET", pypool+"x", ""))
	for _, scope := range []string{pypool, "/subscriptions/s1",
		"/subscriptions/s1/resourceGroups/lab"} {
		r := k.want(200,
			k.do("GET", scope+"/providers/Microsoft.Authorization/roleAssignments?$filter="+
				url.QueryEscape("principalId eq '"+row.ID+"'"), ""))
		if strings.Count(string(r.body), `"principalId"`) != 1 {
			t.Errorf("assignments at %s: %s", scope, r.body)
		}
	}
	r = k.want(400, k.do("PUT", strings.Replace(assignment, "a1", "a3", 1),
		strings.Replace(body, row.ID,
			"nobody", 1)))
	if r.err.Code != "PrincipalNotFound" {
		t.Errorf("an unknown principal: %s", r.body)
	}
	k.want(200, k.do("DELETE", assignment, ""))
	k.want(204, k.do("DELETE", assignment, ""))
	k.want(403, k.as(text, "GET", pypool, ""))
	k.want(201, k.do("PUT", assignment, body))
	k.want(204, k.do("DELETE", "/sandpool/tokens/"+row.ID, ""))
	k.want(404, k.do("GET", assignment, ""))
	k.want(200, k.do("GET", "/subscriptions/s1/providers/Microsoft.Authorization/locks", ""))
	k.want(400, k.do("PUT", "/subscriptions/s1/providers/Microsoft.Authorization/locks/x", "{}"))
}

// TestForeignAssignments: a role can be given to an object id that nobody has shown yet, if an
// issuer's object ids are those of assignments.
func TestForeignAssignments(t *testing.T) {
	const object = "5B1C2D3E-0000-4000-8000-000000000001"
	assignment := pypool + "/providers/Microsoft.Authorization/roleAssignments/a1"
	body := fmt.Sprintf(`{"properties":{"roleDefinitionId":"0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0",`+
		`"principalId":%q,"principalType":"group"}}`, object)
	closed := newKit(t, Options{})
	closed.want(201, closed.do("PUT", pypool, "{}"))
	closed.want(400, closed.do("PUT", assignment, body))

	k := newKit(t, Options{Foreign: true})
	k.want(201, k.do("PUT", pypool, "{}"))
	if r := k.want(201, k.do("PUT", assignment, body)); !strings.Contains(string(r.body), `"Group"`) {
		t.Errorf("the assignment: %s", r.body)
	}
	k.want(400, k.do("PUT", strings.Replace(assignment, "a1", "a2", 1),
		strings.Replace(body, object, "nobody", 1)))
	k.want(400, k.do("PUT", strings.Replace(assignment, "a1", "a2", 1),
		strings.Replace(strings.Replace(body, "group", "robot", 1), "001", "002", 1)))
	assigned := func(ids ...string) []sandpool.Grant {
		t.Helper()
		grants, err := k.control.Assigned(t.Context(), ids)
		if err != nil {
			t.Fatal(err)
		}
		return grants
	}
	got := assigned("somebody", strings.ToLower(object))
	if len(got) != 1 || got[0].Role != auth.SessionExecutor ||
		!strings.EqualFold(got[0].Scope.String(), pypool) || len(assigned("somebody", "")) != 0 {
		t.Errorf("it gives %+v", got)
	}
	k.want(200, k.do("DELETE", assignment, ""))
	if got := assigned(object); len(got) != 0 {
		t.Errorf("after its end it gives %+v", got)
	}
}

// TestPreconditions: a change is made of what its caller has seen, or not at all.
func TestPreconditions(t *testing.T) {
	k := newKit(t, Options{})
	with := func(method, body string, headers ...string) reply {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, k.srv.URL+pypool,
			strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+k.admin)
		for i := 0; i+1 < len(headers); i += 2 {
			r.Header.Add(headers[i], headers[i+1])
		}
		resp, err := k.srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return reply{status: resp.StatusCode, header: resp.Header}
	}
	k.want(412, with("PUT", "{}", "If-Match", "*"))
	first := k.want(201, with("PUT", "{}", "If-None-Match", "*")).header.Get("Etag")
	k.want(412, with("PUT", "{}", "If-None-Match", "*"))
	if first == "" || k.want(200, with("GET", "")).header.Get("Etag") != first {
		t.Errorf("the tag of PUT is %q, and not that of GET", first)
	}
	k.want(304, with("GET", "", "If-None-Match", `"x", W/`+first))
	change := `{"tags":{"a":"b"}}`
	second := k.want(200, with("PATCH", change, "If-Match", first)).header.Get("Etag")
	if second == first {
		t.Error("a change has the tag from before")
	}
	for _, method := range []string{"PUT", "PATCH", "DELETE"} {
		k.want(412, with(method, change, "If-Match", first))
	}
	k.want(200, with("PUT", change, "If-Match", `"x"`, "If-Match", second))
	if r := with("DELETE", "", "If-Match", "*"); r.status >= 400 {
		t.Errorf("DELETE: %d", r.status)
	}
}
