package server

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/descriptor"
	"github.com/sandpool/sandpool/internal/limit"
)

// TestPrincipals: the planes share what a principal may ask; it has not each once.
func TestPrincipals(t *testing.T) {
	s := &Server{underWay: descriptor.NewRequests(10),
		cfg: Config{Limits: Limits{Caller: limit.Limits{Rate: 0.01, Burst: 2}}}}
	bounded := s.principals(&arm.Responder{Log: slog.New(slog.DiscardHandler)})
	done := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	data, control := bounded(done), bounded(done)
	ask := func(plane http.Handler, subject string) int {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
		plane.ServeHTTP(w, r.WithContext(auth.WithPrincipal(r.Context(),
			auth.Principal{Subject: subject, Grants: []sandpool.Grant{{Role: auth.Admin}}})))
		return w.Code
	}
	for i, plane := range []http.Handler{data, control, data, control} {
		if got, want := ask(plane, "token:a"), []int{200, 200, 429, 429}[i]; got != want {
			t.Errorf("request %d: status %d, want %d", i, got, want)
		}
	}
	if got := ask(data, "token:b"); got != 200 {
		t.Errorf("another principal: status %d", got)
	}
}
