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

// mayAssign reports whether who may give and take what an assignment gives.
func mayAssign(who auth.Principal, a api.RoleAssignment) bool {
	scope, err := arm.ParseScope(a.Properties.Scope)
	return err == nil && auth.Allow(who, auth.AssignRoles, scope) == nil
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
	if err := decodeKept(d.Kind, d.Key, d.Text, &a); err != nil {
		return a, err
	}
	if (sandpool.Grant{Expires: endOf(a)}).Ended(t.o.Now()) {
		return a, sandpool.Errorf(sandpool.NotFound, "RoleAssignmentNotFound", "roleAssignmentName",
			"The role assignment %.300q has ended.", id)
	}
	return a, nil
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
	kept, err := t.assignments(r.Context())
	if err != nil {
		return err
	}
	who, _ := auth.FromContext(r.Context())
	text := r.URL.Query().Get("$filter")
	principal := principalFilter().FindStringSubmatch(text)
	atScope := strings.Contains(strings.ToLower(text), "atscope()")
	var out []api.RoleAssignment
	for _, a := range kept {
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

// assignedForm is how Azure writes the times of role assignments.
const assignedForm = "2006-01-02T15:04:05.0000000Z"

// putAssignment gives a token a role at the scope of the path.
func (t *Tree) putAssignment(w http.ResponseWriter, r *http.Request) error {
	body, err := readAssignment(w, r)
	if err != nil {
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
	principal := body.Properties.PrincipalID
	scope, _ := scopePath(r)
	now, author := t.o.Now().UTC().Format(assignedForm), auth.Author(r.Context()).Name
	made := api.RoleAssignment{ID: id, Name: r.PathValue("assignment"),
		Type: "Microsoft.Authorization/roleAssignments",
		Properties: api.RoleAssignmentProperties{Scope: "/" + strings.TrimPrefix(scope, "/"),
			RoleDefinitionID: subscriptionPrefix(r) + definitionsPath + "/" + d.id,
			PrincipalID:      principal, PrincipalType: "ServicePrincipal",
			Description: body.Properties.Description,
			CreatedOn:   now, UpdatedOn: now, CreatedBy: author, UpdatedBy: author}}
	if made.Properties.Sandpool, err = t.end(body); err != nil {
		return err
	}
	status, shown, err := t.assign(r.Context(), body, made)
	if err != nil {
		return err
	}
	return arm.WriteJSON(w, status, shown)
}

// sameBefore returns the assignment that is to become made, which may differ from it in its end
// alone; nil if there is none.
func (t *Tree) sameBefore(ctx context.Context,
	made api.RoleAssignment) (*api.RoleAssignment, error) {
	others, err := t.assignments(ctx)
	if err != nil {
		return nil, err
	}
	for _, other := range others {
		same := other.Properties.PrincipalID == made.Properties.PrincipalID &&
			strings.EqualFold(other.Properties.Scope, made.Properties.Scope) &&
			sameDefinition(other, made)
		switch {
		case same && strings.EqualFold(other.ID, made.ID):
			return &other, nil
		case same:
			return nil, sandpool.Errorf(sandpool.Conflict, "RoleAssignmentExists", "principalId",
				"The role assignment exists already: %s.", other.ID)
		case strings.EqualFold(other.ID, made.ID):
			return nil, sandpool.Errorf(sandpool.Conflict, "RoleAssignmentUpdateNotPermitted",
				"roleAssignmentName", "Of the role assignment %q only the end and the description can change. "+
					"Delete it, or choose another name.", made.ID)
		}
	}
	return nil, nil
}

func sameDefinition(a, b api.RoleAssignment) bool {
	last := func(a api.RoleAssignment) string {
		id := a.Properties.RoleDefinitionID
		return id[strings.LastIndexByte(id, '/')+1:]
	}
	return strings.EqualFold(last(a), last(b))
}

// assign gives what made says, in place of what an assignment of its name does, and returns the
// status and the assignment to answer with.
func (t *Tree) assign(ctx context.Context, body, made api.RoleAssignment) (int, api.RoleAssignment,
	error) {
	t.assigning.Lock()
	defer t.assigning.Unlock()
	if _, err := t.forgetEnded(ctx); err != nil {
		return 0, made, err
	}
	before, err := t.sameBefore(ctx, made)
	if err != nil {
		return 0, made, err
	}
	if before != nil && endOf(*before).Equal(endOf(made)) {
		again := *before
		if again.Properties.Description == made.Properties.Description {
			return http.StatusOK, again, nil
		}
		again.Properties.Description = made.Properties.Description
		again.Properties.UpdatedOn, again.Properties.UpdatedBy = made.Properties.UpdatedOn,
			made.Properties.UpdatedBy
		audit.Changed(ctx, before, again)
		return http.StatusOK, again, keep(ctx, t.kept, assignmentKind, again.ID, again)
	}
	if before != nil {
		made.Properties.CreatedOn = before.Properties.CreatedOn
		made.Properties.CreatedBy = before.Properties.CreatedBy
	}
	g, err := grantOf(made)
	if err != nil {
		return 0, made, err
	}
	if err := t.granter.Grant(ctx, made.Properties.PrincipalID, g); err != nil {
		if made.Properties.PrincipalType, err = t.unknownPrincipal(ctx, body, err); err != nil {
			return 0, made, err
		}
	}
	if before != nil {
		// Before made is kept: who asks again after an error takes the old grant back then.
		if err := t.ungrant(ctx, *before); err != nil {
			return 0, made, err
		}
	}
	if err := keep(ctx, t.kept, assignmentKind, made.ID, made); err != nil {
		return 0, made, err
	}
	if before == nil {
		audit.Changed(ctx, nil, made)
		return http.StatusCreated, made, nil
	}
	audit.Changed(ctx, before, made)
	return http.StatusOK, made, nil
}

// unknownPrincipal is for a principal to whom no grant could be given: its type if it may be
// foreign, since whoever shows a token with that object id has the role, and otherwise an error.
func (t *Tree) unknownPrincipal(ctx context.Context, body api.RoleAssignment,
	err error) (string, error) {
	principal := body.Properties.PrincipalID
	switch {
	case sandpool.ClassOf(err) != sandpool.NotFound:
		return "", err
	case sandpool.IsManagedPrincipal(principal):
		live, err := t.managed(ctx)
		if err != nil || live[principal] {
			return "ServicePrincipal", err
		}
	case t.o.Foreign && foreignPrincipal().MatchString(principal):
		return principalType(body)
	}
	return "", sandpool.Errorf(sandpool.Invalid, "PrincipalNotFound", "principalId",
		"There is no principal %.100q. The id of a token of this server is a principal's id; "+
			"'sandpool identity list' lists them. Object ids of a foreign issuer are "+
			"principals if its setting role_assignments is true.", principal)
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
// groups. No issuer can say that somebody is a pool.
func (t *Tree) Assigned(ctx context.Context, ids []string) ([]sandpool.Grant, error) {
	return t.assigned(ctx, slices.DeleteFunc(slices.Clone(ids), sandpool.IsManagedPrincipal))
}

// OfPool returns the grants of a managed identity's principal.
func (t *Tree) OfPool(ctx context.Context, principal string) ([]sandpool.Grant, error) {
	return t.assigned(ctx, []string{principal})
}

// managed are the principals of the pools and the user-assigned identities that there are.
func (t *Tree) managed(ctx context.Context) (map[string]bool, error) {
	pools, err := t.all(ctx, sandpool.Scope{})
	live := map[string]bool{}
	for _, p := range pools {
		if p.Spec.Identity.Principal != "" && p.State != sandpool.Deleting {
			live[p.Spec.Identity.Principal] = true
		}
	}
	if err != nil {
		return nil, err
	}
	identities, err := documents[api.UserAssignedIdentity](ctx, t.kept, identityKind, "")
	for _, one := range identities {
		live[one.Properties.PrincipalID] = true
	}
	return live, err
}

func (t *Tree) assigned(ctx context.Context, ids []string) ([]sandpool.Grant, error) {
	kept, err := t.assignments(ctx)
	if err != nil {
		return nil, err
	}
	var grants []sandpool.Grant
	for _, a := range kept {
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
	return sandpool.Grant{Role: d.role, Scope: scope, Expires: endOf(a)}, err
}

// assignments are those that have not ended.
func (t *Tree) assignments(ctx context.Context) ([]api.RoleAssignment, error) {
	all, err := t.allAssignments(ctx)
	now := t.o.Now()
	return slices.DeleteFunc(all, func(a api.RoleAssignment) bool {
		return sandpool.Grant{Expires: endOf(a)}.Ended(now)
	}), err
}

func (t *Tree) allAssignments(ctx context.Context) ([]api.RoleAssignment, error) {
	return documents[api.RoleAssignment](ctx, t.kept, assignmentKind, "")
}
