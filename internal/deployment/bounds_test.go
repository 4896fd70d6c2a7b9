package deployment

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/control/tree"
	"github.com/sandpool/sandpool/internal/store"
)

// TestPanic: what panics in a deployment ends that, and not the server.
func TestPanic(t *testing.T) {
	k := newKit(t, &tree.Memory{}, &planes{})
	k.do("PUT", deployments+"d", body("Incremental", "{}", pool("panics", ""), ""), 201)
	if s, _ := json.Marshal(k.ends("d", "Failed")); !strings.Contains(string(s), "met an error") {
		t.Errorf("%s", s)
	}
	k.do("PUT", deployments+"d", body("Incremental", "{}", pool("b", ""), ""), 200)
	k.ends("d", "Succeeded")
}

// TestRevoked: a deployment whose caller is revoked meanwhile changes nothing more.
func TestRevoked(t *testing.T) {
	p := &planes{revokes: "a"}
	k := newKit(t, &tree.Memory{}, p)
	k.do("PUT", deployments+"d", body("Incremental", "{}", pool("a", "")+","+pool("b", ""), ""), 201)
	if s, _ := json.Marshal(k.ends("d", "Failed")); !strings.Contains(string(s), "revoked") {
		t.Errorf("%s", s)
	}
	if len(p.puts) != 1 {
		t.Errorf("put %v", p.puts)
	}
}

// TestGroupGone: a deployment whose resource group is deleted meanwhile makes nothing more in it.
func TestGroupGone(t *testing.T) {
	docs, p := &tree.Memory{}, &planes{held: make(chan struct{})}
	k := newKit(t, docs, p)
	k.do("PUT", deployments+"d", body("Incremental", "{}", pool("a", "")+","+pool("b", ""), ""), 201)
	for asked := false; !asked; { // the first pool's PUT is under way
		got, _ := k.do("GET", deployments+"d", "", 200)
		asked = got["properties"].(map[string]any)["provisioningState"] == running
	}
	if err := docs.DeleteDocument(t.Context(), kind, strings.ToLower(deployments+"d")); err != nil {
		t.Fatal(err)
	}
	close(p.held)
	for left := 1; left > 0; {
		k.s.mu.Lock()
		left = len(k.s.active)
		k.s.mu.Unlock()
	}
	k.do("GET", deployments+"d", "", 404)
	if len(p.puts) > 1 {
		t.Errorf("put %v", p.puts)
	}
}

// TestUnreadable: a document that nobody can read keeps nothing else from running.
func TestUnreadable(t *testing.T) {
	docs := &tree.Memory{}
	if err := docs.PutDocument(t.Context(), store.Document{Kind: kind,
		Key: "/subscriptions/s1/resourcegroups/other/x", Text: "{"}); err != nil {
		t.Fatal(err)
	}
	k := newKit(t, docs, &planes{})
	k.do("PUT", deployments+"d", body("Incremental", "{}", pool("a", ""), ""), 201)
	k.ends("d", "Succeeded")
}

// TestActive: one group cannot have all that runs.
func TestActive(t *testing.T) {
	p := &planes{held: make(chan struct{})}
	k := newKit(t, &tree.Memory{}, p)
	text := body("Incremental", "{}", pool("a", ""), "")
	for i := range maxActive / inGroup {
		k.do("PUT", fmt.Sprintf("%sd%d", deployments, i), text, 201)
	}
	k.do("PUT", deployments+"more", text, 503)
	k.do("GET", deployments+"more", "", 404)
	close(p.held)
	k.ends("d0", "Succeeded")
	k.do("PUT", deployments+"more", text, 201)
	k.ends("more", "Succeeded")
}

// TestHistory: the oldest deployments of a group go when there are too many.
func TestHistory(t *testing.T) {
	docs := &tree.Memory{}
	for i := range maxHistory {
		name := fmt.Sprintf("d%04d", i)
		rec := record{Owner: "me", Shown: api.Deployment{Name: name, Type: Type,
			ID: "/subscriptions/s1/resourceGroups/lab/providers/" + Type + "/" + name,
			Properties: api.DeploymentProperties{ProvisioningState: "Succeeded",
				Providers: []map[string]any{}, Dependencies: []map[string]any{},
				Timestamp: time.Unix(int64(10_000-i), 0).UTC().Format(time.RFC3339Nano)}}}
		text, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		if err := docs.PutDocument(t.Context(), store.Document{Kind: kind,
			Key: strings.ToLower(rec.Shown.ID), Text: string(text)}); err != nil {
			t.Fatal(err)
		}
	}
	k := newKit(t, docs, &planes{})
	k.do("PUT", deployments+"new", body("Incremental", "{}", pool("a", ""), ""), 201)
	k.ends("new", "Succeeded")
	k.do("GET", fmt.Sprintf("%sd%04d", deployments, maxHistory-1), "", 404)
	k.do("GET", deployments+"d0000", "", 200)
	k.do("GET", fmt.Sprintf("%sd%04d", deployments, maxHistory-2), "", 200)
}

// TestLarge: what is kept with a deployment is bounded, and so is how deep they are nested.
func TestLarge(t *testing.T) {
	k := newKit(t, &tree.Memory{}, &planes{})
	large := strings.Repeat("x", maxShown)
	got, _ := k.do("PUT", deployments+"d", body("Incremental", fmt.Sprintf(`{"n":{"value":%q}}`,
		large), pool("a", ""), ""), 400)
	if s, _ := json.Marshal(got); !strings.Contains(string(s), "DeploymentTooLarge") {
		t.Errorf("%s", s)
	}
	k.do("PUT", deployments+"d", body("Incremental", "{}", pool("a", ""),
		fmt.Sprintf(`"o":{"type":"string","value":%q}`, large)), 201)
	if s, _ := json.Marshal(k.ends("d", "Failed")); !strings.Contains(string(s), "DeploymentTooLarge") {
		t.Errorf("%.300s", s)
	}
	inner := pool("deep", "")
	for i := range maxNested {
		inner = fmt.Sprintf(`{"type":"Microsoft.Resources/deployments","apiVersion":"2025-04-01",`+
			`"name":"n%d","properties":{"expressionEvaluationOptions":{"scope":"inner"},`+
			`"mode":"Incremental","template":{"resources":[%s]}}}`, i, inner)
	}
	k.do("PUT", deployments+"outer", body("Incremental", "{}", inner, ""), 201)
	if s, _ := json.Marshal(k.ends("outer", "Failed")); !strings.Contains(string(s), "nested") {
		t.Errorf("%s", s)
	}
}

// TestSecure: what a deployment would change is said without the values of secure parameters.
func TestSecure(t *testing.T) {
	k := newKit(t, &tree.Memory{}, &planes{})
	with := func(value string) string {
		return body("Incremental", fmt.Sprintf(`{"s":{"value":%q}}`, value), pool("a",
			`,"tags":{"t":"[concat('x-', parameters('s'))]","u":"plain"}`), "")
	}
	for _, secret := range []string{"first-secret", "other-secret"} {
		got, _ := k.do("POST", deployments+"d/whatIf", with(secret), 200)
		if s, _ := json.Marshal(got); strings.Contains(string(s), secret) ||
			!strings.Contains(string(s), `"t":"x-*******"`) || !strings.Contains(string(s), "plain") {
			t.Errorf("%s", s)
		}
		k.do("PUT", deployments+"d-"+secret, with(secret), 201)
		k.ends("d-"+secret, "Succeeded")
	}
}

// TestForeign: whom nobody can look up after the request is refused at once, and not by a
// deployment that fails.
func TestForeign(t *testing.T) {
	k := newKit(t, &tree.Memory{}, &planes{})
	r := httptest.NewRequest("PUT", deployments+"d", strings.NewReader(body("Incremental", "{}",
		pool("a", ""), "")))
	for name, value := range map[string]string{"subscription": "s1", "resourceGroup": "lab",
		"deployment": "d"} {
		r.SetPathValue(name, value)
	}
	err := k.s.put(httptest.NewRecorder(), r.WithContext(auth.WithPrincipal(r.Context(),
		auth.Principal{Subject: "oidc:https://login.example.com#ann",
			Grants: []sandpool.Grant{{Role: auth.Admin}}})))
	if sandpool.ClassOf(err) != sandpool.Unsupported || !strings.Contains(err.Error(), "identity") {
		t.Errorf("a deployment of a foreign principal: %v", err)
	}
	k.do("GET", deployments+"d", "", 404)
}
