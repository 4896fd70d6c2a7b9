package gateway

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
)

const poolID = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/providers/Microsoft.App/sessionPools/python"

// TestScopedToSessions: a token for the sessions of one tenant reaches those and no others,
// does nothing to the pool, and learns of nobody else, by any call of the data plane.
func TestScopedToSessions(t *testing.T) {
	w := newWorld(t, Options{})
	w.listed = []sandpool.Identifier{"tenant-7-0", "tenant-70-0", "Tenant-7-0"}
	scope := []string{"Test-Role", "session-executor", "Test-Scope", poolID +
		"/identifiers/tenant-7-*"}
	for _, r := range routes() {
		path := strings.ReplaceAll(r.path, "*", "x")
		own := w.raw(r.method, endpoint+"/"+path+"?identifier=tenant-7-0", `{"code":"1"}`, scope...)
		for _, other := range []string{"tenant-70-0", "tenant-8-0", "Tenant-7-0", "tenant-7",
			"xtenant-7-0"} {
			for _, target := range []string{endpoint + "/" + path + "?identifier=" + other,
				endpoint + "/identifier/" + other + "/" + path} {
				got := w.raw(r.method, target, `{"code":"1","identifier":"`+other+`"}`, scope...)
				if r.touches == ofList {
					if strings.Contains(got.body, "enant-70") ||
						strings.Contains(got.body, "Tenant") {
						t.Errorf("%s %s: %s", r.method, target, got.body)
					}
				} else if got.status != 403 || strings.Contains(got.body, other) {
					t.Errorf("%s %s: %d %s", r.method, target, got.status, got.body)
				}
			}
		}
		if denied := own.status == 403; denied != (r.touches == ofPool) {
			t.Errorf("%s %s of its own: %d %s", r.method, path, own.status, own.body)
		}
	}
	if got := w.raw("POST", endpoint+"/execute", `{"code":"1","identifier":"tenant-70-1"}`,
		scope...); got.status != 403 {
		t.Errorf("an identifier in the body: %d %s", got.status, got.body)
	}
	if got := w.raw("POST", strings.Replace(endpoint, "python", "other", 1)+
		"/executions?identifier=tenant-7-0", `{"code":"1"}`, scope...); got.status != 403 {
		t.Errorf("its identifier in another pool: %d %s", got.status, got.body)
	}
}

// TestListSessionsOfATenant: pages hold the tenant's sessions alone, in full, and their links
// do not tell how many others there are.
func TestListSessionsOfATenant(t *testing.T) {
	w := newWorld(t, Options{})
	for i := range 3 * pageSize { // the pool's pages end in the middle of the tenant's sessions
		tenant := "aaaa"
		if i%pageSize > pageSize-3 || i == 0 {
			tenant = "tenant-7-"
		}
		w.listed = append(w.listed, sandpool.Identifier(fmt.Sprintf("%s%03d", tenant, i)))
	}
	var seen []string
	path, pages := endpoint+"/listSessions?limit=2", 0
	for ; path != ""; pages++ {
		m := w.raw("GET", path, "", "Test-Role", "session-executor", "Test-Scope", poolID+
			"/identifiers/tenant-7-*").json(t)
		for _, s := range m["sessions"].([]any) {
			seen = append(seen, s.(map[string]any)["identifier"].(string))
		}
		link, _ := m["nextLink"].(string)
		path = strings.TrimPrefix(link, w.url)
	}
	want := []string{"tenant-7-000", "tenant-7-298", "tenant-7-299", "tenant-7-598", "tenant-7-599",
		"tenant-7-898", "tenant-7-899"}
	if !slices.Equal(seen, want) || pages != 4 {
		t.Errorf("%d pages of %q, want 4 of %q", pages, seen, want)
	}
}
