package tree

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/audit"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/pattern"
	"github.com/sandpool/sandpool/internal/store"
)

// groupKind is the kind of the documents of resource groups.
const groupKind = "resourceGroup"

var locationName = pattern.Lazy(`^[A-Za-z0-9][A-Za-z0-9 ._-]{0,89}$`)

// maxBody bounds the body of a request.
const maxBody = 256 << 10

// LocationForm says what IsLocation takes.
const LocationForm = "names of up to 90 letters, digits, spaces and . _ -"

// IsLocation reports whether a text can be the name of a location.
func IsLocation(name string) bool { return locationName().MatchString(name) }

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func groupID(subscription, name string) string {
	return "/subscriptions/" + subscription + "/resourceGroups/" + name
}

func (t *Tree) bareGroup(subscription, name string) api.ResourceGroup {
	return api.ResourceGroup{ID: groupID(subscription, name), Name: name,
		Type: "Microsoft.Resources/resourceGroups", Location: t.first(),
		Properties: api.Provisioned{ProvisioningState: "Succeeded"}}
}

// findGroup returns the group that in names: one that was made and of which the caller may read
// something, that holds a pool which the caller may read, or the server's own.
func (t *Tree) findGroup(ctx context.Context, in sandpool.Scope) (api.ResourceGroup, error) {
	out := t.bareGroup(in.Subscription, in.ResourceGroup)
	d, err := t.kept.Document(ctx, groupKind, strings.ToLower(out.ID))
	if err == nil && auth.RequireSome(ctx, auth.ReadGroup, in) == nil {
		return out, json.Unmarshal([]byte(d.Text), &out)
	}
	if err != nil && sandpool.ClassOf(err) != sandpool.NotFound {
		return out, err
	}
	held, err := t.holds(ctx, in)
	if err != nil {
		return out, err
	}
	if held || strings.EqualFold(in.ResourceGroup, sandpool.DefaultResourceGroup) {
		return out, nil
	}
	return out, sandpool.Errorf(sandpool.NotFound, "ResourceGroupNotFound", "resourceGroupName",
		"There is no resource group %q in the subscription %q. Make it: az group create --name %s "+
			"--location %s", in.ResourceGroup, in.Subscription, in.ResourceGroup, out.Location)
}

func (t *Tree) group(w http.ResponseWriter, r *http.Request) error {
	g, err := t.findGroup(r.Context(), scopeOf(r))
	if err != nil {
		return err
	}
	return arm.WriteJSON(w, http.StatusOK, g)
}

func (t *Tree) headGroup(w http.ResponseWriter, r *http.Request) error {
	if _, err := t.findGroup(r.Context(), scopeOf(r)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// groups lists the groups that were made, those that hold a pool which the caller may read, and
// the server's own. A caller whose grants are all within groups sees theirs alone.
func (t *Tree) groups(w http.ResponseWriter, r *http.Request) error {
	subscription := r.PathValue("subscription")
	all, err := t.allGroups(r.Context(), subscription)
	if err != nil {
		return err
	}
	wanted, err := parseFilter(r.URL.Query().Get("$filter"), "name", "location", "tagName", "tagValue")
	if err != nil {
		return err
	}
	var out []api.ResourceGroup
	for _, g := range all {
		if wanted.takes(resource{name: g.Name, location: g.Location, tags: g.Tags}) {
			out = append(out, g)
		}
	}
	return list(w, out)
}

func (t *Tree) allGroups(ctx context.Context, subscription string) ([]api.ResourceGroup, error) {
	byKey := map[string]api.ResourceGroup{}
	add := func(g api.ResourceGroup) { byKey[strings.ToLower(g.ID)] = g }
	add(t.bareGroup(subscription, sandpool.DefaultResourceGroup))
	held, err := t.holders(ctx, sandpool.Scope{Subscription: subscription},
		func(id sandpool.PoolID) sandpool.Scope {
			return sandpool.Scope{Subscription: id.Subscription, ResourceGroup: id.ResourceGroup}
		})
	if err != nil {
		return nil, err
	}
	for _, in := range held {
		add(t.bareGroup(subscription, in.ResourceGroup))
	}
	made, err := t.kept.Documents(ctx, groupKind, strings.ToLower(groupID(subscription, "")))
	if err != nil {
		return nil, err
	}
	who, _ := auth.FromContext(ctx)
	for _, d := range made {
		var g api.ResourceGroup
		if err := json.Unmarshal([]byte(d.Text), &g); err != nil {
			return nil, fmt.Errorf("resource group %q: %w", d.Key, err)
		}
		scope := sandpool.Scope{Subscription: subscription, ResourceGroup: g.Name}
		if auth.AllowSome(who, auth.ReadGroup, scope) == nil {
			add(g)
		}
	}
	var out []api.ResourceGroup
	for _, key := range sorted(byKey) {
		out = append(out, byKey[key])
	}
	return out, nil
}

// putGroup makes a group, or gives one other tags. Its location cannot change.
func (t *Tree) putGroup(w http.ResponseWriter, r *http.Request) error {
	var body api.ResourceGroup
	if err := arm.DecodeJSON(w, r, maxBody, &body); err != nil {
		return err
	}
	scope, status := scopeOf(r), http.StatusOK
	old, err := t.findGroup(r.Context(), scope)
	switch {
	case err != nil && sandpool.ClassOf(err) != sandpool.NotFound:
		return err
	case err != nil:
		status = http.StatusCreated
	case body.Location != "" && sandpool.PlainLocation(body.Location) != sandpool.PlainLocation(old.Location):
		return sandpool.Errorf(sandpool.Conflict, "InvalidResourceGroupLocation", "location",
			"The resource group %q is in %q, which cannot change to %q. Send %q.", old.Name,
			old.Location, body.Location, old.Location)
	}
	if status == http.StatusCreated && body.Location != "" {
		if old.Location, err = t.location(body.Location); err != nil {
			return err
		}
	}
	var before any
	if status == http.StatusOK {
		before = old
	}
	old.Tags, old.ManagedBy = body.Tags, body.ManagedBy
	if err := t.keepGroup(r.Context(), old); err != nil {
		return err
	}
	audit.Changed(r.Context(), before, old)
	return arm.WriteJSON(w, status, old)
}

// first is the location of what names none.
func (t *Tree) first() string {
	known, _ := t.o.Locations()
	return known[0]
}

// location returns the server's spelling of a location.
func (t *Tree) location(name string) (string, error) {
	known, every := t.o.Locations()
	for _, k := range known {
		if sandpool.PlainLocation(k) == sandpool.PlainLocation(name) {
			return k, nil
		}
	}
	if every && IsLocation(name) {
		return name, nil
	}
	return "", sandpool.Errorf(sandpool.Invalid, "LocationNotAvailableForResourceType", "location",
		"This server has no location %.100q; it has %s.", name, strings.Join(known, ", "))
}

func (t *Tree) patchGroup(w http.ResponseWriter, r *http.Request) error {
	var body api.ResourceGroupPatch
	if err := arm.DecodeJSON(w, r, maxBody, &body); err != nil {
		return err
	}
	g, err := t.findGroup(r.Context(), scopeOf(r))
	if err != nil {
		return err
	}
	before := g
	if body.Tags != nil {
		g.Tags = *body.Tags
	}
	if body.ManagedBy != nil {
		g.ManagedBy = *body.ManagedBy
	}
	if err := t.keepGroup(r.Context(), g); err != nil {
		return err
	}
	audit.Changed(r.Context(), before, g)
	return arm.WriteJSON(w, http.StatusOK, g)
}

func (t *Tree) keepGroup(ctx context.Context, g api.ResourceGroup) error {
	return keep(ctx, t.kept, groupKind, g.ID, g)
}

// keep writes v as the document of a resource id.
func keep(ctx context.Context, kept store.Documents, kind, id string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s %q: %w", kind, id, err)
	}
	return kept.PutDocument(ctx, store.Document{Kind: kind, Key: strings.ToLower(id),
		Text: string(text)})
}

// withPools is a group with the pools that lie in it, as the audit log shows one that was deleted.
func withPools(g api.ResourceGroup, pools []sandpool.Pool) any {
	ids := make([]string, 0, len(pools))
	for _, p := range pools {
		ids = append(ids, p.ID.String())
	}
	return struct {
		api.ResourceGroup
		SessionPools []string `json:"sessionPools"`
	}{g, ids}
}

// deleteGroup deletes the group and all that lies in it. The caller must be allowed to delete
// each pool, and is refused before the first one goes if not.
func (t *Tree) deleteGroup(w http.ResponseWriter, r *http.Request) error {
	ctx, scope := r.Context(), scopeOf(r)
	g, err := t.findGroup(ctx, scope)
	if err != nil {
		return err
	}
	pools, err := t.all(ctx, scope)
	if err != nil {
		return err
	}
	for _, p := range pools {
		if err := auth.Require(ctx, auth.DeletePool, p.ID.Scope()); err != nil {
			return err
		}
	}
	for _, p := range pools {
		if err := t.pools.Delete(ctx, p.ID); err != nil {
			return err
		}
	}
	for _, kind := range []string{environmentKind, identityKind, store.Deployment} {
		inside, err := t.kept.Documents(ctx, kind, strings.ToLower(g.ID)+"/")
		if err != nil {
			return err
		}
		for _, d := range inside {
			if err := t.kept.DeleteDocument(ctx, d.Kind, d.Key); err != nil {
				return err
			}
		}
	}
	if err := t.kept.DeleteDocument(ctx, groupKind, strings.ToLower(g.ID)); err != nil {
		return err
	}
	audit.Changed(ctx, withPools(g, pools), nil)
	t.pollDeletion(w, r, base64.RawURLEncoding.EncodeToString([]byte(scope.ResourceGroup)))
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// pollDeletion says where the deletion of a group is to be looked for.
func (t *Tree) pollDeletion(w http.ResponseWriter, r *http.Request, operation string) {
	w.Header().Set("Location", fmt.Sprintf("%s/subscriptions/%s/operationresults/%s?%s",
		t.o.BaseURL(r), r.PathValue("subscription"), operation, r.URL.RawQuery))
	w.Header().Set("Retry-After", "1")
}

// groupDeleted answers 202 until no pool is left in the group. The operation's id is the group's
// name, so there is nothing to keep of it.
func (t *Tree) groupDeleted(w http.ResponseWriter, r *http.Request) error {
	name, err := base64.RawURLEncoding.DecodeString(r.PathValue("operation"))
	if err != nil || arm.CheckScope(r.PathValue("subscription"), string(name)) != nil {
		return sandpool.Errorf(sandpool.NotFound, "OperationNotFound", "operationId",
			"There is no operation %.60q.", r.PathValue("operation"))
	}
	pools, err := t.readable(r.Context(), sandpool.Scope{
		Subscription: r.PathValue("subscription"), ResourceGroup: string(name)})
	if err != nil {
		return err
	}
	leaving := slices.ContainsFunc(pools, func(p sandpool.Pool) bool {
		return p.State == sandpool.Deleting
	})
	if leaving {
		t.pollDeletion(w, r, r.PathValue("operation"))
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
