package openapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/sandpool/sandpool/internal/openapi/describe"
)

var update = flag.Bool("update", false, "write openapi.json")

// TestDocument: the description that is served is the one that the types and the table give.
func TestDocument(t *testing.T) {
	want, err := describe.Document("../../api")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(want, Document()) {
		t.Error("openapi.json is out of date: go test ./internal/openapi -run TestDocument -update")
	}
}

// TestPage: the page shows every operation, and its policy lets nothing in from elsewhere.
func TestPage(t *testing.T) {
	mux := http.NewServeMux()
	Register(mux.Handle)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", PagePath, nil))
	page := w.Body.String()
	var doc struct{ Paths map[string]map[string]any }
	if err := json.Unmarshal(Document(), &doc); err != nil {
		t.Fatal(err)
	}
	for path := range doc.Paths {
		if !strings.Contains(page, "<code>"+path+"</code>") {
			t.Errorf("%s is not on the page", path)
		}
	}
	policy := w.Header().Get("Content-Security-Policy")
	begin := strings.Index(page, "<style>") + len("<style>")
	sum := sha256.Sum256([]byte(page[begin:strings.Index(page, "</style>")]))
	if want := "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.HasPrefix(
		policy, "default-src 'none'; style-src "+want) {
		t.Errorf("the policy is %q, and the style's hash %s", policy, want)
	}
	for _, bad := range []string{"<script", "src=", `="http`, `="//`, "url(", "ZgotmplZ", "style="} {
		if i := strings.Index(page, bad); i >= 0 {
			t.Errorf("the page has %q: …%s", bad, page[max(0, i-60):min(len(page), i+60)])
		}
	}
}

// timed is an answer that notes by when it must have been taken.
type timed struct {
	*httptest.ResponseRecorder
	until, first time.Time
}

func (w *timed) SetWriteDeadline(t time.Time) error { w.until = t; return nil }

func (w *timed) WriteHeader(status int) {
	w.first = w.until
	w.ResponseRecorder.WriteHeader(status)
}

// TestTaken: who does not read an answer, for which nobody needs a token, loses the connection.
func TestTaken(t *testing.T) {
	mux := http.NewServeMux()
	Register(mux.Handle)
	for _, path := range []string{JSONPath, PagePath} {
		w := &timed{ResponseRecorder: httptest.NewRecorder()}
		mux.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if left := time.Until(w.first); left <= 0 || left > time.Minute || w.Body.Len() == 0 {
			t.Errorf("%s has %s to be read", path, left)
		}
	}
}

// TestValid: the description is one of OpenAPI 3.1, by the schema of the OpenAPI Initiative.
func TestValid(t *testing.T) {
	text, err := os.ReadFile("testdata/oas31-schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var meta jsonschema.Schema
	if err := json.Unmarshal(text, &meta); err != nil {
		t.Fatal(err)
	}
	resolved, err := meta.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(Document(), &doc); err != nil {
		t.Fatal(err)
	}
	if err := resolved.Validate(doc); err != nil {
		t.Error(err)
	}
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(`"operationId": "(.*)"`).FindAllSubmatch(Document(), -1) {
		if ids[string(m[1])] {
			t.Errorf("two operations are called %s", m[1])
		}
		ids[string(m[1])] = true
	}
	components := doc["components"].(map[string]any)
	for _, m := range regexp.MustCompile(`"\$ref": "#/components/(\w+)/(.*)"`).FindAllSubmatch(
		Document(), -1) {
		if components[string(m[1])].(map[string]any)[string(m[2])] == nil {
			t.Errorf("%s refers to nothing", m[0])
		}
	}
	doc["paths"].(map[string]any)["/healthz"].(map[string]any)["get"] = map[string]any{"tags": 1}
	if resolved.Validate(doc) == nil {
		t.Error("an operation that is none is valid")
	}
}
