package tree

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/audit"
	"github.com/sandpool/sandpool/internal/pattern"
)

// environmentKind is the kind of the documents of environments.
const environmentKind = "managedEnvironment"

const (
	environmentsPath = arm.ResourceGroupPath + "/managedEnvironments"
	environmentPath  = environmentsPath + "/{environment}"
)

// maxEnvironments bounds those of a resource group.
const maxEnvironments = 100

var environmentName = pattern.Lazy(`^[a-zA-Z][a-zA-Z0-9-]{0,58}[a-zA-Z0-9]$`)

func (t *Tree) registerEnvironments(handle func(pattern string, fn handler)) {
	handle("GET "+arm.SubscriptionPath+"/managedEnvironments", t.reading(t.listEnvironments))
	handle("GET "+environmentsPath, t.reading(t.listEnvironments))
	handle("GET "+environmentPath, t.reading(t.getEnvironment))
	handle("HEAD "+environmentPath, t.reading(t.getEnvironment))
	handle("PUT "+environmentPath, t.writing(t.putEnvironment))
	handle("PATCH "+environmentPath, t.writing(t.putEnvironment))
	handle("DELETE "+environmentPath, t.writing(t.deleteEnvironment))
}

// environmentsIn returns the environments in a scope that the caller may read.
func (t *Tree) environmentsIn(ctx context.Context, in sandpool.Scope) ([]api.Environment, error) {
	return readableIn(ctx, t.kept, environmentKind, in,
		func(e api.Environment) string { return e.ID })
}

func (t *Tree) listEnvironments(w http.ResponseWriter, r *http.Request) error {
	found, err := t.environmentsIn(r.Context(), scopeOf(r))
	if err != nil {
		return err
	}
	return list(w, found)
}

func environmentID(r *http.Request) string {
	return groupID(r.PathValue("subscription"), r.PathValue("resourceGroup")) +
		"/providers/Microsoft.App/managedEnvironments/" + r.PathValue("environment")
}

// findEnvironment returns the environment that r names.
func (t *Tree) findEnvironment(r *http.Request) (api.Environment, error) {
	var e api.Environment
	id := environmentID(r)
	missing := sandpool.Errorf(sandpool.NotFound, "ResourceNotFound", id,
		"There is no environment %.100q in the resource group %q.", r.PathValue("environment"),
		r.PathValue("resourceGroup"))
	d, err := t.kept.Document(r.Context(), environmentKind, strings.ToLower(id))
	switch {
	case err != nil && sandpool.ClassOf(err) == sandpool.NotFound, err == nil &&
		!mayRead(r, scopeOf(r)):
		return e, missing
	case err != nil:
		return e, err
	}
	return e, decodeKept(d.Kind, d.Key, d.Text, &e)
}

func (t *Tree) getEnvironment(w http.ResponseWriter, r *http.Request) error {
	e, err := t.findEnvironment(r)
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return arm.WriteJSON(w, http.StatusOK, e)
}

// putEnvironment makes an environment or changes one. It holds nothing: pools name it, and what
// networks and logs they have is the server's. Its properties are kept as they are sent, but for
// secrets, of which the server makes no use.
func (t *Tree) putEnvironment(w http.ResponseWriter, r *http.Request) error {
	var body api.Environment
	if err := arm.DecodeJSON(w, r, maxBody, &body); err != nil {
		return err
	}
	if !environmentName().MatchString(r.PathValue("environment")) {
		return sandpool.Errorf(sandpool.Invalid, "InvalidEnvironmentName", "environmentName",
			"The environment's name %.100q is not allowed. Use 2 to 60 letters, digits and hyphens, "+
				"beginning with a letter.", r.PathValue("environment"))
	}
	old, err := t.findEnvironment(r)
	fresh := err != nil && sandpool.ClassOf(err) == sandpool.NotFound
	switch {
	case err != nil && !fresh:
		return err
	case fresh && r.Method == http.MethodPatch:
		return err
	case fresh:
		if err := t.roomFor(r); err != nil {
			return err
		}
		old = api.Environment{ID: environmentID(r), Name: r.PathValue("environment"),
			Type: "Microsoft.App/managedEnvironments", Location: t.first(),
			SystemData: t.made(r)}
		if body.Location != "" {
			if old.Location, err = t.location(body.Location); err != nil {
				return err
			}
		}
	default:
		if err := samePlace("environment", old.Name, old.Location, body.Location); err != nil {
			return err
		}
	}
	before := old
	before.Properties = maps.Clone(old.Properties)
	if body.Tags != nil || r.Method == http.MethodPut {
		old.Tags = body.Tags
	}
	if old.Properties == nil || r.Method == http.MethodPut {
		old.Properties = map[string]json.RawMessage{}
	}
	size := 0
	for name, value := range old.Properties {
		if _, again := body.Properties[name]; !again {
			size += len(name) + len(value)
		}
	}
	for name, value := range body.Properties {
		if slices.Contains(secrets, strings.ToLower(name)) {
			continue
		}
		if old.Properties[name], err = withoutSecrets(value); err != nil {
			return err
		}
		if size += len(name) + len(value); size > maxBody {
			return sandpool.Errorf(sandpool.TooLarge, "", "properties",
				"The properties of an environment may have %d bytes together.", maxBody)
		}
	}
	old.Properties["provisioningState"] = json.RawMessage(`"Succeeded"`)
	if !fresh && !sameEnvironment(before, old) {
		old.SystemData = t.changed(r, *old.SystemData)
	}
	if err := keep(r.Context(), t.kept, environmentKind, old.ID, old); err != nil {
		return err
	}
	if fresh {
		audit.Changed(r.Context(), nil, old)
	} else {
		audit.Changed(r.Context(), before, old)
	}
	return arm.WriteJSON(w, http.StatusOK, old)
}

// sameEnvironment reports whether a and b are set to the same.
func sameEnvironment(a, b api.Environment) bool {
	return maps.Equal(a.Tags, b.Tags) && maps.EqualFunc(a.Properties, b.Properties,
		func(x, y json.RawMessage) bool { return bytes.Equal(x, y) })
}

// roomFor reports whether the group of r may have one more environment.
func (t *Tree) roomFor(r *http.Request) error {
	id := environmentID(r)
	there, err := t.kept.Documents(r.Context(), environmentKind,
		strings.ToLower(id[:strings.LastIndexByte(id, '/')+1]))
	if err == nil && len(there) >= maxEnvironments {
		err = sandpool.Errorf(sandpool.Conflict, "MaxNumberOfEnvironmentsExceeded", "environmentName",
			"The resource group has %d environments and can have no more. Delete one.", len(there))
	}
	return err
}

// secrets are the names of the properties, in lower case, that environments have secrets in.
// Azure shows none of them.
var secrets = []string{"sharedkey", "dapraiinstrumentationkey", "dapraiconnectionstring",
	"certificatevalue", "certificatepassword", "connectionstring", "key", "value"}

// withoutSecrets returns the JSON text without the members that hold secrets, at any depth.
func withoutSecrets(text json.RawMessage) (json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // numbers stay as they are
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return json.Marshal(dropSecrets(v))
}

func dropSecrets(v any) any {
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			v[i] = dropSecrets(e)
		}
	case map[string]any:
		for name, e := range v {
			if slices.Contains(secrets, strings.ToLower(name)) {
				delete(v, name)
				continue
			}
			v[name] = dropSecrets(e)
		}
	}
	return v
}

// deleteEnvironment deletes one that no pool names.
func (t *Tree) deleteEnvironment(w http.ResponseWriter, r *http.Request) error {
	e, err := t.findEnvironment(r)
	if err != nil && sandpool.ClassOf(err) == sandpool.NotFound {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err != nil {
		return err
	}
	pools, err := t.all(r.Context(), sandpool.Scope{})
	if err != nil {
		return err
	}
	for _, p := range pools {
		if strings.EqualFold(p.Spec.Environment, e.ID) {
			return sandpool.Errorf(sandpool.Conflict, "ManagedEnvironmentHasPools", e.ID,
				"Session pools belong to the environment %q. Delete them first.", e.Name)
		}
	}
	if err := t.kept.DeleteDocument(r.Context(), environmentKind,
		strings.ToLower(e.ID)); err != nil {
		return err
	}
	audit.Changed(r.Context(), e, nil)
	w.WriteHeader(http.StatusOK)
	return nil
}
