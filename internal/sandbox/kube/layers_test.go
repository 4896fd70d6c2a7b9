package kube_test

import (
	"runtime"
	"slices"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/kubetest"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// A pod gets a layer from an image that its node pulls: as a volume, or from a container that
// copies it and may do nothing else. In both the sandbox can only read it.
func TestLayers(t *testing.T) {
	layered := func(t *sandbox.Template) {
		t.User = "1000"
		t.Scratch = []string{"/mnt/data"}
		t.Layers = []sandbox.Layer{{Target: "/opt/sandpool", Folder: "/usr/local/bin",
			Image: sandbox.Image{Reference: "registry.example/sandpool:1"},
			Copy:  []string{"/usr/local/bin/sandpool-agent", "copy"}}}
	}
	c := kubetest.New(t)
	cfg := config(t, c)
	cfg.ReadOnlyRoot, cfg.PullSecrets = true, []string{"registry"}
	if err := cfg.Client.CreateSecret(t.Context(), &rest.Secret{Metadata: rest.Meta{
		Name: "registry", Namespace: cfg.Namespace}}); err != nil {
		t.Fatal(err)
	}
	mustStart(t, open(t, cfg), "copied", layered)
	p := c.Pods()["sandpool-copied"].Spec
	if len(p.InitContainers) != 1 || len(p.ImagePullSecrets) != 1 {
		t.Fatalf("the pod is %+v", p)
	}
	i := p.InitContainers[0]
	if s := i.SecurityContext; i.Image != "registry.example/sandpool:1" ||
		!slices.Equal(i.Command, []string{"/usr/local/bin/sandpool-agent", "copy", "/layer"}) ||
		!*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation ||
		!slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || len(s.Capabilities.Add) > 0 ||
		len(i.Resources.Limits) != 3 {
		t.Errorf("the layer is copied by %+v", i)
	}
	if mounts := p.Containers[0].VolumeMounts; !slices.Equal(mounts, []rest.VolumeMount{
		{Name: "tmp", MountPath: "/tmp"}, {Name: "scratch-0", MountPath: "/mnt/data"},
		{Name: "layer-0", MountPath: "/opt/sandpool", ReadOnly: true}}) {
		t.Errorf("the sandbox has %+v", mounts)
	}
	cfg.ImageVolumes = true
	e := open(t, cfg)
	mustStart(t, e, "mounted", layered)
	p = c.Pods()["sandpool-mounted"].Spec
	volume := p.Volumes[len(p.Volumes)-1]
	mount := p.Containers[0].VolumeMounts[2]
	if len(p.InitContainers) > 0 || volume.Image == nil ||
		volume.Image.Reference != "registry.example/sandpool:1" ||
		mount != (rest.VolumeMount{Name: "layer-0", MountPath: "/opt/sandpool", ReadOnly: true,
			SubPath: "usr/local/bin"}) {
		t.Errorf("the layer is %+v, mounted as %+v", volume, mount)
	}
	for field, change := range map[string]func(*sandbox.Layer){
		"of a file":      func(l *sandbox.Layer) { l.Image = sandbox.Image{} },
		"without folder": func(l *sandbox.Layer) { l.Folder = "" },
	} {
		tmpl := template()
		layered(&tmpl)
		change(&tmpl.Layers[0])
		_, err := e.Prepare(t.Context(), tmpl, nil)
		if class := sandpool.ClassOf(err); class != sandpool.Invalid &&
			class != sandpool.Unsupported {
			t.Errorf("a layer %s: %v", field, err)
		}
	}
}

// A layer that cannot be copied ends the start at once, with the reason.
func TestLayerNotCopied(t *testing.T) {
	c := kubetest.New(t)
	c.Full("0/1 nodes are available") // it waits
	e := open(t, config(t, c))
	failed := make(chan error, 1)
	go func() {
		_, err := start(t, e, "lacks", func(t *sandbox.Template) { t.User = "1000" })
		failed <- err
	}()
	for len(c.Pods()) == 0 {
		runtime.Gosched()
	}
	c.Change("sandpool-lacks", func(p *rest.Pod) {
		p.Status.InitStatuses = []rest.ContainerStatus{{Name: "layer-0",
			State: rest.ContainerState{Waiting: &rest.Waiting{Reason: "ErrImagePull",
				Message: "no such image"}}}}
	})
	wantError(t, <-failed, sandpool.Unavailable, "ImageNotPulled")
}
