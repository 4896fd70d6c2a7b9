package endpoint_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/endpoint"
)

// TestRegions: a pool's location stands in its host name, where it can, and a request to that name
// finds the pool.
func TestRegions(t *testing.T) {
	own := sandpool.PoolID{Subscription: sandpool.DefaultSubscription,
		ResourceGroup: sandpool.DefaultResourceGroup, Name: "python"}
	other := sandpool.PoolID{Subscription: "s1", ResourceGroup: "a.b", Name: "python"}
	const suffix = "{region}.pools.example.com"
	for _, c := range []struct {
		id             sandpool.PoolID
		location, want string
	}{
		{own, "East US", "https://python.eastus.pools.example.com:8443"},
		{other, "west", "https://python.a.b.s1.west.pools.example.com:8443"},
		{own, "Rack_7", "https://h:8443/subscriptions/" + sandpool.DefaultSubscription +
			"/resourceGroups/default/sessionPools/python"},
	} {
		got := endpoint.URL("https://h:8443", c.id, c.location, suffix)
		if got != c.want {
			t.Errorf("%+v in %s is at %s, want %s", c.id, c.location, got, c.want)
		}
		r := httptest.NewRequest("GET", strings.Replace(got, "https", "http", 1)+"/executions", nil)
		r.RequestURI = r.URL.RequestURI()
		if found, ok := endpoint.Find(r, suffix); !ok || found.Pool != c.id ||
			found.Path != "/executions" {
			t.Errorf("%s is for %+v, %v", got, found, ok)
		}
	}
	for _, host := range []string{"python.pools.example.com", "eastus.pools.example.com",
		"python.east_us.pools.example.com", "python.-.pools.example.com", "python..pools.example.com"} {
		r := httptest.NewRequest("GET", "http://"+host+"/x", nil)
		r.RequestURI = "/x"
		if found, ok := endpoint.Find(r, suffix); ok {
			t.Errorf("%s is for %+v", host, found)
		}
	}
	for location, want := range map[string]string{"East US": "https://eastus.dynamicsessions.io",
		"a.b": "", "": ""} {
		if got := endpoint.Base("https://{region}.dynamicsessions.io", location); got != want {
			t.Errorf("Base of %q is %q", location, got)
		}
	}
	if got := endpoint.Base("https://x.example.com", "a.b"); got != "https://x.example.com" {
		t.Errorf("a pattern without a region: %q", got)
	}
}
