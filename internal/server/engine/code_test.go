package engine

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/oci"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// registry is a registry that has one image, or does not answer.
type registry struct{ err error }

func (r registry) Resolve(_ context.Context, reference string, _ oci.Credentials) (string, error) {
	return "registry.example/python@sha256:now", r.err
}

// The pods of a code pool boot the image that is named for its language, with the agent as a layer,
// as the user that code is unless images may run as root. A registry that is away stops no pool
// that was there before, and one that says no does.
func TestCode(t *testing.T) {
	k := DefaultKubernetes()
	k.RuntimeClass, k.ProbeImage = "gvisor", "registry.example/sandpool:1"
	k.Images = map[string]string{"python": "registry.example/python:1"}
	if problems := k.Validate(); len(problems) > 0 || !slices.Equal(k.Languages(),
		[]string{"python"}) {
		t.Errorf("the settings have %v and the languages %q", problems, k.Languages())
	}
	get := func(k Kubernetes, r registry, p sandpool.Pool, name string) (sandbox.Template, error) {
		return NewCode(k, r).Template(t.Context(), p, name, "python")
	}
	got, err := get(k, registry{}, sandpool.Pool{}, "python")
	if err != nil || got.Root.Digest != "sha256:now" || got.Start != sandbox.Boot ||
		got.User != "1000:1000" || len(got.Capabilities) > 0 || got.Setuid || len(got.Layers) != 1 ||
		got.Layers[0].Image.Reference != k.ProbeImage || got.Args[0] != agent.Path {
		t.Errorf("the template is %+v, %v", got, err)
	}
	k.Security, k.AgentImage = "image", "registry.example/agent:2"
	got, err = get(k, registry{}, sandpool.Pool{}, "python")
	if err != nil || got.User != "" || len(got.Capabilities) != len(agent.Capabilities()) ||
		got.Layers[0].Image.Reference != k.AgentImage {
		t.Errorf("where images may run as root the template is %+v, %v", got, err)
	}
	away := registry{sandpool.Errorf(sandpool.Unavailable, "", "", "away")}
	if _, err := get(k, away, sandpool.Pool{}, "python"); err == nil {
		t.Error("a new pool of an image that nobody has seen")
	}
	before := sandpool.Pool{ImageDigest: got.Root.Known}
	if got, err := get(k, away, before, "python"); err != nil ||
		got.Root.Digest != "sha256:now" || got.Root.Known != before.ImageDigest {
		t.Errorf("a pool whose registry is away: %+v, %v", got.Root, err)
	}
	renamed := k
	renamed.Images = map[string]string{"python": "registry.example/python:2"}
	if got, err := get(renamed, away, before, "python"); err == nil {
		t.Errorf("the old digest counts as that of a new reference: %+v", got.Root)
	}
	if got, err := get(renamed, registry{}, before, "python"); err != nil ||
		got.Root.Digest != "sha256:now" || got.Root.Known == before.ImageDigest {
		t.Errorf("a new reference: %+v, %v", got.Root, err)
	}
	no := registry{sandpool.Errorf(sandpool.NotFound, "", "", "none")}
	if _, err := get(k, no, before, "python"); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("an image that is gone: %v", err)
	}
	if _, err := get(k, registry{}, before, "node"); err == nil ||
		!strings.Contains(err.Error(), "kubernetes.images") {
		t.Errorf("an image that is not named: %v", err)
	}
	for field, change := range map[string]func(*Kubernetes){
		"agent":         func(k *Kubernetes) { k.Agent = "magic" },
		"agent_image":   func(k *Kubernetes) { k.AgentImage, k.ProbeImage = "", "" },
		"images.python": func(k *Kubernetes) { k.Images = map[string]string{"python": "A B"} },
	} {
		bad := k
		change(&bad)
		if p := bad.Validate(); len(p) != 1 || !strings.Contains(p[0].Error(),
			"kubernetes."+field+" is ") {
			t.Errorf("of %s: %v", field, p)
		}
	}
}
