package deployment

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/template"
)

// What the operations of a deployment do to their resources.
const (
	create = "Create"
	remove = "Delete"
)

// again makes r ready to be run, for the first time or after a run was cut off. What that one put
// is put again, by the same operations. What it deleted is not there to be found again, so that its
// operations are kept, and with them those of which nobody knows whether they were heard.
func (r *record) again() {
	p := &r.Shown.Properties
	p.ProvisioningState, p.OutputResources = running, nil
	r.Operations = slices.DeleteFunc(r.Operations, func(op api.DeploymentOperation) bool {
		state := op.Properties.ProvisioningState
		return state != api.OperationSucceeded &&
			(state != running || op.Properties.ProvisioningOperation != remove)
	})
}

// begin writes down that an operation begins, and returns its place. A resource has one of a kind,
// however often the deployment is run.
func (w *walk) begin(ctx context.Context, what, id, kind, name string) (int, error) {
	op := template.GUID(w.rec.Shown.Properties.CorrelationID + "-" + what + "-" +
		strings.ToLower(id))
	next := api.DeploymentOperation{
		ID: w.rec.Shown.ID + "/operations/" + op, OperationID: op,
		Properties: api.DeploymentOperationProperties{ProvisioningOperation: what,
			ProvisioningState: running, Timestamp: w.s.o.Now().UTC().Format(time.RFC3339Nano),
			TargetResource: &api.TargetResource{ID: id, ResourceType: kind, ResourceName: name}}}
	n := slices.IndexFunc(w.rec.Operations, func(o api.DeploymentOperation) bool {
		return o.OperationID == op
	})
	if n < 0 {
		n = len(w.rec.Operations)
		w.rec.Operations = append(w.rec.Operations, next)
	}
	w.rec.Operations[n] = next
	return n, w.s.keepOn(ctx, w.rec)
}

// end writes down how an operation ended, unless the end of the server or of the deployment has cut
// it off.
func (w *walk) end(ctx context.Context, n int, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	p := &w.rec.Operations[n].Properties
	p.ProvisioningState, p.StatusCode = api.OperationSucceeded, "OK"
	if err != nil {
		p.ProvisioningState, p.StatusCode = api.OperationFailed, "BadRequest"
		p.StatusMessage = &api.ErrorBody{Error: detailOf(err)}
	}
	return w.s.keepOn(context.WithoutCancel(ctx), w.rec)
}

// joins reports whether what is asked for by r is old, which has not ended: a deployment within
// another one that was cut off and puts its resources again, while the inner one goes on as well.
func (r *record) joins(old *record) bool {
	return r.Outer != "" && r.Outer == old.Outer
}

// within returns ctx for what rec sends.
func within(ctx context.Context, rec *record) context.Context {
	return context.WithValue(ctx, nestedKey{}, rec)
}

// outer is the deployment that ctx is of; nil if it is of none.
func outer(ctx context.Context) *record {
	rec, _ := ctx.Value(nestedKey{}).(*record)
	return rec
}

type nestedKey struct{}
