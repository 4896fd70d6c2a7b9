package soak_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/test/leaks"
)

// deployKills is how often the server is killed while it deploys.
const deployKills = 4

// deployTemplate deploys two pools by a loop, and a third one by a deployment within.
const deployTemplate = `{"properties":{"mode":"Incremental","template":{
  "contentVersion":"1.0.0.0","parameters":{"n":{"type":"string"}},
  "resources":[
    {"type":"Microsoft.App/sessionPools","apiVersion":"2025-07-01","location":"local",
     "name":"[format('{0}-{1}', parameters('n'), copyIndex())]","copy":{"name":"two","count":2},
     "properties":{"containerType":"PythonLTS","poolManagementType":"Dynamic",
       "scaleConfiguration":{"maxConcurrentSessions":2,"readySessionInstances":1}}},
    {"type":"Microsoft.Resources/deployments","apiVersion":"2025-04-01","name":"%[1]s-within",
     "dependsOn":["two"],"properties":{"mode":"Incremental",
     "expressionEvaluationOptions":{"scope":"inner"},"template":{"contentVersion":"1.0.0.0",
       "resources":[{"type":"Microsoft.App/sessionPools","apiVersion":"2025-07-01",
         "location":"local","name":"%[1]s-within",
         "properties":{"containerType":"PythonLTS","poolManagementType":"Dynamic",
           "scaleConfiguration":{"maxConcurrentSessions":2,"readySessionInstances":1}}}]}}}],
  "outputs":{"name":{"type":"string","value":"[parameters('n')]"}}},
  "parameters":{"n":{"value":"%[1]s"}}}}`

// plane is the control plane of a program that may be killed at any time.
type plane struct {
	t *testing.T
	p *program
}

const deployGroup = "/subscriptions/" + sandpool.DefaultSubscription + "/resourceGroups/killed"

// do sends a request once; an error means that there was no whole answer.
func (c plane) do(method, path, body string, into any) (int, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	token, err := os.ReadFile(filepath.Join(c.p.data, "admin-token"))
	if err != nil {
		return 0, err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://"+c.p.addr+deployGroup+path,
		strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && into != nil && resp.StatusCode < 300 {
		err = json.Unmarshal(text, into)
	}
	switch {
	case resp.StatusCode >= 500:
		err = errors.Join(err, fmt.Errorf("%d %s", resp.StatusCode, text))
	case resp.StatusCode == 400:
		c.t.Fatalf("%s %s: %s", method, path, text)
	}
	return resp.StatusCode, err
}

// until repeats a request until done says so.
func (c plane) until(what, method, path, body string, into any, done func(status int) bool) {
	c.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	end := time.After(3 * time.Minute)
	for {
		status, err := c.do(method, path, body, into)
		if err == nil && done(status) {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			c.t.Fatalf("%s: still %d, %v, %+v", what, status, err, into)
		}
	}
}

// killAfter kills the server at any time until most has passed, and starts it again.
func (c plane) killAfter(most time.Duration) {
	c.t.Helper()
	<-time.After(rand.N(most))
	c.p.kill(c.t)
	c.p.start(c.t)
}

func is(want int) func(int) bool { return func(got int) bool { return got == want } }

const (
	poolsBelow       = "/providers/Microsoft.App/sessionPools/"
	deploymentsBelow = "/providers/Microsoft.Resources/deployments/"
)

// TestKilledDeployments: the server is killed in the middle of deployments, of changes of pools and
// of the deletion of a group. What it had accepted is done once, and nothing is left behind.
func TestKilledDeployments(t *testing.T) {
	need.Data(t)
	srv := newProgram(t)
	before, err := leaks.Count(srv.data)
	if err != nil {
		t.Fatal(err)
	}
	srv.start(t)
	c := plane{t, srv}
	c.until("the group", "PUT", "", `{"location":"local"}`, nil, is(201))
	var names []string
	for i := range deployKills {
		name := fmt.Sprintf("kill%d", i)
		names = append(names, name)
		if i%2 == 1 { // killed while it is asked, and so whether it was heard is not known
			asked := make(chan struct{})
			go func() {
				defer close(asked)
				_, _ = c.do("PUT", deploymentsBelow+name, fmt.Sprintf(deployTemplate, name), nil)
			}()
			c.killAfter(100 * time.Millisecond)
			<-asked
		}
		c.until("begin "+name, "PUT", deploymentsBelow+name, fmt.Sprintf(deployTemplate, name), nil,
			func(status int) bool { return status < 300 })
		if i > 0 { // a change of a pool, whose new sandboxes are then on their way
			c.until("change", "PATCH", poolsBelow+names[0]+"-0", fmt.Sprintf(
				`{"properties":{"sandpool":{"pids":%d}}}`, 500+i), nil,
				func(status int) bool { return status < 300 })
		}
		c.killAfter(1500 * time.Millisecond)
		if i == 0 {
			c.ends(name) // its pools are there to be changed
		}
	}
	for _, name := range names {
		c.ends(name)
		c.once(name)
	}
	c.poolsAre(names)

	c.until("delete the group", "DELETE", "", "", nil, is(202))
	srv.kill(t)
	srv.start(t)
	for _, name := range names {
		for _, path := range []string{poolsBelow + name + "-0", poolsBelow + name + "-1",
			poolsBelow + name + "-within"} {
			c.until("the end of "+path, "GET", path, "", nil, is(404))
		}
	}
	srv.stop(t)
	after, err := leaks.Count(srv.data)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range after.Diff(before) {
		t.Errorf("left behind: %s", line)
	}
}

// ends waits until a deployment has succeeded.
func (c plane) ends(name string) {
	c.t.Helper()
	var d api.Deployment
	c.until("the deployment "+name, "GET", deploymentsBelow+name, "", &d, func(status int) bool {
		if s := d.Properties.ProvisioningState; status == 404 || s == "Failed" || s == "Canceled" {
			c.t.Fatalf("%s: %d %+v", name, status, d.Properties)
		}
		return d.Properties.ProvisioningState == "Succeeded"
	})
	if out, _ := json.Marshal(d.Properties.Outputs); !strings.Contains(string(out), `"`+name+`"`) {
		c.t.Errorf("%s has the outputs %s", name, out)
	}
}

// once checks that a deployment did everything, and did it once.
func (c plane) once(name string) {
	c.t.Helper()
	for path, want := range map[string]int{name: 3, name + "-within": 1} {
		var ops api.List[api.DeploymentOperation]
		c.until("operations", "GET", deploymentsBelow+path+"/operations", "", &ops, is(200))
		seen := map[string]bool{}
		for _, op := range ops.Value {
			if to := op.Properties.TargetResource; to != nil {
				if seen[to.ID] || op.Properties.ProvisioningState != "Succeeded" {
					c.t.Errorf("%s: %s is %s, and seen before: %v", path, to.ID,
						op.Properties.ProvisioningState, seen[to.ID])
				}
				seen[to.ID] = true
			}
		}
		if len(seen) != want {
			c.t.Errorf("%s did something with %d resources, want %d", path, len(seen), want)
		}
	}
}

// poolsAre checks that there are the deployments' pools and no others, each with its one ready
// sandbox.
func (c plane) poolsAre(deployments []string) {
	c.t.Helper()
	var all api.SessionPools
	c.until("the pools", "GET", strings.TrimSuffix(poolsBelow, "/"), "", &all, is(200))
	if len(all.Value) != 3*len(deployments) {
		c.t.Errorf("there are %d pools, want %d", len(all.Value), 3*len(deployments))
	}
	for _, p := range all.Value {
		var s api.PoolStatus
		c.until(p.Name, "GET", poolsBelow+p.Name+"/status?$expand=sandboxes", "", &s,
			func(int) bool {
				return s.ProvisioningState == "Succeeded" && s.Ready == 1 && len(s.Sandboxes) == 1
			})
	}
}
