package control

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

// TestTree: what clients ask for before they ask for a pool, in the spellings that they use.
func TestTree(t *testing.T) {
	k := newKit(t, Options{Location: "here"})
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
			`"registrationState":"Registered","resourceTypes":[{"resourceType":"sessionPools","locations":["here"]`},
		{"GET", "/subscriptions/s1/providers/microsoft.app", `"namespace":"Microsoft.App"`},
		{"POST", "/subscriptions/s1/providers/Microsoft.App/register",
			`"registrationState":"Registered"`},
		{"GET", "/subscriptions/s1/providers", `"value":[{"id":`},
		{"GET", "/subscriptions/s1/resourcegroups?api-version=2024-11-01", `"name":"lab"`},
		{"GET", "/subscriptions/s1/resourcegroups/lab",
			`"name":"lab","type":"Microsoft.Resources/resourceGroups","location":"here"`},
		{"PUT", "/subscriptions/s1/resourcegroups/fresh", `"provisioningState":"Succeeded"`},
	} {
		if r := k.want(200, k.do(c.method, c.target, `{"location":"here"}`)); !strings.Contains(
			string(r.body), c.want) {
			t.Errorf("%s %s: %s", c.method, c.target, r.body)
		}
	}
	k.want(204, k.do("HEAD", "/subscriptions/s1/resourcegroups/lab", ""))
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
