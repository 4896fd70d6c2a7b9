package custom_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/api"
)

// TestIdentity: a container of a pool with an identity finds the endpoint in its environment from
// the moment when it is ready, without a network, and has a header of its own also where the pool
// asks for snapshots; one of a pool without an identity finds nothing.
func TestIdentity(t *testing.T) {
	k := newKit(t)
	image := k.push(t, "identity:1", app(t))
	const audience = "api://app"
	token := func(pool, identifier string) (map[string]string, string) {
		t.Helper()
		var got struct {
			Header string
			Answer map[string]string
		}
		text := k.get(t, pool, identifier, "/identity?resource="+audience)
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return got.Answer, got.Header
	}
	headers := map[string]bool{}
	for name, start := range map[string]string{"booted": "", "restored": "snapshot"} {
		p := container(image)
		p.Identity = &api.Identity{Type: "SystemAssigned"}
		p.Properties.ManagedIdentitySettings = []api.ManagedIdentitySetting{{Identity: "system",
			Lifecycle: "Main"}}
		p.Properties.Sandpool = &api.SandpoolSettings{WarmStart: start,
			IdentityAudiences: []string{audience}}
		k.makePool(t, name, p)
		pool, err := k.Pool(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		for _, identifier := range []string{"alice", "bobby"} {
			got, header := token(name, identifier)
			if got["client_id"] != pool.Identity.PrincipalID ||
				strings.Count(got["access_token"], ".") != 2 {
				t.Errorf("%s in a pool that is %s is given %v", identifier, name, got)
			}
			if headers[header] || header == "" {
				t.Errorf("%s in a pool that is %s has the header %q", identifier, name, header)
			}
			headers[header] = true
		}
	}
	k.makePool(t, "nobody", container(image))
	if got := k.get(t, "nobody", "alice", "/identity?resource="+audience); got != "none" {
		t.Errorf("a container of a pool without an identity is given %s", got)
	}
}
