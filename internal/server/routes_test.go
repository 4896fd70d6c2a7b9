package server

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestWithHealth: one path is answered without a token, whatever the number of its slashes, and
// none that only looks like it.
func TestWithHealth(t *testing.T) {
	answer := func(word string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("To", word)
		})
	}
	h := withHealth(answer("open"), answer("next"))
	for target, want := range map[string]string{"/healthz": "open", "//healthz/": "open",
		"/healthz/x": "next", "/health%7a": "next", "/healthz%2fx": "next", "/HEALTHZ": "next",
		"/x/healthz": "next", "/": "next"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
		if got := w.Header().Get("To"); got != want {
			t.Errorf("%s: went to %q, want %q", target, got, want)
		}
	}
}
