package kube_test

import (
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube"
	"github.com/sandpool/sandpool/internal/sandbox/kube/kubetest"
)

func requirement(t *testing.T, cfg kube.Config, name string) sandbox.Requirement {
	t.Helper()
	for _, r := range kube.Check(t.Context(), cfg) {
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
