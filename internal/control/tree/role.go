package tree

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/audit"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/pattern"
)

// assignmentKind is the kind of the documents of role assignments.
const assignmentKind = "roleAssignment"

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

// mayAssign reports whether who may give and take what an assignment gives.
func mayAssign(who auth.Principal, a api.RoleAssignment) bool {
	scope, err := arm.ParseScope(a.Properties.Scope)
	return err == nil && auth.Allow(who, auth.AssignRoles, scope) == nil
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

// scopePath is the resource id that the path of r stands below; "" is everything.
func scopePath(r *http.Request) (string, error) {
	s := r.PathValue("subscription")
	if s == "" {
		return "", nil
	}
	scope := scopeOf(r)
	if scope.Pool = r.PathValue("pool"); scope.Pool != "" {
		return scope.PoolID().String(), arm.CheckPoolID(scope.PoolID())
	}
	return strings.TrimSuffix(scope.String(), "/"), nil
}

func assignmentID(r *http.Request) (string, error) {
	scope, err := scopePath(r)
	return scope + assignmentsPath + "/" + r.PathValue("assignment"), err
}

func (t *Tree) findAssignment(ctx context.Context, id string) (api.RoleAssignment, error) {
	var a api.RoleAssignment
	d, err := t.kept.Document(ctx, assignmentKind, strings.ToLower(id))
	if err != nil && sandpool.ClassOf(err) == sandpool.NotFound {
		return a, sandpool.Errorf(sandpool.NotFound, "RoleAssignmentNotFound", "roleAssignmentName",
			"There is no role assignment %.300q.", id)
	}
	if err != nil {
		return a, err
	}
	return a, decodeKept(d.Kind, d.Key, d.Text, &a)
}

// getAssignment shows an assignment to those who may give it.
func (t *Tree) getAssignment(w http.ResponseWriter, r *http.Request) error {
	id, err := assignmentID(r)
	if err != nil {
		return err
	}
	a, err := t.findAssignment(r.Context(), id)
	if err != nil {
		return err
	}
	return arm.WriteJSON(w, http.StatusOK, a)
}

// principalFilter is what az asks assignments for.
var principalFilter = pattern.Lazy(`(?i)(principalId|assignedTo\()\s*(?:eq)?\s*'([^']*)'`)

// listAssignments lists those at the scope, above it and below it: one's own, and those that one
// may give.
func (t *Tree) listAssignments(w http.ResponseWriter, r *http.Request) error {
	scope, err := scopePath(r)
	if err != nil {
		return err
	}
	kept, err := t.kept.Documents(r.Context(), assignmentKind, "")
	if err != nil {
		return err
	}
	who, _ := auth.FromContext(r.Context())
	text := r.URL.Query().Get("$filter")
	principal := principalFilter().FindStringSubmatch(text)
	atScope := strings.Contains(strings.ToLower(text), "atscope()")
	var out []api.RoleAssignment
	for _, d := range kept {
		var a api.RoleAssignment
		if err := decodeKept(d.Kind, d.Key, d.Text, &a); err != nil {
			return err
		}
		above := within(scope, a.Properties.Scope)
		switch {
		case !who.Is(a.Properties.PrincipalID) && !mayAssign(who, a):
		case principal != nil && !strings.EqualFold(principal[2], a.Properties.PrincipalID):
		case above, !atScope && within(a.Properties.Scope, scope):
			out = append(out, a)
		}
	}
	return list(w, out)
}

// within reports whether the scope inner is outer or lies in it.
func within(inner, outer string) bool {
	inner, outer = strings.ToLower(strings.Trim(inner, "/"))+"/", strings.ToLower(strings.Trim(outer, "/"))+"/"
	return outer == "/" || strings.HasPrefix(inner, outer)
}

// putAssignment gives a token a role at the scope of the path.
func (t *Tree) putAssignment(w http.ResponseWriter, r *http.Request) error {
	var body api.RoleAssignment
	if err := arm.DecodeJSON(w, r, maxBody, &body); err != nil {
		return err
	}
	id, err := assignmentID(r)
	if err != nil {
		return err
	}
	d, err := findDefinition(body.Properties.RoleDefinitionID)
	if err != nil {
		return err
	}
	ctx, principal := r.Context(), body.Properties.PrincipalID
	scope, _ := scopePath(r)
	made := api.RoleAssignment{ID: id, Name: r.PathValue("assignment"),
		Type: "Microsoft.Authorization/roleAssignments",
		Properties: api.RoleAssignmentProperties{Scope: "/" + strings.TrimPrefix(scope, "/"),
			RoleDefinitionID: subscriptionPrefix(r) + definitionsPath + "/" + d.id,
			PrincipalID:      principal, PrincipalType: "ServicePrincipal",
			CreatedOn: t.o.Now().UTC().Format("2006-01-02T15:04:05.0000000Z")}}
	others, err := t.kept.Documents(ctx, assignmentKind, "")
	if err != nil {
		return err
	}
	for _, doc := range others {
		var other api.RoleAssignment
		if err := decodeKept(doc.Kind, doc.Key, doc.Text, &other); err != nil {
			return err
		}
		same := other.Properties.PrincipalID == principal &&
			strings.EqualFold(other.Properties.Scope, made.Properties.Scope) &&
			strings.HasSuffix(other.Properties.RoleDefinitionID, d.id)
		switch {
		case same && strings.EqualFold(other.ID, id):
			return arm.WriteJSON(w, http.StatusOK, other)
		case same:
			return sandpool.Errorf(sandpool.Conflict, "RoleAssignmentExists", "principalId",
				"The role assignment exists already: %s.", other.ID)
		case strings.EqualFold(other.ID, id):
			return sandpool.Errorf(sandpool.Conflict, "RoleAssignmentUpdateNotPermitted",
				"roleAssignmentName", "The role assignment %q cannot change. Delete it, or choose "+
					"another name.", id)
		}
	}
	g, err := grantOf(made)
	if err != nil {
		return err
	}
	if err := t.granter.Grant(ctx, principal, g); err != nil {
		unknown := sandpool.ClassOf(err) == sandpool.NotFound
		if unknown && t.o.Foreign && foreignPrincipal().MatchString(principal) {
			// whoever shows a token with this object id has the role
			if made.Properties.PrincipalType, err = principalType(body); err != nil {
				return err
			}
		} else if unknown {
			return sandpool.Errorf(sandpool.Invalid, "PrincipalNotFound", "principalId",
				"There is no principal %.100q. The id of a token of this server is a principal's id; "+
					"'sandpool identity list' lists them. Object ids of a foreign issuer are "+
					"principals if its setting role_assignments is true.", principal)
		} else {
			return err
		}
	}
	if err := keep(ctx, t.kept, assignmentKind, id, made); err != nil {
		return err
	}
	audit.Changed(ctx, nil, made)
	return arm.WriteJSON(w, http.StatusCreated, made)
}

// foreignPrincipal is what the object ids of foreign issuers look like.
var foreignPrincipal = pattern.Lazy(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// principalType is the kind of principal that an assignment says it is for.
func principalType(a api.RoleAssignment) (string, error) {
	for _, known := range []string{"User", "Group", "ServicePrincipal"} {
		if strings.EqualFold(a.Properties.PrincipalType, known) {
			return known, nil
		}
	}
	if a.Properties.PrincipalType == "" {
		return "User", nil
	}
	return "", sandpool.Errorf(sandpool.Invalid, "InvalidPrincipalType", "principalType",
		"The principal type %.60q is not known; use User, Group or ServicePrincipal.",
		a.Properties.PrincipalType)
}

// Assigned returns the grants of a foreign principal with these ids: its own and those of its
// groups.
func (t *Tree) Assigned(ctx context.Context, ids []string) ([]sandpool.Grant, error) {
	kept, err := t.kept.Documents(ctx, assignmentKind, "")
	if err != nil {
		return nil, err
	}
	var grants []sandpool.Grant
	for _, d := range kept {
		var a api.RoleAssignment
		if err := decodeKept(d.Kind, d.Key, d.Text, &a); err != nil {
			return nil, err
		}
		of := func(id string) bool { return strings.EqualFold(id, a.Properties.PrincipalID) }
		// what a token of the server was given is nobody else's, whatever their groups are called
		if !foreignPrincipal().MatchString(a.Properties.PrincipalID) ||
			!slices.ContainsFunc(ids, of) {
			continue
		}
		g, err := grantOf(a)
		if err != nil {
			return nil, err
		}
		grants = append(grants, g)
	}
	return grants, nil
}

// grantOf is what an assignment gives.
func grantOf(a api.RoleAssignment) (sandpool.Grant, error) {
	d, err := findDefinition(a.Properties.RoleDefinitionID)
	if err != nil {
		return sandpool.Grant{}, err
	}
	scope, err := arm.ParseScope(a.Properties.Scope)
	return sandpool.Grant{Role: d.role, Scope: scope}, err
}

// Forget deletes the role assignments of a principal that has ended.
func (t *Tree) Forget(ctx context.Context, principal string) error {
	kept, err := t.kept.Documents(ctx, assignmentKind, "")
	if err != nil {
		return err
	}
	for _, d := range kept {
		var a api.RoleAssignment
		if err := decodeKept(d.Kind, d.Key, d.Text, &a); err != nil {
			return err
		}
		if a.Properties.PrincipalID == principal {
			if err := t.kept.DeleteDocument(ctx, d.Kind, d.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Tree) deleteAssignment(w http.ResponseWriter, r *http.Request) error {
	id, err := assignmentID(r)
	if err != nil {
		return err
	}
	a, err := t.findAssignment(r.Context(), id)
	if err != nil && sandpool.ClassOf(err) == sandpool.NotFound {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err != nil {
		return err
	}
	g, err := grantOf(a)
	if err != nil {
		return err
	}
	err = t.granter.Ungrant(r.Context(), a.Properties.PrincipalID, g)
	if err != nil && sandpool.ClassOf(err) != sandpool.NotFound {
		return err
	}
	if err := t.kept.DeleteDocument(r.Context(), assignmentKind, strings.ToLower(id)); err != nil {
		return err
	}
	audit.Changed(r.Context(), a, nil)
	return arm.WriteJSON(w, http.StatusOK, a)
}
