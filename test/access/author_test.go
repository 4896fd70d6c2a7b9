package access_test

import (
	"encoding/json"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/oidc"
	"github.com/sandpool/sandpool/internal/server"
	"github.com/sandpool/sandpool/test/real"
)

// TestAuthors: a token, a service principal that has signed in, a person and a program of a foreign
// issuer each make a pool, which says who it was.
func TestAuthors(t *testing.T) {
	w := &world{T: t, client: newClient(t), foreign: newForeign(t)}
	w.srv = real.Start(t, func(c *server.Config) {
		c.Issuers = []oidc.Settings{{Issuer: w.foreign.url,
			Audiences: []string{"https://dynamicsessions.io"},
			Rules: []oidc.Rule{{Role: string(auth.PoolContributor), Scope: "/",
				Claims: map[string]string{"case": "maker"}}}}}
	})
	own, err := w.srv.Client.CreateToken(t.Context(), api.TokenRequest{Name: "deployer",
		Grants: []api.Grant{{Role: string(auth.PoolContributor), Scope: "/"}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		token string
		want  sandpool.Author
	}{
		"token": {own.Text, sandpool.Author{Name: own.ID, Kind: sandpool.Application}},
		"principal": {w.signIn(own, "https://management.azure.com"),
			sandpool.Author{Name: own.ID, Kind: sandpool.Application}},
		"person": {w.foreign.token("maker", "preferred_username", "ann@example.com"),
			sandpool.Author{Name: "ann@example.com", Kind: sandpool.User}},
		"program": {w.foreign.token("maker", "azp", "nightly"),
			sandpool.Author{Name: "nightly", Kind: sandpool.Application}},
	} {
		status, text := w.ask(c.token, "PUT", poolOf(name).String(),
			`{"location":"local","properties":{"sandpool":{"image":"none"}}}`)
		var got api.SessionPool
		if err := json.Unmarshal([]byte(text), &got); err != nil || status != 201 {
			t.Errorf("%s: %d %s, %v", name, status, text, err)
			continue
		}
		s := *got.SystemData
		if s.CreatedBy != c.want.Name || s.CreatedByType != string(c.want.Kind) ||
			s.LastModifiedBy != s.CreatedBy || s.LastModifiedByType != s.CreatedByType {
			t.Errorf("%s made it, and it says %+v", name, s)
		}
	}
}
