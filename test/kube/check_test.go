package kube_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube"
	"github.com/sandpool/sandpool/test/kube/clustertest"
)

// A cluster that takes network policies and enforces none is found out by pods that try, before a
// sandbox starts, and the doctor says so. It says as well what the account may not do, and that
// there is no RuntimeClass of a name.
func TestClusterCheck(t *testing.T) {
	c := clustertest.At(t)
	hub := ocitest.NewHubAt(t, clustertest.Registry)
	r := release{name: "check"}
	kubeconfig := r.install(t, c)
	cfg := engineConfig(t, kubeconfig, gvisorClass)
	cfg.Privileged, cfg.NetworkUnverified = false, false
	cfg.ProbeImage = sandpoolImage(t, hub) + ":1"

	template := guestTemplate(hub.Host() + "/guest:1")
	template.User, template.Capabilities, template.Setuid = "1234", nil, false
	_, err := openEngine(t, cfg).Prepare(t.Context(), template, nil)
	var known *sandpool.Error
	if !errors.As(err, &known) || known.Code != "NetworkNotEnforced" ||
		!strings.Contains(err.Error(), "does not enforce NetworkPolicy") {
		t.Errorf("Prepare where nothing enforces policies: %v", err)
	}
	until(t, "the pods of the trial are gone", func() bool {
		return len(podsOf(t, c, r.boxes())) == 0
	})
	found := func(cfg kube.Config, name string) sandbox.Requirement {
		t.Helper()
		for _, r := range kube.Check(t.Context(), cfg) {
			if r.Name == name {
				return r
			}
		}
		t.Fatalf("the check says nothing of %q", name)
		return sandbox.Requirement{}
	}
	if got := found(cfg, "network policies"); got.OK ||
		!strings.Contains(got.Detail, "NetworkPolicy") || got.Fix == "" {
		t.Errorf("network policies: %+v", got)
	}
	cfg.NetworkUnverified = true
	for _, name := range []string{"API server", "permissions", "a sandbox's pod"} {
		if got := found(cfg, name); !got.OK {
			t.Errorf("%s: %+v", name, got)
		}
	}
	other := cfg
	other.RuntimeClass = "kata"
	if got := found(other, "a sandbox's pod"); got.OK || !strings.Contains(got.Fix, "kata") {
		t.Errorf("without the RuntimeClass: %+v", got)
	}
	c.Kubectl(t, "", "delete", "rolebinding", "sandpool", "--namespace", r.boxes())
	got := found(cfg, "permissions")
	for _, a := range kube.Needs() {
		if !strings.Contains(got.Detail, a.Verb+" "+a.Resource) {
			t.Errorf("the check does not miss %s %s: %+v", a.Verb, a.Resource, got)
		}
	}
}
