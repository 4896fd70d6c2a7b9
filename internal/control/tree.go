package control

import (
	"net/http"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
)

// What lies around pools in Resource Manager's tree is not kept: there is the subscription
// that is asked for, and a resource group is there when it is named. az, the SDKs and
// templates ask for these things before they ask for a pool. Whoever may list pools may read them.

// registerTree adds the routes.
func (c *Control) registerTree(handle func(pattern string, fn func(http.ResponseWriter,
	*http.Request) error)) {
	const subscription = "/subscriptions/{subscription}"
	read := func(fn func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter,
		*http.Request) error {
		return func(w http.ResponseWriter, r *http.Request) error {
			if err := auth.Require(r.Context(), auth.ListPools, sandpool.Scope{}); err != nil {
				return err
			}
			if s := r.PathValue("subscription"); s != "" {
				if err := arm.CheckScope(s, r.PathValue("resourceGroup")); err != nil {
					return err
				}
			}
			return fn(w, r)
		}
	}
	handle("GET /subscriptions", read(c.subscriptions))
	handle("GET /tenants", read(c.tenants))
	handle("GET "+subscription, read(c.subscription))
	handle("GET "+subscription+"/locations", read(c.locations))
	handle("GET "+subscription+"/providers", read(c.providers))
	handle("GET "+subscription+"/providers/{provider}", read(c.provider))
	handle("POST "+subscription+"/providers/{provider}/register", read(c.provider))
	handle("GET "+subscription+"/resourceGroups", read(c.groups))
	handle("GET "+subscription+"/resourceGroups/{resourceGroup}", read(c.group))
	handle("PUT "+subscription+"/resourceGroups/{resourceGroup}", read(c.group))
	handle("HEAD "+subscription+"/resourceGroups/{resourceGroup}", read(noContent))
}

func noContent(w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// subscriptions lists the subscriptions that hold a pool which the caller may read, and the
// server's own.
func (c *Control) subscriptions(w http.ResponseWriter, r *http.Request) error {
	names, err := c.names(r, func(id sandpool.PoolID) string { return id.Subscription })
	if err != nil {
		return err
	}
	if !slices.Contains(names, sandpool.DefaultSubscription) {
		names = append(names, sandpool.DefaultSubscription)
	}
	out := make([]api.Subscription, 0, len(names))
	for _, name := range names {
		out = append(out, subscriptionOf(name))
	}
	return arm.WriteJSON(w, http.StatusOK, api.List[api.Subscription]{Value: out})
}

// names returns what of tells of each pool that the caller may read, once and in order.
func (c *Control) names(r *http.Request, of func(sandpool.PoolID) string) ([]string, error) {
	pools, err := c.pools.Pools(r.Context())
	if err != nil {
		return nil, err
	}
	who, _ := auth.FromContext(r.Context())
	var names []string
	for _, p := range pools {
		name := of(p.ID)
		known := slices.ContainsFunc(names, func(n string) bool {
			return strings.EqualFold(n, name)
		})
		if name != "" && !known && auth.Allow(who, auth.ReadPool, p.ID.Scope()) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func subscriptionOf(name string) api.Subscription {
	return api.Subscription{ID: "/subscriptions/" + name, SubscriptionID: name,
		DisplayName: "sandpool", State: "Enabled",
		TenantID: sandpool.DefaultSubscription}
}

func (c *Control) subscription(w http.ResponseWriter, r *http.Request) error {
	return arm.WriteJSON(w, http.StatusOK, subscriptionOf(r.PathValue("subscription")))
}

func (c *Control) tenants(w http.ResponseWriter, _ *http.Request) error {
	const id = sandpool.DefaultSubscription
	return arm.WriteJSON(w, http.StatusOK, api.List[api.Tenant]{
		Value: []api.Tenant{{ID: "/tenants/" + id, TenantID: id, DisplayName: "sandpool"}}})
}

func (c *Control) locations(w http.ResponseWriter, r *http.Request) error {
	name := c.o.Location
	return arm.WriteJSON(w, http.StatusOK, api.List[api.Location]{Value: []api.Location{{
		ID: "/subscriptions/" + r.PathValue("subscription") + "/locations/" +
			name, Name: name, DisplayName: name}}})
}

// providerName is the one resource provider that there is.
const providerName = "Microsoft.App"

func (c *Control) providerOf(r *http.Request) api.Provider {
	return api.Provider{ID: "/subscriptions/" + r.PathValue("subscription") + "/providers/" +
		providerName, Namespace: providerName,
		RegistrationState: "Registered", ResourceTypes: []api.ResourceType{
			{ResourceType: "sessionPools",
				Locations: []string{c.o.Location}, APIVersions: apiVersions()}}}
}

// apiVersions are those that the resource type was published with.
func apiVersions() []string {
	return []string{"2026-07-01", "2026-03-02-preview", "2026-01-01", "2025-10-02-preview",
		"2025-07-01", "2025-02-02-preview",
		"2025-01-01", "2024-10-02-preview", "2024-08-02-preview", "2024-02-02-preview"}
}

func (c *Control) providers(w http.ResponseWriter, r *http.Request) error {
	return arm.WriteJSON(w, http.StatusOK, api.List[api.Provider]{
		Value: []api.Provider{c.providerOf(r)}})
}

// provider answers for the provider, which is registered; registering it changes nothing.
func (c *Control) provider(w http.ResponseWriter, r *http.Request) error {
	if name := r.PathValue("provider"); !strings.EqualFold(name, providerName) {
		return sandpool.Errorf(sandpool.NotFound, "InvalidResourceNamespace",
			"resourceProviderNamespace",
			"This server has no resource provider %.100q; it has %s.", name, providerName)
	}
	return arm.WriteJSON(w, http.StatusOK, c.providerOf(r))
}

func (c *Control) groupOf(r *http.Request, name string) api.ResourceGroup {
	return api.ResourceGroup{ID: "/subscriptions/" + r.PathValue("subscription") +
		"/resourceGroups/" + name, Name: name,
		Type: "Microsoft.Resources/resourceGroups", Location: c.o.Location,
		Properties: api.Provisioned{ProvisioningState: "Succeeded"}}
}

// groups lists the groups that hold a pool which the caller may read, and the server's own.
func (c *Control) groups(w http.ResponseWriter, r *http.Request) error {
	names, err := c.names(r, func(id sandpool.PoolID) string {
		if !strings.EqualFold(id.Subscription, r.PathValue("subscription")) {
			return ""
		}
		return id.ResourceGroup
	})
	if err != nil {
		return err
	}
	if !slices.Contains(names, sandpool.DefaultResourceGroup) {
		names = append(names, sandpool.DefaultResourceGroup)
	}
	out := make([]api.ResourceGroup, 0, len(names))
	for _, name := range names {
		out = append(out, c.groupOf(r, name))
	}
	return arm.WriteJSON(w, http.StatusOK, api.List[api.ResourceGroup]{Value: out})
}

// group answers for a group, which needs no making.
func (c *Control) group(w http.ResponseWriter, r *http.Request) error {
	return arm.WriteJSON(w, http.StatusOK, c.groupOf(r, r.PathValue("resourceGroup")))
}
