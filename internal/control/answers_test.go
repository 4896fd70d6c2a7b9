package control

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

// TestRoutes: what is routed is described, and what is described is routed.
func TestRoutes(t *testing.T) {
	k := newKit(t, Options{})
	mux := &patterns{}
	k.control.Register(mux)
	for _, fault := range described.Differ(*mux) {
		t.Error(fault)
	}
}

// patterns is a mux that serves nothing.
type patterns []string

// Handle implements Mux.
func (p *patterns) Handle(pattern string, _ http.Handler) { *p = append(*p, pattern) }

// TestAnswers gives the answers of reads that no other test gives; the description lists them all.
func TestAnswers(t *testing.T) {
	k := newKit(t, containers())
	k.want(201, k.do("PUT", pypool, "{}"))
	const group, none = "/subscriptions/s1/resourceGroups/lab", "/subscriptions/s1/resourceGroups/none"
	const env = group + "/providers/Microsoft.App/managedEnvironments/env"
	for _, row := range []struct {
		status         int
		method, target string
		body           string
	}{
		{200, "GET", "/providers", ""},
		{200, "GET", "/providers/Microsoft.App", ""},
		{404, "GET", "/providers/Microsoft.Compute", ""},
		{404, "GET", "/subscriptions/s1/operationresults/x", ""},
		{404, "GET", "/subscriptions/s1/providers/Microsoft.App/locations/x/" +
			"containerappOperationResults/x", ""},
		{200, "GET", group + "/resources", ""},
		{404, "PATCH", none, "{}"},
		{404, "DELETE", none, ""},

		{200, "PUT", env, "{}"},
		{200, "GET", "/subscriptions/s1/providers/Microsoft.App/managedEnvironments", ""},
		{200, "GET", group + "/providers/Microsoft.App/managedEnvironments", ""},
		{201, "PUT", rg + "/custom", azContainer},
		{409, "DELETE", env, ""}, // the pool is in it
		{404, "GET", env + "2", ""},
		{404, "HEAD", env + "2", ""},
		{404, "PATCH", env + "2", "{}"},
		{204, "DELETE", env + "2", ""},
		{200, "PUT", env + "3", "{}"},
		{200, "DELETE", env + "3", ""},

		{200, "GET", pypool + "/egress", ""},
		{404, "GET", pypool + "x/egress", ""},
		{200, "GET", pypool + "/history", ""},
		{404, "GET", pypool + "x/history", ""},
		{404, "POST", pypool + "x/fetchMCPServerCredentials", ""},
		{404, "POST", pypool + "x/rotateMCPServerCredentials", ""},
		{404, "POST", pypool + "x/regenerateCredentials", ""},
	} {
		if r := k.do(row.method, row.target, row.body); r.status != row.status {
			t.Errorf("%s %s: %d %s, want %d", row.method, row.target, r.status, r.body, row.status)
		}
	}
}

// TestRolesAtEachScope: roles are read, given and taken in the same way at every scope.
func TestRolesAtEachScope(t *testing.T) {
	k := newKit(t, Options{})
	k.want(201, k.do("PUT", pypool, "{}"))
	row, _, err := k.tokens.Create(t.Context(), "app", []sandpool.Grant{{
		Role: auth.MonitoringReader}}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	const executor = "0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0"
	body := fmt.Sprintf(`{"properties":{"roleDefinitionId":%q,"principalId":%q}}`, executor, row.ID)
	for _, scope := range []string{"", "/subscriptions/s1", "/subscriptions/s1/resourceGroups/lab",
		pypool} {
		at := scope + "/providers/Microsoft.Authorization/"
		for _, step := range []struct {
			status               int
			method, target, body string
		}{
			{200, "GET", "roleDefinitions", ""},
			{200, "GET", "roleDefinitions/" + executor, ""},
			{404, "GET", "roleDefinitions/none", ""},
			{404, "GET", "roleAssignments/a", ""},
			{404, "PUT", "roleAssignments/a", strings.Replace(body, executor, "none", 1)},
			{201, "PUT", "roleAssignments/a", body},
			{200, "PUT", "roleAssignments/a", body},
			{409, "PUT", "roleAssignments/b", body},
			{200, "GET", "roleAssignments/a", ""},
			{200, "GET", "roleAssignments", ""},
			{200, "DELETE", "roleAssignments/a", ""},
			{204, "DELETE", "roleAssignments/a", ""},
			{200, "GET", "locks", ""},
			{400, "PUT", "locks/l", "{}"},
		} {
			if r := k.do(step.method, at+step.target, step.body); r.status != step.status {
				t.Errorf("%s %s: %d %s, want %d", step.method, at+step.target, r.status, r.body,
					step.status)
			}
		}
	}
}
