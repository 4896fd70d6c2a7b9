package server

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/audit"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/control"
	"github.com/sandpool/sandpool/internal/deployment"
	"github.com/sandpool/sandpool/internal/issuer"
	"github.com/sandpool/sandpool/internal/metrics"
	"github.com/sandpool/sandpool/internal/openapi/openapitest"
	"github.com/sandpool/sandpool/internal/pool"
)

// patterns is a mux that serves nothing.
type patterns []string

// Handle implements control.Mux.
func (p *patterns) Handle(pattern string, _ http.Handler) { *p = append(*p, pattern) }

// TestRoutes: the server routes what is described, and nothing else. What is described of pools'
// data planes and of the issuer is held to their packages' tables in their tests.
func TestRoutes(t *testing.T) {
	respond := &arm.Responder{Log: slog.New(slog.DiscardHandler)}
	planes, err := control.New(respond, (*pool.Manager)(nil), (*auth.Tokens)(nil),
		control.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := metrics.New(respond.Log, "test", noPools)
	if err != nil {
		t.Fatal(err)
	}
	var routed patterns
	s := &Server{audit: &audit.Log{}, deployer: &deployment.Service{}, metrics: m,
		clients: &issuer.Issuer{}}
	s.register(&routed, respond, planes)
	described := openapitest.New("Session pools", "Resource Manager", "Deployments", "Tokens", "Devices",
		"Issuer keys", "Audit", "Usage", "Events", "Server")
	for _, fault := range described.Differ(routed) {
		t.Error(fault)
	}
}

// noPools are the pools of a server without any, as metrics show them.
func noPools(context.Context) ([]metrics.Pool, error) { return nil, nil }

// TestServerAnswers: what the server itself is asked for is answered as it is described.
func TestServerAnswers(t *testing.T) {
	m, err := metrics.New(slog.New(slog.DiscardHandler), "test", noPools)
	if err != nil {
		t.Fatal(err)
	}
	respond := &arm.Responder{Log: slog.New(slog.DiscardHandler)}
	planes, err := control.New(respond, (*pool.Manager)(nil), (*auth.Tokens)(nil),
		control.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{audit: &audit.Log{}, deployer: &deployment.Service{}, metrics: m,
		clients: &issuer.Issuer{}}
	mux := http.NewServeMux()
	s.register(mux, respond, planes)
	described := openapitest.New("Server")
	serve := described.Mux(mux)
	for _, target := range []string{"/healthz", "/openapi.json", "/openapi", "/metrics"} {
		r := httptest.NewRequest("GET", target, nil)
		r = r.WithContext(auth.WithPrincipal(r.Context(), auth.Principal{Subject: "token:t",
			Grants: []sandpool.Grant{{Role: auth.MonitoringReader}}}))
		w := httptest.NewRecorder()
		serve.ServeHTTP(w, r)
		if w.Code != 200 {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
		if tag := w.Header().Get("Etag"); tag != "" {
			r.Header.Set("If-None-Match", tag)
			w = httptest.NewRecorder()
			if serve.ServeHTTP(w, r); w.Code != 304 {
				t.Errorf("%s again: %d", target, w.Code)
			}
		}
	}
	if described.End(0) != 0 {
		t.Error("the answers and the description differ")
	}
	for _, missing := range described.Missing() {
		t.Error("not given:", missing)
	}
}

// TestWithOpen: few paths are answered without a token, whatever the number of its slashes, and
// none that only looks like it.
func TestWithOpen(t *testing.T) {
	answer := func(word string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("To", word)
		})
	}
	h := withOpen(answer("open"), answer("next"))
	for target, want := range map[string]string{"/healthz": "open", "//healthz/": "open",
		"/openapi.json": "open", "/openapi": "open", "/openapi/x": "next", "/openapi.json/x": "next",
		"/healthz/x": "next", "/health%7a": "next", "/healthz%2fx": "next", "/HEALTHZ": "next",
		"/x/healthz": "next", "/": "next"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
		if got := w.Header().Get("To"); got != want {
			t.Errorf("%s: went to %q, want %q", target, got, want)
		}
	}
}
