package clients_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/need"
)

// az is the az command, unpatched, signed in to a server.
type az struct {
	t      *testing.T
	python string
	env    []string
	tally  *tally
}

// note notes a command of az, without its options, and what came of it.
func (a *az) note(state string, args []string) {
	words := args
	if i := slices.IndexFunc(args, func(s string) bool { return strings.HasPrefix(s, "-") }); i >= 0 {
		words = args[:i]
	}
	for _, option := range args[len(words):] {
		if slices.Contains([]string{"--service-principal", "--identity"}, option) {
			words = append(slices.Clone(words), option)
		}
	}
	a.tally.did("`az "+strings.Join(words, " ")+"`", state)
}

// run runs a command of az and returns its answer, which must be JSON or nothing.
func (a *az) run(args ...string) any {
	a.t.Helper()
	out, complaint, err := a.try(args...)
	if err != nil {
		a.t.Fatalf("az %s: %v\n%s%s", strings.Join(args, " "), err, out, complaint)
	}
	var v any
	if len(out) > 0 {
		if err := json.Unmarshal(out, &v); err != nil {
			a.t.Fatalf("az %s: %q is no JSON: %v", strings.Join(args, " "), out, err)
		}
	}
	a.note("works", args)
	return v
}

func (a *az) try(args ...string) (out []byte, complaint string, err error) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), scriptTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, a.python, append([]string{"-m", "azure.cli"}, args...)...)
	cmd.Env = a.env
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err = cmd.Output()
	return out, errs.String(), err
}

// want runs a command and checks that its answer, as JSON, holds a text.
func (a *az) want(text string, args ...string) {
	a.t.Helper()
	started := time.Now()
	got, err := json.Marshal(a.run(args...))
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Logf("%s az %s", time.Since(started).Round(10*time.Millisecond), strings.Join(args, " "))
	if !strings.Contains(string(got), text) {
		a.t.Errorf("az %s: %s; want %s in it", strings.Join(args, " "), got, text)
	}
}

// refused runs a command that must fail, saying a text.
func (a *az) refused(text string, args ...string) {
	a.t.Helper()
	out, complaint, err := a.try(args...)
	if err == nil || !strings.Contains(complaint, text) {
		a.t.Errorf("az %s: %v, %s%s; want an error with %q", strings.Join(args, " "), err, out,
			complaint, text)
	}
	a.note("refused, when it must be", args)
}

// azTemplate is the template of the founding document with what az and Bicep add around it.
const azTemplate = `{
  // as it is written, with comments
  "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
  "contentVersion": "1.0.0.0",
  "parameters": {
    "name": {"type": "string"},
    "location": {"type": "string", "defaultValue": "[resourceGroup().location]"},
    "max": {"type": "int", "defaultValue": 5}
  },
  "variables": {"cooldown": 300,
    "id": "[resourceId('Microsoft.App/sessionPools', toLower(parameters('name')))]"},
  "resources": [{
    "type": "Microsoft.App/sessionPools",
    "apiVersion": "2025-07-01",
    "name": "[toLower(format('{0}', parameters('name')))]",
    "location": "[parameters('location')]",
    "properties": {
      "containerType": "PythonLTS",
      "poolManagementType": "Dynamic",
      "scaleConfiguration": {"maxConcurrentSessions": "[parameters('max')]",
        "readySessionInstances": 0},
      "dynamicPoolConfiguration": {"lifecycleConfiguration": {"lifecycleType": "Timed",
        "cooldownPeriodInSeconds": "[variables('cooldown')]"}},
      "sessionNetworkConfiguration": {"status": "EgressDisabled"}
    }
  }],
  "outputs": {
    "endpoint": {"type": "string", "value": "[reference(variables('id')).poolManagementEndpoint]"}
  }
}`

// TestAz: az, unpatched, from its registration of the cloud to the deletion of a resource group.
func TestAz(t *testing.T) {
	data := need.Data(t)
	base, err := findPython(t.Context())
	if err != nil {
		need.Lack(t, "az is a Python program, and this machine cannot make an environment for it: "+
			"%v", err)
	}
	python := newEnvironment(t, base, filepath.Join(data, "clients-az"),
		[]string{"python/build.lock", "az/requirements.lock"})
	s := startServer(t, filepath.Join(data, "images"))
	made := s.identity(t, "admin")
	home := t.TempDir()
	a := &az{t: t, python: python, tally: newTally(t, "az", "azure-cli", "az/requirements.lock"),
		env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home,
			"LANG=C.UTF-8", "AZURE_CONFIG_DIR=" + filepath.Join(home, "azure"),
			"AZURE_CORE_COLLECT_TELEMETRY=no", "AZURE_CORE_ONLY_SHOW_ERRORS=yes",
			"PYTHONPYCACHEPREFIX=" + filepath.Join(data, "clients-az", "pycache"),
			"REQUESTS_CA_BUNDLE=" + s.authority}}
	template := filepath.Join(home, "pool.json")
	if err := os.WriteFile(template, []byte(azTemplate), 0o600); err != nil {
		t.Fatal(err)
	}
	a.signIn(s, made.ID, made.Text)
	const group = "azgroup"
	a.want(`"registrationState":"Registered"`, "provider", "show", "--namespace", "Microsoft.App")
	a.run("provider", "register", "--namespace", "Microsoft.App")
	a.want(`"name":"local"`, "account", "list-locations")
	a.want(`"provisioningState":"Succeeded"`, "group", "create", "--name", group, "--location",
		"local",
		"--tags", "team=ml")
	a.want("true", "group", "exists", "--name", group)
	a.want("false", "group", "exists", "--name", "nothing")

	a.deploy(group, template)
	pool := "/subscriptions/" + sandpool.DefaultSubscription + "/resourceGroups/" + group +
		"/providers/Microsoft.App/sessionPools/azpool"
	a.want(`"name":"azpool"`, "resource", "list", "--resource-group", group)
	a.want(`"containerType":"PythonLTS"`, "resource", "show", "--ids", pool)
	a.want(`"status":"Succeeded"`, "rest", "--method", "post", "--url", s.Endpoint()+"/subscriptions/"+
		sandpool.DefaultSubscription+"/resourceGroups/"+group+"/sessionPools/azpool"+
		"/executions?api-version=2025-02-02-preview&identifier=az-1", "--resource",
		"https://dynamicsessions.io", "--body",
		`{"code":"1+1","codeInputType":"Inline","executionType":"Synchronous"}`)
	a.roles(pool)
	a.identities(group, pool)
	a.run("group", "delete", "--name", group, "--yes")
	a.want("false", "group", "exists", "--name", group)
	a.run("logout")
	a.refused("az login", "group", "list")
	a.managed(s, made.Text)
	a.tally.hold(t)
}

// managed signs in as a managed identity, whose endpoint the environment names.
func (a *az) managed(s *server, secret string) {
	a.t.Helper()
	before := a.env
	a.env = append(slices.Clone(before), "IDENTITY_ENDPOINT="+s.Endpoint()+
		"/metadata/identity/oauth2/token", "IDENTITY_HEADER="+secret)
	a.want(sandpool.DefaultSubscription, "login", "--identity")
	a.want(`"isDefault":true`, "account", "show")
	a.want(`"accessToken"`, "account", "get-access-token", "--resource", "https://dynamicsessions.io")
	a.want(`"name":"default"`, "group", "list")
	a.run("logout")
	a.env = before
}

// signIn registers the server as a cloud and signs in, as a service principal.
func (a *az) signIn(s *server, id, secret string) {
	a.t.Helper()
	a.run("cloud", "register", "--name", "sandpool", "--endpoint-resource-manager", s.Endpoint())
	a.run("cloud", "set", "--name", "sandpool")
	login := []string{"login", "--service-principal", "--tenant", "adfs", "--username", id,
		"--password"}
	a.refused("The client is not known", append(login, "wrong")...)
	a.want(sandpool.DefaultSubscription, append(login, secret)...)
	a.want(`"isDefault":true`, "account", "show")
	a.want(`"accessToken"`, "account", "get-access-token", "--resource", "https://dynamicsessions.io")
}

// deploy validates, previews and deploys the template, and finds what it did.
func (a *az) deploy(group, template string) {
	a.t.Helper()
	args := []string{"--resource-group", group, "--name", "d1", "--template-file", template,
		"--parameters", "name=AzPool", "max=4"}
	a.want(`"provisioningState":"Succeeded"`,
		append([]string{"deployment", "group", "validate"}, args...)...)
	whatIf := append([]string{"deployment", "group", "what-if", "--no-pretty-print"}, args...)
	a.want(`"changeType":"Create"`, whatIf...)
	a.want(`"value":"https://`, append([]string{"deployment", "group", "create"}, args...)...)
	a.want(`"changeType":"NoChange"`, whatIf...)
	a.want(`"provisioningState":"Succeeded"`, "deployment", "group", "show", "--resource-group", group,
		"--name", "d1")
	a.want("azpool", "deployment", "operation", "group", "list", "--resource-group", group,
		"--name", "d1")
	a.refused("nothing", "deployment", "group", "show", "--resource-group", group, "--name", "nothing")
}

// identities makes a user-assigned identity, gives it to the pool with a role, and deletes it.
func (a *az) identities(group, pool string) {
	a.t.Helper()
	named := []string{"--resource-group", group, "--name", "worker"}
	made, _ := a.run(append([]string{"identity", "create", "--tags", "team=ml"}, named...)...).(map[string]any)
	principal, _ := made["principalId"].(string)
	id, _ := made["id"].(string)
	if !sandpool.IsManagedPrincipal(principal) || made["clientId"] == "" {
		a.t.Errorf("az identity create: %v", made)
	}
	a.want(principal, append([]string{"identity", "create"}, named...)...) // it stays who it is
	a.want(principal, append([]string{"identity", "show"}, named...)...)
	a.want(principal, "identity", "list", "--resource-group", group)
	a.want(principal, "identity", "list")
	a.want(`"name":"worker"`, "resource", "list", "--resource-group", group, "--resource-type",
		"Microsoft.ManagedIdentity/userAssignedIdentities")
	a.want(principal, "rest", "--method", "patch", "--url", pool+"?api-version=2025-07-01", "--body",
		`{"identity":{"type":"UserAssigned","userAssignedIdentities":{"`+id+`":{}}}}`)
	a.want(principal, "role", "assignment", "create", "--role", "Reader", "--assignee-object-id",
		principal, "--assignee-principal-type", "ServicePrincipal", "--scope", pool)
	a.run(append([]string{"identity", "delete"}, named...)...)
	a.want("[]", "identity", "list", "--resource-group", group)
	a.refused("worker", append([]string{"identity", "show"}, named...)...)
}

// roles gives a principal a role on the pool and takes it away.
func (a *az) roles(pool string) {
	a.t.Helper()
	s := a.run("account", "show")
	user, _ := s.(map[string]any)["user"].(map[string]any)
	id, _ := user["name"].(string)
	role := "Azure ContainerApps Session Executor"
	a.want(role, "role", "definition", "list", "--name", role)
	a.want(id, "role", "assignment", "create", "--role", role, "--assignee-object-id", id,
		"--assignee-principal-type", "ServicePrincipal", "--scope", pool)
	list := []string{"role", "assignment", "list", "--scope", pool, "--fill-principal-name", "false"}
	a.want(id, list...)
	given, _ := a.run(append(list, "--query", "[0].id")...).(string)
	a.run("role", "assignment", "delete", "--ids", given)
	a.want("[]", list...)
}
