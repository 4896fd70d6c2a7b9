package control

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/auth"
)

const assignmentsOf = "/providers/Microsoft.Authorization/roleAssignments"

// TestAssignmentsEnd: a role given for a time is shown with its end, is refused from that second
// on, by a cached token too, and leaves nothing.
func TestAssignmentsEnd(t *testing.T) {
	var now atomic.Int64
	began := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	k := newKit(t, Options{Foreign: true,
		Now: func() time.Time { return began.Add(time.Duration(now.Load())) }})
	k.want(201, k.do("PUT", pypool, "{}"))
	row, text, err := k.tokens.Create(t.Context(), "ann", []sandpool.Grant{
		{Role: auth.MonitoringReader}}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	const object = "5b1c2d3e-0000-4000-8000-000000000001"
	at := func(name string) string { return pypool + assignmentsOf + "/" + name }
	body := func(principal, ends string) string {
		return fmt.Sprintf(`{"properties":{"principalId":%q,"roleDefinitionId":`+
			`"0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0","sandpool":{"expiresAt":%q}}}`, principal, ends)
	}
	for _, bad := range []string{"tomorrow", "2029-12-31T23:59:59Z", "2030-01-01T00:00:00Z"} {
		k.want(400, k.do("PUT", at("a1"), body(row.ID, bad)))
	}
	const hour = "2030-01-01T01:00:00Z"
	k.want(201, k.do("PUT", at("a1"), body(row.ID, hour)))
	k.want(200, k.do("PUT", at("a1"), body(row.ID, hour)))
	k.want(201, k.do("PUT", at("a2"), body(object, "2030-01-01T02:00:00+01:00")))
	list := func() string {
		return string(k.want(200, k.do("GET", pypool+assignmentsOf+"?$filter="+
			url.QueryEscape("atScope()"), "")).body)
	}
	if got := list(); strings.Count(got, `"expiresAt":"`+hour) != 2 {
		t.Errorf("the list: %s", got)
	}
	tokens := string(k.want(200, k.do("GET", "/sandpool/tokens/"+row.ID, "")).body)
	if !strings.Contains(tokens, hour) {
		t.Errorf("the token: %s", tokens)
	}
	now.Store(int64(time.Hour - 1))
	k.want(200, k.as(text, "GET", pypool, ""))
	if got, err := k.control.Assigned(t.Context(), []string{object}); err != nil || len(got) != 1 {
		t.Errorf("the foreign principal has %v, %v", got, err)
	}
	now.Store(int64(time.Hour)) // within what the token is cached for
	k.want(403, k.as(text, "GET", pypool, ""))
	if got, err := k.control.Assigned(t.Context(), []string{object}); err != nil || len(got) != 0 {
		t.Errorf("after the end the foreign principal has %v, %v", got, err)
	}
	if got := list(); strings.Contains(got, "principalId") {
		t.Errorf("after the end the list has %s", got)
	}
	k.want(404, k.do("GET", at("a1"), ""))
	if n, err := k.control.ForgetEnded(t.Context()); n != 2 || err != nil {
		t.Errorf("ForgetEnded = %d, %v", n, err)
	}
	kept, err := k.tokens.List(t.Context())
	if err != nil || len(kept) != 2 || len(kept[1].Grants) != 1 { // beside the administrator's
		t.Errorf("the tokens: %+v, %v", kept, err)
	}
	k.want(201, k.do("PUT", at("a1"), body(row.ID, "2030-01-01T02:00:00Z"))) // its name is free
	k.want(200, k.as(text, "GET", pypool, ""))
}

// TestAssignmentsGoOn: the end of an assignment can change, and nothing else of it.
func TestAssignmentsGoOn(t *testing.T) {
	var now atomic.Int64
	k := newKit(t, Options{Now: func() time.Time { return time.Unix(now.Load(), 0) }})
	k.want(201, k.do("PUT", pypool, "{}"))
	row, text, err := k.tokens.Create(t.Context(), "ann", []sandpool.Grant{
		{Role: auth.MonitoringReader}}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	assignment := pypool + assignmentsOf + "/a1"
	body := func(ends int64) string {
		return fmt.Sprintf(`{"properties":{"principalId":%q,"roleDefinitionId":`+
			`"0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0","sandpool":{"expiresAt":%q}}}`, row.ID,
			time.Unix(ends, 0).UTC().Format(time.RFC3339))
	}
	k.want(201, k.do("PUT", assignment, body(100)))
	k.want(200, k.do("PUT", assignment, body(200)))
	now.Store(150)
	k.want(200, k.as(text, "GET", pypool, ""))
	k.want(200, k.do("PUT", assignment, body(160))) // and shorter
	now.Store(160)
	k.want(403, k.as(text, "GET", pypool, ""))
	k.want(201, k.do("PUT", assignment, body(300)))
	for _, wrong := range []string{`"sandpool":{"expires":`, `"condition":"x","sandpool":{"expiresAt":`,
		`"description":"` + strings.Repeat("x", 1025) + `","sandpool":{"expiresAt":`} {
		k.want(400, k.do("PUT", assignment, strings.Replace(body(300), `"sandpool":{"expiresAt":`,
			wrong, 1)))
	}
	forever, _, _ := strings.Cut(body(300), `,"sandpool"`)
	for _, why := range []string{"why", "because"} {
		if r := k.want(200, k.do("PUT", assignment, forever+`,"description":"`+why+
			`","condition":null}}`)); !strings.Contains(string(r.body), why) {
			t.Errorf("the description: %s", r.body)
		}
	}
	now.Store(1_000_000) // without an end
	k.want(200, k.as(text, "GET", pypool, ""))
	k.want(409, k.do("PUT", assignment, strings.Replace(body(2_000_000),
		"0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0", "acdd72a7-3385-48ef-bd42-f606fba81ae7", 1)))
	k.want(200, k.do("DELETE", assignment, ""))
	k.want(403, k.as(text, "GET", pypool, ""))
}

// TestGrantsEnd: grants that a token is made with may end before it does.
func TestGrantsEnd(t *testing.T) {
	var now atomic.Int64
	k := newKit(t, Options{Now: func() time.Time { return time.Unix(now.Load(), 0) }})
	k.want(201, k.do("PUT", pypool, "{}"))
	made := func(ends int64) string {
		return fmt.Sprintf(`{"name":"ann","grants":[{"role":"reader","scope":"/","expiresAt":%q},`+
			`{"role":"monitoring-reader","scope":"/"}]}`, time.Unix(ends, 0).UTC().Format(time.RFC3339))
	}
	k.want(400, k.do("POST", "/sandpool/tokens", made(0)))
	k.want(400, k.do("POST", "/sandpool/tokens", strings.Replace(made(10), "expiresAt", "expires", 1)))
	k.want(400, k.do("POST", "/sandpool/tokens", strings.Replace(made(10), `{"name"`,
		`{"scop":"/x","name"`, 1)))
	k.want(400, k.do("POST", "/sandpool/tokens", strings.Replace(made(10), "1970", "never", 1)))
	var token api.NewToken
	if err := json.Unmarshal(k.want(201, k.do("POST", "/sandpool/tokens", made(10))).body,
		&token); err != nil {
		t.Fatal(err)
	}
	k.want(200, k.as(token.Text, "GET", pypool, ""))
	now.Store(10)
	k.want(403, k.as(token.Text, "GET", pypool, ""))
}
