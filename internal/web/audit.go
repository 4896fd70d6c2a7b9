package web

import (
	"context"
	"encoding/csv"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/client/sheet"
)

// maxShown bounds the records of the page. The file has more.
const (
	maxShown = 200
	maxFiled = 100_000
)

// auditView is the page of who changed what.
type auditView struct {
	Who, On, Outcome, Since string
	Records                 []api.AuditRecord // the newest first
	More                    bool              // there are older ones
	Query                   string            // leads to the file
	Verified                *api.AuditVerification
}

// periods are what the page can be asked for.
func periods() map[string]time.Duration {
	return map[string]time.Duration{"1h": time.Hour, "24h": 24 * time.Hour, "7d": 7 * 24 * time.Hour,
		"all": 0}
}

// auditQuestion reads what the page is asked for. An unknown period is a day.
func auditQuestion(a asked) (client.Audit, auditView) {
	q := a.URL.Query()
	v := auditView{Who: q.Get("who"), On: q.Get("on"), Outcome: q.Get("outcome"),
		Since: q.Get("since"), Query: a.URL.RawQuery}
	period, known := periods()[v.Since]
	if !known {
		v.Since, period = "24h", 24*time.Hour
	}
	ask := client.Audit{Who: v.Who, On: v.On, Outcome: v.Outcome}
	if period > 0 {
		ask.Since = time.Now().Add(-period)
	}
	return ask, v
}

// auditRecords returns the newest records, at most most, the oldest first, and whether there are
// older ones.
func auditRecords(ctx context.Context, a asked, ask client.Audit, most int) (
	out []api.AuditRecord, more bool, _ error) {
	for {
		page, err := a.api.Audit(ctx, ask)
		if err != nil {
			return nil, false, err
		}
		out = append(out, page.Value...)
		if over := len(out) - most; over > 0 {
			out, more = slices.Clone(out[over:]), true
		}
		if page.Next == ask.After {
			return out, more, nil
		}
		ask.After = page.Next
	}
}

func (w *Web) auditPage(ctx context.Context, a asked) (string, view, error) {
	v := view{Title: "Audit", Here: "audit"}
	ask, d := auditQuestion(a)
	var err error
	if d.Records, d.More, err = auditRecords(ctx, a, ask, maxShown); err != nil {
		return "", v, err
	}
	slices.Reverse(d.Records)
	if a.URL.Query().Has("verify") {
		found, err := a.api.VerifyAudit(ctx)
		if err != nil {
			return "", v, err
		}
		d.Verified = &found
	}
	v.Data = d
	return "audit", v, nil
}

// auditFile serves the records as comma-separated values.
func (w *Web) auditFile(rw http.ResponseWriter, r *http.Request) {
	a, ok := w.ask(rw, r)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	ask, _ := auditQuestion(a)
	records, _, err := auditRecords(ctx, a, ask, maxFiled)
	if err != nil {
		message, status := explain(err)
		w.show(rw, a, status, "error", view{Title: "Error", Error: message})
		return
	}
	rw.Header().Set("Content-Type", "text/csv; charset=utf-8")
	rw.Header().Set("Content-Disposition", `attachment; filename="audit.csv"`)
	out := csv.NewWriter(rw)
	rows := [][]string{{"seq", "time", "who", "name", "from", "action", "on", "outcome", "status",
		"code", "message", "trace", "before", "after"}}
	for _, r := range records {
		rows = append(rows, []string{strconv.FormatUint(r.Seq, 10), r.Time.Format(time.RFC3339Nano),
			r.Who, r.Name, r.From, r.Action, r.On, r.Outcome, strconv.Itoa(r.Status), r.Code,
			r.Message, r.Trace, string(r.Before), string(r.After)})
	}
	for _, row := range rows {
		for i := range row {
			row[i] = sheet.Cell(row[i])
		}
		_ = out.Write(row) // a reader that has gone does not matter
	}
	out.Flush()
}
