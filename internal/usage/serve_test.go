package usage

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/openapi/openapitest"
	"github.com/sandpool/sandpool/internal/sqlite"
	"github.com/sandpool/sandpool/internal/store"
)

// described holds the answers of all tests to the description.
var described = openapitest.New("Usage")

func TestMain(m *testing.M) { os.Exit(described.End(m.Run())) }

// noon is when the sessions of tests begin.
var noon = time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)

func poolOf(name string) sandpool.PoolID {
	return sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: name}
}

// rowsOf is a store with records.
func rowsOf(t *testing.T, records ...sandpool.Usage) *sqlite.Store {
	t.Helper()
	db, err := sqlite.Open(t.Context(), slog.New(slog.DiscardHandler),
		filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := db.PutUsage(t.Context(), records, store.Mark{Meter: "m"}); err != nil {
		t.Fatal(err)
	}
	return db
}

// hourOf is the record of a session of an hour.
func hourOf(pool, identifier, by string, began time.Time) sandpool.Usage {
	return sandpool.Usage{Sandbox: sandpool.SandboxID(pool + identifier), Pool: poolOf(pool),
		Identifier: sandpool.Identifier(identifier).Hash(), By: by, Began: began,
		Lasted: time.Hour, Ended: true, CPU: 10 * time.Second, Memory: 7200, Disk: 3600, Sent: 100,
		Executions: 7, Epoch: 1, Meter: "m"}
}

// ask asks as a principal with grants, and returns the answer.
func ask(t *testing.T, d *Reader, who auth.Principal, target string) *httptest.ResponseRecorder {
	t.Helper()
	respond := &arm.Responder{Log: slog.New(slog.DiscardHandler)}
	mux := http.NewServeMux()
	d.Register(func(pattern string, fn func(http.ResponseWriter, *http.Request) error) {
		mux.Handle(pattern, respond.Handle(fn))
	})
	r := httptest.NewRequest("GET", target, nil)
	if who.Subject != "" {
		r = r.WithContext(auth.WithPrincipal(r.Context(), who))
	}
	w := httptest.NewRecorder()
	described.Mux(mux).ServeHTTP(w, r)
	return w
}

func answer[T any](t *testing.T, w *httptest.ResponseRecorder) (out T) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 200 {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return out
}

func granted(subject string, role sandpool.Role, scope sandpool.Scope) auth.Principal {
	return auth.Principal{Subject: subject, Grants: []sandpool.Grant{{Role: role, Scope: scope}}}
}

var admin = granted("token:admin", auth.Admin, sandpool.Scope{})

// TestSight is the table of who sees which sessions.
func TestSight(t *testing.T) {
	d := NewReader(rowsOf(t, hourOf("alpha", "tenant-7-a", "token:seven", noon),
		hourOf("alpha", "tenant-8-a", "token:eight", noon),
		hourOf("beta", "tenant-7-a", "token:seven", noon), hourOf("beta", "nobodys", "", noon)))
	alpha := poolOf("alpha").Scope()
	beginning := alpha
	beginning.Identifier, beginning.Prefix = "tenant-7-", true
	for _, row := range []struct {
		who  auth.Principal
		want string
	}{
		{admin, "[alphatenant-7-a alphatenant-8-a betanobodys betatenant-7-a]"},
		{granted("token:seven", auth.SessionExecutor, beginning),
			"[alphatenant-7-a betatenant-7-a]"},
		{granted("token:other", auth.SessionExecutor, alpha), "[]"},
		{granted("token:other", auth.Reader, alpha), "[alphatenant-7-a alphatenant-8-a]"},
		{granted("token:other", auth.Reader, sandpool.Scope{Subscription: "S"}),
			"[alphatenant-7-a alphatenant-8-a betanobodys betatenant-7-a]"},
		{granted("token:other", auth.Reader, poolOf("alph").Scope()), "[]"},
		{granted("token:other", auth.Reader, alpha.Session("tenant-8-a")), "[alphatenant-8-a]"},
		{granted("token:other", auth.SessionExecutor, alpha.Session("tenant-8-a")), "[]"},
		{granted("token:other", auth.Reader, beginning), "[]"},
		{granted("token:other", auth.PoolContributor, alpha), "[alphatenant-7-a alphatenant-8-a]"},
		{granted("token:other", auth.MonitoringReader, sandpool.Scope{}), "[]"},
		{auth.Principal{Subject: "oidc:none"}, "[]"},
	} {
		got := []string{}
		for _, r := range answer[api.UsageRecords](t, ask(t, d, row.who,
			"/sandpool/usage/records")).Value {
			got = append(got, r.Sandbox)
		}
		slices.Sort(got)
		if fmt.Sprint(got) != row.want {
			t.Errorf("%+v sees %s, want %s", row.who, got, row.want)
		}
		var sessions int64
		for _, total := range answer[api.UsageTotals](t, ask(t, d, row.who,
			"/sandpool/usage")).Value {
			sessions += total.Sessions
		}
		if int(sessions) != len(got) {
			t.Errorf("%+v: %d sessions in totals, %d records", row.who, sessions, len(got))
		}
	}
	if w := ask(t, d, auth.Principal{}, "/sandpool/usage"); w.Code != 401 {
		t.Errorf("without a principal: %d", w.Code)
	}
}

// TestQuestions is the table of what is asked and what comes of it: sessions, seconds, executions.
func TestQuestions(t *testing.T) {
	d := NewReader(rowsOf(t, hourOf("alpha", "one-", "token:a", noon),
		hourOf("alpha", "two-", "token:b", noon.Add(30*time.Minute)),
		hourOf("Beta", "one-", "token:a", noon.Add(24*time.Hour))))
	const day = "since=2030-01-31T00:00:00Z&until=2030-02-02T00:00:00Z"
	hash := sandpool.Identifier("one-").Hash()
	for query, want := range map[string]string{
		"":                       "all 3 10800 21",
		"by=pool":                "Beta 1 3600 7, alpha 2 7200 14",
		"by=principal":           "token:a 2 7200 14, token:b 1 3600 7",
		"who=token:b":            "all 1 3600 7",
		"who=token:c":            "",
		"by=identifier":          hash[:4] + " 2 7200 14, " + sandpool.Identifier("two-").Hash()[:4] + " 1 3600 7",
		"identifierHash=" + hash: "all 2 7200 14",
		"scope=/subscriptions/S/resourceGroups/g/providers/Microsoft.App/sessionPools/beta": "all 1 3600 7",
		"scope=/subscriptions/t":                                    "",
		"since=2030-01-31T12:30:00Z":                                "all 3 9000 18",
		"until=2030-01-31T12:30:00Z":                                "all 1 1800 3",
		"since=2030-01-31T12:30:00Z&until=2030-01-31T12:30:00.001Z": "all 2 0.002 0",
		"step=day&" + day:                                           "2030-01-31 12 2 7200 14, 2030-02-01 12 1 3600 7",
		"step=hour&by=pool&" + day:                                  "12 alpha 2 5400 10, 13 alpha 1 1800 4, 12 Beta 1 3600 7",
	} {
		got := ""
		for i, v := range answer[api.UsageTotals](t, ask(t, d, admin, "/sandpool/usage?"+query)).Value {
			if i > 0 {
				got += ", "
			}
			got += label(v, query) + fmt.Sprintf(" %d %v %d", v.Sessions, v.SessionSeconds,
				v.Executions)
		}
		if query == "step=day&"+day {
			want = "2030-01-31 2 7200 14, 2030-02-01 1 3600 7"
		}
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", query, got, want)
		}
	}
	for _, query := range []string{"by=colour", "step=week&" + day, "step=hour", "since=yesterday",
		"step=hour&since=2000-01-01T00:00:00Z", "scope=x", "identifierHash=abc", "by=pool&by=pool",
		"since=2030-01-31T00:00:00Z&until=2030-01-31T00:00:00Z",
		"scope=/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/p/identifiers/abcd",
	} {
		if w := ask(t, d, admin, "/sandpool/usage?"+query); w.Code != 400 {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
	for _, query := range []string{"limit=0", "limit=1001", "after=-1", "after=x"} {
		if w := ask(t, d, admin, "/sandpool/usage/records?"+query); w.Code != 400 {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

// label is what a total is told apart by.
func label(v api.UsageTotal, query string) string {
	switch {
	case v.Time != nil && v.Pool != "":
		return v.Time.Format("15 ") + filepath.Base(v.Pool)
	case v.Time != nil:
		return v.Time.Format(time.DateOnly)
	case v.Pool != "":
		return filepath.Base(v.Pool)
	case v.Principal != "":
		return v.Principal
	case v.IdentifierHash != "":
		return v.IdentifierHash[:4]
	}
	return "all"
}

// TestPages: records come in pages, each once.
func TestPages(t *testing.T) {
	var records []sandpool.Usage
	for i := range 25 {
		records = append(records, hourOf("alpha", fmt.Sprintf("session-%02d", i), "token:a", noon))
	}
	d := NewReader(rowsOf(t, records...))
	seen, after := map[string]bool{}, int64(0)
	for range 3 {
		page := answer[api.UsageRecords](t, ask(t, d, admin,
			fmt.Sprintf("/sandpool/usage/records?limit=10&after=%d", after)))
		for _, r := range page.Value {
			seen[r.Sandbox] = true
		}
		after = page.Next
	}
	if len(seen) != 25 || after != 0 {
		t.Errorf("%d records, then %d", len(seen), after)
	}
}

// TestParts: the parts of a session in times that follow one another are the whole session.
func TestParts(t *testing.T) {
	u := sandpool.Usage{Began: noon.Add(12345), Lasted: 98765432123456,
		CPU: 123456789, Memory: 1 << 60, Disk: 3, Sent: 1, Executions: 2}
	for _, step := range []time.Duration{time.Hour, 24 * time.Hour} {
		whole, parts := &totals{groups: map[group]*sum{}}, &totals{step: step,
			groups: map[group]*sum{}}
		for _, t2 := range []*totals{whole, parts} {
			if err := t2.add(u); err != nil {
				t.Fatal(err)
			}
		}
		var all sum
		for _, s := range parts.groups {
			all.lasted, all.cpu = all.lasted+s.lasted, all.cpu+s.cpu
			all.memory += s.memory
			all.disk, all.sent = all.disk+s.disk, all.sent+s.sent
			all.executions += s.executions
		}
		want := *whole.groups[group{}]
		want.pool, want.sessions = "", 0
		if all != want {
			t.Errorf("steps of %s add up to %+v, want %+v", step, all, want)
		}
	}
}

// TestTooManyTotals: an answer is bounded.
func TestTooManyTotals(t *testing.T) {
	all := &totals{identifier: true, groups: map[group]*sum{}}
	var err error
	for i := 0; err == nil && i < 2*maxGroups; i++ {
		err = all.add(hourOf("alpha", fmt.Sprintf("session-%d", i), "", noon))
	}
	if sandpool.ClassOf(err) != sandpool.Invalid || len(all.groups) != maxGroups {
		t.Errorf("%d totals, %v", len(all.groups), err)
	}
}
