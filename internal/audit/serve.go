package audit

import (
	"context"
	"net/http"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
)

// The bounds of a question.
const (
	maxRecords = 1000
	// maxWait is below the idle time of common proxies.
	maxWait = 30
)

// Register serves the log on mux, for those who may read it.
func (l *Log) Register(handle func(pattern string,
	fn func(http.ResponseWriter, *http.Request) error)) {
	handle("GET /sandpool/audit", l.list)
	handle("GET /sandpool/audit/verification", l.verification)
}

func (l *Log) list(w http.ResponseWriter, r *http.Request) error {
	if err := auth.Require(r.Context(), auth.ReadAudit, sandpool.Scope{}); err != nil {
		return err
	}
	q, wait, err := question(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	var out api.AuditRecords
	for {
		if out.Value, out.Next, err = l.Read(r.Context(), q); err != nil {
			return err
		}
		if len(out.Value) > 0 || ctx.Err() != nil {
			break
		}
		l.Wait(ctx, out.Next)
		q.After = out.Next
	}
	if out.Value == nil {
		out.Value = []api.AuditRecord{}
	}
	return arm.WriteJSON(w, http.StatusOK, out)
}

// question reads what is asked for, and how long to wait for it.
func question(r *http.Request) (Query, time.Duration, error) {
	values := r.URL.Query()
	q := Query{Who: values.Get(api.WhoParameter), On: values.Get(api.OnParameter),
		Outcome: values.Get(api.OutcomeParameter)}
	switch q.Outcome {
	case "", api.AuditDone, api.AuditRefused, api.AuditFailed:
	default:
		return q, 0, arm.WrongParameter(api.OutcomeParameter, q.Outcome, "done, refused or failed")
	}
	query := arm.Query{Raw: r.URL.RawQuery}
	var err error
	if q.After, err = query.Number(api.AfterParameter, 0, 0, 1<<53); err != nil {
		return q, 0, err
	}
	limit, err := query.Number(api.LimitParameter, maxRecords, 1, maxRecords)
	if err != nil {
		return q, 0, err
	}
	q.Limit = int(limit)
	wait, err := query.Number(api.WaitParameter, 0, 0, maxWait)
	if err != nil {
		return q, 0, err
	}
	if q.Since, err = query.Time(api.SinceParameter); err != nil {
		return q, 0, err
	}
	q.Until, err = query.Time(api.UntilParameter)
	return q, time.Duration(wait) * time.Second, err
}

func (l *Log) verification(w http.ResponseWriter, r *http.Request) error {
	if err := auth.Require(r.Context(), auth.ReadAudit, sandpool.Scope{}); err != nil {
		return err
	}
	v, err := l.Verify()
	if err != nil {
		return err
	}
	return arm.WriteJSON(w, http.StatusOK, api.AuditVerification{Records: v.Records, First: v.First,
		Last: v.Last, Head: v.Head.String(), Fault: v.Fault})
}
