package access_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/oidc"
	"github.com/sandpool/sandpool/internal/server"
	"github.com/sandpool/sandpool/test/real"
)

var update = flag.Bool("update", false, "write docs/permissions.md anew")

// page is what the matrix is compared with, for people to read.
const page = "../../docs/permissions.md"

// The names of the matrix. What is only looked at exists; what is changed does not, so that those
// who may do not change what the next one sees. A role's scope is of the same kind in both.
const (
	subscription     = "sub-1"
	there, elsewhere = "there", "elsewhere" // a group each, with pools of these names
	boxes            = "boxes"              // a pool of custom containers in the group there
	tenant           = "tenant-7-"
)

// poolOf is a pool by its name, in the group of its name but for boxes.
func poolOf(name string) sandpool.PoolID {
	group := name
	if name == boxes {
		group = there
	}
	return sandpool.PoolID{Subscription: subscription, ResourceGroup: group, Name: name}
}

// scopeKinds are the kinds of scope, by the letter that stands for them, the widest first.
func scopeKinds() []struct {
	letter, name string
	of           func(sandpool.PoolID) sandpool.Scope
} {
	return []struct {
		letter, name string
		of           func(sandpool.PoolID) sandpool.Scope
	}{
		{"E", "everything", func(sandpool.PoolID) sandpool.Scope { return sandpool.Scope{} }},
		{"S", "the subscription", func(sandpool.PoolID) sandpool.Scope {
			return sandpool.Scope{Subscription: subscription}
		}},
		{"G", "the resource group", func(id sandpool.PoolID) sandpool.Scope {
			return sandpool.Scope{Subscription: subscription, ResourceGroup: id.ResourceGroup}
		}},
		{"P", "the pool", sandpool.PoolID.Scope},
		{"B", "sessions by the beginning of their identifiers", func(id sandpool.PoolID) sandpool.Scope {
			s := id.Scope().Session(tenant)
			s.Prefix = true
			return s
		}},
		{"O", "one session", func(id sandpool.PoolID) sandpool.Scope {
			return id.Scope().Session(tenant + "a")
		}},
	}
}

// grants are those of a role in a scope of a kind, for each pool of the matrix.
func grants(role sandpool.Role, of func(sandpool.PoolID) sandpool.Scope) (all []sandpool.Grant) {
	for _, name := range []string{there, elsewhere, boxes} {
		g := sandpool.Grant{Role: role, Scope: of(poolOf(name))}
		if !slices.Contains(all, g) {
			all = append(all, g)
		}
	}
	return all
}

// holder is somebody with a role in a scope, and their tokens of all kinds.
type holder struct {
	role   sandpool.Role
	letter string
	tokens map[string]string // by kind
}

// world is a server, who uses it, and what there is in it.
type world struct {
	*testing.T
	srv     *real.Server
	client  *http.Client
	foreign *foreign
	holders []holder
	keys    map[string]string // of pools' MCP endpoints
	// operation is the name of one that has begun in the pool that exists.
	operation string
}

func newClient(t *testing.T) *http.Client {
	c := &http.Client{Timeout: time.Minute}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, client: newClient(t), foreign: newForeign(t), keys: map[string]string{}}
	var rules []oidc.Rule
	for _, role := range auth.Roles() {
		for _, k := range scopeKinds() {
			for _, g := range grants(role, k.of) {
				rules = append(rules, oidc.Rule{Role: string(role), Scope: g.Scope.String(),
					Claims: map[string]string{"case": string(role) + " " + k.letter}})
			}
		}
	}
	w.srv = real.Start(t, func(c *server.Config) {
		c.Issuers = []oidc.Settings{{Issuer: w.foreign.url,
			Audiences: []string{"https://dynamicsessions.io"}, Rules: rules}}
	})
	for _, role := range auth.Roles() {
		for _, k := range scopeKinds() {
			w.holders = append(w.holders, w.hold(role, k.letter, grants(role, k.of)))
		}
	}
	w.fill()
	return w
}

// hold makes the tokens of somebody.
func (w *world) hold(role sandpool.Role, letter string, grants []sandpool.Grant) holder {
	w.Helper()
	req := api.TokenRequest{Name: string(role) + " " + letter}
	for _, g := range grants {
		req.Grants = append(req.Grants, api.Grant{Role: string(g.Role), Scope: g.Scope.String()})
	}
	own, err := w.srv.Client.CreateToken(w.Context(), req)
	if err != nil {
		w.Fatal(err)
	}
	return holder{role: role, letter: letter, tokens: map[string]string{
		"of the server":           own.Text,
		"JWT for the management":  w.signIn(own, "https://management.azure.com"),
		"JWT for sessions":        w.signIn(own, "https://dynamicsessions.io"),
		"JWT of a foreign issuer": w.foreign.token(string(role) + " " + letter),
		"JWT by a code":           w.byCode(own.Text),
		"JWT by a visitor's code": w.byCode(w.foreign.token(string(role) + " " + letter)),
	}}
}

// byCode is what a program gets whose code somebody with a token has approved.
func (w *world) byCode(token string) string {
	w.Helper()
	post := func(path string, form url.Values) map[string]any {
		w.Helper()
		resp, err := w.client.PostForm(w.srv.URL()+path, form)
		if err != nil {
			w.Fatal(err)
		}
		defer resp.Body.Close()
		var got map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || resp.StatusCode != 200 {
			w.Fatalf("%s: %d %v, %v", path, resp.StatusCode, got, err)
		}
		return got
	}
	codes := post("/adfs/oauth2/v2.0/devicecode", url.Values{"client_id": {"program"},
		"scope": {"https://management.azure.com/.default"}})
	if status, text := w.ask(token, "POST", "/sandpool/devices",
		fmt.Sprintf(`{"userCode":%q}`, codes["user_code"])); status != http.StatusNoContent {
		w.Fatalf("a code is not approved: %d %s", status, text)
	}
	device, _ := codes["device_code"].(string)
	text, _ := post("/adfs/oauth2/v2.0/token", url.Values{"client_id": {"program"},
		"device_code": {device},
		"grant_type":  {"urn:ietf:params:oauth:grant-type:device_code"}})["access_token"].(string)
	return text
}

// signIn exchanges a token for a JWT.
func (w *world) signIn(t api.NewToken, audience string) string {
	w.Helper()
	resp, err := w.client.PostForm(w.srv.URL()+"/adfs/oauth2/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {t.ID}, "client_secret": {t.Text},
		"scope": {audience + "/.default"}})
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.Token == "" {
		w.Fatalf("no token: %d, %v", resp.StatusCode, err)
	}
	return got.Token
}

// fill makes what is looked at: pools whose images there are none of, so that they have no
// sandboxes, and what lies around them.
func (w *world) fill() {
	w.Helper()
	admin := w.srv.AdminToken()
	for target, body := range map[string]string{
		"/subscriptions/sub-1/resourceGroups/there?api-version=1": `{"location":"local"}`,
		"/subscriptions/sub-1/resourceGroups/there/providers/Microsoft.App/managedEnvironments/" +
			"environment-1": `{"location":"local","properties":{}}`,
		"/subscriptions/sub-1/resourceGroups/there/providers/Microsoft.ManagedIdentity/" +
			"userAssignedIdentities/identity-1": `{"location":"local"}`,
		poolOf(there).String(): `{"location":"local","properties":{"containerType":"PythonLTS",` +
			`"mcpServerSettings":{"isMcpServerEnabled":true},"sandpool":{"image":"none"}}}`,
		poolOf(boxes).String(): `{"location":"local","properties":{"containerType":"CustomContainer",` +
			`"customContainerTemplate":{"containers":[{"name":"a","image":"127.0.0.1:1/none:1"}],` +
			`"ingress":{"targetPort":80}}}}`,
	} {
		status, text := w.ask(admin, "PUT", target, body)
		if status != http.StatusOK && status != http.StatusCreated {
			w.Fatalf("PUT %s: %d %s", target, status, text)
		}
	}
	w.operation = w.begun(poolOf(there).String())
	status, text := w.ask(admin, "POST", poolOf(there).String()+"/fetchMCPServerCredentials", "")
	var key struct {
		APIKey string `json:"apiKey"`
	}
	if err := json.Unmarshal([]byte(text), &key); err != nil || key.APIKey == "" {
		w.Fatalf("no key: %d %s", status, text)
	}
	w.keys[there] = key.APIKey
}

// begun is the name of an operation that a change of the pool at target begins.
func (w *world) begun(target string) string {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), "PATCH", w.srv.URL()+target,
		strings.NewReader(`{"tags":{"a":"b"}}`))
	if err != nil {
		w.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.srv.AdminToken())
	resp, err := w.client.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	at, err := url.Parse(resp.Header.Get("Azure-Asyncoperation"))
	if err != nil || at.Path == "" {
		w.Fatalf("a change has begun no operation: %d, %q, %v", resp.StatusCode, at, err)
	}
	return at.EscapedPath()[strings.LastIndexByte(at.EscapedPath(), '/')+1:]
}

// ask sends a request and returns the status and the beginning of the answer.
func (w *world) ask(token, method, target, body string, headers ...string) (int, string) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, w.srv.URL()+target, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := w.client.Do(r)
	if err != nil {
		w.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		w.Fatalf("%s %s: %v", method, target, err)
	}
	return resp.StatusCode, string(text)
}

// request is how the matrix asks for an operation: of what exists, or of what does not if the
// operation changes something. No body is one that a change could be made of.
func (w *world) request(o operation) (target, body string, headers []string) {
	pool := poolOf(there)
	changes := o.method != "GET" && o.method != "HEAD"
	if changes {
		pool, body = poolOf(elsewhere), "{"
	}
	switch o.plane {
	case agents:
		pool = poolOf(there) // one that is not there has no endpoint
	case container:
		pool, body = poolOf(boxes), ""
	case data:
		pool, body = poolOf(elsewhere), ""
	}
	if o.plane != management {
		endpoint := strings.Replace(pool.String(), "/providers/Microsoft.App", "", 1)
		target = endpoint + strings.NewReplacer("*", "x").Replace(o.path) + "?identifier=" + tenant +
			"a&port=80" // the one that the pool exposes
		return target, body, []string{"Upgrade", "tcp", "Connection", "Upgrade"}
	}
	wildcards := []string{"{subscription}", pool.Subscription, "{resourceGroup}", pool.ResourceGroup,
		"{pool}", pool.Name, "{environment}", "environment-1", "{identity}", "identity-1",
		"{provider}", "Microsoft.App",
		"containerappOperationStatuses/{operation}", "containerappOperationStatuses/" + w.operation,
		"containerappOperationResults/{operation}", "containerappOperationResults/" + w.operation,
		"{location}", "local", "{definition}", "acdd72a7-3385-48ef-bd42-f606fba81ae7"}
	target = strings.NewReplacer(wildcards...).Replace(o.path)
	for strings.Contains(target, "{") {
		before, rest, _ := strings.Cut(target, "{")
		_, after, _ := strings.Cut(rest, "}")
		target = before + "none" + after
	}
	return target + "?api-version=2024-11-01", body, nil
}

// hides reports whether those who may not are answered as if there were nothing: of what is looked
// at, groups, environments and identities exist.
func (o operation) hides(status int) bool {
	return status == http.StatusNotFound && (o.method == "GET" || o.method == "HEAD") &&
		(strings.HasSuffix(o.path, "{resourceGroup}") || strings.HasSuffix(o.path, "{environment}") ||
			strings.HasSuffix(o.path, "{identity}"))
}

// TestMatrix asks for every operation with every role in every kind of scope and every kind of
// token, and compares who is let in with the page. All kinds of token must agree.
func TestMatrix(t *testing.T) {
	w := newWorld(t)
	var b bytes.Buffer
	b.WriteString(introduction())
	last := plane("")
	for _, o := range operations(t) {
		if o.plane != last {
			last = o.plane
			heading(&b, last)
		}
		w.row(&b, o)
	}
	if *update {
		if err := os.WriteFile(page, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	got, known := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for _, line := range got {
		if !slices.Contains(known, line) {
			t.Errorf("the server lets in: %s", line)
		}
	}
	for _, line := range known {
		if !slices.Contains(got, line) {
			t.Errorf("the page says:      %s", line)
		}
	}
}

// row asks for one operation.
func (w *world) row(b *bytes.Buffer, o operation) {
	w.Helper()
	target, body, headers := w.request(o)
	may := map[sandpool.Role]string{}
	for _, h := range w.holders {
		answers := map[string]string{}
		for kind, token := range h.tokens {
			status, text := w.ask(token, o.method, target, body, headers...)
			switch {
			case status == http.StatusUnauthorized || status >= 500 && status != 503:
				w.Errorf("%s with a %s %s: %d %s", o, h.role, kind, status, text)
			case status == http.StatusForbidden || o.hides(status):
				answers[kind] = ""
			default:
				answers[kind] = h.letter
			}
		}
		first := answers["of the server"]
		for kind, a := range answers {
			if a != first {
				w.Errorf("%s with a %s in %s: %s says %q, and others %q", o, h.role, h.letter, kind,
					a, first)
			}
		}
		may[h.role] += first
	}
	w.strangers(o, target, body, headers)
	fmt.Fprintf(b, "| `%s` |", short(o))
	for _, role := range auth.Roles() {
		text := may[role]
		if text == "" {
			text = "–"
		}
		fmt.Fprintf(b, " %s |", text)
	}
	b.WriteString("\n")
}

// strangers asks with what opens nothing: no token, one that never was, and the key of a pool in
// every place but its own.
func (w *world) strangers(o operation, target, body string, headers []string) {
	w.Helper()
	key := w.keys[there]
	never := "sp_" + strings.Repeat("a", 16) + "_" + strings.Repeat("b", 52)
	for what, token := range map[string]string{"nothing": "", "an unknown token": never,
		"a pool's key": key} {
		status, text := w.ask(token, o.method, target, body, headers...)
		if (status != http.StatusUnauthorized) != (what == "a pool's key" && o.plane == agents) {
			w.Errorf("%s with %s: %d %s", o, what, status, text)
		}
	}
	status, text := w.ask("", o.method, target, body, append(headers, "x-ms-apikey", key)...)
	if (status != http.StatusUnauthorized) != (o.plane == agents) {
		w.Errorf("%s with a pool's key in its header: %d %s", o, status, text)
	}
}

// short is an operation as the page has it.
func short(o operation) string {
	return strings.NewReplacer(
		"/subscriptions/{subscription}/resourceGroups/{resourceGroup}/providers/Microsoft.App/"+
			"sessionPools/{pool}", "POOL",
		"/subscriptions/{subscription}/resourceGroups/{resourceGroup}", "GROUP",
		"/subscriptions/{subscription}", "SUBSCRIPTION",
		"/providers/Microsoft.Authorization", "…", "/providers/Microsoft.Resources", "…",
		"/providers/Microsoft.App", "…").Replace(o.String())
}

func heading(b *bytes.Buffer, p plane) {
	fmt.Fprintf(b, "\n## %s\n\n| operation |", strings.ToUpper(string(p[0]))+string(p[1:]))
	for _, role := range auth.Roles() {
		fmt.Fprintf(b, " %s |", role)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(auth.Roles())) + "\n")
}

func introduction() string {
	var b strings.Builder
	b.WriteString(`# Every operation and who may ask for it

This page is written by a test, which asks a server for every operation of its sources, with every
role in every kind of scope and with every kind of token: ` + "`go test ./test/access -update`" + `.
[identity.md](identity.md) says what the roles are for. A letter stands for a scope in which the
role opens the operation:

`)
	for _, k := range scopeKinds() {
		fmt.Fprintf(&b, "- **%s**: %s\n", k.letter, k.name)
	}
	b.WriteString(`
A dash means that the role opens it nowhere. Lists are open to whoever may read something, and hold
what they may read; an operation on a session is open if it is about one of the sessions of the
scope. Tokens of the server, JSON Web Tokens that they were exchanged for, for either audience,
those of foreign issuers, and those of programs whose codes somebody with one of them has
approved open the same. The key of a pool opens that pool's MCP endpoint and nothing else.
`)
	return b.String()
}
