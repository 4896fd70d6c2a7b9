package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
	"github.com/sandpool/sandpool/internal/sandbox/passwd"
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

// pulls is what has nodes pull the images of a template in advance; see package pull.
type pulls struct {
	key    string // of the namespace and the images
	daemon *rest.DaemonSet
	secret *rest.Secret
}

// images are all that the pods of a template need.
func images(t sandbox.Template) []string {
	all := []string{imageOf(t.Root)}
	for _, l := range t.Layers {
		all = append(all, imageOf(l.Image))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// pull is what has the nodes on which sandboxes may be pull the images of t.
func (c Config) pull(namespace string, t sandbox.Template) pulls {
	sum := sha256.Sum256([]byte(strings.Join(append(images(t), namespace, c.PullTool), "\n")))
	key := hex.EncodeToString(sum[:8])
	meta := rest.Meta{Name: c.Instance + "-pull-" + key, Namespace: namespace,
		Labels: c.labels(labelPull, key, labelNetwork, policyNone)}
	spec := rest.PodSpec{
		RuntimeClassName: c.RuntimeClass, AutomountServiceAccountToken: new(bool),
		EnableServiceLinks: new(bool), NodeSelector: c.NodeSelector, Tolerations: c.Tolerations,
		ImagePullSecrets: c.pullSecrets(),
		SecurityContext:  c.podSecurity(passwd.Identity{UID: pullUser, GID: pullUser}),
		Volumes: []rest.Volume{
			{Name: "tool", EmptyDir: &rest.EmptyDir{SizeLimit: bytes(128 << 20)}},
			{Name: "again", EmptyDir: &rest.EmptyDir{SizeLimit: bytes(128 << 20)}}},
		Containers: []rest.Container{c.puller("done", c.PullTool, nil)},
	}
	spec.Containers[0].Args = []string{"reach", "--listen", fmt.Sprintf(":%d", trialPort), "--for",
		pullStays}
	// Our own program is what each image's container runs: itself to a folder, once more.
	copies := []string{c.PullProgram, "copy", copyAt}
	spec.InitContainers = append(spec.InitContainers, c.puller("tool", c.PullTool, copies))
	copied := path.Join(copyAt, path.Base(c.PullProgram))
	copies = []string{copied, "copy", "/again"}
	for i, image := range images(t) {
		spec.InitContainers = append(spec.InitContainers,
			c.puller(fmt.Sprintf("image-%d", i), image, copies))
	}
	out := pulls{key: key}
	if !t.Root.Password.IsZero() {
		// What a Secret for one sandbox would say.
		name := meta.Name + "-secret"
		spec.ImagePullSecrets = append(spec.ImagePullSecrets, rest.LocalReference{Name: name})
		out.secret = pullSecret(rest.Meta{Name: name, Namespace: namespace, Labels: c.labels()},
			t.Root)
	}
	out.daemon = &rest.DaemonSet{Metadata: meta, Spec: rest.DaemonSetSpec{
		Selector: rest.LabelSelector{MatchLabels: c.labels(labelPull, key)},
		Template: rest.PodTemplate{Metadata: rest.Meta{Labels: meta.Labels}, Spec: spec}}}
	return out
}

// Who the program is that has images pulled, and how long a pod stays that has them all.
const (
	pullUser  = 65532
	pullStays = "1h"
)

// puller is a container of an image that runs our program.
func (c Config) puller(name, image string, command []string) rest.Container {
	no, yes := false, true
	return rest.Container{Name: name, Image: image, ImagePullPolicy: "IfNotPresent",
		Command: command, WorkingDir: "/",
		VolumeMounts: []rest.VolumeMount{{Name: "tool", MountPath: copyAt},
			{Name: "again", MountPath: "/again"}},
		Resources: c.resources(sandbox.Template{Limits: sandpool.Resources{CPU: 0.1,
			Memory: 64 << 20, Disk: 16 << 20}}),
		SecurityContext: &rest.ContainerSecurity{Privileged: &no, AllowPrivilegeEscalation: &no,
			ReadOnlyRootFilesystem: &yes, Capabilities: &rest.Capabilities{Drop: []string{"ALL"}}}}
}

// Notice implements sandbox.Noticer: how far nodes are with the images of a template.
func (e *Engine) Notice(p sandbox.Prepared) string {
	if e.cfg.PullTool == "" {
		return ""
	}
	t := p.Template
	now, known := e.pull.Progress(e.cfg.pull(e.cfg.Namespaces.Of(t.Pool, e.cfg.Namespace), t).key)
	switch {
	case !known || now.Over && now.Err == nil:
		return ""
	case now.Over:
		return fmt.Sprintf("The image is on %d of %d nodes of the cluster; the others pull it "+
			"when they first need it.", now.Have, now.Of)
	}
	return fmt.Sprintf("The nodes of the cluster pull the image: %d of %d have it.", now.Have,
		now.Of)
}

// sweepPulls removes what an earlier server has left that had nodes pull images.
func (e *Engine) sweepPulls(ctx context.Context, namespace string) error {
	if e.cfg.PullTool == "" {
		return nil
	}
	return e.pull.Sweep(ctx, namespace, selector(e.cfg.labels(labelPull, "")))
}
