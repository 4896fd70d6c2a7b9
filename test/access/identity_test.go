package access_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/test/real"
)

// askIdentity is code of a session that asks for a token as Azure's clients do, with nothing
// installed, and prints the status and the answer.
const askIdentity = `
import json, os, urllib.error, urllib.parse, urllib.request
def ask(resource, header=None, **more):
    at = os.environ.get("IDENTITY_ENDPOINT")
    if at is None:
        return "none"
    request = urllib.request.Request(at + "?" + urllib.parse.urlencode(
        {"api-version": "2019-08-01", "resource": resource, **more}),
        headers={"X-IDENTITY-HEADER": header or os.environ["IDENTITY_HEADER"]})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as e:
        return {"status": e.code, **json.load(e)}
`

// ownHeader is code that prints the header that the session has to show.
const ownHeader = "import os; print(os.environ['IDENTITY_HEADER'])"

const sessions = "https://dynamicsessions.io"

// identities is a server with a pool that has an identity, and one that has none.
type identities struct {
	*testing.T
	*real.Server
	pool api.SessionPool
}

func newIdentities(t *testing.T) *identities {
	t.Helper()
	s := &identities{T: t, Server: real.Start(t)}
	s.pool = s.put("owner", &api.Identity{Type: "SystemAssigned"}, "Main", sessions, "api://app")
	return s
}

// put makes a pool; without a lifecycle the settings do not name its identity.
func (s *identities) put(name string, id *api.Identity, lifecycle string,
	audiences ...string) api.SessionPool {
	s.Helper()
	return s.putOf(sandpool.PythonLTS, name, id, lifecycle, audiences...)
}

// putOf is put for a pool of some kind.
func (s *identities) putOf(kind sandpool.ContainerType, name string, id *api.Identity,
	lifecycle string, audiences ...string) api.SessionPool {
	s.Helper()
	ready, most := 1, 4
	props := &api.SessionPoolProperties{ContainerType: string(kind),
		ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
			ReadySessionInstances: &ready},
		Sandpool: &api.SandpoolSettings{IdentityAudiences: audiences}}
	if lifecycle != "" {
		props.ManagedIdentitySettings = []api.ManagedIdentitySetting{{Identity: "system",
			Lifecycle: lifecycle}}
	}
	if _, err := s.Client.PutPool(s.Context(), name, api.SessionPool{Location: "local",
		Identity: id, Properties: props}); err != nil {
		s.Fatal(err)
	}
	if _, err := s.Client.WaitReady(s.Context(), name, nil); err != nil {
		s.Fatal(err)
	}
	pool, err := s.Client.Pool(s.Context(), name)
	if err != nil {
		s.Fatal(err)
	}
	return pool
}

// run executes code in a session and returns what it prints.
func (s *identities) run(pool, identifier, code string) string {
	s.Helper()
	got, err := s.Client.Execute(s.Context(), pool, identifier, client.Run{Code: code})
	if err != nil {
		s.Fatal(err)
	}
	if got.Status != "Succeeded" && got.Status != "0" { // that of a command
		s.Fatalf("%s: %+v", code, got)
	}
	return strings.TrimSpace(got.Result.Stdout)
}

// token is what a session is given for a resource, with further text for the call.
func (s *identities) token(pool, identifier, resource, more string) map[string]any {
	s.Helper()
	text := s.run(pool, identifier, askIdentity+fmt.Sprintf("print(json.dumps(ask(%q%s)))",
		resource, more))
	got := map[string]any{}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		s.Fatalf("%s: %v", text, err)
	}
	return got
}

// get asks the server with a token and returns the status.
func (s *identities) get(token, path string) int {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.URL()+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// verify checks a token against the server's published keys and returns its claims.
func (s *identities) verify(text string) map[string]any {
	s.Helper()
	resp, err := http.Get(s.URL() + "/adfs/discovery/keys")
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	var keys jose.JSONWebKeySet
	if err := json.NewDecoder(resp.Body).Decode(&keys); err != nil {
		s.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		s.Fatalf("%q: %v", text, err)
	}
	got := map[string]any{}
	if err := parsed.Claims(keys.Key(parsed.Headers[0].KeyID)[0].Key, &got); err != nil {
		s.Fatal(err)
	}
	return got
}

// TestIdentity: code in a session gets tokens of its pool's identity, for what the pool allows,
// which the server's keys verify and which may what was assigned to it; nobody else gets any, and
// all of it ends with the pool.
func TestIdentity(t *testing.T) {
	s := newIdentities(t)
	principal := s.pool.Identity.PrincipalID
	if !sandpool.IsManagedPrincipal(principal) ||
		s.pool.Properties.ManagedIdentitySettings[0].Lifecycle != "Main" ||
		!slices.Equal(s.pool.Properties.Sandpool.IdentityAudiences,
			[]string{sessions, "api://app"}) {
		t.Fatalf("the pool is shown as %+v", s.pool)
	}
	got := s.token("owner", "first", sessions+"/", "")
	text, _ := got["access_token"].(string)
	if got["token_type"] != "Bearer" || got["resource"] != sessions+"/" ||
		got["client_id"] != principal {
		t.Fatalf("the answer is %v", got)
	}
	claims := s.verify(text)
	for name, want := range map[string]any{"iss": s.URL() + "/adfs", "aud": sessions,
		"sub": "identity:" + principal, "oid": principal, "tid": sandpool.DefaultSubscription,
		"xms_mirid": s.Client.PoolID("owner").String()} {
		if fmt.Sprint(claims[name]) != fmt.Sprint(want) &&
			fmt.Sprint(claims[name]) != fmt.Sprintf("[%v]", want) {
			t.Errorf("the claim %s is %v, want %v", name, claims[name], want)
		}
	}
	if ends := time.Unix(int64(claims["exp"].(float64)), 0); time.Until(ends) > 15*time.Minute {
		t.Errorf("the token ends at %v", ends)
	}
	app, _ := s.token("owner", "first", "api://app", "")["access_token"].(string)
	s.refusals(t)
	s.everywhere(t)
	s.roles(t, principal, text, app)
	s.endings(t, principal, text)
}

// refusals asks for what nobody may have.
func (s *identities) refusals(t *testing.T) {
	theirs := s.run("owner", "second", ownHeader)
	mine := s.run("owner", "first", ownHeader)
	if theirs == mine || len(mine) != 64 {
		t.Errorf("two sessions have the headers %q and %q", mine, theirs)
	}
	for name, row := range map[string]struct {
		resource, more string
		status         float64
	}{
		"an audience not allowed": {"https://management.azure.com", "", 403},
		"another's header":        {sessions, fmt.Sprintf(", header=%q", theirs), 401},
		"another identity":        {sessions, `, client_id="someone"`, 400},
	} {
		if got := s.token("owner", "first", row.resource, row.more); got["status"] != row.status {
			t.Errorf("%s: %v, want %v", name, got, row.status)
		}
	}
	s.put("none", nil, "")
	s.put("unused", &api.Identity{Type: "SystemAssigned"}, "None", sessions)
	for _, pool := range []string{"none", "unused"} {
		got := s.run(pool, "some", askIdentity+fmt.Sprintf("print(ask(%q))", sessions))
		if got != "none" {
			t.Errorf("a session of the pool %s is given %s", pool, got)
		}
		got = s.run(pool, "some", `
import socket
try:
    socket.create_connection(("127.0.0.1", 42356), timeout=5)
    print("open")
except ConnectionRefusedError:
    print("refused")`)
		if got != "refused" {
			t.Errorf("the port in a session of the pool %s is %s", pool, got)
		}
	}
}

// everywhere looks for the environment in what else runs in a session.
func (s *identities) everywhere(t *testing.T) {
	mine := s.run("owner", "first", ownHeader)
	for name, code := range map[string]string{
		"a child": `import subprocess
print(subprocess.getoutput("echo $IDENTITY_HEADER"))`,
		"a shell command": `!echo $IDENTITY_HEADER`,
	} {
		if got := s.run("owner", "first", code); got != mine {
			t.Errorf("%s has the header %q, want %q", name, got, mine)
		}
	}
	got, err := s.Client.Execute(t.Context(), "owner", "first", client.Run{
		Code: "echo $IDENTITY_HEADER", Kernel: "shell"})
	if err != nil || strings.TrimSpace(got.Result.Stdout) != mine {
		t.Errorf("a context of another kernel has the header %+v (%v), want %q", got, err, mine)
	}
	if err := s.Client.RestartContext(t.Context(), "owner", "first", "default"); err != nil {
		t.Fatal(err)
	}
	if got := s.run("owner", "first", ownHeader); got != mine {
		t.Errorf("a new kernel has the header %q, want %q", got, mine)
	}
}

// roles gives the principal a role, takes it back, and asks each time.
func (s *identities) roles(t *testing.T, principal, text, app string) {
	path := s.Client.PoolID("owner").String() + "?api-version=2025-07-01"
	if status := s.get(text, path); status != http.StatusForbidden {
		t.Errorf("without a role: %d, want 403", status)
	}
	if status := s.get(app, path); status != http.StatusUnauthorized {
		t.Errorf("a token for something else: %d, want 401", status)
	}
	if _, err := s.Client.AssignRole(t.Context(), s.Client.PoolID("owner").Scope(),
		s.definition(t, auth.AzureName(auth.Reader)), principal, time.Time{}); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(time.Minute) // it counts within seconds
	for s.get(text, path) != http.StatusOK {
		select {
		case <-deadline:
			t.Fatal("a role that was assigned a minute ago does not count")
		case <-time.After(200 * time.Millisecond):
		}
	}
	if status := s.get(text, s.Client.PoolID("none").String()+
		"?api-version=2025-07-01"); status != http.StatusForbidden {
		t.Errorf("another pool: %d, want 403", status)
	}
	if _, err := s.Client.AssignRole(t.Context(), s.Client.PoolID("owner").Scope(),
		s.definition(t, auth.AzureName(auth.Reader)), sandpool.NewManagedPrincipal(),
		time.Time{}); err == nil {
		t.Error("a role was assigned to a principal that no pool has")
	}
}

func (s *identities) definition(t *testing.T, name string) string {
	t.Helper()
	all, err := s.Client.RoleDefinitions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if d.Properties.RoleName == name {
			return d.ID
		}
	}
	t.Fatalf("there is no role %q", name)
	return ""
}

// endings takes the audience back, and then the pool.
func (s *identities) endings(t *testing.T, principal, text string) {
	path := s.Client.PoolID("owner").String() + "?api-version=2025-07-01"
	patch := func(audiences ...string) {
		t.Helper()
		if _, err := s.Client.PatchPool(t.Context(), "owner", api.SessionPool{
			Properties: &api.SessionPoolProperties{Sandpool: &api.SandpoolSettings{
				IdentityAudiences: audiences}}}); err != nil {
			t.Fatal(err)
		}
	}
	patch("api://app")
	if status := s.get(text, path); status != http.StatusUnauthorized {
		t.Errorf("a token whose audience was taken back: %d, want 401", status)
	}
	if got := s.token("owner", "first", sessions, ""); got["status"] != 403.0 {
		t.Errorf("an audience that was taken back: %v", got)
	}
	patch(sessions)
	if status := s.get(text, path); status != http.StatusOK {
		t.Errorf("a token whose audience is allowed again: %d, want 200", status)
	}
	if pool, err := s.Client.Pool(t.Context(), "owner"); err != nil ||
		pool.Identity.PrincipalID != principal {
		t.Errorf("a change of the pool has changed its principal: %+v %v", pool.Identity, err)
	}
	records, err := s.Client.Audit(t.Context(), client.Audit{Who: "identity:" + principal})
	if err != nil || len(records.Value) == 0 ||
		!strings.Contains(string(records.Value[0].After), sessions) {
		t.Errorf("the audit log says %+v (%v)", records.Value, err)
	}
	if _, err := s.Client.DeletePool(t.Context(), "owner"); err != nil {
		t.Fatal(err)
	}
	if status := s.get(text, path); status != http.StatusUnauthorized {
		t.Errorf("a token of a pool that is gone: %d, want 401", status)
	}
	again := s.put("owner", &api.Identity{Type: "SystemAssigned"}, "Main", sessions)
	if again.Identity.PrincipalID == principal {
		t.Error("a new pool has the principal of the one before")
	}
	if status := s.get(text, path); status != http.StatusUnauthorized {
		t.Errorf("a token of the pool before: %d, want 401", status)
	}
}

// TestIdentityLanguages: code of every language finds the endpoint, and asks it.
func TestIdentityLanguages(t *testing.T) {
	s := &identities{T: t, Server: real.Start(t)}
	for kind, code := range map[sandpool.ContainerType]string{
		sandpool.NodeLTS: `const answer = await fetch(process.env.IDENTITY_ENDPOINT +
  "?api-version=2019-08-01&resource=api://app",
  { headers: { "X-IDENTITY-HEADER": process.env.IDENTITY_HEADER } });
console.log((await answer.json()).access_token)`,
		sandpool.Shell: `exec 3<>/dev/tcp/127.0.0.1/42356
printf 'GET %s?api-version=2019-08-01&resource=api://app HTTP/1.1\r\nHost: a\r\n'` +
			` "/${IDENTITY_ENDPOINT#http://*/}" >&3
printf 'X-IDENTITY-HEADER: %s\r\n\r\n' "$IDENTITY_HEADER" >&3
grep -o '"access_token": *"[^"]*"' <&3 | cut -d'"' -f4`,
	} {
		name := strings.ToLower(string(kind))
		pool := s.putOf(kind, name, &api.Identity{Type: "SystemAssigned"}, "Main", "api://app")
		if got := s.verify(s.run(name, "some", code)); got["oid"] != pool.Identity.PrincipalID {
			t.Errorf("%s: the token says %v", kind, got)
		}
	}
}
