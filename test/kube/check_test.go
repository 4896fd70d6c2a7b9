package kube_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube"
	"github.com/sandpool/sandpool/internal/sandbox/kube/place"
	"github.com/sandpool/sandpool/test/kube/clustertest"
)

// In a namespace that the chart makes for some pools the account may do what it may in the usual
// one, sandboxes of these pools are there, and nothing is left of them.
func TestClusterNamespaces(t *testing.T) {
	c := clustertest.At(t)
	hub := ocitest.NewHubAt(t, clustertest.Registry)
	reference := guest(t, hub)
	kubeconfig := release{name: "places", more: []string{"places-team", "places-old"},
		set: "sandboxes: {security: image, namespaces: {places-team: [team-*], places-old: []}}",
	}.install(t, c)
	cfg := engineConfig(t, kubeconfig, gvisorClass)
	cfg.Namespaces = place.Namespaces{"places-team": {"team-*"}, "places-old": nil}
	for _, r := range kube.Check(t.Context(), cfg) {
		if !r.OK {
			t.Errorf("the doctor finds %+v", r)
		}
	}
	e := openEngine(t, cfg)
	handles := map[string]sandbox.Handle{}
	for pool, namespace := range map[string]string{"any": cfg.Namespace, "team-1": "places-team"} {
		template := guestTemplate(reference)
		template.Pool = sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: pool}
		template.SecretEnv = []sandbox.SecretVar{{Name: "A", Value: sandpool.NewSecret("s3cret")}}
		prepared, err := e.Prepare(t.Context(), template, nil)
		if err != nil {
			t.Fatal(err)
		}
		handles[pool], err = e.Start(t.Context(), sandbox.ID(pool), prepared)
		if err != nil {
			t.Fatal(err)
		}
		if got := podsOf(t, c, namespace); len(got) != 1 {
			t.Errorf("in %s there are %q", namespace, got)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	cfg = engineConfig(t, kubeconfig, gvisorClass)
	cfg.Namespaces = place.Namespaces{"places-team": nil, "places-old": {"team-*"}}
	e = openEngine(t, cfg)
	if found, err := e.List(t.Context()); err != nil || len(found) != 2 {
		t.Errorf("the next engine finds %+v, %v", found, err)
	}
	for pool, h := range handles {
		if err := e.Stop(t.Context(), h); err != nil {
			t.Errorf("stop the sandbox of %s: %v", pool, err)
		}
	}
	for _, namespace := range append(cfg.Namespaces.All(cfg.Namespace), "places-team") {
		if left := podsOf(t, c, namespace); len(left) > 0 {
			t.Errorf("in %s are left %q", namespace, left)
		}
	}
}

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
