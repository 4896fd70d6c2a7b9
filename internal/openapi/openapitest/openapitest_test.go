package openapitest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestRecorder: what is not as it is described is a fault, and what is never given is missing.
func TestRecorder(t *testing.T) {
	const list = "GET /sandpool/tokens"
	for _, row := range []struct {
		name, pattern, target string
		status                int
		body, fault           string
	}{
		{"good", list, "/sandpool/tokens", 200, `{"value":[]}`, ""},
		{"default", list, "/sandpool/tokens", 403,
			`{"error":{"code":"A","message":"b","details":[]}}`, ""},
		{"status", list, "/sandpool/tokens", 418, `{}`, "which is not described"},
		{"schema", list, "/sandpool/tokens", 200, `{"value":[{"id":1}]}`, "want \"string\""},
		{"more", list, "/sandpool/tokens", 200, `{"value":[],"secret":1}`, "additional properties"},
		{"null", list, "/sandpool/tokens", 200, `{"value":null}`, "want \"array\""},
		{"query", list, "/sandpool/tokens?x=1", 200, `{"value":[]}`, "query parameter"},
		{"route", "GET /sandpool/other", "/sandpool/other", 200, `{}`, "is not described"},
	} {
		r := New("Tokens")
		mux := http.NewServeMux()
		mux.HandleFunc(row.pattern, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(row.status)
			_, _ = io.WriteString(w, row.body)
		})
		r.Mux(mux).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", row.target, nil))
		if got := strings.Join(r.faults, "\n"); (got == "") != (row.fault == "") ||
			!strings.Contains(got, row.fault) {
			t.Errorf("%s: %q, want %q", row.name, got, row.fault)
		}
		missing := strings.Join(r.Missing(), "\n")
		if strings.Contains(missing, list+" 200") == (row.status == 200 && row.pattern == list) ||
			!strings.Contains(missing, "POST /sandpool/tokens 201") {
			t.Errorf("%s: missing is %q", row.name, missing)
		}
	}
	r := New("Tokens")
	faults := strings.Join(r.Differ([]string{list, "GET /sandpool/other", "/"}), "\n")
	if !strings.Contains(faults, "/sandpool/other is routed") ||
		!strings.Contains(faults, "DELETE /sandpool/tokens/{} is described and not routed") {
		t.Errorf("the routes differ: %s", faults)
	}
}

// TestRequests: what a handler takes that is not described is a fault, and what is described and
// in no request is missing.
func TestRequests(t *testing.T) {
	const create = "POST /sandpool/tokens"
	for _, row := range []struct {
		name, body string
		status     int
		fault      string
	}{
		{"good", `{"name":"a","GRANTS":[{"role":"reader","scope":"/"}],"pool":null}`, 201, ""},
		{"more", `{"name":"a","secret":1}`, 201, "additional properties"},
		{"deeper", `{"name":"a","grants":[{"role":"reader","scope":"/","x":1}]}`, 201,
			"additional properties"},
		{"type", `{"name":1}`, 201, `want "string"`},
		{"required", `{}`, 201, "name"},
		{"refused", `{"secret":1}`, 400, ""},
	} {
		r := New("Tokens")
		mux := http.NewServeMux()
		mux.HandleFunc(create, func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(row.status)
			answer := `{"id":"a","name":"a","grants":[],"createdAt":"t","token":"t"}`
			if row.status >= 400 {
				answer = `{"error":{"code":"A","message":"b","details":[]}}`
			}
			_, _ = io.WriteString(w, answer)
		})
		r.Mux(mux).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/sandpool/tokens",
			strings.NewReader(row.body)))
		if got := strings.Join(r.faults, "\n"); (got == "") != (row.fault == "") ||
			!strings.Contains(got, row.fault) {
			t.Errorf("%s: %q, want %q", row.name, got, row.fault)
		}
		unsent := strings.Join(r.Unsent(), "\n")
		if strings.Contains(unsent, "POST Grant.role") == (row.name == "good") ||
			!strings.Contains(unsent, "POST TokenRequest.expiresAt") {
			t.Errorf("%s: unsent are %q", row.name, unsent)
		}
	}
}
