package kube

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// A layer is a part of an image, which a pod gets in one of two ways:
//
//	image volume   the node mounts the image's folder, read-only. Kubernetes 1.35 and
//	               containerd 2.1 have that; no container runs for it
//	copy           a container that runs before the sandbox's writes the layer to a folder of
//	               the pod's own, which the sandbox sees read-only. Every cluster has that
//
// In both the code of the sandbox cannot change the layer.

// copyAt is where the container that copies sees the folder that it writes to.
const copyAt = "/layer"

// layerName is the name of the volume of the i-th layer, and of the container that fills it.
func layerName(i int) string { return fmt.Sprintf("layer-%d", i) }

// checkLayers refuses layers that no node can pull.
func (c Config) checkLayers(layers []sandbox.Layer) error {
	for _, l := range layers {
		switch {
		case l.Image.Reference == "":
			return unsupported("layers", "A pod has no layers from files of the server.")
		case c.ImageVolumes && l.Folder == "", !c.ImageVolumes && len(l.Copy) == 0:
			return invalid("layers", "The layer at %q does not say what of its image it is.",
				l.Target)
		}
	}
	return nil
}

// addLayers gives the pod of t its layers.
func (c Config) addLayers(p *rest.Pod, t sandbox.Template) {
	main := &p.Spec.Containers[0]
	for i, l := range t.Layers {
		name := layerName(i)
		mount := rest.VolumeMount{Name: name, MountPath: l.Target, ReadOnly: true}
		if c.ImageVolumes {
			mount.SubPath = strings.TrimPrefix(l.Folder, "/")
			p.Spec.Volumes = append(p.Spec.Volumes, rest.Volume{Name: name,
				Image: &rest.ImageVolume{Reference: imageOf(l.Image), PullPolicy: "IfNotPresent"}})
			main.VolumeMounts = append(main.VolumeMounts, mount)
			continue
		}
		p.Spec.Volumes = append(p.Spec.Volumes,
			rest.Volume{Name: name, EmptyDir: &rest.EmptyDir{SizeLimit: bytes(t.Limits.Disk)}})
		main.VolumeMounts = append(main.VolumeMounts, mount)
		no, yes := false, true
		p.Spec.InitContainers = append(p.Spec.InitContainers, rest.Container{
			Name: name, Image: imageOf(l.Image), ImagePullPolicy: "IfNotPresent",
			Command:      literal(append(slices.Clone(l.Copy), copyAt)),
			VolumeMounts: []rest.VolumeMount{{Name: name, MountPath: copyAt}},
			Resources:    c.resources(t), // of the sandbox: a pod is given the larger of the two
			SecurityContext: &rest.ContainerSecurity{Privileged: &no,
				AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
				Capabilities: &rest.Capabilities{Drop: []string{"ALL"}}},
		})
	}
}

// waiting says why a container of the pod does not run yet, if the node says so: the one that
// copies a layer, or the sandbox's.
func waiting(p *rest.Pod) *rest.Waiting {
	if p == nil {
		return nil
	}
	for _, c := range p.Status.InitStatuses {
		if w := c.State.Waiting; w != nil && w.Reason != "PodInitializing" {
			return w
		}
		if end := c.State.Terminated; end != nil && end.ExitCode != 0 {
			return &rest.Waiting{Reason: "CreateContainerError", Message: fmt.Sprintf(
				"a layer was not copied: %s, code %d %s", end.Reason, end.ExitCode, end.Message)}
		}
	}
	return containerOf(p).State.Waiting
}
