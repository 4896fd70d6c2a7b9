package engine

import (
	"errors"
	"strings"
	"testing"

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
