package tree

import (
	"net/http"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
)

// definition is one of Azure's built-in roles and what it is here.
type definition struct {
	id, name, description string
	role                  sandpool.Role
}

// definitions are the built-in roles that mean something here, with Azure's ids.
func definitions() []definition {
	return []definition{
		{"0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0", auth.AzureName(auth.SessionExecutor),
			"Runs code in the sessions of a pool.", auth.SessionExecutor},
		{"f7669afb-68b2-44b4-9c5f-6d2a47fddda0", auth.AzureName(auth.PoolContributor),
			"Manages session pools.", auth.PoolContributor},
		{"b24988ac-6180-42a0-ab88-20f7382dd24c", "Contributor", "Manages session pools.",
			auth.PoolContributor},
		{"8e3af657-a8ff-443c-a75c-2fe8c4bcb635", auth.AzureName(auth.Admin),
			"Does everything in its scope, and gives roles there.", auth.Admin},
		{"acdd72a7-3385-48ef-bd42-f606fba81ae7", auth.AzureName(auth.Reader),
			"Reads session pools and what lies around them.", auth.Reader},
		{"43d0d8ad-25c7-4714-9337-8ba259a9fe05", auth.AzureName(auth.MonitoringReader),
			"Reads the server's metrics.", auth.MonitoringReader},
	}
}

// definitionsPath is the end of the path of role definitions, below every scope.
const (
	definitionsPath = "/providers/Microsoft.Authorization/roleDefinitions"
	assignmentsPath = "/providers/Microsoft.Authorization/roleAssignments"
	locksPath       = "/providers/Microsoft.Authorization/locks"
)

func (t *Tree) registerRoles(handle func(pattern string, fn handler)) {
	for _, scope := range []string{"", subscriptionPath, groupPath, arm.PoolPath} {
		handle("GET "+scope+definitionsPath, t.reading(t.listDefinitions))
		handle("GET "+scope+definitionsPath+"/{definition}", t.reading(t.getDefinition))
		handle("GET "+scope+assignmentsPath, t.reading(t.listAssignments))
		handle("GET "+scope+assignmentsPath+"/{assignment}", t.granting(t.getAssignment))
		handle("PUT "+scope+assignmentsPath+"/{assignment}", t.granting(t.putAssignment))
		handle("DELETE "+scope+assignmentsPath+"/{assignment}", t.granting(t.deleteAssignment))
		handle("GET "+scope+locksPath, t.reading(noLocks))
		handle("PUT "+scope+locksPath+"/{lock}", t.reading(refuseLock))
	}
}

// granting lets those in who own all of the path's scope: whatever they give there is a part of
// what they have.
func (t *Tree) granting(fn handler) handler {
	return t.reading(func(w http.ResponseWriter, r *http.Request) error {
		scope := scopeOf(r)
		scope.Pool = r.PathValue("pool")
		if err := auth.Require(r.Context(), auth.AssignRoles, scope); err != nil {
			return err
		}
		return fn(w, r)
	})
}

func noLocks(w http.ResponseWriter, _ *http.Request) error { return list[struct{}](w, nil) }

// refuseLock does not pretend to keep what it would not hold.
func refuseLock(http.ResponseWriter, *http.Request) error {
	return sandpool.Errorf(sandpool.Unsupported, "LocksNotSupported", "locks",
		"This server has no locks. Leave the lock out; a role without the right to delete pools "+
			"protects them.")
}

func wireDefinition(prefix string, d definition) api.RoleDefinition {
	id := prefix + definitionsPath + "/" + d.id
	return api.RoleDefinition{ID: id, Name: d.id, Type: "Microsoft.Authorization/roleDefinitions",
		Properties: api.RoleDefinitionProperties{RoleName: d.name, Type: "BuiltInRole",
			Description: d.description, AssignableScopes: []string{"/"},
			Permissions: []api.Permission{{Actions: []string{"sandpool/" + string(d.role)},
				NotActions: []string{}, DataActions: []string{}, NotDataActions: []string{}}}}}
}

// subscriptionPrefix is where the definitions of the subscription that r names are; a caller
// without one gets those of the tenant.
func subscriptionPrefix(r *http.Request) string {
	if s := r.PathValue("subscription"); s != "" {
		return "/subscriptions/" + s
	}
	return ""
}

func (t *Tree) listDefinitions(w http.ResponseWriter, r *http.Request) error {
	text := r.URL.Query().Get("$filter")
	// az asks for the built-in and the custom ones together, and for those of the scope and above.
	wanted, err := parseFilter(strings.TrimSuffix(text, "atScopeAndBelow()"), "roleName", "type")
	if err != nil {
		return err
	}
	var out []api.RoleDefinition
	for _, d := range definitions() {
		name, named := wanted["rolename"]
		kind, typed := wanted["type"]
		if (!named || strings.EqualFold(name, d.name)) &&
			(!typed || strings.EqualFold(kind, "BuiltInRole")) {
			out = append(out, wireDefinition(subscriptionPrefix(r), d))
		}
	}
	return list(w, out)
}

func findDefinition(id string) (definition, error) {
	last := id[strings.LastIndexByte(id, '/')+1:]
	for _, d := range definitions() {
		if strings.EqualFold(d.id, last) {
			return d, nil
		}
	}
	return definition{}, sandpool.Errorf(sandpool.NotFound, "RoleDefinitionDoesNotExist",
		"roleDefinitionId", "There is no role definition %.200q. 'az role definition list' lists "+
			"those that there are.", last)
}

func (t *Tree) getDefinition(w http.ResponseWriter, r *http.Request) error {
	d, err := findDefinition(r.PathValue("definition"))
	if err != nil {
		return err
	}
	return arm.WriteJSON(w, http.StatusOK, wireDefinition(subscriptionPrefix(r), d))
}
