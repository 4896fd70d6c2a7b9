package deployment

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/template"
)

// whatIf answers what a deployment would change.
func (s *Service) whatIf(w http.ResponseWriter, r *http.Request) error {
	var out api.WhatIf
	err := s.prepared(w, r, func(rec *record, d *template.Deployment) (err error) {
		out, err = s.foresee(r.Context(), rec, d)
		return err
	})
	if err != nil {
		return err
	}
	return arm.WriteJSON(w, http.StatusOK, out)
}

// foresee says what the deployment rec of d would change. The values of secure parameters are not
// in it.
func (s *Service) foresee(ctx context.Context, rec *record, d *template.Deployment) (api.WhatIf,
	error) {
	hide := d.Hider()
	out := api.WhatIf{Status: api.OperationSucceeded, Properties: api.WhatIfProperties{
		CorrelationID: rec.Shown.Properties.CorrelationID, Changes: []api.Change{}}}
	for _, res := range d.Resources {
		if !res.Wanted || res.Existing {
			continue
		}
		change, err := s.change(ctx, rec, d, res)
		if err != nil {
			return out, err
		}
		change.After, _ = hide(change.After).(map[string]any)
		for i := range change.Delta {
			change.Delta[i].After = hide(change.Delta[i].After)
		}
		out.Properties.Changes = append(out.Properties.Changes, change)
	}
	others, err := s.others(ctx, rec, d)
	if err != nil {
		return out, err
	}
	for _, o := range others {
		change := "Ignore"
		if rec.Shown.Properties.Mode == "Complete" {
			change = "Delete"
		}
		out.Properties.Changes = append(out.Properties.Changes, api.Change{ResourceID: o.ID,
			ChangeType: change, Before: map[string]any{"id": o.ID, "name": o.Name, "type": o.Type,
				"location": o.Location}})
	}
	return out, nil
}

// others are the resources of the group that neither the template has nor the deployments in it
// have made.
func (s *Service) others(ctx context.Context, rec *record, d *template.Deployment) ([]api.Resource,
	error) {
	group := strings.Join(strings.Split(rec.Shown.ID, "/")[:5], "/")
	found, err := s.send(ctx, rec.Base, http.MethodGet, group+"/resources", "2024-11-01", nil)
	if err != nil {
		return nil, err
	}
	var made []string
	for _, r := range d.Resources {
		if r.Wanted && !r.Existing {
			if made, err = s.madeBy(ctx, r.ID, made, maxNested); err != nil {
				return nil, err
			}
		}
	}
	values, _ := found["value"].([]any)
	var out []api.Resource
	for _, v := range values {
		m, _ := v.(map[string]any)
		text := func(name string) string { t, _ := m[name].(string); return t }
		o := api.Resource{ID: text("id"), Name: text("name"), Type: text("type"),
			Location: text("location")}
		if !slices.Contains(made, strings.ToLower(o.ID)) && !slices.ContainsFunc(d.Resources,
			func(r *template.Resource) bool {
				return r.Wanted && strings.EqualFold(r.ID, o.ID)
			}) {
			out = append(out, o)
		}
	}
	return out, nil
}

// madeBy adds to ids, in lower case, what the deployment with an id has made, if it is one.
func (s *Service) madeBy(ctx context.Context, id string, ids []string, deep int) ([]string, error) {
	if deep == 0 || !strings.Contains(strings.ToLower(id), "/"+strings.ToLower(Type)+"/") {
		return ids, nil
	}
	rec, err := s.find(ctx, id)
	if err != nil && sandpool.ClassOf(err) == sandpool.NotFound {
		return ids, nil
	}
	if err != nil {
		return nil, err
	}
	for _, r := range rec.Shown.Properties.OutputResources {
		ids = append(ids, strings.ToLower(r.ID))
		if ids, err = s.madeBy(ctx, r.ID, ids, deep-1); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// change compares what the template wants of a resource with what there is.
func (s *Service) change(ctx context.Context, rec *record, d *template.Deployment,
	r *template.Resource) (api.Change, error) {
	after, err := d.Body(r, true)
	if err != nil {
		return api.Change{}, err
	}
	after = maps.Clone(after)
	after["id"], after["name"], after["type"],
		after["apiVersion"] = r.ID, r.Name, r.Type, r.APIVersion
	out := api.Change{ResourceID: r.ID, ChangeType: "Create", After: after}
	before, err := s.send(ctx, rec.Base, http.MethodGet, r.ID, r.APIVersion, nil)
	var refusal *refused
	switch {
	case errors.As(err, &refusal) && refusal.status == http.StatusNotFound:
		return out, nil
	case err != nil:
		return out, outward(err)
	}
	out.Before, out.ChangeType = before, "NoChange"
	for _, part := range []string{"location", "tags", "properties", "identity"} {
		if want, ok := after[part]; ok {
			out.Delta = append(out.Delta, differences(part, before[part], want)...)
		}
	}
	if len(out.Delta) > 0 {
		out.ChangeType = "Modify"
	}
	return out, nil
}

// differences lists what want says otherwise than have. What is not wanted is left alone by a PUT
// of session pools in defaults alone, and is no difference; secrets are not shown.
func differences(path string, have, want any) []api.PropertyChange {
	object, ok := want.(map[string]any)
	if !ok {
		if same(have, want) {
			return nil
		}
		kind := "Modify"
		if have == nil {
			kind = "Create"
		}
		return []api.PropertyChange{{Path: path, PropertyChangeType: kind, Before: have,
			After: want}}
	}
	current, _ := have.(map[string]any)
	var out []api.PropertyChange
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if strings.EqualFold(name, "secrets") || object[name] == nil {
			continue
		}
		var there any
		for k, v := range current {
			if strings.EqualFold(k, name) {
				there = v
			}
		}
		out = append(out, differences(path+"."+name, there, object[name])...)
	}
	return out
}

// same compares leaves: numbers by their value, and locations and enumerations in any case.
func same(a, b any) bool {
	if s, ok := a.(string); ok {
		t, ok := b.(string)
		return ok && strings.EqualFold(strings.ReplaceAll(s, " ", ""),
			strings.ReplaceAll(t, " ", ""))
	}
	if reflect.DeepEqual(a, b) {
		return true
	}
	return a != nil && b != nil && fmt.Sprint(a) == fmt.Sprint(b)
}
