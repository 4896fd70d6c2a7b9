package control

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
)

// retryAfter is how long callers wait between two looks at an operation. A
// pool is ready a few seconds after it was created.
const retryAfter = 2 * time.Second

// The kinds of operation.
const (
	putOperation    = "put"
	deleteOperation = "delete"
)

// operation is what an operation's id says: what was asked of which pool, and when.
type operation struct {
	kind  string
	pool  sandpool.PoolID
	start time.Time
}

// id returns the operation's name, from which parseOperation reads it again.
// The subscription is in the path already.
func (op operation) id() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(
		[]string{op.kind, op.pool.ResourceGroup, op.pool.Name,
			strconv.FormatInt(op.start.UnixNano(), 10)}, "/")))
}

func parseOperation(subscription, id string) (operation, error) {
	unknown := sandpool.Errorf(sandpool.NotFound, "OperationNotFound", "operationId",
		"There is no operation %q.", id)
	raw, err := base64.RawURLEncoding.DecodeString(id)
	parts := strings.Split(string(raw), "/")
	if err != nil || len(parts) != 4 || parts[0] != putOperation && parts[0] != deleteOperation {
		return operation{}, unknown
	}
	nanos, err := strconv.ParseInt(parts[3], 10, 64)
	op := operation{kind: parts[0], start: time.Unix(0, nanos),
		pool: sandpool.PoolID{Subscription: subscription, ResourceGroup: parts[1], Name: parts[2]}}
	if err != nil || parts[1] == "" || arm.CheckPoolID(op.pool) != nil {
		return operation{}, unknown
	}
	return op, nil
}

// operationURL is where an operation on p is found; what is
// containerappOperationStatuses or containerappOperationResults.
func (c *Control) operationURL(r *http.Request, p sandpool.Pool, kind, what string) string {
	op := operation{kind: kind, pool: p.ID, start: p.UpdatedAt}
	u := fmt.Sprintf("%s/subscriptions/%s/providers/Microsoft.App/locations/%s/%s/%s",
		c.o.BaseURL(r),
		p.ID.Subscription, url.PathEscape(sandpool.PlainLocation(p.Location)), what, op.id())
	if v := apiVersion(r); v != "" {
		u += "?api-version=" + url.QueryEscape(v)
	}
	return u
}

func (c *Control) setOperation(w http.ResponseWriter, r *http.Request, p sandpool.Pool,
	kind string) {
	w.Header().Set("Azure-AsyncOperation", c.operationURL(r, p, kind,
		"containerappOperationStatuses"))
	setRetry(w)
}

func (c *Control) setLocation(w http.ResponseWriter, r *http.Request, p sandpool.Pool,
	kind string) {
	w.Header().Set("Location", c.operationURL(r, p, kind, "containerappOperationResults"))
	setRetry(w)
}

func setRetry(w http.ResponseWriter) {
	w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
}

// look reads the operation of r and its present state. The pool is that of a finished put.
func (c *Control) look(r *http.Request) (api.Operation, sandpool.Pool, error) {
	op, err := parseOperation(r.PathValue("subscription"), r.PathValue("operation"))
	if err != nil {
		return api.Operation{}, sandpool.Pool{}, err
	}
	if err := auth.Require(r.Context(), auth.ReadPool, op.pool.Scope()); err != nil {
		return api.Operation{}, sandpool.Pool{}, err
	}
	p, err := c.pools.Pool(r.Context(), op.pool)
	gone := err != nil && sandpool.ClassOf(err) == sandpool.NotFound
	if err != nil && !gone {
		return api.Operation{}, sandpool.Pool{}, err
	}
	out := api.Operation{ID: r.URL.Path, Name: r.PathValue("operation"), StartTime: stamp(op.start)}
	if op.kind == deleteOperation {
		out.Status = deleteStatus(op, p, gone)
	} else {
		out.Status, out.Error = putStatus(shown(r.Context(), p), gone)
	}
	if out.Status != api.OperationInProgress {
		out.EndTime = stamp(later(op.start, p.SettledAt))
	}
	return out, p, nil
}

func putStatus(p sandpool.Pool, gone bool) (string, *api.ErrorDetail) {
	switch {
	case gone || p.State == sandpool.Deleting:
		return api.OperationCanceled, &api.ErrorDetail{Code: "OperationPreempted",
			Details: []api.ErrorDetail{},
			Message: "The session pool was deleted in the meantime."}
	case p.State == sandpool.Failed:
		return api.OperationFailed, &api.ErrorDetail{Code: "SessionPoolProvisioningFailed",
			Target:  p.ID.String(),
			Details: []api.ErrorDetail{}, Message: problemOf(p)}
	case p.State == sandpool.Succeeded:
		return api.OperationSucceeded, nil
	}
	return api.OperationInProgress, nil
}

func problemOf(p sandpool.Pool) string {
	if p.Problem != "" {
		return p.Problem
	}
	return "The session pool could not be made ready."
}

// deleteStatus says how a deletion stands. A pool that was made after the
// deletion began is another one of the same name.
func deleteStatus(op operation, p sandpool.Pool, gone bool) string {
	switch {
	case gone || p.CreatedAt.After(op.start):
		return api.OperationSucceeded
	case p.State == sandpool.Deleting:
		return api.OperationInProgress
	}
	return api.OperationCanceled
}

func (c *Control) operationStatus(w http.ResponseWriter, r *http.Request) error {
	op, _, err := c.look(r)
	if err != nil {
		return err
	}
	if op.Status == api.OperationInProgress {
		setRetry(w)
	}
	return arm.WriteJSON(w, http.StatusOK, op)
}

// operationResult answers 202 until the operation has ended, then with what it
// led to: the pool, nothing, or an error.
func (c *Control) operationResult(w http.ResponseWriter, r *http.Request) error {
	op, p, err := c.look(r)
	if err != nil {
		return err
	}
	switch {
	case op.Status == api.OperationInProgress:
		w.Header().Set("Location", c.o.BaseURL(r)+r.URL.RequestURI())
		setRetry(w)
		w.WriteHeader(http.StatusAccepted)
		return nil
	case op.Error != nil:
		return sandpool.Errorf(sandpool.Conflict, op.Error.Code, op.Error.Target, "%s",
			op.Error.Message)
	case op.Status == api.OperationCanceled:
		return sandpool.Errorf(sandpool.Conflict, "OperationCanceled", p.ID.String(),
			"The session pool is no longer being deleted.")
	}
	if parsed, err := parseOperation(r.PathValue("subscription"), op.Name); err == nil &&
		parsed.kind == deleteOperation {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return arm.WriteJSON(w, http.StatusOK, c.render(p, r))
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// stamp writes a time as the API does, and the zero time as "".
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
