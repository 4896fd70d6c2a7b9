package deployment

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sandpool/sandpool/internal/control/tree"
)

// operations returns how often each "Create of a" is among the operations of a deployment.
func (k *kit) operations(name string) map[string]int {
	k.t.Helper()
	got, _ := k.do("GET", deployments+name+"/operations", "", 200)
	out := map[string]int{}
	for _, op := range got["value"].([]any) {
		p := op.(map[string]any)["properties"].(map[string]any)
		id := strings.ToLower(p["targetResource"].(map[string]any)["id"].(string))
		if p["provisioningState"] != "Succeeded" {
			k.t.Errorf("%s: %v of %s is %v", name, p["provisioningOperation"], id,
				p["provisioningState"])
		}
		out[fmt.Sprint(p["provisioningOperation"], " of ", id[strings.LastIndexByte(id, '/')+1:])]++
	}
	return out
}

// wants compares a deployment's operations and its resources with what it did, once each.
func (k *kit) wants(name string, resources int, operations ...string) {
	k.t.Helper()
	ops := k.operations(name)
	for _, op := range operations {
		if ops[op] != 1 {
			k.t.Errorf("%s: %q is there %d times, want once: %v", name, op, ops[op], ops)
		}
	}
	if len(ops) != len(operations) {
		k.t.Errorf("%s has the operations %v, want %v", name, ops, operations)
	}
	got, _ := k.do("GET", deployments+name, "", 200)
	out, _ := got["properties"].(map[string]any)["outputResources"].([]any)
	if len(out) != resources {
		k.t.Errorf("%s has the resources %v, want %d", name, out, resources)
	}
}

// nthDeletion is true of one deletion alone.
func nthDeletion(n int32) func(method, name string) bool {
	var seen atomic.Int32
	return func(method, _ string) bool { return method == http.MethodDelete && seen.Add(1) == n }
}

// TestCutOff: a deployment that a restart cut off, wherever it was, did each thing once.
func TestCutOff(t *testing.T) {
	inner := fmt.Sprintf(`{"type":"Microsoft.Resources/deployments","apiVersion":"2025-04-01",`+
		`"name":"in","dependsOn":["a"],"properties":{"expressionEvaluationOptions":{"scope":"inner"},`+
		`"mode":"Incremental","template":{"resources":[`+
		`%s,%s]}}}`, pool("x", ""), pool("y", `,"dependsOn":["x"]`))
	outer := pool("a", "") + "," + inner
	second := func(method, name string) bool { return method == "PUT" && name == "b" }
	last := func(method, name string) bool { return method == "PUT" && name == "y" }
	two := pool("a", "") + "," + pool("b", `,"dependsOn":["a"]`)
	for _, c := range []struct {
		name      string
		holds     func(method, name string) bool
		heard     bool
		resources string
		outer     []string
	}{
		{"a pool", second, false, two, []string{"Create of a", "Create of b"}},
		{"a pool, heard", second, true, two, []string{"Create of a", "Create of b"}},
		{"within", last, false, outer, []string{"Create of a", "Create of in"}},
		{"within, heard", last, true, outer, []string{"Create of a", "Create of in"}},
		{"a deletion", nthDeletion(2), false, pool("a", ""), []string{"Create of a"}},
		{"a deletion, heard", nthDeletion(2), true, pool("a", ""), []string{"Create of a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			docs, p := &tree.Memory{}, &planes{}
			k := newKit(t, docs, p)
			k.do("PUT", deployments+"before", body("Incremental", "{}", pool("old1", "")+","+
				pool("old2", "")+","+pool("old3", ""), ""), 201)
			k.ends("before", "Succeeded")
			p.mu.Lock()
			p.held, p.heard = make(chan struct{}), c.heard
			held := make(chan struct{}, 10)
			p.holds = func(method, name string) bool {
				if method == http.MethodGet || !c.holds(method, name) {
					return false
				}
				held <- struct{}{}
				return true
			}
			p.mu.Unlock()
			k.do("PUT", deployments+"d", body("Complete", "{}", c.resources, ""), 201)
			<-held
			k.stop()
			p.mu.Lock()
			p.held = nil
			p.mu.Unlock()
			k = newKit(t, docs, p)
			k.ends("d", "Succeeded")
			k.wants("d", len(c.outer), append(c.outer, "Delete of old1", "Delete of old2",
				"Delete of old3")...)
			want := len(c.outer)
			if c.resources == outer {
				k.ends("in", "Succeeded")
				k.wants("in", 2, "Create of x", "Create of y")
				want = 3
			}
			if len(p.kept) != want {
				text, _ := json.Marshal(p.kept)
				t.Errorf("left are %s, want %d pools", text, want)
			}
		})
	}
}

// TestCutOffWaiting: a deployment that a restart cut off while it waited for the end of a deletion
// waits on, and has deleted once; also if the pool went meanwhile, or another one came.
func TestCutOffWaiting(t *testing.T) {
	for name, meanwhile := range map[string]func(p *planes, key string){
		"it goes on":    func(p *planes, key string) { p.looks[key] = 3 },
		"it went":       func(p *planes, key string) { delete(p.kept, key) },
		"it is another": func(p *planes, key string) { delete(p.kept[key], "deleting") },
	} {
		t.Run(name, func(t *testing.T) {
			docs, p := &tree.Memory{}, &planes{lingers: 1 << 30}
			k := newKit(t, docs, p)
			k.do("PUT", deployments+"before", body("Incremental", "{}", pool("old", ""), ""), 201)
			k.ends("before", "Succeeded")
			k.do("PUT", deployments+"d", body("Complete", "{}", pool("a", ""), ""), 201)
			key := ""
			for key == "" {
				p.mu.Lock()
				for k, v := range p.kept {
					if v["deleting"] == true {
						key = k
					}
				}
				p.mu.Unlock()
			}
			k.stop()
			meanwhile(p, key)
			p.lingers = 3
			k = newKit(t, docs, p)
			k.ends("d", "Succeeded")
			k.wants("d", 1, "Create of a", "Delete of old")
			if len(p.kept) != 1 {
				t.Errorf("left are %v", p.kept)
			}
		})
	}
}
