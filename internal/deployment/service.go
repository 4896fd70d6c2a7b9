package deployment

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/store"
)

// kind is the kind of the documents of deployments. They are sealed, as a request has secrets.
const kind = store.Deployment

// Type is the resource type of deployments.
const Type = "Microsoft.Resources/deployments"

// The states of a deployment beside those of operations.
const (
	accepted = "Accepted"
	running  = "Running"
)

const (
	groupPath = "/subscriptions/{subscription}/resourceGroups/{resourceGroup}"
	listPath  = groupPath + "/providers/Microsoft.Resources/deployments"
	path      = listPath + "/{deployment}"
)

// Options are what the server chooses.
type Options struct {
	// Documents keeps deployments. Required.
	Documents store.Documents
	// Holder returns the principal of a token by its id, for deployments that a restart cut off.
	// Required.
	Holder func(ctx context.Context, id string) (auth.Principal, error)
	// BaseURL is how the caller of r reaches this server; nil means arm.BaseURL.
	BaseURL func(r *http.Request) string
	// Owner tells this server from others on the same store.
	Owner string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Poll is how long to wait between two looks at a resource; zero means 200 ms.
	Poll time.Duration
}

// record is a deployment as it is kept.
type record struct {
	Shown      api.Deployment
	Operations []api.DeploymentOperation
	// Owner is the server that runs it, Subject whoever asked for it, and Base the address by which
	// they reached the server.
	Owner, Subject, Base string
	// Depth is 1, and one more for each deployment that it is within.
	Depth int
	// Outer is the correlation id of the deployment that it is within, if there is one.
	Outer string `json:",omitempty"`
	// Request is what was asked for, until the deployment has ended.
	Request json.RawMessage `json:",omitempty"`
}

func (r *record) ended() bool {
	s := r.Shown.Properties.ProvisioningState
	return s != accepted && s != running
}

// Service serves deployments.
type Service struct {
	log    *slog.Logger
	o      Options
	planes http.Handler
	queue  chan string // ids of deployments to run

	// mu guards the fields below it, and is held while a record is read, changed and written.
	mu      sync.Mutex
	cancels map[string]context.CancelFunc // of those that run, by key
	active  map[string]load               // those that have not ended, by key

	evaluating chan struct{} // has a place for each request whose template is evaluated
}

// New returns a Service. Through must be called before it serves.
func New(log *slog.Logger, o Options) (*Service, error) {
	if log == nil || o.Documents == nil || o.Holder == nil {
		return nil, errors.New("deployment: a log, documents and holders of tokens are required")
	}
	if o.BaseURL == nil {
		o.BaseURL = arm.BaseURL
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Poll == 0 {
		o.Poll = 200 * time.Millisecond
	}
	return &Service{log: log, o: o, queue: make(chan string, 1000),
		cancels: map[string]context.CancelFunc{}, active: map[string]load{},
		evaluating: make(chan struct{}, maxEvaluations)}, nil
}

// Through says which handler resources are sent to: the control plane, behind everything but the
// check of tokens.
func (s *Service) Through(planes http.Handler) { s.planes = planes }

// Register adds the routes.
func (s *Service) Register(handle func(pattern string,
	fn func(http.ResponseWriter, *http.Request) error)) {
	handle("GET "+listPath, s.reading(s.list))
	handle("GET "+path, s.reading(s.get))
	handle("HEAD "+path, s.reading(s.get))
	handle("GET "+path+"/operations", s.reading(s.operations))
	handle("GET "+path+"/operations/{operation}", s.reading(s.operation))
	// az lists operations where deployments were before they had a provider.
	handle("GET "+groupPath+"/deployments/{deployment}/operations", s.reading(s.operations))
	handle("GET "+path+"/operationStatuses/{operation}", s.reading(s.status))
	handle("POST "+path+"/exportTemplate", s.reading(noTemplate))
	handle("PUT "+path, s.writing(s.put))
	handle("POST "+path+"/validate", s.writing(s.validate))
	handle("POST "+path+"/whatIf", s.writing(s.whatIf))
	handle("POST "+path+"/cancel", s.writing(s.cancel))
	handle("DELETE "+path, s.writing(s.delete))
}

type handler = func(http.ResponseWriter, *http.Request) error

func allowed(a auth.Action, fn handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := arm.CheckScope(r.PathValue("subscription"),
			r.PathValue("resourceGroup")); err != nil {
			return err
		}
		if err := auth.Require(r.Context(),
			a, sandpool.Scope{Subscription: r.PathValue("subscription"),
				ResourceGroup: r.PathValue("resourceGroup")}); err != nil {
			return err
		}
		return fn(w, r)
	}
}

func (s *Service) reading(fn handler) handler { return allowed(auth.ReadGroup, fn) }
func (s *Service) writing(fn handler) handler { return allowed(auth.WriteGroup, fn) }

// Run runs deployments until ctx ends, those first that an earlier run of the server left.
func (s *Service) Run(ctx context.Context) error {
	left, err := s.o.Documents.Documents(ctx, kind, "")
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range left {
		rec, err := read(d)
		if err != nil { // one that nobody can read must not stop the server
			s.log.Error("a deployment cannot be read", "deployment", d.Key, "error", err)
			continue
		}
		if !rec.ended() && rec.Owner == s.o.Owner {
			s.mu.Lock()
			s.active[d.Key] = load{group: groupPrefix(rec), bytes: len(rec.Request)}
			s.mu.Unlock()
			g.Go(func() error { return s.resume(ctx, rec) })
		}
	}
	for {
		select {
		case id := <-s.queue:
			g.Go(func() error { return s.start(ctx, id) })
		case <-ctx.Done():
			return g.Wait()
		}
	}
}

func read(d store.Document) (*record, error) {
	var rec record
	if err := json.Unmarshal([]byte(d.Text), &rec); err != nil {
		return nil, err
	}
	return &rec, nil
}

func (s *Service) find(ctx context.Context, id string) (*record, error) {
	d, err := s.o.Documents.Document(ctx, kind, strings.ToLower(id))
	if err != nil && sandpool.ClassOf(err) == sandpool.NotFound {
		return nil, sandpool.Errorf(sandpool.NotFound, "DeploymentNotFound", "deploymentName",
			"There is no deployment %.100q.", id[strings.LastIndexByte(id, '/')+1:])
	}
	if err != nil {
		return nil, err
	}
	return read(d)
}

func (s *Service) keep(ctx context.Context, rec *record) error {
	text, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return s.o.Documents.PutDocument(ctx, store.Document{Kind: kind,
		Key: strings.ToLower(rec.Shown.ID), Text: string(text)})
}

// keepOn is keep for a deployment that was kept before. One that is there no more went with its
// resource group, which it must not fill again.
func (s *Service) keepOn(ctx context.Context, rec *record) error {
	if _, err := s.find(ctx, rec.Shown.ID); err != nil {
		return err
	}
	return s.keep(ctx, rec)
}

func idOf(r *http.Request) string {
	return "/subscriptions/" + r.PathValue("subscription") + "/resourceGroups/" +
		r.PathValue("resourceGroup") + "/providers/" + Type + "/" + r.PathValue("deployment")
}

func (s *Service) list(w http.ResponseWriter, r *http.Request) error {
	prefix := strings.ToLower(strings.TrimSuffix(idOf(r), r.PathValue("deployment")))
	docs, err := s.o.Documents.Documents(r.Context(), kind, prefix)
	if err != nil {
		return err
	}
	out := api.List[api.Deployment]{Value: []api.Deployment{}}
	for _, d := range docs {
		rec, err := read(d)
		if err != nil {
			return err
		}
		out.Value = append(out.Value, rec.Shown)
	}
	return arm.WriteJSON(w, http.StatusOK, out)
}

func (s *Service) get(w http.ResponseWriter, r *http.Request) error {
	rec, err := s.find(r.Context(), idOf(r))
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return arm.WriteJSON(w, http.StatusOK, rec.Shown)
}

func (s *Service) operations(w http.ResponseWriter, r *http.Request) error {
	rec, err := s.find(r.Context(), idOf(r))
	if err != nil {
		return err
	}
	if rec.Operations == nil {
		rec.Operations = []api.DeploymentOperation{}
	}
	return arm.WriteJSON(w, http.StatusOK, api.List[api.DeploymentOperation]{Value: rec.Operations})
}

func (s *Service) operation(w http.ResponseWriter, r *http.Request) error {
	rec, err := s.find(r.Context(), idOf(r))
	if err != nil {
		return err
	}
	for _, op := range rec.Operations {
		if op.OperationID == r.PathValue("operation") {
			return arm.WriteJSON(w, http.StatusOK, op)
		}
	}
	return sandpool.Errorf(sandpool.NotFound, "DeploymentOperationNotFound", "operationId",
		"The deployment has no operation %.60q.", r.PathValue("operation"))
}

// status is the state of a deployment as an operation. The operation is the deployment's
// correlation id, so that of an earlier deployment of the same name is not found.
func (s *Service) status(w http.ResponseWriter, r *http.Request) error {
	rec, err := s.find(r.Context(), idOf(r))
	if err != nil {
		return err
	}
	p := rec.Shown.Properties
	if p.CorrelationID != r.PathValue("operation") {
		return sandpool.Errorf(sandpool.NotFound, "OperationNotFound", "operationId",
			"There is no operation %.60q.", r.PathValue("operation"))
	}
	if !rec.ended() {
		w.Header().Set("Retry-After", "1")
	}
	return arm.WriteJSON(w, http.StatusOK, api.Operation{ID: r.URL.Path, Name: p.CorrelationID,
		Status: p.ProvisioningState, StartTime: p.Timestamp, Error: p.Error})
}

func noTemplate(http.ResponseWriter, *http.Request) error {
	return sandpool.Errorf(sandpool.Unsupported, "ExportTemplateNotSupported", "",
		"This server keeps no templates of deployments that have ended.")
}

func (s *Service) cancel(w http.ResponseWriter, r *http.Request) error {
	rec, err := s.find(r.Context(), idOf(r))
	if err != nil {
		return err
	}
	s.mu.Lock()
	cancel := s.cancels[strings.ToLower(rec.Shown.ID)]
	s.mu.Unlock()
	if rec.ended() || cancel == nil {
		return sandpool.Errorf(sandpool.Conflict, "DeploymentCannotBeCanceled", "deploymentName",
			"The deployment %q is %s and cannot be canceled.", rec.Shown.Name,
			rec.Shown.Properties.ProvisioningState)
	}
	cancel()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Service) delete(w http.ResponseWriter, r *http.Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, err := s.find(r.Context(), idOf(r))
	if err != nil && sandpool.ClassOf(err) != sandpool.NotFound {
		return err
	}
	if err == nil && !rec.ended() {
		return active(rec)
	}
	if err := s.o.Documents.DeleteDocument(r.Context(), kind,
		strings.ToLower(idOf(r))); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func active(rec *record) error {
	return sandpool.Errorf(sandpool.Conflict, "DeploymentActive", "deploymentName",
		"The deployment %q is running since %s. Wait for its end, or cancel it.", rec.Shown.Name,
		rec.Shown.Properties.Timestamp)
}
