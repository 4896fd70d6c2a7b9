package kube

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
	"github.com/sandpool/sandpool/internal/sandbox/passwd"
)

// podName is the name of the pod of a sandbox. An ID has what the name of a pod may have.
func podName(id sandbox.ID) string { return "sandpool-" + string(id) }

// pullName is the name of the Secret with which the image is pulled, and envName that of the one
// with secret variables.
func pullName(id sandbox.ID) string { return podName(id) + "-pull" }
func varsName(id sandbox.ID) string { return podName(id) + "-env" }

// noNetworkResolver answers nothing: a pod must name a resolver, and this one has none.
const noNetworkResolver = "127.0.0.1"

// pod is the pod of a sandbox of t.
func (c Config) pod(id sandbox.ID, t sandbox.Template, user passwd.Identity) *rest.Pod {
	no, grace := false, graceOf(t.Grace)
	p := &rest.Pod{
		Metadata: rest.Meta{Name: podName(id), Namespace: c.Namespaces.Of(t.Pool, c.Namespace),
			Labels: c.labels(labelID, string(id), "app.kubernetes.io/name", "sandpool-sandbox",
				labelNetwork, policyOf(t.Network))},
		Spec: rest.PodSpec{
			RuntimeClassName:              c.RuntimeClass,
			RestartPolicy:                 "Never",
			TerminationGracePeriodSeconds: &grace,
			AutomountServiceAccountToken:  &no,
			EnableServiceLinks:            &no,
			DNSPolicy:                     "Default", // the node's: names of the cluster are not theirs
			SecurityContext:               c.podSecurity(user),
			NodeSelector:                  c.NodeSelector,
			Tolerations:                   c.tolerations(),
			PriorityClassName:             c.PriorityClass,
			Containers:                    []rest.Container{c.container(id, t, user)},
		},
	}
	if t.Logs {
		p.Metadata.Annotations = map[string]string{annotationLogs: "kept"}
	}
	if !t.Network.Enabled() {
		p.Spec.DNSPolicy = "None"
		p.Spec.DNSConfig = &rest.DNSConfig{Nameservers: []string{noNetworkResolver}}
	}
	if c.UserNamespaces {
		p.Spec.HostUsers = &no
	}
	if c.ReadOnlyRoot {
		p.Spec.Volumes = []rest.Volume{{Name: "tmp", EmptyDir: &rest.EmptyDir{
			SizeLimit: bytes(t.Limits.Disk)}}}
		p.Spec.Containers[0].VolumeMounts = []rest.VolumeMount{{Name: "tmp", MountPath: "/tmp"}}
		for i, dir := range t.Scratch {
			name := fmt.Sprintf("scratch-%d", i)
			p.Spec.Volumes = append(p.Spec.Volumes, rest.Volume{Name: name,
				EmptyDir: &rest.EmptyDir{SizeLimit: bytes(t.Limits.Disk)}})
			p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts,
				rest.VolumeMount{Name: name, MountPath: dir})
		}
	}
	c.addLayers(p, t)
	if c.SpreadOver != "" {
		p.Spec.TopologySpread = []rest.TopologySpread{{MaxSkew: 1, TopologyKey: c.SpreadOver,
			WhenUnsatisfiable: "ScheduleAnyway",
			LabelSelector:     rest.LabelSelector{MatchLabels: c.labels()}}}
	}
	p.Spec.ImagePullSecrets = c.pullSecrets()
	if !t.Root.Password.IsZero() {
		p.Spec.ImagePullSecrets = append(p.Spec.ImagePullSecrets,
			rest.LocalReference{Name: pullName(id)})
	}
	return p
}

// pullSecrets are those of all pods.
func (c Config) pullSecrets() (out []rest.LocalReference) {
	for _, name := range c.PullSecrets {
		out = append(out, rest.LocalReference{Name: name})
	}
	return out
}

func (c Config) podSecurity(user passwd.Identity) *rest.PodSecurity {
	uid, gid, nonRoot := int64(user.UID), int64(user.GID), user.UID != 0
	s := &rest.PodSecurity{RunAsUser: &uid, RunAsGroup: &gid, RunAsNonRoot: &nonRoot,
		SeccompProfile: &rest.Seccomp{Type: "RuntimeDefault"}}
	for _, g := range user.Groups {
		s.SupplementalGroups = append(s.SupplementalGroups, int64(g))
	}
	return s
}

func (c Config) container(id sandbox.ID, t sandbox.Template, user passwd.Identity) rest.Container {
	no, escalation, readOnly := false, t.Setuid && c.Privileged, c.ReadOnlyRoot
	out := rest.Container{
		Name:            containerName,
		Image:           imageOf(t.Root),
		ImagePullPolicy: "IfNotPresent", // what a digest names does not change
		Command:         literal(t.Args),
		WorkingDir:      t.Dir,
		Resources:       c.resources(t),
		SecurityContext: &rest.ContainerSecurity{
			Privileged:               &no,
			AllowPrivilegeEscalation: &escalation,
			ReadOnlyRootFilesystem:   &readOnly,
			Capabilities:             &rest.Capabilities{Drop: []string{"ALL"}},
		},
	}
	if out.WorkingDir == "" {
		out.WorkingDir = "/"
	}
	if c.Privileged {
		for _, name := range t.Capabilities {
			out.SecurityContext.Capabilities.Add = append(out.SecurityContext.Capabilities.Add,
				strings.TrimPrefix(name, "CAP_"))
		}
		slices.Sort(out.SecurityContext.Capabilities.Add)
	}
	for _, kv := range t.Env {
		name, value, _ := strings.Cut(kv, "=")
		out.Env = append(out.Env, rest.EnvVar{Name: name, Value: escape(value)})
	}
	for i, v := range t.SecretEnv {
		out.Env = append(out.Env, rest.EnvVar{Name: v.Name, ValueFrom: &rest.EnvSource{
			SecretKeyRef: &rest.SecretKey{Name: varsName(id), Key: strconv.Itoa(i)}}})
	}
	if user.Home != "" && !slices.ContainsFunc(out.Env, func(v rest.EnvVar) bool {
		return v.Name == "HOME"
	}) {
		out.Env = append(out.Env, rest.EnvVar{Name: "HOME", Value: user.Home})
	}
	return out
}

// escape keeps Kubernetes from putting variables in the place of $(NAME).
func escape(s string) string { return strings.ReplaceAll(s, "$(", "$$(") }

func literal(args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = escape(a)
	}
	return out
}

func (c Config) resources(t sandbox.Template) rest.Resources {
	limits := map[string]string{"cpu": cores(t.Limits.CPU), "memory": bytes(t.Limits.Memory),
		"ephemeral-storage": bytes(t.Limits.Disk)}
	requests := map[string]string{"cpu": cores(t.Limits.CPU / c.CPUOvercommit),
		"memory": limits["memory"], "ephemeral-storage": limits["ephemeral-storage"]}
	return rest.Resources{Limits: limits, Requests: requests}
}

func cores(n float64) string        { return strconv.Itoa(max(1, int(math.Round(1000*n)))) + "m" }
func bytes(n int64) string          { return strconv.FormatInt(n, 10) }
func seconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }

// graceOf is how long a pod may take to end, at least the second that is Kubernetes' least.
func graceOf(d time.Duration) int64 { return max(1, seconds(d)) }

// tolerations are those that the operator names, and how long the pod bears that its node is away.
func (c Config) tolerations() []rest.Toleration {
	lost := seconds(c.NodeLost)
	out := slices.Clone(c.Tolerations)
	for _, key := range []string{"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"} {
		out = append(out, rest.Toleration{Key: key, Operator: "Exists", Effect: "NoExecute",
			Seconds: &lost})
	}
	return out
}

// imageOf pins an image to its digest.
func imageOf(i sandbox.Image) string {
	if i.Digest == "" {
		return i.Reference
	}
	name, _, _ := strings.Cut(i.Reference, "@")
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name = name[:colon]
	}
	return name + "@" + i.Digest
}

// secrets are the Secrets of a sandbox, which go with its pod.
func (c Config) secrets(id sandbox.ID, t sandbox.Template, pod *rest.Pod) []*rest.Secret {
	yes := true
	meta := func(name string) rest.Meta {
		return rest.Meta{Name: name, Namespace: pod.Metadata.Namespace, Labels: c.labels(),
			OwnerReferences: []rest.OwnerReference{{APIVersion: "v1", Kind: "Pod",
				Name: pod.Metadata.Name, UID: pod.Metadata.UID}}}
	}
	var out []*rest.Secret
	if len(t.SecretEnv) > 0 {
		values := map[string]string{}
		for i, v := range t.SecretEnv {
			values[strconv.Itoa(i)] = v.Value.Reveal()
		}
		out = append(out, &rest.Secret{Metadata: meta(varsName(id)), StringData: values,
			Immutable: &yes})
	}
	if !t.Root.Password.IsZero() {
		out = append(out, pullSecret(meta(pullName(id)), t.Root))
	}
	return out
}

// pullSecret is a Secret with which nodes pull an image.
func pullSecret(meta rest.Meta, i sandbox.Image) *rest.Secret {
	yes := true
	host, _, _ := strings.Cut(i.Reference, "/")
	config, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{
		"username": i.Username, "password": i.Password.Reveal()}}})
	if err != nil {
		panic(err) // these are texts
	}
	return &rest.Secret{Metadata: meta, Immutable: &yes, Type: "kubernetes.io/dockerconfigjson",
		StringData: map[string]string{".dockerconfigjson": string(config)}}
}

// keyOf names what the pods of a template are like. What they may reach is told at their start.
func (c Config) keyOf(t sandbox.Template, user passwd.Identity) (string, error) {
	p := c.pod("key", t, user)
	delete(p.Metadata.Labels, labelNetwork)
	p.Spec.DNSPolicy, p.Spec.DNSConfig = "", nil
	data, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("encode the pod: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}
