package engine

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/sandpool/sandpool/internal/oci"
	"github.com/sandpool/sandpool/internal/pattern"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube"
	"github.com/sandpool/sandpool/internal/sandbox/kube/place"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// Kubernetes is what an operator says of a cluster. docs/kubernetes.md explains each setting.
type Kubernetes struct {
	Kubeconfig     string            `yaml:"kubeconfig"`
	Context        string            `yaml:"context"`
	Namespace      string            `yaml:"namespace"`
	Namespaces     place.Namespaces  `yaml:"namespaces"`
	Instance       string            `yaml:"instance"`
	RuntimeClass   string            `yaml:"runtime_class"`
	Isolation      string            `yaml:"isolation"`
	Network        string            `yaml:"network"`
	ProbeImage     string            `yaml:"probe_image"`
	Images         map[string]string `yaml:"images"`
	AgentImage     string            `yaml:"agent_image"`
	Agent          string            `yaml:"agent"`
	PullSecrets    []string          `yaml:"pull_secrets"`
	PullAhead      bool              `yaml:"pull_ahead"`
	Servers        []string          `yaml:"servers"`
	ServerLabels   map[string]string `yaml:"server_labels"`
	Security       string            `yaml:"security"`
	ReadOnlyRoot   bool              `yaml:"read_only_root"`
	UserNamespaces bool              `yaml:"user_namespaces"`
	CPUOvercommit  float64           `yaml:"cpu_overcommit"`
	NodeSelector   map[string]string `yaml:"node_selector"`
	Tolerations    []rest.Toleration `yaml:"tolerations"`
	PriorityClass  string            `yaml:"priority_class"`
	SpreadOver     string            `yaml:"spread_over"`
	NodeLost       time.Duration     `yaml:"node_lost"`
	Pending        time.Duration     `yaml:"pending"`
}

// The words of the settings isolation, network and security.
const (
	byRuntimeClass = "runtime_class"
	elsewhere      = "elsewhere"
	verified       = "verified"
	unverified     = "unverified"
	restricted     = "restricted"
	image          = "image"
)

// DefaultKubernetes is a cluster of which nothing was said.
func DefaultKubernetes() Kubernetes {
	return Kubernetes{Instance: "sandpool", Isolation: byRuntimeClass, Network: verified,
		Security: restricted, Agent: byCopy, CPUOvercommit: 1, NodeLost: 30 * time.Second,
		Pending: 30 * time.Second}
}

// instanceName is what names and labels of Kubernetes may be made of here.
var instanceName = pattern.Lazy(`^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$`)

// Validate reports every field that is out of range.
func (k Kubernetes) Validate() (problems []error) {
	need := func(ok bool, field string, value any, fix string) {
		if !ok {
			problems = append(problems, fmt.Errorf("configuration: kubernetes.%s is %v; use %s",
				field, value, fix))
		}
	}
	word := func(field, value, one, other string) {
		need(value == one || value == other, field, fmt.Sprintf("%q", value),
			fmt.Sprintf("%s or %s", one, other))
	}
	need(instanceName().MatchString(k.Instance), "instance", fmt.Sprintf("%q", k.Instance),
		"up to 32 lower-case letters, digits and hyphens")
	bad := k.Namespaces.Validate(k.Namespace)
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		problems = append(problems, fmt.Errorf("configuration: kubernetes.namespaces: %q: %w", name,
			bad[name]))
	}
	word("isolation", k.Isolation, byRuntimeClass, elsewhere)
	word("network", k.Network, verified, unverified)
	word("security", k.Security, restricted, image)
	word("agent", k.Agent, byCopy, byVolume)
	need(len(k.Images) == 0 || k.agentImage() != "", "agent_image", `""`,
		"an image of sandpool, from which the pods of code pools get the agent; or name no images")
	need(!k.PullAhead || k.agentImage() != "", "pull_ahead", "true",
		"it with probe_image, an image of sandpool, whose program runs in the place of an image's")
	for name, reference := range k.Images {
		_, err := oci.ParseReference(reference)
		need(err == nil, "images."+name, fmt.Sprintf("%q", reference),
			"a reference such as registry.example/python:1")
	}
	need(k.Isolation != byRuntimeClass || k.RuntimeClass != "", "runtime_class", `""`,
		"the RuntimeClass of gVisor, Kata or the like, since containers of the usual runtime share "+
			"the node's kernel; or say isolation: elsewhere")
	need(k.Isolation != elsewhere || k.RuntimeClass == "", "isolation", elsewhere,
		"runtime_class where a RuntimeClass is named")
	need(k.CPUOvercommit >= 1, "cpu_overcommit", k.CPUOvercommit, "1 or more")
	need(k.NodeLost >= time.Second, "node_lost", k.NodeLost, "at least 1s")
	need(k.Pending >= time.Second, "pending", k.Pending, "at least 1s")
	for _, s := range k.Servers {
		_, err := netip.ParsePrefix(s)
		need(err == nil, "servers", fmt.Sprintf("%q", s), "prefixes such as 10.1.2.3/32")
	}
	return problems
}

// config is what the engine is told.
func (k Kubernetes) config() (kube.Config, error) {
	at, err := k.reach()
	if err != nil {
		return kube.Config{}, err
	}
	client, err := rest.New(at)
	if err != nil {
		return kube.Config{}, err
	}
	namespace := k.Namespace
	if namespace == "" {
		namespace = at.Namespace
	}
	var tool, program string
	if k.PullAhead {
		tool, program = k.agentImage(), agentProgram
	}
	return kube.Config{
		PullTool: tool, PullProgram: program,
		Client: client, Namespace: namespace, Namespaces: k.Namespaces, Instance: k.Instance,
		RuntimeClass: k.RuntimeClass, IsolationElsewhere: k.Isolation == elsewhere,
		NetworkUnverified: k.Network == unverified,
		ProbeImage:        k.ProbeImage, Servers: k.Servers, ServerLabels: k.ServerLabels,
		ImageVolumes: k.Agent == byVolume, PullSecrets: k.PullSecrets,
		Privileged: k.Security == image, ReadOnlyRoot: k.ReadOnlyRoot,
		UserNamespaces: k.UserNamespaces, CPUOvercommit: k.CPUOvercommit,
		NodeSelector: k.NodeSelector, Tolerations: k.Tolerations, PriorityClass: k.PriorityClass,
		SpreadOver: k.SpreadOver, NodeLost: k.NodeLost, Pending: k.Pending,
	}, nil
}

func (k Kubernetes) reach() (rest.Config, error) {
	if k.Kubeconfig == "" {
		return rest.InCluster()
	}
	return rest.Kubeconfig(k.Kubeconfig, k.Context)
}

// Check says what the cluster has and lacks. It makes pods, if network policies are to be tried,
// and removes them.
func (k Kubernetes) Check(ctx context.Context) []sandbox.Requirement {
	cfg, err := k.config()
	if err != nil {
		return []sandbox.Requirement{{Name: "API server", Detail: err.Error(),
			Fix: "Name a kubeconfig file with kubernetes.kubeconfig, or run the server in a pod."}}
	}
	if k.agentImage() == "" { // no code pools
		return kube.Check(ctx, cfg)
	}
	return kube.Check(ctx, cfg, k.code(sandbox.Image{Reference: "sandpool.invalid/doctor:1"},
		"python"))
}
