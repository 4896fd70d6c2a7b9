package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// Logs says which lines SessionLogs reads.
type Logs struct {
	// Follow waits for further lines until the sandbox ends.
	Follow bool
	// After is api.LogLine.Next of the last line that is known; empty means none.
	After string
	// Sandbox names a sandbox of the pool, which need be no session's: the identifier may then be
	// empty, for callers who may see all sessions of the pool.
	Sandbox string
}

// longestLine bounds one line of a stream of logs: 16 KiB of text, escaped, with its place.
const longestLine = 1 << 20

// SessionLogs calls each for every line that the session's sandbox has written to its standard
// output and error, as far as the server still has it, which it has for a while after the session's
// end. It asks for no new session. ctx alone bounds how long it follows. The text is what hostile
// code may have written: a terminal must not see it as it is.
func (c *Client) SessionLogs(ctx context.Context, pool, identifier string, l Logs,
	each func(api.LogLine) error) error {
	query := url.Values{"api-version": {dataVersion},
		api.FollowParameter: {strconv.FormatBool(l.Follow)}}
	for name, value := range map[string]string{"identifier": identifier,
		api.AfterParameter: l.After, api.SandboxParameter: l.Sandbox} {
		if value != "" {
			query.Set(name, value)
		}
	}
	r := call{method: http.MethodGet, path: c.data(pool, management, "logs"), query: query,
		header: http.Header{"Accept": {"application/x-ndjson"}}}
	return readLines(ctx, c, r, each)
}

// Events asks what has happened.
type Events struct {
	// Pool is whose events they are; empty means those of the server with all its pools, for
	// administrators.
	Pool string
	// After is api.Events.Next of the last answer; zero means the oldest that are kept.
	After uint64
	// Wait is how long to wait for one if there is none; at most 30 s, in whole seconds.
	Wait time.Duration
}

// Events returns what has happened to a pool, or to the server, as far as it is kept, the oldest
// first.
func (c *Client) Events(ctx context.Context, e Events) (api.Events, error) {
	query := controlQuery()
	query.Set(api.AfterParameter, strconv.FormatUint(e.After, 10))
	query.Set(api.WaitParameter, strconv.Itoa(int(e.Wait/time.Second)))
	path := "/sandpool/events"
	if e.Pool != "" {
		path = c.control(e.Pool, "events")
	}
	var page api.Events
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: path, query: query,
		timeout: callTimeout + e.Wait}, &page)
	return page, err
}

// Audit asks who changed what.
type Audit struct {
	// After is api.AuditRecords.Next of the last answer; zero means the oldest that is kept.
	After uint64
	// Wait is how long to wait for a record if there is none; at most 30 s, in whole seconds.
	Wait time.Duration
	// Who is a principal's subject or name, On the beginning of a path, Outcome one of
	// api.AuditDone, api.AuditRefused and api.AuditFailed. Empty means all.
	Who, On, Outcome string
	// Since is when the records begin; zero means the oldest.
	Since time.Time
}

// Audit returns records of the audit log, the oldest first.
func (c *Client) Audit(ctx context.Context, a Audit) (api.AuditRecords, error) {
	query := controlQuery()
	query.Set(api.AfterParameter, strconv.FormatUint(a.After, 10))
	query.Set(api.WaitParameter, strconv.Itoa(int(a.Wait/time.Second)))
	for name, value := range map[string]string{api.WhoParameter: a.Who, api.OnParameter: a.On,
		api.OutcomeParameter: a.Outcome} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if !a.Since.IsZero() {
		query.Set(api.SinceParameter, a.Since.UTC().Format(time.RFC3339))
	}
	var page api.AuditRecords
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: "/sandpool/audit", query: query,
		timeout: callTimeout + a.Wait}, &page)
	return page, err
}

// VerifyAudit has the server check its audit log.
func (c *Client) VerifyAudit(ctx context.Context) (api.AuditVerification, error) {
	var v api.AuditVerification
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: "/sandpool/audit/verification",
		query: controlQuery()}, &v)
	return v, err
}

// Usage asks what sessions have used.
type Usage struct {
	// Pool is the name of a pool; Scope is a wider one in its place, the resource id of a resource
	// group or a subscription. Empty means all that the caller may see.
	Pool, Scope string
	// Principal is the subject of who began the sessions, Session their identifier, and
	// IdentifierHash what a record has in its place. Empty means all.
	Principal, Session, IdentifierHash string
	// Since and Until bound the time; zero means no bound.
	Since, Until time.Time
	// By is what totals are told apart by: api.UsageByPool, api.UsageByPrincipal and
	// api.UsageByIdentifier. Step divides their time: api.UsageByHour, api.UsageByDay or nothing.
	By   []string
	Step string
	// After is api.UsageRecords.Next of the last answer; zero means the first record.
	After int64
}

func (c *Client) usageQuery(u Usage) url.Values {
	query := controlQuery()
	scope := u.Scope
	if u.Pool != "" {
		scope = sandpool.Scope{Subscription: c.sub, ResourceGroup: c.rg, Pool: u.Pool}.String()
	}
	hash := u.IdentifierHash
	if u.Session != "" {
		hash = sandpool.Identifier(u.Session).Hash()
	}
	for name, value := range map[string]string{api.ScopeParameter: scope,
		api.WhoParameter: u.Principal, api.IdentifierHashParameter: hash,
		api.ByParameter: strings.Join(u.By, ","), api.StepParameter: u.Step} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{api.SinceParameter: u.Since,
		api.UntilParameter: u.Until} {
		if !at.IsZero() {
			query.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	return query
}

// Usage returns what sessions have used, added up.
func (c *Client) Usage(ctx context.Context, u Usage) (out api.UsageTotals, err error) {
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "/sandpool/usage",
		query: c.usageQuery(u)}, &out)
	return out, err
}

// UsageRecords returns records of sessions, the first recorded first.
func (c *Client) UsageRecords(ctx context.Context, u Usage) (out api.UsageRecords, err error) {
	query := c.usageQuery(u)
	if u.After > 0 {
		query.Set(api.AfterParameter, strconv.FormatInt(u.After, 10))
	}
	_, _, err = c.do(ctx, call{method: http.MethodGet, path: "/sandpool/usage/records",
		query: query}, &out)
	return out, err
}

// EachUsageRecord calls each with the records of sessions, page by page.
func (c *Client) EachUsageRecord(ctx context.Context, u Usage,
	each func(api.UsageRecord) error) error {
	for {
		page, err := c.UsageRecords(ctx, u)
		if err != nil {
			return err
		}
		for _, r := range page.Value {
			if err := each(r); err != nil {
				return err
			}
		}
		if u.After = page.Next; page.Next == 0 {
			return nil
		}
	}
}

// maxMetrics bounds the text of Metrics.
const maxMetrics = 16 << 20

// Metrics returns the server's metrics as Prometheus reads them.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	r := call{method: http.MethodGet, path: "/metrics"}
	ctx, cancel := r.bound(ctx)
	defer cancel()
	resp, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer drain(resp.Body)
	return io.ReadAll(io.LimitReader(resp.Body, maxMetrics))
}
