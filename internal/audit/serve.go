package audit

import (
	"context"
	"net/http"
	"strconv"
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
		return q, 0, wrong(api.OutcomeParameter, q.Outcome, "done, refused or failed")
	}
	number := func(name string, fallback, most uint64) (uint64, error) {
		s := values.Get(name)
		if s == "" {
			return fallback, nil
		}
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil || n > most {
			return 0, wrong(name, s, "a whole number from 0 to "+strconv.FormatUint(most, 10))
		}
		return n, nil
	}
	var err error
	if q.After, err = number(api.AfterParameter, 0, 1<<53); err != nil {
		return q, 0, err
	}
	limit, err := number(api.LimitParameter, maxRecords, maxRecords)
	if err == nil && limit == 0 {
		err = wrong(api.LimitParameter, "0", "a whole number from 1 to "+strconv.Itoa(maxRecords))
	}
	if err != nil {
		return q, 0, err
	}
	q.Limit = int(limit)
	wait, err := number(api.WaitParameter, 0, maxWait)
	if err != nil {
		return q, 0, err
	}
	for name, into := range map[string]*time.Time{api.SinceParameter: &q.Since,
		api.UntilParameter: &q.Until} {
		if s := values.Get(name); s != "" {
			if *into, err = time.Parse(time.RFC3339, s); err != nil {
				return q, 0, wrong(name, s, "a time such as 2030-01-31T00:00:00Z")
			}
		}
	}
	return q, time.Duration(wait) * time.Second, nil
}

func wrong(name, value, fix string) error {
	return sandpool.Errorf(sandpool.Invalid, "InvalidParameter", name, "%s is %.60q; use %s.", name,
		value, fix)
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
