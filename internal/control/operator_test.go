package control

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
)

func operationOf(t *testing.T, r reply) api.Operation {
	t.Helper()
	var op api.Operation
	if err := json.Unmarshal(r.body, &op); err != nil {
		t.Fatalf("%s: %v", r.body, err)
	}
	return op
}

func TestPutOperation(t *testing.T) {
	k := newKit(t, Options{})
	k.pools.looks = 2
	r := k.want(201, k.do("PUT", pypool+version, azBody))
	at := r.header.Get("Azure-AsyncOperation")
	if r.pool.Properties.ProvisioningState != "InProgress" || r.header.Get("Retry-After") == "" ||
		!strings.Contains(at, "api-version=2025-07-01") {
		t.Errorf("state %s, headers %v", r.pool.Properties.ProvisioningState, r.header)
	}
	for i, want := range []string{"InProgress", "InProgress", "Succeeded", "Succeeded"} {
		r := k.want(200, k.do("GET", at, ""))
		op := operationOf(t, r)
		if op.Status != want || op.ID == "" || op.Name == "" || op.StartTime == "" ||
			(op.EndTime != "") != (want == "Succeeded") || op.Error != nil {
			t.Errorf("look %d: %s", i, r.body)
		}
		if (r.header.Get("Retry-After") != "") != (want == "InProgress") {
			t.Errorf("look %d: Retry-After %q", i, r.header.Get("Retry-After"))
		}
	}
	// A change that takes time.
	r = k.want(202, k.do("PATCH", pypool+version, `{"properties":{"sandpool":{"cpu":2}}}`))
	location := r.header.Get("Location")
	for range 2 {
		r = k.want(202, k.do("GET", location, ""))
		if !strings.Contains(r.header.Get("Location"), "containerappOperationResults") {
			t.Errorf("a poll answers without Location: %v", r.header)
		}
	}
	if r = k.want(200, k.do("GET", location, "")); *r.pool.Properties.Sandpool.CPU != 2 {
		t.Errorf("result %s", r.body)
	}
	// The pool goes away under the operation.
	k.want(202, k.do("DELETE", pypool+version, ""))
	if op := operationOf(t, k.want(200, k.do("GET", at, ""))); op.Status != "Canceled" ||
		op.Error == nil {
		t.Errorf("operation of a deleted pool: %+v", op)
	}
	k.want(409, k.do("GET", location, ""))
}

func TestFailedOperation(t *testing.T) {
	k := newKit(t, Options{})
	k.pools.next = sandpool.Failed
	k.pools.looks = 1
	at := k.want(201, k.do("PUT", pypool, azBody)).header.Get("Azure-AsyncOperation")
	k.do("GET", at, "")
	op := operationOf(t, k.do("GET", at, ""))
	if op.Status != "Failed" || op.Error.Message != "The image is broken." ||
		op.Error.Target != pypool {
		t.Errorf("%+v", op)
	}
	if p := k.want(200, k.do("GET", pypool, "")).pool.Properties; p.ProvisioningState != "Failed" ||
		p.Sandpool.Problem != "The image is broken." {
		t.Errorf("%+v", p)
	}
}

// TestProblemIsForAdministrators: the engine's words name the host's files.
func TestProblemIsForAdministrators(t *testing.T) {
	k := newKit(t, Options{})
	k.pools.next = sandpool.Failed
	k.pools.looks = 1
	at := k.want(201, k.do("PUT", pypool, azBody)).header.Get("Azure-AsyncOperation")
	for range 2 {
		k.do("GET", pypool, "")
	}
	scope := sandpool.PoolID{Subscription: "s1", ResourceGroup: "lab", Name: "pypool"}
	for _, token := range []string{k.token(auth.SessionExecutor, sandpool.PoolID{}),
		k.token(auth.PoolContributor, scope), k.token(auth.Admin, scope)} {
		for _, target := range []string{pypool, pypool + "/status", rg, at} {
			r := k.want(200, k.as(token, "GET", target, ""))
			if strings.Contains(string(r.body), "The image is broken.") ||
				!strings.Contains(string(r.body), hiddenProblem) {
				t.Errorf("%s: %s", target, r.body)
			}
		}
	}
	if r := k.want(200, k.do("GET", pypool+"/status", "")); !strings.Contains(string(r.body),
		"The image is broken.") {
		t.Errorf("an administrator reads %s", r.body)
	}
}

func TestDeleteOperation(t *testing.T) {
	k := newKit(t, Options{})
	k.want(204, k.do("DELETE", pypool+version, ""))
	k.want(201, k.do("PUT", pypool+version, azBody))
	k.pools.looks = 4
	r := k.want(202, k.do("DELETE", pypool+version, ""))
	location := r.header.Get("Location")
	if r.header.Get("Retry-After") == "" || len(r.body) != 0 {
		t.Errorf("headers %v, body %q", r.header, r.body)
	}
	if r := k.want(409, k.do("PUT", pypool+version, azBody)); r.err.Code !=
		"SessionPoolIsBeingDeleted" || r.header.Get("Retry-After") == "" {
		t.Errorf("%s", r.body)
	}
	k.want(202, k.do("DELETE", pypool+version, "")) // again
	k.want(202, k.do("GET", location, ""))
	k.want(204, k.do("GET", location, ""))
	// A new pool of the same name does not bring the operation back.
	k.pools.now = time.Now().Add(time.Minute)
	k.want(201, k.do("PUT", pypool+version, azBody))
	k.want(204, k.do("GET", location, ""))
}

func TestForgedOperations(t *testing.T) {
	k := newKit(t, Options{})
	base := "/subscriptions/s1/providers/Microsoft.App/locations/x/containerappOperationStatuses/"
	secret := operation{kind: putOperation, pool: sandpool.PoolID{Subscription: "s1",
		ResourceGroup: "lab", Name: "secret"}}
	for _, id := range []string{"x", "!!", "cHV0", operation{kind: "drop", pool: secret.pool}.id(),
		operation{kind: putOperation, pool: sandpool.PoolID{ResourceGroup: "a b",
			Name: "c"}}.id()} {
		if r := k.do("GET", base+id, ""); r.status != 404 || r.err.Code != "OperationNotFound" {
			t.Errorf("%q: status %d %s", id, r.status, r.body)
		}
	}
	other := k.token(auth.Admin, sandpool.PoolID{Subscription: "s1", ResourceGroup: "lab",
		Name: "pypool"})
	k.want(403, k.as(other, "GET", base+secret.id(), ""))
}

func TestStatus(t *testing.T) {
	k := newKit(t, Options{})
	k.want(404, k.do("GET", pypool+"/status", ""))
	k.want(201, k.do("PUT", pypool, `{}`))
	k.pools.boxes = []sandpool.Sandbox{
		{ID: "one", State: sandpool.Claimed, Identifier: "very-secret-name", Secret: "agent-secret",
			Handle: []byte("h"), CreatedAt: time.Now()},
		{ID: "gone", State: sandpool.Ready}, {ID: "new", State: sandpool.Starting},
	}
	if r := k.want(200, k.do("GET", pypool+"/status", "")); strings.Contains(string(r.body),
		`"sandboxes"`) || !strings.Contains(string(r.body), `"ready":2`) {
		t.Errorf("without $expand: %s", r.body)
	}
	if r := k.want(400, k.do("GET", pypool+"/status?$expand=boxes", "")); !strings.Contains(
		string(r.body), `"target":"$expand"`) {
		t.Errorf("a wrong $expand: %s", r.body)
	}
	r := k.want(200, k.do("GET", pypool+"/STATUS?$expand=sandboxes", ""))
	var s api.PoolStatus
	if err := json.Unmarshal(r.body, &s); err != nil {
		t.Fatal(err)
	}
	if s.Ready != 2 || s.Claimed != 1 || s.MaxSessions != 10 || s.Claims["ready"] != 7 ||
		len(s.Sandboxes) != 3 {
		t.Errorf("%s", r.body)
	}
	if one := s.Sandboxes[0]; *one.MemoryBytes != 42<<20 || *one.CPUSeconds != 1.5 ||
		s.Sandboxes[1].MemoryBytes != nil || s.Sandboxes[2].MemoryBytes != nil {
		t.Errorf("%s", r.body)
	}
	if strings.Contains(string(r.body), "secret") {
		t.Errorf("the status tells secrets: %s", r.body)
	}
}

func TestTokens(t *testing.T) {
	k := newKit(t, Options{})
	var made api.NewToken
	r := k.want(201, k.do("POST", "/sandpool/tokens",
		`{"name":"ci","role":"session-executor","pool":"`+strings.ToUpper(pypool)+
			`","expiresAt":"2099-01-01T00:00:00Z"}`))
	if err := json.Unmarshal(r.body, &made); err != nil {
		t.Fatal(err)
	}
	if r.header.Get("Cache-Control") != "no-store" || made.Name != "ci" ||
		!strings.EqualFold(made.Pool, pypool) || !strings.HasPrefix(made.Text, "sp_"+made.ID+"_") {
		t.Errorf("%s", r.body)
	}
	if made.ExpiresAt != "2099-01-01T00:00:00Z" {
		t.Errorf("expires %q", made.ExpiresAt)
	}
	secret := made.Text[strings.LastIndex(made.Text, "_"):]
	for _, target := range []string{"/sandpool/tokens", "/sandpool/tokens/" + made.ID} {
		if r := k.want(200, k.do("GET", target, "")); strings.Contains(string(r.body), secret) ||
			!strings.Contains(string(r.body), made.ID) {
			t.Errorf("%s: %s", target, r.body)
		}
	}
	k.want(404, k.as(made.Text, "GET", pypool, "")) // in scope, absent
	k.want(204, k.do("DELETE", "/sandpool/tokens/"+made.ID, ""))
	k.want(401, k.as(made.Text, "GET", pypool, ""))
	k.want(404, k.do("DELETE", "/sandpool/tokens/"+made.ID, ""))
	k.want(404, k.do("GET", "/sandpool/tokens/"+made.ID, ""))
	for body, target := range map[string]string{
		`{"name":"x"}`: "role", `{"name":"x","role":"root"}`: "role", `{"role":"admin"}`: "name",
		`{"name":"x","role":"admin","pool":"python"}`:                            "pool",
		`{"name":"x","role":"admin","expiresAt":"tomorrow"}`:                     "expiresAt",
		`{"name":"x","role":"admin","expiresAt":"2001-01-01T00:00:00Z"}`:         "expiresAt",
		`{"name":"x","role":"admin","scope":"/subscriptions"}`:                   "scope",
		`{"name":"x","role":"admin","scope":"/subscriptions/a b"}`:               "subscriptionId",
		`{"name":"x","role":"admin","scope":"/","pool":"` + pypool + `"}`:        "scope",
		`{"name":"x","role":"admin","grants":[{"role":"admin","scope":"/"}]}`:    "grants",
		`{"name":"x","grants":[{"role":"admin"}]}`:                               "scope",
		`{"name":"x","grants":[{"role":"x","scope":"/"}]}`:                       "role",
		`{"name":"x","role":"admin","scope":"` + pypool + `/identifiers/x y z"}`: "identifier",
	} {
		if r := k.do("POST", "/sandpool/tokens", body); r.status != http.StatusBadRequest ||
			r.err.Target != target {
			t.Errorf("%s: status %d, %s", body, r.status, r.body)
		}
	}
}

// TestTokenGrants: a token's scopes are kept, shown and obeyed.
func TestTokenGrants(t *testing.T) {
	k := newKit(t, Options{})
	k.want(201, k.do("PUT", pypool, "{}"))
	k.want(201, k.do("PUT", rg+"/other", "{}"))
	var made api.NewToken
	r := k.want(201, k.do("POST", "/sandpool/tokens",
		`{"name":"ci","grants":[{"role":"pool-contributor","scope":"`+pypool+`"},`+
			`{"role":"session-executor","scope":"`+rg+`/other/identifiers/t-*"}]}`))
	if err := json.Unmarshal(r.body, &made); err != nil {
		t.Fatal(err)
	}
	want := []api.Grant{{Role: "pool-contributor", Scope: pypool}, {Role: "session-executor",
		Scope: rg + "/other/identifiers/t-*"}}
	if !cmp.Equal(made.Grants, want) || made.Role != "" || made.Pool != "" {
		t.Errorf("%s", r.body)
	}
	k.want(200, k.as(made.Text, "PATCH", pypool, `{"tags":{"a":"b"}}`))
	k.want(403, k.as(made.Text, "GET", rg+"/other", ""))
	if r := k.want(200, k.as(made.Text, "GET", rg, "")); strings.Contains(string(r.body),
		"/other") || !strings.Contains(string(r.body), pypool) {
		t.Errorf("lists %s", r.body)
	}
	r = k.want(201, k.do("POST", "/sandpool/tokens",
		`{"name":"ci","role":"admin","scope":"/subscriptions/s1/resourceGroups/lab"}`))
	if err := json.Unmarshal(r.body, &made); err != nil {
		t.Fatal(err)
	}
	k.want(200, k.as(made.Text, "GET", rg+"/other", ""))
	k.want(403, k.as(made.Text, "GET", strings.Replace(pypool, "lab", "lab2", 1), ""))
	k.want(403, k.as(made.Text, "POST", "/sandpool/tokens", `{"name":"up","role":"admin"}`))
}

func FuzzParseOperation(f *testing.F) {
	f.Add(operation{kind: putOperation, pool: sandpool.PoolID{ResourceGroup: "lab", Name: "pypool"},
		start: time.Unix(1, 0)}.id())
	f.Add("cHV0Ly8v")
	f.Fuzz(func(t *testing.T, id string) {
		op, err := parseOperation("s1", id)
		if err != nil {
			return
		}
		again, err := parseOperation("s1", op.id())
		if err != nil || again.pool != op.pool || again.kind != op.kind ||
			!again.start.Equal(op.start) {
			t.Fatalf("%q is %+v, and then %+v (%v)", id, op, again, err)
		}
	})
}
