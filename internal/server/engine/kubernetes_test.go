package engine

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/sandbox/kube/kubetest"
	"github.com/sandpool/sandpool/internal/sandbox/kube/place"
)

// Each setting that is wrong is named, with what to write.
func TestValidate(t *testing.T) {
	ok := DefaultKubernetes()
	ok.RuntimeClass = "gvisor"
	if problems := ok.Validate(); len(problems) > 0 {
		t.Errorf("a RuntimeClass is enough, but: %v", problems)
	}
	elsewhere := DefaultKubernetes()
	elsewhere.Isolation = "elsewhere"
	if problems := elsewhere.Validate(); len(problems) > 0 {
		t.Errorf("isolation elsewhere is enough, but: %v", problems)
	}
	for field, change := range map[string]func(*Kubernetes){
		"runtime_class":  func(k *Kubernetes) { k.RuntimeClass = "" },
		"isolation":      func(k *Kubernetes) { k.Isolation = "elsewhere" },
		"network":        func(k *Kubernetes) { k.Network = "none" },
		"security":       func(k *Kubernetes) { k.Security = "lax" },
		"instance":       func(k *Kubernetes) { k.Instance = "Not_A_Label" },
		"cpu_overcommit": func(k *Kubernetes) { k.CPUOvercommit = 0.5 },
		"node_lost":      func(k *Kubernetes) { k.NodeLost = 0 },
		"pending":        func(k *Kubernetes) { k.Pending = 0 },
		"namespaces":     func(k *Kubernetes) { k.Namespaces = place.Namespaces{"A b": nil} },
		"servers":        func(k *Kubernetes) { k.Servers = []string{"10.0.0.1"} },
	} {
		k := ok
		change(&k)
		err := errors.Join(k.Validate()...)
		if err == nil || !strings.Contains(err.Error(), "kubernetes."+field) ||
			len(k.Validate()) != 1 {
			t.Errorf("of %s: %v", field, err)
		}
	}
}

// The doctor tries the pod of a code pool as the settings make it, with the agent by its way.
func TestKubernetesCheck(t *testing.T) {
	k := DefaultKubernetes()
	k.Kubeconfig, k.RuntimeClass, k.Network = kubetest.New(t).Kubeconfig(t, "boxes"), "gvisor",
		unverified
	tried := func() (all []string) {
		for _, r := range k.Check(t.Context()) {
			if !r.OK {
				t.Errorf("the check finds %+v", r)
			}
			all = append(all, r.Name)
		}
		return all
	}
	if got := tried(); slices.Contains(got, "a code pool's pod") {
		t.Errorf("without an image of the agent it tries %q", got)
	}
	k.AgentImage = "registry.example/sandpool:1"
	for _, way := range []string{byCopy, byVolume} {
		for _, k.Security = range []string{restricted, image} {
			k.Agent = way
			if got := tried(); !slices.Contains(got, "a code pool's pod") ||
				!slices.Contains(got, "image volumes") {
				t.Errorf("with the agent by %s it tries %q", way, got)
			}
		}
	}
}
