package tree

import (
	"net/http"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
)

// The resource providers. Azure's commands ask which versions a type has before they use it.
const (
	appProvider       = "Microsoft.App"
	resourcesProvider = "Microsoft.Resources"
	roleProvider      = "Microsoft.Authorization"
)

// namespaces are the providers that there are.
func namespaces() []string {
	return []string{appProvider, roleProvider, identityProvider, resourcesProvider}
}

// APIVersions are those that session pools were published with, the newest first.
func APIVersions() []string {
	return []string{"2026-07-01", "2026-03-02-preview", "2026-01-01", "2025-10-02-preview",
		"2025-07-01", "2025-02-02-preview",
		"2025-01-01", "2024-10-02-preview", "2024-08-02-preview", "2024-02-02-preview"}
}

// served are the types of each provider and their versions.
func served(provider string) map[string][]string {
	switch provider {
	case appProvider:
		return map[string][]string{"sessionPools": APIVersions(), "managedEnvironments": APIVersions()}
	case resourcesProvider:
		return map[string][]string{
			"deployments":    {"2025-04-01", "2024-11-01", "2024-07-01", "2021-04-01"},
			"resourceGroups": {"2025-04-01", "2024-11-01", "2021-04-01"},
		}
	case identityProvider:
		return map[string][]string{"userAssignedIdentities": {"2024-11-30", "2023-07-31-preview",
			"2023-01-31", "2022-01-31-preview", "2018-11-30", "2015-08-31-preview"}}
	}
	return map[string][]string{"roleAssignments": {"2022-04-01", "2020-04-01-preview"},
		"roleDefinitions": {"2022-04-01", "2018-01-01-preview"}}
}

func (t *Tree) providerOf(r *http.Request, name string) api.Provider {
	id := "/providers/" + name
	if s := r.PathValue("subscription"); s != "" {
		id = "/subscriptions/" + s + id
	}
	out := api.Provider{ID: id, Namespace: name, RegistrationState: "Registered",
		RegistrationPolicy: "RegistrationRequired"}
	types := served(name)
	known, _ := t.o.Locations()
	for _, kind := range sorted(types) {
		out.ResourceTypes = append(out.ResourceTypes, api.ResourceType{ResourceType: kind,
			Locations: known, APIVersions: types[kind],
			Capabilities: "SupportsTags, SupportsLocation"})
	}
	return out
}

func (t *Tree) providers(w http.ResponseWriter, r *http.Request) error {
	var out []api.Provider
	for _, name := range namespaces() {
		out = append(out, t.providerOf(r, name))
	}
	return list(w, out)
}

// provider answers for a provider, which is registered; registering it changes nothing.
func (t *Tree) provider(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("provider")
	for _, known := range namespaces() {
		if strings.EqualFold(name, known) {
			return arm.WriteJSON(w, http.StatusOK, t.providerOf(r, known))
		}
	}
	return sandpool.Errorf(sandpool.NotFound, "InvalidResourceNamespace",
		"resourceProviderNamespace",
		"This server has no resource provider %.100q; it has %s.", name,
		strings.Join(namespaces(), ", "))
}

// usages counts the pools of a subscription. There is no quota of pools but the store's room.
func (t *Tree) usages(w http.ResponseWriter, r *http.Request) error {
	pools, err := t.readable(r.Context(), scopeOf(r))
	if err != nil {
		return err
	}
	count := 0
	for _, p := range pools {
		if sandpool.PlainLocation(p.Location) == sandpool.PlainLocation(r.PathValue("location")) {
			count++
		}
	}
	return list(w, []api.Usage{{Unit: "Count", CurrentValue: count, Limit: t.o.MaxPools,
		Name: api.UsageName{Value: "SessionPools", LocalizedValue: "Session pools"}}})
}
