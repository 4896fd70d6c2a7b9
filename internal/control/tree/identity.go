package tree

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/audit"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/control/precondition"
	"github.com/sandpool/sandpool/internal/pattern"
	"github.com/sandpool/sandpool/internal/store"
)

// identityKind is the kind of the documents of user-assigned identities.
const identityKind = "userAssignedIdentity"

const (
	identityProvider = "Microsoft.ManagedIdentity"
	identitiesBelow  = "/providers/" + identityProvider + "/userAssignedIdentities"
	identitiesPath   = groupPath + identitiesBelow
	userIdentityPath = identitiesPath + "/{identity}"
)

// maxIdentities bounds those of a resource group.
const maxIdentities = 500

// identityName is Azure's rule, but for the length.
var identityName = pattern.Lazy(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

func (t *Tree) registerIdentities(handle func(pattern string, fn handler)) {
	handle("GET "+subscriptionPath+identitiesBelow, t.reading(t.listIdentities))
	handle("GET "+identitiesPath, t.reading(t.listIdentities))
	handle("GET "+userIdentityPath, t.reading(t.getIdentity))
	handle("HEAD "+userIdentityPath, t.reading(t.getIdentity))
	handle("PUT "+userIdentityPath, t.writing(t.putIdentity))
	handle("PATCH "+userIdentityPath, t.writing(t.patchIdentity))
	handle("DELETE "+userIdentityPath, t.writing(t.deleteIdentity))
}

func identityID(in sandpool.Scope, name string) string {
	return groupID(in.Subscription, in.ResourceGroup) + identitiesBelow + "/" + name
}

// parseIdentityID reads the resource id of a user-assigned identity, in any case.
func parseIdentityID(id string) (in sandpool.Scope, name string, err error) {
	parts := strings.Split(id, "/")
	form := strings.Split(identityID(sandpool.Scope{Subscription: "*", ResourceGroup: "*"}, "*"), "/")
	ok := len(parts) == len(form)
	for i := 0; ok && i < len(form); i++ {
		ok = form[i] == "*" && parts[i] != "" || strings.EqualFold(form[i], parts[i])
	}
	if ok {
		in, name = sandpool.Scope{Subscription: parts[2], ResourceGroup: parts[4]}, parts[8]
		ok = arm.CheckScope(in.Subscription, in.ResourceGroup) == nil &&
			identityName().MatchString(name) && len(name) <= 128
	}
	if !ok {
		return in, name, sandpool.Errorf(sandpool.Invalid, "InvalidResourceId",
			"identity.userAssignedIdentities", "%.300q is not the resource id of a user-assigned "+
				"identity. Write it as %s.", id, identityID(sandpool.Scope{Subscription: "S",
				ResourceGroup: "G"}, "NAME"))
	}
	return in, name, nil
}

// keptIdentity returns the identity with a resource id; nil if there is none.
func (t *Tree) keptIdentity(ctx context.Context, id string) (*api.UserAssignedIdentity, error) {
	d, err := t.kept.Document(ctx, identityKind, strings.ToLower(id))
	switch {
	case err != nil && sandpool.ClassOf(err) == sandpool.NotFound:
		return nil, nil
	case err != nil:
		return nil, err
	}
	var out api.UserAssignedIdentity
	return &out, decodeKept(d.Kind, d.Key, d.Text, &out)
}

// UserAssigned returns the principal of the identity with a resource id; empty if there is none.
func (t *Tree) UserAssigned(ctx context.Context, id string) (string, error) {
	is, err := t.keptIdentity(ctx, id)
	if err != nil || is == nil {
		return "", err
	}
	return is.Properties.PrincipalID, nil
}

// Assignable returns the identity with a resource id, which the caller must be allowed to assign.
// Whoever is not does not learn whether it exists.
func (t *Tree) Assignable(ctx context.Context, id string) (out sandpool.AssignedIdentity,
	err error) {
	in, name, err := parseIdentityID(id)
	if err != nil {
		return out, err
	}
	if err := auth.Require(ctx, auth.AssignIdentity, in); err != nil {
		return out, err
	}
	is, err := t.keptIdentity(ctx, id)
	if err != nil {
		return out, err
	}
	if is == nil {
		return out, sandpool.Errorf(sandpool.Invalid, "FailedIdentityOperation",
			"identity.userAssignedIdentities", "There is no user-assigned identity %s. Make it: az "+
				"identity create --resource-group %s --name %s", id, in.ResourceGroup, name)
	}
	return sandpool.AssignedIdentity{ID: is.ID, Principal: is.Properties.PrincipalID,
		Client: is.Properties.ClientID}, nil
}

// identitiesIn returns the identities in a scope that the caller may read.
func (t *Tree) identitiesIn(ctx context.Context, in sandpool.Scope) ([]api.UserAssignedIdentity,
	error) {
	return readableIn(ctx, t.kept, identityKind, in,
		func(is api.UserAssignedIdentity) string { return is.ID })
}

func (t *Tree) listIdentities(w http.ResponseWriter, r *http.Request) error {
	found, err := t.identitiesIn(r.Context(), scopeOf(r))
	if err != nil {
		return err
	}
	return list(w, found)
}

// identityOf returns the identity that r names; nil if there is none that the caller may read.
func (t *Tree) identityOf(r *http.Request) (*api.UserAssignedIdentity, error) {
	is, err := t.keptIdentity(r.Context(), identityID(scopeOf(r), r.PathValue("identity")))
	if err != nil || is == nil || !mayRead(r, scopeOf(r)) {
		return nil, err
	}
	return is, nil
}

func noIdentity(r *http.Request) error {
	return sandpool.Errorf(sandpool.NotFound, "ResourceNotFound",
		identityID(scopeOf(r), r.PathValue("identity")),
		"There is no user-assigned identity %.130q in the resource group %q.",
		r.PathValue("identity"), r.PathValue("resourceGroup"))
}

func (t *Tree) getIdentity(w http.ResponseWriter, r *http.Request) error {
	is, err := t.identityOf(r)
	switch {
	case err != nil:
		return err
	case is == nil:
		return noIdentity(r)
	}
	w.Header().Set("Etag", identityTag(is))
	switch {
	case r.Method == http.MethodHead:
		w.WriteHeader(http.StatusNoContent)
		return nil
	case precondition.MatchesTag(r.Header.Values("If-None-Match"), identityTag(is)):
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return arm.WriteJSON(w, http.StatusOK, is)
}

// identityTag names what an identity is set to; empty if there is none.
func identityTag(is *api.UserAssignedIdentity) string {
	if is == nil {
		return ""
	}
	plain := *is
	plain.SystemData = nil
	return precondition.TagOf(plain)
}

// putIdentity makes an identity, or gives one other tags. Who it is never changes.
func (t *Tree) putIdentity(w http.ResponseWriter, r *http.Request) error {
	var body api.UserAssignedIdentity
	if err := arm.DecodeJSON(w, r, maxBody, &body); err != nil {
		return err
	}
	name := r.PathValue("identity")
	if len(name) < 3 || len(name) > 128 || !identityName().MatchString(name) {
		return sandpool.Errorf(sandpool.Invalid, "InvalidResourceName", "resourceName",
			"The identity's name %.130q is not allowed. Use 3 to 128 letters, digits, hyphens and "+
				"underscores, beginning with a letter or digit.", name)
	}
	t.identifying.Lock()
	defer t.identifying.Unlock()
	before, err := t.identityOf(r)
	if err != nil {
		return err
	}
	if err := precondition.CheckTag(r, identityTag(before), "identity"); err != nil {
		return err
	}
	var after api.UserAssignedIdentity
	if before == nil {
		after, err = t.newIdentity(r, body.Location)
	} else {
		after = *before
		err = samePlace("identity", before.Name, before.Location, body.Location)
	}
	if err != nil {
		return err
	}
	after.Tags = body.Tags
	after.Properties.IsolationScope, err = isolation(body.Properties.IsolationScope)
	if err != nil {
		return err
	}
	if before == nil {
		return t.addIdentity(w, r, after)
	}
	return t.changeIdentity(w, r, *before, after)
}

// newIdentity is an identity that there was not before.
func (t *Tree) newIdentity(r *http.Request, location string) (is api.UserAssignedIdentity,
	err error) {
	in, name := scopeOf(r), r.PathValue("identity")
	there, err := t.kept.Documents(r.Context(), identityKind,
		strings.ToLower(identityID(in, "")))
	if err != nil {
		return is, err
	}
	if len(there) >= maxIdentities {
		return is, sandpool.Errorf(sandpool.Conflict, "MaxNumberOfIdentitiesExceeded",
			"resourceName", "The resource group has %d identities and can have no more. Delete one.",
			len(there))
	}
	is = api.UserAssignedIdentity{ID: identityID(in, name), Name: name,
		Type: api.UserAssignedIdentityType, Location: t.first(),
		Properties: api.UserAssignedProperties{TenantID: sandpool.DefaultSubscription,
			PrincipalID: sandpool.NewManagedPrincipal(), ClientID: sandpool.NewManagedPrincipal()}}
	if location != "" {
		if is.Location, err = t.location(location); err != nil {
			return is, err
		}
	}
	is.SystemData = t.made(r)
	return is, nil
}

// addIdentity writes a new identity down and answers with it. If another server was faster, the
// identity is the other one's: who it is has been answered there.
func (t *Tree) addIdentity(w http.ResponseWriter, r *http.Request,
	is api.UserAssignedIdentity) error {
	text, err := json.Marshal(is)
	if err != nil {
		return fmt.Errorf("write identity %q: %w", is.ID, err)
	}
	agreed, err := t.agree.Agree(r.Context(), store.Document{Kind: identityKind,
		Key: strings.ToLower(is.ID), Text: string(text)})
	if err != nil {
		return err
	}
	var out api.UserAssignedIdentity
	if err := decodeKept(agreed.Kind, agreed.Key, agreed.Text, &out); err != nil {
		return err
	}
	audit.Changed(r.Context(), nil, out)
	w.Header().Set("Etag", identityTag(&out))
	return arm.WriteJSON(w, http.StatusCreated, out)
}

// isolation checks an isolation scope, which has no effect: tokens are issued in one place.
func isolation(s string) (string, error) {
	for _, known := range []string{"", "None", "Regional"} {
		if strings.EqualFold(s, known) {
			return known, nil
		}
	}
	return "", sandpool.Errorf(sandpool.Invalid, "InvalidIsolationScope",
		"properties.isolationScope", "properties.isolationScope is %.60q; use None or Regional.", s)
}

// patchIdentity changes the tags.
func (t *Tree) patchIdentity(w http.ResponseWriter, r *http.Request) error {
	var body api.UserAssignedIdentityPatch
	if err := arm.DecodeJSON(w, r, maxBody, &body); err != nil {
		return err
	}
	t.identifying.Lock()
	defer t.identifying.Unlock()
	before, err := t.identityOf(r)
	switch {
	case err != nil:
		return err
	case before == nil:
		return noIdentity(r)
	}
	if err := precondition.CheckTag(r, identityTag(before), "identity"); err != nil {
		return err
	}
	after := *before
	if err := samePlace("identity", after.Name, after.Location, body.Location); err != nil {
		return err
	}
	if body.Tags != nil {
		after.Tags = *body.Tags
	}
	return t.changeIdentity(w, r, *before, after)
}

// changeIdentity writes what has become of an identity down, and answers with it.
func (t *Tree) changeIdentity(w http.ResponseWriter, r *http.Request, before,
	after api.UserAssignedIdentity) error {
	if !maps.Equal(before.Tags, after.Tags) || before.Properties != after.Properties {
		after.SystemData = t.changed(r, *after.SystemData)
		if err := keep(r.Context(), t.kept, identityKind, after.ID, after); err != nil {
			return err
		}
	}
	audit.Changed(r.Context(), before, after)
	w.Header().Set("Etag", identityTag(&after))
	return arm.WriteJSON(w, http.StatusOK, after)
}

// deleteIdentity deletes an identity. As in Azure, pools that have it keep its name, and it is
// worth nothing to them.
func (t *Tree) deleteIdentity(w http.ResponseWriter, r *http.Request) error {
	t.identifying.Lock()
	defer t.identifying.Unlock()
	is, err := t.identityOf(r)
	if err != nil {
		return err
	}
	if err := precondition.CheckTag(r, identityTag(is), "identity"); err != nil {
		return err
	}
	if is == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err := t.kept.DeleteDocument(r.Context(), identityKind,
		strings.ToLower(is.ID)); err != nil {
		return err
	}
	audit.Changed(r.Context(), is, nil)
	w.WriteHeader(http.StatusOK)
	return nil
}
