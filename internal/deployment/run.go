package deployment

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/template"
)

// start runs a deployment that was just asked for.
func (s *Service) start(ctx context.Context, id string) error {
	rec, err := s.find(ctx, id)
	if err != nil {
		if sandpool.ClassOf(err) != sandpool.NotFound { // otherwise its group was deleted meanwhile
			s.log.Error("a deployment cannot be read", "deployment", id, "error", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.active, strings.ToLower(id))
		return nil
	}
	return s.resume(ctx, rec)
}

// resume runs rec, from its beginning. Its error is one of the store's; what becomes of the
// deployment is in the record.
func (s *Service) resume(ctx context.Context, rec *record) error {
	one, cancel := context.WithCancel(ctx)
	defer cancel()
	key := strings.ToLower(rec.Shown.ID)
	s.mu.Lock()
	s.cancels[key] = cancel
	s.mu.Unlock()
	rec.again()
	err := s.keep(ctx, rec)
	if err == nil {
		err = s.guarded(one, rec)
	}
	if ctx.Err() != nil {
		return nil // the server stops; the next one goes on
	}
	p := &rec.Shown.Properties
	switch {
	case err == nil:
		p.ProvisioningState = api.OperationSucceeded
	case one.Err() != nil:
		p.ProvisioningState = api.OperationCanceled
		p.Error = &api.ErrorDetail{Code: "DeploymentCanceled",
			Message: "The deployment was canceled.",
			Details: []api.ErrorDetail{}}
	default:
		p.ProvisioningState = api.OperationFailed
		p.Error = &api.ErrorDetail{Code: "DeploymentFailed", Target: rec.Shown.ID,
			Message: "A resource of the deployment could not be made; the details say which.",
			Details: []api.ErrorDetail{detailOf(err)}}
	}
	for i := range rec.Operations { // those that were cut off
		if op := &rec.Operations[i].Properties; op.ProvisioningState == running {
			op.ProvisioningState = p.ProvisioningState
		}
	}
	began, _ := time.Parse(time.RFC3339Nano, p.Timestamp)
	p.Duration = fmt.Sprintf("PT%.3fS", s.o.Now().Sub(began).Seconds())
	rec.Request = nil
	// One step: whoever reads that it has ended may begin another one of the same name.
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cancels, key)
	delete(s.active, key)
	if err := s.keepOn(ctx, rec); err != nil && sandpool.ClassOf(err) != sandpool.NotFound {
		s.log.Error("a deployment was not written down", "deployment", rec.Shown.ID, "error", err)
	}
	return nil
}

// guarded is deploy. A panic must not end the server, which would run the deployment again at its
// next start.
func (s *Service) guarded(ctx context.Context, rec *record) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		var known *sandpool.Error
		var answered *refused
		if err != nil && ctx.Err() == nil && !errors.As(err, &known) && !errors.As(err, &answered) {
			s.log.Error("a deployment met an error", "deployment", rec.Shown.ID, "error", err)
		}
	}()
	return s.deploy(ctx, rec)
}

// detailOf is err as deployments show it.
func detailOf(err error) api.ErrorDetail {
	var r *refused
	var e *sandpool.Error
	switch {
	case errors.As(err, &r):
		return r.detail
	case errors.As(err, &e):
		return api.ErrorDetail{Code: e.Code, Message: e.Message, Target: e.Target,
			Details: []api.ErrorDetail{}}
	}
	return api.ErrorDetail{Code: "InternalServerError", Details: []api.ErrorDetail{},
		Message: "The server met an error."}
}

// ownSubject begins the subjects of those who can be looked up after their request.
const ownSubject = "token:"

// as returns ctx with whoever asked for rec, and what they may do now. It is called before each
// change: one who was revoked meanwhile makes no more of them.
func (s *Service) as(ctx context.Context, rec *record) (context.Context, error) {
	id, ok := strings.CutPrefix(rec.Subject, ownSubject)
	if !ok {
		return nil, sandpool.Errorf(sandpool.Denied, "DeploymentInterrupted", "",
			"Whoever asked for the deployment cannot be looked up any more. Deploy it again.")
	}
	who, err := s.o.Holder(ctx, id)
	if err != nil {
		return nil, err
	}
	return auth.WithPrincipal(ctx, who), nil
}

// deploy does what rec asks for.
func (s *Service) deploy(ctx context.Context, rec *record) error {
	ctx, err := s.as(within(ctx, rec), rec)
	if err != nil {
		return err
	}
	d, a, err := s.plan(ctx, rec, true)
	if err != nil {
		return err
	}
	w := &walk{s: s, rec: rec, d: d, on: make([]bool, len(d.Resources))}
	for i := range d.Resources {
		if err := w.deploy(ctx, i); err != nil {
			return err
		}
	}
	if a.Properties.Mode == "Complete" {
		if err := w.deleteRest(ctx); err != nil {
			return err
		}
	}
	if _, err := s.as(ctx, rec); err != nil {
		return err
	}
	outputs, err := d.Outputs()
	if err != nil {
		return err
	}
	if err := fits("outputs", outputs); err != nil {
		return err
	}
	rec.Shown.Properties.Outputs = outputs
	return nil
}

// walk deploys the resources of one template, each after those that it needs.
type walk struct {
	s   *Service
	rec *record
	d   *template.Deployment
	on  []bool // those that are on the way, to find circles
}

func (w *walk) deploy(ctx context.Context, i int) error {
	r := w.d.Resources[i]
	switch {
	case r.Done || !r.Wanted || r.Existing:
		return ctx.Err()
	case w.on[i]:
		return template.Circular(r)
	}
	w.on[i] = true
	for _, j := range r.After {
		if err := w.deploy(ctx, j); err != nil {
			return err
		}
	}
	var body map[string]any
	for {
		var err error
		var needs *template.Needs
		body, err = w.d.Body(r, false)
		if errors.As(err, &needs) {
			if err := w.deploy(ctx, needs.Index); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		break
	}
	ctx, err := w.s.as(ctx, w.rec)
	if err != nil {
		return err
	}
	op, err := w.begin(ctx, create, r.ID, r.Type, r.Name)
	if err != nil {
		return err
	}
	err = w.put(ctx, r, body)
	if err == nil {
		r.Done = true
		w.rec.Shown.Properties.OutputResources = append(w.rec.Shown.Properties.OutputResources,
			api.ResourceRef{ID: r.ID})
	}
	return errors.Join(err, w.end(ctx, op, err))
}

// deleting is the state of a pool that is on its way out.
const deleting = "Deleting"

// put sends r and waits until it is there.
func (w *walk) put(ctx context.Context, r *template.Resource, body map[string]any) error {
	got, err := w.s.send(ctx, w.rec.Base, http.MethodPut, r.ID, r.APIVersion, body)
	if err != nil {
		return err
	}
	tick := time.NewTicker(w.s.o.Poll)
	defer tick.Stop()
	for {
		properties, _ := got["properties"].(map[string]any)
		state, _ := properties["provisioningState"].(string)
		switch state {
		case "", api.OperationSucceeded:
			return nil
		case api.OperationFailed, api.OperationCanceled, deleting:
			return failed(r, state, properties)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if got, err = w.s.send(ctx, w.rec.Base, http.MethodGet, r.ID, r.APIVersion,
			nil); err != nil {
			return err
		}
	}
}

func failed(r *template.Resource, state string, properties map[string]any) error {
	why := "."
	if own, ok := properties["sandpool"].(map[string]any); ok && own["problem"] != nil {
		why = fmt.Sprintf(": %v", own["problem"])
	}
	if inner, ok := properties["error"].(map[string]any); ok {
		why = fmt.Sprintf(": %v", inner["message"])
		if details, ok := inner["details"].([]any); ok && len(details) > 0 {
			if first, ok := details[0].(map[string]any); ok {
				why = fmt.Sprintf(": %v", first["message"])
			}
		}
	}
	return sandpool.Errorf(sandpool.Conflict, "ResourceDeploymentFailure", r.ID,
		"The resource %q ended as %s%s", r.Name, state, why)
}

// deleteRest deletes what is in the group and not in the template.
func (w *walk) deleteRest(ctx context.Context) error {
	others, err := w.s.others(ctx, w.rec, w.d)
	if err != nil {
		return err
	}
	for _, o := range w.cutOff(others) {
		ctx, err := w.s.as(ctx, w.rec)
		if err != nil {
			return err
		}
		op, err := w.begin(ctx, remove, o.ID, o.Type, o.Name)
		if err != nil {
			return err
		}
		if _, err = w.s.send(ctx, w.rec.Base, http.MethodDelete, o.ID, restVersion,
			nil); err == nil {
			err = w.gone(ctx, o.ID)
		}
		if err := errors.Join(err, w.end(ctx, op, err)); err != nil {
			return err
		}
	}
	return nil
}

// restVersion is the api-version by which what is not in a template is asked for and deleted.
const restVersion = "2025-07-01"

// gone waits until the deletion of a resource has ended: nothing is left of it, or somebody has
// made another one of its name.
func (w *walk) gone(ctx context.Context, id string) error {
	tick := time.NewTicker(w.s.o.Poll)
	defer tick.Stop()
	for {
		got, err := w.s.send(ctx, w.rec.Base, http.MethodGet, id, restVersion, nil)
		var answered *refused
		if errors.As(err, &answered) && answered.status == http.StatusNotFound {
			return nil
		}
		properties, _ := got["properties"].(map[string]any)
		if state, _ := properties["provisioningState"].(string); err != nil || state != deleting {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// cutOff adds to what is to be deleted what an earlier run was deleting when it was cut off. It may
// be gone, and its operation has not ended.
func (w *walk) cutOff(others []api.Resource) []api.Resource {
	for _, op := range w.rec.Operations {
		to := op.Properties.TargetResource
		if op.Properties.ProvisioningState == running && !slices.ContainsFunc(others,
			func(o api.Resource) bool { return strings.EqualFold(o.ID, to.ID) }) {
			others = append(others, api.Resource{ID: to.ID, Type: to.ResourceType,
				Name: to.ResourceName})
		}
	}
	return others
}
