package server

import (
	"net/http/httptest"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

// TestLoggedPath: what is written down of a path says which pool it is of and hides what its caller
// chose, also at a host name of the pool's own.
func TestLoggedPath(t *testing.T) {
	const pool = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/" +
		"sessionPools/python"
	s := &Server{cfg: Config{EndpointSuffix: "pools.example.com"}}
	for _, row := range []struct{ target, want string }{
		{"http://python.pools.example.com/files/secret-name", pool + "/files/…"},
		{"http://python.pools.example.com/identifier/secret-name/x", pool + "/identifier/…"},
		{"http://python.pools.example.com/", pool + "/"},
		{"http://api.example.com" + pool + "/files/secret-name", pool + "/files/…"},
		{"http://api.example.com/sandpool/tokens", "/sandpool/tokens"},
	} {
		if got := s.loggedPath(httptest.NewRequest("GET", row.target, nil)); got != row.want {
			t.Errorf("%s: %q, want %q", row.target, got, row.want)
		}
	}
}

// TestCallers: those without a role are one caller, however many they are.
func TestCallers(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	of := func(p auth.Principal) string {
		return callerOf(r.WithContext(auth.WithPrincipal(r.Context(), p)))
	}
	grants := []sandpool.Grant{{Role: auth.Admin}}
	if of(auth.Principal{Subject: "oidc:a"}) != of(auth.Principal{Subject: "oidc:b"}) ||
		of(auth.Principal{Subject: "oidc:a", Grants: grants}) != "oidc:a" || callerOf(r) != "" {
		t.Error("callers have other names")
	}
}
