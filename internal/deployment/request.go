package deployment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/pattern"
	"github.com/sandpool/sandpool/internal/template"
)

// maxBody is Azure's bound on a deployment's request, which must arrive within bodyTime.
const (
	maxBody  = 4 << 20
	bodyTime = time.Minute
)

var deploymentName = pattern.Lazy(`^[A-Za-z0-9_.()-]{1,64}$`)

// deployable are the types that deployments may hold, in lower case.
var deployable = map[string]bool{
	"microsoft.app/sessionpools":                           true,
	"microsoft.app/managedenvironments":                    true,
	"microsoft.managedidentity/userassignedidentities":     true,
	"microsoft.authorization/roleassignments":              true,
	"microsoft.app/sessionpools/providers/roleassignments": true,
	"microsoft.resources/deployments":                      true,
}

// request reads a deployment's request as JSON.
func request(w http.ResponseWriter, r *http.Request) (json.RawMessage, error) {
	body, err := arm.Body(w, r)
	if err != nil {
		return nil, err
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(bodyTime)) // requests from within have none
	text, err := io.ReadAll(http.MaxBytesReader(w, body, maxBody))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, sandpool.Errorf(sandpool.Invalid, "InvalidRequestContent", "",
			"The request body came too slowly; send it without pauses.")
	}
	if err != nil {
		return nil, err
	}
	_ = control.SetReadDeadline(time.Time{})
	return template.Clean(text)
}

// deployer is the object id of the principal in ctx, as its tokens have it.
func deployer(ctx context.Context) string {
	who, _ := auth.FromContext(ctx)
	_, id, _ := strings.Cut(who.Subject, ":")
	return id
}

// plan evaluates the request of rec for the principal in ctx. With deployed set, expressions may
// refer to resources.
func (s *Service) plan(ctx context.Context, rec *record,
	deployed bool) (*template.Deployment, api.DeploymentRequest,
	error) {
	var a api.DeploymentRequest
	dec := json.NewDecoder(strings.NewReader(string(rec.Request)))
	dec.UseNumber()
	if err := dec.Decode(&a); err != nil {
		return nil, a, sandpool.Errorf(sandpool.Invalid, "InvalidRequestContent", "properties",
			"The request is not that of a deployment: %v.", err)
	}
	switch {
	case a.Properties.TemplateLink != nil:
		return nil, a, sandpool.Errorf(sandpool.Unsupported, "TemplateLinkNotSupported",
			"templateLink",
			"This server fetches no templates. Send the template itself in properties.template.")
	case a.Properties.Mode == "":
		a.Properties.Mode = "Incremental"
	case strings.EqualFold(a.Properties.Mode, "Incremental"):
		a.Properties.Mode = "Incremental"
	case strings.EqualFold(a.Properties.Mode, "Complete"):
		a.Properties.Mode = "Complete"
	default:
		return nil, a, sandpool.Errorf(sandpool.Invalid, "InvalidDeploymentMode", "mode",
			"The mode is %.60q; use Incremental or Complete.", a.Properties.Mode)
	}
	parts := strings.Split(rec.Shown.ID, "/")
	group, err := s.send(ctx, rec.Base, http.MethodGet, strings.Join(parts[:5], "/"),
		"2024-11-01", nil)
	if err != nil {
		return nil, a, outward(err)
	}
	began, err := time.Parse(time.RFC3339Nano, rec.Shown.Properties.Timestamp)
	if err != nil {
		return nil, a, err
	}
	in := template.Input{Template: template.Numbers(a.Properties.Template),
		Parameters: template.Numbers(a.Properties.Parameters),
		Name:       rec.Shown.Name, Mode: a.Properties.Mode, Subscription: parts[2],
		ResourceGroup: parts[4], Tenant: sandpool.DefaultSubscription, Group: group,
		Deployer: deployer(ctx),
		BaseURL:  rec.Base, Time: began, Unique: rec.Shown.Properties.CorrelationID}
	if inner, ok := in.Parameters["parameters"].(map[string]any); ok &&
		in.Parameters["$schema"] != nil {
		in.Parameters = inner // the whole of a parameter file
	}
	if deployed {
		in.Get = func(id, version string) (map[string]any, error) {
			out, err := s.send(ctx, rec.Base, http.MethodGet, id, version, nil)
			return template.Numbers(out), err
		}
	}
	d, err := template.New(in)
	if err != nil {
		return nil, a, err
	}
	for _, r := range d.Resources {
		if !deployable[strings.ToLower(r.Type)] {
			return nil, a, sandpool.Errorf(sandpool.Invalid, "InvalidResourceType", r.Name,
				"The template has a resource of type %.100q, which this server does not have; it has "+
					"Microsoft.App/sessionPools, Microsoft.App/managedEnvironments, "+
					"Microsoft.ManagedIdentity/userAssignedIdentities, "+
					"Microsoft.Authorization/roleAssignments and Microsoft.Resources/deployments.",
				r.Type)
		}
	}
	return d, a, nil
}

// outward is err as callers of the deployment read it.
func outward(err error) error {
	if r, ok := err.(*refused); ok {
		class := sandpool.Invalid
		switch r.status {
		case http.StatusNotFound:
			class = sandpool.NotFound
		case http.StatusForbidden:
			class = sandpool.Denied
		}
		return &sandpool.Error{Class: class, Code: r.detail.Code, Target: r.detail.Target,
			Message: r.detail.Message}
	}
	return err
}

// fresh makes the record of the deployment that r asks for.
func (s *Service) fresh(w http.ResponseWriter, r *http.Request) (*record, error) {
	if !deploymentName().MatchString(r.PathValue("deployment")) {
		return nil, sandpool.Errorf(sandpool.Invalid, "InvalidDeploymentName", "deploymentName",
			"The deployment's name %.100q is not allowed. Use up to 64 letters, digits and . _ - ( ).",
			r.PathValue("deployment"))
	}
	deep, err := depth(r.Context())
	if err != nil {
		return nil, err
	}
	text, err := request(w, r)
	if err != nil {
		return nil, err
	}
	who, _ := auth.FromContext(r.Context())
	now := s.o.Now().UTC()
	id := idOf(r)
	in := ""
	if rec := outer(r.Context()); rec != nil {
		in = rec.Shown.Properties.CorrelationID
	}
	return &record{Outer: in, Owner: s.o.Owner, Subject: who.Subject, Base: s.o.BaseURL(r),
		Request: text, Depth: deep, Shown: api.Deployment{ID: id, Name: r.PathValue("deployment"),
			Type: Type, Properties: api.DeploymentProperties{ProvisioningState: accepted,
				CorrelationID: template.GUID(fmt.Sprintf("%s-%d", id, now.UnixNano())),
				Timestamp:     now.Format(time.RFC3339Nano), Providers: []map[string]any{},
				Dependencies: []map[string]any{}}}}, nil
}

// prepared makes the record of the deployment that r asks for, with the template evaluated as far
// as it can be, and every error of it found, and gives them to use. It waits until few others are
// evaluated, and use is to be short, too: it must not wait for the caller.
func (s *Service) prepared(w http.ResponseWriter, r *http.Request,
	use func(*record, *template.Deployment) error) error {
	rec, err := s.fresh(w, r)
	if err != nil {
		return err
	}
	select {
	case s.evaluating <- struct{}{}:
		defer func() { <-s.evaluating }()
	case <-r.Context().Done():
		return r.Context().Err()
	}
	d, a, err := s.plan(r.Context(), rec, false)
	if err != nil {
		return err
	}
	for _, res := range d.Resources {
		if !res.Wanted || res.Existing {
			continue
		}
		if _, err := d.Body(res, true); err != nil {
			return err
		}
	}
	rec.Shown.Tags, rec.Shown.Location = a.Tags, a.Location
	rec.Shown.Properties.Mode, rec.Shown.Properties.Parameters = a.Properties.Mode, d.Parameters()
	if err := fits("parameters and tags", rec.Shown); err != nil {
		return err
	}
	return use(rec, d)
}

// put begins a deployment.
func (s *Service) put(w http.ResponseWriter, r *http.Request) error {
	who, _ := auth.FromContext(r.Context())
	if _, ok := strings.CutPrefix(who.Subject, ownSubject); !ok {
		return sandpool.Errorf(sandpool.Unsupported, "DeploymentPrincipalNotSupported", "",
			"%q cannot deploy a template: a deployment goes on after its request, and what somebody "+
				"of a foreign issuer may do is known from their token alone. Deploy with a service "+
				"principal of this server, as 'sandpool identity create' makes them, or make the "+
				"resources one by one.", who.Name)
	}
	var rec *record
	err := s.prepared(w, r, func(made *record, _ *template.Deployment) error {
		rec = made
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	status := http.StatusCreated
	old, err := s.find(r.Context(), rec.Shown.ID)
	switch {
	case err == nil && !old.ended() && rec.joins(old):
		return arm.WriteJSON(w, http.StatusOK, old.Shown)
	case err == nil && !old.ended():
		return active(old)
	case err == nil:
		status = http.StatusOK
	case sandpool.ClassOf(err) != sandpool.NotFound:
		return err
	}
	if err := s.prune(r.Context(), rec); err != nil {
		return err
	}
	if err := s.admit(rec); err != nil {
		return err
	}
	key := strings.ToLower(rec.Shown.ID)
	if err := s.keep(r.Context(), rec); err != nil {
		delete(s.active, key)
		return err
	}
	select {
	case s.queue <- rec.Shown.ID:
	default:
		delete(s.active, key)
		_ = s.o.Documents.DeleteDocument(context.WithoutCancel(r.Context()), kind, key)
		return sandpool.Errorf(sandpool.Unavailable, "TooManyDeployments", "",
			"Too many deployments wait. Try again.")
	}
	w.Header().Set("Azure-AsyncOperation", fmt.Sprintf("%s%s/operationStatuses/%s?%s", rec.Base,
		rec.Shown.ID, rec.Shown.Properties.CorrelationID, r.URL.RawQuery))
	w.Header().Set("Retry-After", "1")
	return arm.WriteJSON(w, status, rec.Shown)
}

// validate answers what put would refuse at once.
func (s *Service) validate(w http.ResponseWriter, r *http.Request) error {
	var rec *record
	err := s.prepared(w, r, func(made *record, d *template.Deployment) error {
		rec = made
		p := &rec.Shown.Properties
		p.ProvisioningState, p.Duration = api.OperationSucceeded, "PT0S"
		for _, res := range d.Resources {
			if res.Wanted && !res.Existing {
				p.ValidatedResources = append(p.ValidatedResources, api.ResourceRef{ID: res.ID})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return arm.WriteJSON(w, http.StatusOK, rec.Shown)
}
