package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
)

// azBody is what az containerapp sessionpool create sends for a code pool.
const azBody = `{"location":"northcentralus","identity":{"type":"None"},"properties":{"environmentId":null,"containerType":"PythonLTS",
 "poolManagementType":"Dynamic","scaleConfiguration":{"maxConcurrentSessions":10,"readySessionInstances":5},"secrets":null,
 "dynamicPoolConfiguration":{"lifecycleConfiguration":{"lifecycleType":"Timed","cooldownPeriodInSeconds":300,"maxAlivePeriodInSeconds":null}},
 "customContainerTemplate":null,"sessionNetworkConfiguration":{"status":"EgressDisabled"},"managedIdentitySettings":[]}}`

func TestPutCreatesThenUpdates(t *testing.T) {
	k := newKit(t, Options{})
	r := k.want(201, k.do("PUT", pypool+version, azBody))
	if r.header.Get("Azure-AsyncOperation") == "" {
		t.Error("a 201 without Azure-AsyncOperation stops az")
	}
	if r.pool.ID != pypool || r.pool.Name != "pypool" || r.pool.Type != api.SessionPoolType ||
		r.pool.Location != "northcentralus" || r.pool.SystemData.CreatedAt == "" {
		t.Errorf("pool %+v", r.pool)
	}
	r = k.want(200, k.do("PUT", strings.ToUpper(pypool[:len(pypool)-6])+"PYPOOL"+version,
		strings.Replace(azBody, ":300", ":900", 1)))
	life := r.pool.Properties.DynamicPoolConfiguration.LifecycleConfiguration
	if r.pool.ID != pypool || *life.CooldownPeriodInSeconds != 900 {
		t.Errorf("after the update: %s", r.body)
	}
	if r.header.Get("Azure-AsyncOperation") != "" {
		t.Error("an update that is finished names an operation")
	}
	// What the server answers, it takes.
	k.want(200, k.do("PUT", pypool+version, string(r.body)))
	if k.want(404, k.do("GET", rg+"/other"+version, "")).err.Code != "ResourceNotFound" {
		t.Error("another pool answers")
	}
}

func TestDefaults(t *testing.T) {
	for name, c := range map[string]struct {
		limits          Ranges
		body            string
		sessions, ready int
		cooldown        time.Duration
	}{
		"of az":            {Ranges{}, `{}`, 10, 5, 300 * time.Second},
		"empty properties": {Ranges{}, `{"properties":{}}`, 10, 5, 300 * time.Second},
		"small pool": {Ranges{},
			`{"properties":{"scaleConfiguration":{"maxConcurrentSessions":3}}}`, 3,
			2, 300 * time.Second},
		"one session": {Ranges{},
			`{"properties":{"scaleConfiguration":{"maxConcurrentSessions":1}}}`, 1,
			0, 300 * time.Second},
		"none ready": {Ranges{},
			`{"properties":{"scaleConfiguration":{"readySessionInstances":0}}}`, 10,
			0, 300 * time.Second},
		"narrow server": {Ranges{MaxSessions: 4, MaxCooldown: time.Minute,
			MinCooldown: time.Second}, `{}`, 4, 3, time.Minute},
		"long cooldowns": {Ranges{MinCooldown: 10 * time.Minute}, `{}`, 10, 5, 10 * time.Minute},
	} {
		k := newKit(t, Options{Limits: c.limits})
		k.want(201, k.do("PUT", pypool+version, c.body))
		p := k.pools.pools[strings.ToLower(pypool)].pool
		got := []any{p.MaxSessions, p.ReadySessions, p.Cooldown, p.Spec.Kind, p.Spec.Network.Status,
			p.Location, p.Spec.Resources}
		want := []any{c.sessions, c.ready, c.cooldown, sandpool.PythonLTS, sandpool.EgressDisabled,
			"local", sandpool.Resources{}}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// targets returns what an error names: its own target, or those of its details.
func targets(e api.ErrorDetail) []string {
	if len(e.Details) == 0 {
		return []string{e.Target}
	}
	var out []string
	for _, d := range e.Details {
		out = append(out, d.Target)
	}
	return out
}

// TestHead: existence is 204 or 404.
func TestHead(t *testing.T) {
	k := newKit(t, Options{})
	head := func(token string, want int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodHead,
			k.srv.URL+pypool+version, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := k.srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("status %d, want %d", resp.StatusCode, want)
		}
	}
	head(k.admin, http.StatusNotFound)
	k.want(201, k.do("PUT", pypool, "{}"))
	head(k.admin, http.StatusNoContent)
	head(k.token(auth.Admin, sandpool.PoolID{Subscription: "s1", ResourceGroup: "lab",
		Name: "other"}), http.StatusForbidden)
	head("x", http.StatusUnauthorized)
}

// TestForeignHost: links of answers do not lead where a request's Host says.
func TestForeignHost(t *testing.T) {
	k := newKit(t, Options{PageSize: 1})
	send := func(method, target, body string) reply {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, k.srv.URL+target,
			strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "evil.example"
		req.Header.Set("Authorization", "Bearer "+k.admin)
		resp, err := k.srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		all, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return reply{status: resp.StatusCode, header: resp.Header, body: all}
	}
	answers := []reply{send("PUT", pypool, "{}"), send("PUT", rg+"/other", "{}"),
		send("GET", rg, "")}
	k.pools.looks = 3
	for _, r := range append(answers, send("DELETE", pypool, "")) {
		all := fmt.Sprint(r.header, string(r.body))
		if strings.Contains(all, "evil") || !strings.Contains(all, k.srv.URL) {
			t.Errorf("%d: %s", r.status, all)
		}
	}
}

func TestVersionChoosesTheForm(t *testing.T) {
	k := newKit(t, Options{})
	k.want(201, k.do(
		"PUT", pypool, `{"properties":{"dynamicPoolConfiguration":{"executionType":"Timed","cooldownPeriodInSeconds":400}}}`))
	for v, flat := range map[string]bool{"2024-02-02-preview": true, "2024-10-02-preview": true,
		"2025-01-01": false, "2026-07-01": false, "": false, "latest": false, "1": false} {
		d := k.want(200, k.do("GET", pypool+"?api-version="+v,
			"")).pool.Properties.DynamicPoolConfiguration
		if flat != (d.ExecutionType == "Timed" && d.CooldownPeriodInSeconds != nil &&
			d.LifecycleConfiguration == nil) {
			t.Errorf("version %q: %+v", v, d)
		}
		if !flat && *d.LifecycleConfiguration.CooldownPeriodInSeconds != 400 {
			t.Errorf("version %q: %+v", v, d.LifecycleConfiguration)
		}
	}
}

func TestPatch(t *testing.T) {
	k := newKit(t, Options{})
	k.want(404, k.do("PATCH", pypool+version, `{}`))
	k.want(201, k.do("PUT", pypool+version, `{"tags":{"A":"1","b":"2"},"properties":{"sandpool":{"cpu":0.5,"memory":"512Mi"},
	  "scaleConfiguration":{"maxConcurrentSessions":50,"readySessionInstances":7},"dynamicPoolConfiguration":{"cooldownPeriodInSeconds":400}}}`))
	state := func() []any {
		p := k.pools.pools[strings.ToLower(pypool)].pool
		return []any{p.Tags, p.MaxSessions, p.ReadySessions, p.Cooldown, p.Spec.Resources.CPU,
			p.Spec.Resources.Memory}
	}
	for _, c := range []struct {
		body string
		want []any
	}{
		{`{}`, []any{map[string]string{"A": "1", "b": "2"}, 50, 7, 400 * time.Second,
			0.5, int64(512 << 20)}},
		{`{"properties":null,"tags":{"a":null,"c":"3"}}`, []any{map[string]string{"b": "2",
			"c": "3"}, 50, 7, 400 * time.Second, 0.5, int64(512 << 20)}},
		{`{"Properties":{"ScaleConfiguration":{"maxconcurrentsessions":60}}}`,
			[]any{map[string]string{"b": "2", "c": "3"}, 60, 7, 400 * time.Second,
				0.5, int64(512 << 20)}},
		{`{"properties":{"dynamicPoolConfiguration":{"cooldownPeriodInSeconds":500}}}`,
			[]any{map[string]string{"b": "2", "c": "3"}, 60, 7, 500 * time.Second,
				0.5, int64(512 << 20)}},
		{`{"properties":{"dynamicPoolConfiguration":{"lifecycleConfiguration":{"cooldownPeriodInSeconds":600}}}}`,
			[]any{map[string]string{"b": "2", "c": "3"}, 60, 7, 600 * time.Second,
				0.5, int64(512 << 20)}},
		{`{"tags":null,"properties":{"scaleConfiguration":{"readySessionInstances":null},"sandpool":{"memory":null}}}`,
			[]any{map[string]string(nil), 60, 5, 600 * time.Second, 0.5, int64(0)}},
		{`{"location":"local","properties":{"containerType":"PythonLTS","managedIdentitySettings":[]}}`,
			[]any{map[string]string(nil), 60, 5, 600 * time.Second, 0.5, int64(0)}},
	} {
		k.want(200, k.do("PATCH", pypool+version, c.body))
		if d := cmp.Diff(c.want, state()); d != "" {
			t.Errorf("after %s: %s", c.body, d)
		}
	}
	before := state()
	for body, want := range map[string][]string{
		`{"properties":{"maxConcurrentSessions":5,"nodes":1},"sku":{}}`: {"sku",
			"properties.maxConcurrentSessions", "properties.nodes"},
		`{"properties":[]}`: {"properties"},
		`{"properties":{"containerType":"Shell"}}`: {
			"properties.containerType"},
		`{"properties":{"scaleConfiguration":{"maxConcurrentSessions":"x"}}}`: {
			"properties.scaleConfiguration.maxConcurrentSessions"},
		`{"properties":{"scaleConfiguration":{"readySessionInstances":60}}}`: {
			"properties.scaleConfiguration.readySessionInstances"},
		`{"properties":{"sessionNetworkConfiguration":{"status":"EgressEnabled"}}}`: {
			"properties.sessionNetworkConfiguration.status"},
		`{"properties":{"managedIdentitySettings":[{"identity":"system","lifecycle":"main"}]}}`: {
			"properties.managedIdentitySettings"},
		`{"properties":{"dynamicPoolConfiguration":{"cooldownPeriodInSeconds":400,"lifecycleConfiguration":{"cooldownPeriodInSeconds":500}}}}`: {
			"properties.dynamicPoolConfiguration"},
		`null`: {""},
	} {
		if r := k.do("PATCH", pypool+version, body); r.status < 400 || r.status >= 500 ||
			!slices.Equal(targets(r.err), want) {
			t.Errorf("%s: status %d, %s", body, r.status, r.body)
		}
	}
	if d := cmp.Diff(before, state()); d != "" {
		t.Errorf("refused patches changed the pool: %s", d)
	}
}

func TestListsAreScopedAndPaged(t *testing.T) {
	k := newKit(t, Options{PageSize: 3})
	for i := range 7 {
		k.want(201, k.do("PUT", fmt.Sprintf("%s/pool%d", rg, i), `{}`))
	}
	k.want(201, k.do("PUT",
		"/subscriptions/s1/resourceGroups/other/providers/Microsoft.App/sessionPools/pool", `{}`))
	k.want(201, k.do("PUT",
		"/subscriptions/s2/resourceGroups/lab/providers/Microsoft.App/sessionPools/pool", `{}`))
	list := func(token, target string) (names []string, pages int) {
		for target != "" {
			var page api.SessionPools
			r := k.want(200, k.as(token, "GET", target, ""))
			if err := json.Unmarshal(r.body, &page); err != nil {
				t.Fatal(err)
			}
			if len(page.Value) > 3 {
				t.Fatalf("a page of %d", len(page.Value))
			}
			for _, p := range page.Value {
				names = append(names, p.Name)
			}
			target = page.NextLink
			pages++
		}
		return names, pages
	}
	seven := []string{"pool0", "pool1", "pool2", "pool3", "pool4", "pool5", "pool6"}
	if names, pages := list(k.admin, strings.ToUpper(rg)+version); !slices.Equal(names, seven) ||
		pages != 3 {
		t.Errorf("group: %v on %d pages", names, pages)
	}
	if names, _ := list(k.admin, "/subscriptions/S1/providers/Microsoft.App/sessionPools"+
		version); len(names) != 8 {
		t.Errorf("subscription: %v", names)
	}
	if names, pages := list(k.admin,
		"/subscriptions/none/providers/Microsoft.App/sessionPools"); len(names) != 0 || pages != 1 {
		t.Errorf("empty: %v", names)
	}
	one := k.token(auth.SessionExecutor, sandpool.PoolID{Subscription: "s1", ResourceGroup: "lab",
		Name: "pool6"})
	if names, _ := list(one, rg); !slices.Equal(names, []string{"pool6"}) {
		t.Errorf("a token for one pool sees %v", names)
	}
	k.want(400, k.do("GET", rg+"?$skipToken=!!!", ""))
}

func TestPermissions(t *testing.T) {
	k := newKit(t, Options{})
	k.want(201, k.do("PUT", pypool, `{}`))
	k.want(201, k.do("PUT", rg+"/other", `{}`))
	mine := sandpool.PoolID{Subscription: "S1", ResourceGroup: "LAB", Name: "pypool"}
	tokens := map[string]string{
		"executor": k.token(auth.SessionExecutor, mine), "contributor": k.token(
			auth.PoolContributor, mine), "admin of one": k.token(auth.Admin, mine)}
	for _, c := range []struct {
		who, method, target string
		status              int
	}{
		{"executor", "GET", pypool, 200}, {"executor", "PUT", pypool, 403},
		{"executor", "PATCH", pypool, 403}, {"executor", "DELETE", pypool, 403},
		{"executor", "GET", pypool + "/status", 200}, {"executor", "GET", "/sandpool/tokens", 403},
		// Another pool answers the same whether it exists or not.
		{"contributor", "GET", rg + "/other", 403}, {"contributor", "GET", rg + "/none", 403},
		{"contributor", "DELETE", rg + "/other", 403}, {"contributor", "DELETE", rg + "/none", 403},
		{"contributor", "PUT", rg + "/other", 403}, {"contributor", "PUT", rg + "/none", 403},
		{"contributor", "GET", rg + "/none/status", 403},
		{"contributor", "POST", rg + "/none/fetchMCPServerCredentials", 403},
		{"contributor", "PUT", pypool, 200}, {"contributor", "POST", "/sandpool/tokens", 403},
		{"admin of one", "POST", "/sandpool/tokens", 403},
		{"admin of one", "DELETE", "/sandpool/tokens/x", 403},
	} {
		if r := k.as(tokens[c.who], c.method, c.target, `{}`); r.status != c.status {
			t.Errorf("%s: %s %s: status %d, want %d", c.who, c.method, c.target, r.status, c.status)
		}
	}
	k.want(401, k.as("sp_nonsense", "GET", pypool, ""))
}

func TestOddRequests(t *testing.T) {
	k := newKit(t, Options{})
	k.want(201, k.do("PUT", pypool, `{}`))
	if r := k.want(405, k.do("POST", pypool, `{}`)); r.header.Get("Allow") == "" {
		t.Error("a 405 without Allow")
	}
	if r := k.want(400, k.do("POST", pypool+"/fetchMcpServerCredentials"+version,
		"")); r.err.Code != "SessionMCPServerNotEnabled" {
		t.Errorf("%s", r.body)
	}
	if r := k.want(404, k.do("PUT",
		pypool+"/providers/Microsoft.Authorization/roleAssignments/0fb8?api-version=2022-04-01",
		`{}`)); r.err.Code != "RoleDefinitionDoesNotExist" {
		t.Errorf("%s", r.body)
	}
	k.want(404, k.do("GET", "/subscriptions/s1/resourceGroups/lab/providers/Microsoft.Web/sites/x",
		""))
	k.pools.putErr = errors.New("disk on fire")
	if r := k.want(500, k.do("PUT", pypool, `{}`)); strings.Contains(string(r.body), "fire") {
		t.Errorf("%s", r.body)
	}
}

// A small patch must neither take long nor be answered at length.
func TestPatchOfManyNames(t *testing.T) {
	k := newKit(t, Options{})
	k.want(201, k.do("PUT", pypool, `{}`))
	var names strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&names, `"n%d":"",`, i)
	}
	many := strings.TrimSuffix(names.String(), ",")
	if r := k.want(400, k.do("PATCH", pypool, `{"properties":{`+many+`}}`)); len(
		r.err.Details) != maxProblems {
		t.Errorf("%d details", len(r.err.Details))
	}
	if r := k.want(400, k.do("PATCH", pypool, `{"tags":{`+many+`}}`)); r.err.Target != "tags" {
		t.Errorf("%.300s", r.body)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(azBody)
	f.Add(`{"properties":{"dynamicPoolConfiguration":{"cooldownPeriodInSeconds":400},"sandpool":{"memory":"0.5Gi","cpu":1e300}}}`)
	c := &Control{}
	c.defaults()
	id := sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "pypool"}
	f.Fuzz(func(t *testing.T, text string) {
		var patch map[string]any
		if json.Unmarshal([]byte(text), &patch) != nil {
			return
		}
		base := sandpool.Pool{ID: id, Location: "x", MaxSessions: 10, ReadySessions: 5,
			Cooldown: 300 * time.Second,
			Spec: sandpool.Spec{Kind: sandpool.PythonLTS,
				Network: sandpool.Network{Status: sandpool.EgressDisabled}}}
		check := func(p sandpool.Pool, _ sandpool.Secrets, err error) {
			if err != nil {
				if c := sandpool.ClassOf(err); c == sandpool.Internal {
					t.Fatalf("%s: %v", text, err)
				}
				return
			}
			if p.MaxSessions < 1 || p.MaxSessions > 600 || p.ReadySessions < 0 ||
				p.ReadySessions >= p.MaxSessions || p.Cooldown < 300*time.Second ||
				p.Cooldown > time.Hour || p.Spec.Kind != sandpool.PythonLTS ||
				p.Spec.Network.Status != sandpool.EgressDisabled || p.ID != id {
				t.Fatalf("%s is accepted as %+v", text, p)
			}
		}
		var body api.SessionPool
		if json.Unmarshal([]byte(text), &body) == nil {
			check(c.parse(t.Context(), id, body, nil))
			check(c.parse(t.Context(), id, body, &base))
		}
		merged, err := mergePatch(wire(base, ""), patch)
		if err != nil {
			check(base, nil, err)
			return
		}
		check(c.parse(t.Context(), id, merged, &base))
	})
}

func FuzzSize(f *testing.F) {
	for _, s := range []string{"1Gi", "0.5Gi", "512Mi", "1024", "", ".", "1..2", "9e9",
		"999999999999Ti"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := parseSize(s)
		if !ok {
			return
		}
		if n < 0 {
			t.Fatalf("%q is %d bytes", s, n)
		}
		if again, ok := parseSize(formatSize(n)); n != 0 && n < 1<<53 && (!ok || again != n) {
			t.Fatalf("%q is %d bytes, written %q, read as %d", s, n, formatSize(n), again)
		}
	})
}
