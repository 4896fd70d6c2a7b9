package access_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/test/real"
)

// worker is a Bicep file as it is compiled: an identity, a pool that has it, and its role there.
const worker = `{
  "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
  "contentVersion": "1.0.0.0",
  "metadata": {"_generator": {"name": "bicep", "version": "0.38.33.27573"}},
  "resources": [
    {"type": "Microsoft.ManagedIdentity/userAssignedIdentities", "apiVersion": "2023-01-31",
     "name": "worker", "location": "[resourceGroup().location]"},
    {"type": "Microsoft.App/sessionPools", "apiVersion": "2025-07-01", "name": "deployed",
     "location": "[resourceGroup().location]",
     "identity": {"type": "UserAssigned", "userAssignedIdentities": {
       "[format('{0}', resourceId('Microsoft.ManagedIdentity/userAssignedIdentities', 'worker'))]": {}}},
     "properties": {"containerType": "PythonLTS",
       "scaleConfiguration": {"maxConcurrentSessions": 2, "readySessionInstances": 0},
       "managedIdentitySettings": [{"lifecycle": "Main",
         "identity": "[resourceId('Microsoft.ManagedIdentity/userAssignedIdentities', 'worker')]"}]},
     "dependsOn": ["[resourceId('Microsoft.ManagedIdentity/userAssignedIdentities', 'worker')]"]},
    {"type": "Microsoft.Authorization/roleAssignments", "apiVersion": "2022-04-01",
     "scope": "[format('Microsoft.App/sessionPools/{0}', 'deployed')]",
     "name": "[guid(resourceId('Microsoft.App/sessionPools', 'deployed'), 'worker')]",
     "properties": {"principalType": "ServicePrincipal",
       "roleDefinitionId": "[subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0')]",
       "principalId": "[reference(resourceId('Microsoft.ManagedIdentity/userAssignedIdentities', 'worker'), '2023-01-31').principalId]"},
     "dependsOn": ["[resourceId('Microsoft.App/sessionPools', 'deployed')]",
       "[resourceId('Microsoft.ManagedIdentity/userAssignedIdentities', 'worker')]"]}],
  "outputs": {"principal": {"type": "string",
    "value": "[reference(resourceId('Microsoft.ManagedIdentity/userAssignedIdentities', 'worker'), '2023-01-31').principalId]"}}}`

// admin asks the server as its administrator.
func (s *identities) admin(method, path, body string, into any) int {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), method, s.URL()+path, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.AdminToken())
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Fatal(err)
	}
	if into != nil && json.Unmarshal(text, into) != nil || resp.StatusCode >= 400 {
		s.Logf("%s %s: %d %s", method, path, resp.StatusCode, text)
	}
	return resp.StatusCode
}

// TestDeployedIdentity: a template makes an identity, a pool that has it, and its role, and a
// complete one without them takes them away.
func TestDeployedIdentity(t *testing.T) {
	s := &identities{T: t, Server: real.Start(t)}
	id := s.Client.PoolID("x")
	group := "/subscriptions/" + id.Subscription + "/resourceGroups/templates"
	if status := s.admin("PUT", group, `{"location":"local"}`, nil); status != 201 {
		t.Fatal(status)
	}
	at := group + "/providers/Microsoft.Resources/deployments/"
	body := func(mode, template string) string {
		return `{"properties":{"mode":"` + mode + `","template":` + template + `}}`
	}
	deploy := func(name, mode, template string) (d api.Deployment) {
		t.Helper()
		s.admin("PUT", at+name, body(mode, template), nil)
		for deadline := time.After(2 * time.Minute); ; {
			s.admin("GET", at+name, "", &d)
			switch d.Properties.ProvisioningState {
			case "Succeeded":
				return d
			case "Failed", "Canceled":
				t.Fatalf("the deployment %s: %+v", name, d.Properties.Error)
			}
			select {
			case <-deadline:
				t.Fatalf("the deployment %s is %+v", name, d)
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
	var foreseen api.WhatIf
	if status := s.admin("POST", at+"one/whatIf", body("Incremental", worker),
		&foreseen); status != 200 {
		t.Fatal(status)
	}
	for _, c := range foreseen.Properties.Changes {
		if c.ChangeType != "Create" {
			t.Errorf("foreseen: %+v", c)
		}
	}
	outputs := deploy("one", "Incremental", worker).Properties.Outputs
	var is api.UserAssignedIdentity
	identity := group + "/providers/" + api.UserAssignedIdentityType + "/worker"
	s.admin("GET", identity, "", &is)
	text, _ := json.Marshal(outputs)
	if is.Properties.PrincipalID == "" || !strings.Contains(string(text), is.Properties.PrincipalID) {
		t.Errorf("the identity is %+v, and the outputs %s", is, text)
	}
	var pool api.SessionPool
	s.admin("GET", group+"/providers/Microsoft.App/sessionPools/deployed", "", &pool)
	if got := pool.Identity.UserAssignedIdentities[is.ID]; got == nil ||
		got.PrincipalID != is.Properties.PrincipalID ||
		pool.Properties.ManagedIdentitySettings[0].Lifecycle != "Main" {
		t.Errorf("the pool is %+v", pool.Identity)
	}
	var roles api.List[api.RoleAssignment]
	s.admin("GET", group+"/providers/Microsoft.App/sessionPools/deployed/providers/"+
		"Microsoft.Authorization/roleAssignments", "", &roles)
	found := false
	for _, r := range roles.Value {
		found = found || r.Properties.PrincipalID == is.Properties.PrincipalID
	}
	if !found {
		t.Errorf("the roles are %+v", roles.Value)
	}
	s.admin("POST", at+"one/whatIf", body("Incremental", worker), &foreseen)
	for _, c := range foreseen.Properties.Changes {
		// as in Azure, what another resource says is not looked up to foresee a change
		if c.ChangeType != "NoChange" && !strings.Contains(c.ResourceID, "/roleAssignments/") {
			t.Errorf("foreseen of what is there: %s %s %+v", c.ResourceID, c.ChangeType, c.Delta)
		}
	}
	const none = `{"resources":[]}`
	s.admin("POST", at+"two/whatIf", body("Complete", none), &foreseen)
	for _, c := range foreseen.Properties.Changes {
		if c.ChangeType != "Delete" {
			t.Errorf("foreseen of an empty template: %+v", c)
		}
	}
	deploy("two", "Complete", none)
	for _, gone := range []string{identity, group + "/providers/Microsoft.App/sessionPools/deployed"} {
		if status := s.admin("GET", gone, "", nil); status != 404 {
			t.Errorf("%s is answered with %d after a complete deployment", gone, status)
		}
	}
}
