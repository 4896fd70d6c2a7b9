package audit

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
)

// TestRecorder is the table of what requests leave in the log.
func TestRecorder(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	rec, err := NewRecorder(l, slog.New(slog.DiscardHandler), arm.TraceID,
		func(r *http.Request) string { return arm.LoggedPath(r.URL.EscapedPath()) })
	if err != nil {
		t.Fatal(err)
	}
	respond := &arm.Responder{Log: slog.New(slog.DiscardHandler), Failed: rec.Failed}
	type pool struct{ Name string }
	answers := map[string]func(http.ResponseWriter, *http.Request) error{
		"/made": func(w http.ResponseWriter, r *http.Request) error {
			Changed(r.Context(), nil, pool{"new"})
			w.WriteHeader(http.StatusCreated)
			return nil
		},
		"/changed": func(_ http.ResponseWriter, r *http.Request) error {
			Changed(r.Context(), pool{"old"}, &pool{"new"})
			return nil
		},
		"/none": func(_ http.ResponseWriter, r *http.Request) error {
			Changed(r.Context(), (*pool)(nil), nil)
			return nil
		},
		"/bad": func(http.ResponseWriter, *http.Request) error {
			return sandpool.Errorf(sandpool.Invalid, "Bad", "x", "the value is hunter2")
		},
		"/denied": func(_ http.ResponseWriter, r *http.Request) error {
			return auth.Require(r.Context(), auth.WritePool, sandpool.Scope{Subscription: "s"})
		},
		"/broken": func(http.ResponseWriter, *http.Request) error { panic("x") },
		"/subscriptions/s/resourceGroups/g/sessionPools/p/executions/secret-identifier": func(
			_ http.ResponseWriter, r *http.Request) error {
			return auth.Require(r.Context(), auth.Execute, sandpool.Scope{Subscription: "s"})
		},
	}
	serve := rec.Changes(respond.Handle(func(w http.ResponseWriter, r *http.Request) error {
		return answers[r.URL.Path](w, r)
	}))
	for _, row := range []struct{ request, want string }{
		{"PUT /made", `PUT /made done 201 "" before= after={"Name":"new"}`},
		{"PATCH /changed", `PATCH /changed done 200 "" before={"Name":"old"} after={"Name":"new"}`},
		{"DELETE /none", `DELETE /none done 200 "" before= after=`},
		{"PUT /bad", `PUT /bad failed 400 "Bad" before= after=`},
		{"PUT /denied", `PUT /denied refused 403 "AuthorizationFailed" before= after=`},
		{"PUT /broken", `PUT /broken failed 500 "" before= after=`},
		{"GET /made", ""},
		{"GET /bad", ""},
		{"GET /denied", `GET /denied refused 403 "AuthorizationFailed" before= after=`},
		{"GET /subscriptions/s/resourceGroups/g/sessionPools/p/executions/secret-identifier",
			`GET /subscriptions/s/resourceGroups/g/sessionPools/p/executions/… refused 403 ` +
				`"AuthorizationFailed" before= after=`},
	} {
		before, _ := l.Head()
		method, path, _ := strings.Cut(row.request, " ")
		r := httptest.NewRequest(method, path, strings.NewReader("hunter2"))
		r.RemoteAddr = "192.0.2.7:4711"
		r = r.WithContext(auth.WithPrincipal(r.Context(), auth.Principal{Subject: "token:t",
			Name: "ci"}))
		serve.ServeHTTP(httptest.NewRecorder(), r)
		records, _, err := l.Read(t.Context(), Query{After: before, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range records {
			if r.Who != "token:t" || r.Name != "ci" || r.From != "192.0.2.7" {
				t.Errorf("%s: it is by %q (%s) from %q", row.request, r.Who, r.Name, r.From)
			}
			if strings.Contains(r.Message, "hunter2") {
				t.Errorf("%s: the record repeats what a caller has sent: %s", row.request,
					r.Message)
			}
			if r.Outcome == api.AuditRefused && !strings.Contains(r.Message, "may not") {
				t.Errorf("%s: a refusal without its reason: %q", row.request, r.Message)
			}
			got = append(got, strings.Join([]string{r.Action, r.On, r.Outcome,
				http.StatusText(r.Status), r.Code, string(r.Before), string(r.After)}, "|"))
		}
		want := row.want
		if want != "" {
			want = normal(want)
		}
		if strings.Join(got, "\n") != want {
			t.Errorf("%s:\n got %q\nwant %q", row.request, got, want)
		}
	}
	if v, err := l.Verify(); err != nil || v.Fault != "" {
		t.Errorf("%+v, %v", v, err)
	}
}

// normal writes a row of the table as the test writes a record.
func normal(row string) string {
	fields := strings.Fields(row)
	status := map[string]string{"200": "OK", "201": "Created", "400": "Bad Request",
		"403": "Forbidden", "500": "Internal Server Error"}[fields[3]]
	return strings.Join([]string{fields[0], fields[1], fields[2], status, strings.Trim(fields[4], `"`),
		strings.TrimPrefix(fields[5], "before="), strings.TrimPrefix(fields[6], "after=")}, "|")
}

// TestLost: what is answered while the log cannot be written is told, and answered all the same.
func TestLost(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	rec, err := NewRecorder(l, slog.New(slog.DiscardHandler), arm.TraceID,
		func(r *http.Request) string { return r.URL.Path })
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	rec.Lost = func() { lost++ }
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	good := l.file
	h := rec.Changes(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, file := range []*os.File{good, full, full, good} {
		l.file = file
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("PUT", "/a", nil))
		if w.Code != http.StatusOK {
			t.Errorf("the request is answered with %d", w.Code)
		}
	}
	if lost != 2 {
		t.Errorf("%d records were lost, want 2", lost)
	}
}
