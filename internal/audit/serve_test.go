package audit

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/openapi/openapitest"
)

// described holds the answers of all tests to the description.
var described = openapitest.New("Audit")

func TestMain(m *testing.M) { os.Exit(described.End(m.Run())) }

// TestServe: the log is read and checked by those who may, and a question that makes no sense is
// refused by the name of its parameter.
func TestServe(t *testing.T) {
	l, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	respond := &arm.Responder{Log: slog.New(slog.DiscardHandler)}
	mux := http.NewServeMux()
	l.Register(func(pattern string, fn func(http.ResponseWriter, *http.Request) error) {
		mux.Handle(pattern, respond.Handle(fn))
	})
	if err := l.Append(Record{Who: "token:a", Action: "PUT", On: "/pools/1",
		Outcome: api.AuditDone, Status: 201, After: json.RawMessage(`{"a":1}`)}); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		role   sandpool.Role
		target string
		status int
	}{
		{auth.Admin, "/sandpool/audit", 200},
		{auth.Admin, "/sandpool/audit?after=1&wait=0&limit=1", 200},
		{auth.Admin, "/sandpool/audit/verification", 200},
		{auth.Admin, "/sandpool/audit?limit=0", 400},
		{auth.Admin, "/sandpool/audit?outcome=well", 400},
		{auth.Admin, "/sandpool/audit?since=today", 400},
		{auth.Reader, "/sandpool/audit", 403},
		{auth.Reader, "/sandpool/audit/verification", 403},
	} {
		r := httptest.NewRequest("GET", row.target, nil)
		r = r.WithContext(auth.WithPrincipal(r.Context(), auth.Principal{Subject: "token:t",
			Grants: []sandpool.Grant{{Role: row.role}}}))
		w := httptest.NewRecorder()
		described.Mux(mux).ServeHTTP(w, r)
		if w.Code != row.status {
			t.Errorf("%s as %s: %d %s, want %d", row.target, row.role, w.Code, w.Body, row.status)
		}
	}
}
