package soak_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/sandpool/sandpool/api"
)

// resource is a custom pool in a template.
func resource(name, image, more string) string {
	return fmt.Sprintf(`{"type":"Microsoft.App/sessionPools","apiVersion":"2025-07-01",
		"location":"local","name":%q,"properties":{"containerType":"CustomContainer",
		"scaleConfiguration":{"maxConcurrentSessions":4,"readySessionInstances":1},
		"customContainerTemplate":{"containers":[{"name":"app","image":%q}],
		"ingress":{"targetPort":8080}}}%s}`, name, image, more)
}

// deployment is a request; the deployment within is called name-in.
func deployment(name, mode string, within string, resources ...string) string {
	if within != "" {
		resources = append(resources, fmt.Sprintf(`{"type":"Microsoft.Resources/deployments",
			"apiVersion":"2025-04-01","name":"%s-in","dependsOn":["two"],"properties":{
			"mode":"Incremental","expressionEvaluationOptions":{"scope":"inner"},
			"template":{"contentVersion":"1.0.0.0","resources":[%s]}}}`, name, within))
	}
	return fmt.Sprintf(`{"properties":{"mode":%q,"template":{"contentVersion":"1.0.0.0",
		"resources":[%s]}}}`, mode, strings.Join(resources, ","))
}

// did returns how each thing that a deployment did stands.
func (o *operations) did(name string) map[string]string {
	o.t.Helper()
	var ops api.List[api.DeploymentOperation]
	status, _, text := o.ask("GET", deployGroup+deploymentsBelow+name+"/operations"+version, "")
	if err := json.Unmarshal([]byte(text), &ops); err != nil || status != http.StatusOK {
		o.t.Fatalf("operations: %d %s", status, text)
	}
	did := map[string]string{}
	for _, op := range ops.Value {
		p := op.Properties
		what := p.ProvisioningOperation + " " + p.TargetResource.ResourceName
		if did[what] != "" {
			o.t.Errorf("%s: %q is there twice: %s", name, what, text)
		}
		did[what] = p.ProvisioningState
	}
	return did
}

// didAll checks that a deployment did these things and no others, each once.
func (o *operations) didAll(name string, want ...string) {
	o.t.Helper()
	did := o.did(name)
	if got := slices.Sorted(maps.Keys(did)); !slices.Equal(got, want) {
		o.t.Errorf("%s did %v, want %v", name, got, want)
	}
	for what, state := range did {
		if state != "Succeeded" {
			o.t.Errorf("%s: %q is %s", name, what, state)
		}
	}
	var d api.Deployment
	_, _, text := o.ask("GET", deployGroup+deploymentsBelow+name+version, "")
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		o.t.Fatalf("%v: %s", err, text)
	}
	creates := 0
	for what := range did {
		if strings.HasPrefix(what, "Create ") {
			creates++
		}
	}
	if got := d.Properties.OutputResources; len(got) != creates {
		o.t.Errorf("%s has the resources %v, want %d", name, got, creates)
	}
}

// deploys: killed while a pool of a deployment is made that another one waits for, in the middle of
// a deployment within one, and while a complete deployment deletes.
func (o *operations) deploys() {
	o.t.Helper()
	if status, _, text := o.ask("PUT", deployGroup+version, `{"location":"local"}`); status != 201 {
		o.t.Fatalf("the group: %d %s", status, text)
	}
	images := map[string]string{}
	for _, name := range []string{"one", "two", "three", "old-a", "old-b"} {
		images[name] = o.push(name, 1)
	}
	pool := func(name, more string) string { return resource(name, images[name], more) }
	target := deployGroup + deploymentsBelow + "before" + version
	g := o.closeGate("old-b")
	b := o.begin("PUT", target, deployment("before", "Incremental", "", pool("old-a", ""),
		pool("old-b", `,"dependsOn":["old-a"]`)))
	<-g.reached
	o.killAgain()
	if got := o.status(b); got.Status != "Running" && got.Status != "Accepted" {
		o.t.Errorf("a deployment that goes on after a restart is %+v", got)
	}
	close(g.open)
	o.succeeds("an incremental deployment", b)
	o.didAll("before", "Create old-a", "Create old-b")

	body := deployment("all", "Complete", pool("three", ""), pool("one", ""),
		pool("two", `,"dependsOn":["one"]`))
	g = o.closeGate("two")
	b = o.begin("PUT", deployGroup+deploymentsBelow+"all"+version, body)
	<-g.reached
	o.killAgain()
	last := o.closeGate("three")
	close(g.open)
	<-last.reached // in the deployment within
	o.killAgain()
	o.watch("the deployment within is waited for", func() bool {
		return o.did("all")["Create all-in"] != ""
	})
	close(last.open)
	o.watch("a deletion", func() bool {
		did := o.did("all")
		return did["Delete old-a"]+did["Delete old-b"] != "" || o.status(b).Status != "Running"
	})
	o.killAgain()
	o.succeeds("a complete deployment", b)
	o.didAll("all", "Create all-in", "Create one", "Create two", "Delete old-a", "Delete old-b")
	o.didAll("all-in", "Create three")
	if got := o.pools(deployGroup); !slices.Equal(got, []string{"one", "three", "two"}) {
		o.t.Errorf("at the end of a complete deployment there are the pools %v", got)
	}
	for _, name := range o.pools(deployGroup) {
		o.settled(deployGroup, name, 1, 0)
	}
}
