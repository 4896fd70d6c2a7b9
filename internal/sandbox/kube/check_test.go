package kube_test

import (
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube"
	"github.com/sandpool/sandpool/internal/sandbox/kube/kubetest"
)

func requirement(t *testing.T, cfg kube.Config, name string,
	code ...sandbox.Template) sandbox.Requirement {
	t.Helper()
	for _, r := range kube.Check(t.Context(), cfg, code...) {
		if r.Name == name {
			if !r.OK && r.Fix == "" {
				t.Errorf("%+v says nothing of how to mend it", r)
			}
			return r
		}
	}
	t.Fatalf("nothing is said of %q", name)
	return sandbox.Requirement{}
}

// What a cluster lacks is named, and checking leaves nothing.
func TestCheck(t *testing.T) {
	c := kubetest.New(t)
	cfg := config(t, c)
	cfg.NetworkUnverified, cfg.ProbeImage = false, "registry.example/sandpool:1"
	if r := requirement(t, cfg, "network policies"); r.OK ||
		!strings.Contains(r.Detail, "does not enforce") {
		t.Errorf("of a cluster that enforces nothing: %+v", r)
	}
	c.Enforce(true)
	for _, r := range kube.Check(t.Context(), cfg) {
		if !r.OK {
			t.Errorf("a cluster that has all lacks %+v", r)
		}
	}
	c.Deny("create secrets")
	if r := requirement(t, cfg, "permissions"); r.OK ||
		!strings.Contains(r.Detail, "create secrets") {
		t.Errorf("without a permission: %+v", r)
	}
	c.Deny("list metrics")
	if r := requirement(t, cfg, "metrics API"); !r.OK ||
		!strings.Contains(r.Fix, "Let the server") {
		t.Errorf("without the permission to measure: %+v", r)
	}
	if left := c.Pods(); len(left) > 0 {
		t.Errorf("%d pods are left", len(left))
	}
	c.Order(kubetest.Fault{Verb: "create"}) // one for each of the permissions
	for range len(kube.Needs()) - 2 {       // that of measurements is not asked for
		c.Order(kubetest.Fault{Verb: "create"})
	}
	c.Order(kubetest.Fault{Verb: "create", Status: 403, Reason: "Forbidden",
		Message: `pod rejected: RuntimeClass "gvisor" not found`})
	if r := requirement(t, cfg, "a sandbox's pod"); r.OK ||
		!strings.Contains(r.Fix, "RuntimeClass gvisor") {
		t.Errorf("without the RuntimeClass: %+v", r)
	}
	c.Outage(true)
	if r := requirement(t, cfg, "API server"); r.OK {
		t.Errorf("of an API server that is away: %+v", r)
	}
}

// Whether the cluster takes image volumes is said, and is a fault where the agent comes by one. The
// pod of a code pool is tried as it would be, and by its own name.
func TestCheckCode(t *testing.T) {
	c := kubetest.New(t)
	cfg := config(t, c)
	code := template()
	code.User = "1000:1000"
	code.Layers = []sandbox.Layer{{Target: "/opt/sandpool", Folder: "/usr/local/bin",
		Image: sandbox.Image{Reference: "registry.example/sandpool:1"}, Copy: []string{"/agent"}}}
	if r := requirement(t, cfg, "a code pool's pod", code); !r.OK {
		t.Errorf("of a cluster that has all: %+v", r)
	}
	if r := requirement(t, cfg, "image volumes"); !r.OK ||
		!strings.HasPrefix(r.Detail, "are taken") {
		t.Errorf("of a cluster that takes image volumes: %+v", r)
	}
	c.NoImageVolumes()
	if r := requirement(t, cfg, "image volumes"); !r.OK || r.Detail != "are not taken" {
		t.Errorf("of one that takes none, with an agent that is copied: %+v", r)
	}
	cfg.ImageVolumes = true
	if r := requirement(t, cfg, "image volumes"); r.OK || !strings.Contains(r.Fix, "to copy") {
		t.Errorf("of one that takes none, with an agent in a volume: %+v", r)
	}
	cfg.ImageVolumes = false
	for range len(kube.Needs()) { // all permissions but that of measurements, and the plain pod
		c.Order(kubetest.Fault{Verb: "create"})
	}
	c.Order(kubetest.Fault{Verb: "create", Status: 403, Reason: "Forbidden",
		Message: "an init container is not allowed"})
	if r := requirement(t, cfg, "a code pool's pod", code); r.OK ||
		!strings.Contains(r.Detail, "init container") {
		t.Errorf("of a cluster that refuses pods of code pools: %+v", r)
	}
	if left := c.Pods(); len(left) > 0 {
		t.Errorf("%d pods are left", len(left))
	}
}
