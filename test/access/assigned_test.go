package access_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/test/real"
)

// assign makes an identity and returns it.
func (s *identities) assign(name string) api.UserAssignedIdentity {
	s.Helper()
	made, err := s.Client.PutIdentity(s.Context(), name, api.UserAssignedIdentity{Location: "local"})
	if err != nil {
		s.Fatal(err)
	}
	return made
}

// give gives a pool that has an audience identities, in its sessions too.
func (s *identities) give(pool, kind string, ids ...string) {
	s.Helper()
	body := api.SessionPool{Identity: &api.Identity{Type: kind,
		UserAssignedIdentities: map[string]*api.UserAssigned{}},
		Properties: &api.SessionPoolProperties{}}
	if kind != "UserAssigned" {
		body.Properties.ManagedIdentitySettings = append(body.Properties.ManagedIdentitySettings,
			api.ManagedIdentitySetting{Identity: "system", Lifecycle: "Main"})
	}
	for _, id := range ids {
		body.Identity.UserAssignedIdentities[id] = &api.UserAssigned{}
		body.Properties.ManagedIdentitySettings = append(body.Properties.ManagedIdentitySettings,
			api.ManagedIdentitySetting{Identity: id, Lifecycle: "Main"})
	}
	if _, err := s.Client.PatchPool(s.Context(), pool, body); err != nil {
		s.Fatal(err)
	}
	if _, err := s.Client.WaitReady(s.Context(), pool, nil); err != nil {
		s.Fatal(err)
	}
}

// TestUserAssigned: code in a session gets tokens of the identities that its pool was given, and of
// no others; what was assigned to one is open to it, until the identity is taken away or deleted.
func TestUserAssigned(t *testing.T) {
	s := &identities{T: t, Server: real.Start(t)}
	one, two := s.assign("one"), s.assign("two")
	s.put("target", nil, "")
	s.put("owner", nil, "", sessions)
	s.give("owner", "UserAssigned", one.ID)
	got := s.token("owner", "first", sessions, "") // the only one
	text, _ := got["access_token"].(string)
	if got["client_id"] != one.Properties.ClientID {
		t.Fatalf("the answer is %v", got)
	}
	claims := s.verify(text)
	for name, want := range map[string]string{"sub": "identity:" + one.Properties.PrincipalID,
		"oid": one.Properties.PrincipalID, "appid": one.Properties.ClientID, "xms_mirid": one.ID,
		"xms_az_rid": s.Client.PoolID("owner").String()} {
		if claims[name] != want {
			t.Errorf("the claim %s is %v, want %v", name, claims[name], want)
		}
	}
	for more, status := range map[string]float64{
		fmt.Sprintf(", client_id=%q", two.Properties.ClientID):           400,
		fmt.Sprintf(", mi_res_id=%q", two.ID):                            400,
		fmt.Sprintf(", object_id=%q", s.Client.PoolID("owner").String()): 400,
	} {
		if got := s.token("owner", "first", sessions, more); got["status"] != status {
			t.Errorf("%s: %v, want %v", more, got, status)
		}
	}

	target := s.Client.PoolID("target").String() + "?api-version=2025-07-01"
	if status := s.get(text, target); status != http.StatusForbidden {
		t.Errorf("without a role: %d, want 403", status)
	}
	if _, err := s.Client.AssignRole(t.Context(), s.Client.PoolID("target").Scope(),
		s.definition(t, auth.AzureName(auth.SessionExecutor)), one.Properties.PrincipalID,
		time.Time{}); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute) // it counts within seconds
	for s.get(text, target) != http.StatusOK {
		select {
		case <-deadline:
			t.Fatal("a role that was assigned a minute ago does not count")
		case <-time.After(200 * time.Millisecond):
		}
	}
	theirs, err := client.New(client.Config{Endpoint: s.URL(), Token: text})
	if err != nil {
		t.Fatal(err)
	}
	if run, err := theirs.Execute(t.Context(), "target", "from-owner",
		client.Run{Code: "6*7"}); err != nil || run.Status != "Succeeded" {
		t.Errorf("the session's identity runs code in another pool: %+v, %v", run, err)
	}
	if _, err := theirs.Execute(t.Context(), "owner", "from-owner",
		client.Run{Code: "6*7"}); err == nil {
		t.Error("the identity runs code in a pool in which it has no role")
	}

	// with the pool's own: the sandboxes that run have the endpoint already
	s.give("owner", "SystemAssigned, UserAssigned", one.ID, two.ID)
	pool, err := s.Client.Pool(t.Context(), "owner")
	if err != nil {
		t.Fatal(err)
	}
	for more, want := range map[string]string{"": pool.Identity.PrincipalID,
		fmt.Sprintf(", client_id=%q", two.Properties.ClientID):       two.Properties.ClientID,
		fmt.Sprintf(", principal_id=%q", one.Properties.PrincipalID): one.Properties.ClientID,
	} {
		if got := s.token("owner", "first", sessions, more); got["client_id"] != want {
			t.Errorf("%q: %v, want the token of %s", more, got, want)
		}
	}

	byClient := fmt.Sprintf(", client_id=%q", one.Properties.ClientID)
	if there, err := s.Client.DeleteIdentity(t.Context(), "one"); !there || err != nil {
		t.Fatal(there, err)
	}
	if status := s.get(text, target); status != http.StatusUnauthorized {
		t.Errorf("a token of an identity that was deleted: %d, want 401", status)
	}
	if got := s.token("owner", "first", sessions, byClient); got["status"] != 403.0 {
		t.Errorf("an identity that was deleted: %v", got)
	}
	s.assign("one")
	if status := s.get(text, target); status != http.StatusUnauthorized {
		t.Errorf("a token of the one before: %d, want 401", status)
	}
	other, _ := s.token("owner", "first", sessions,
		fmt.Sprintf(", client_id=%q", two.Properties.ClientID))["access_token"].(string)
	if status := s.get(other, target); status != http.StatusForbidden {
		t.Errorf("the other identity: %d, want 403", status)
	}
	if _, err := s.Client.PatchPool(t.Context(), "owner", api.SessionPool{Identity: &api.Identity{
		UserAssignedIdentities: map[string]*api.UserAssigned{one.ID: nil, two.ID: nil},
		Type:                   "SystemAssigned"}}); err != nil {
		t.Fatal(err)
	}
	if status := s.get(other, target); status != http.StatusUnauthorized {
		t.Errorf("a token of an identity that the pool has no more: %d, want 401", status)
	}
}
