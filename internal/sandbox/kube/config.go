package kube

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool/internal/pattern"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/place"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// Config says which cluster, and what pods are like. The engine takes it as it is: defaults are the
// server's.
type Config struct {
	// Client asks the API server. Required.
	Client *rest.Client
	// Namespace is where pods are made. It should have nothing else. Required.
	Namespace string
	// Namespaces are further ones, of some pools.
	Namespaces place.Namespaces
	// Instance tells the pods of this installation from those of others in the namespace. Servers
	// that share a store share it. Required.
	Instance string
	// RuntimeClass isolates the pods. Empty needs IsolationElsewhere.
	RuntimeClass string
	// IsolationElsewhere says that pods of the cluster's usual runtime are isolated enough.
	IsolationElsewhere bool
	// NetworkUnverified says that network policies are enforced, or need not be: nothing is tried.
	NetworkUnverified bool
	// ProbeImage is an image of sandpool, whose pods try whether network policies are enforced.
	ProbeImage string
	// Servers are the addresses (prefixes) and ServerLabels the labels of the pods that may connect
	// to sandboxes. Without either every pod of the cluster may.
	Servers      []string
	ServerLabels map[string]string
	// Privileged lets images run as root, with the capabilities and set-user-ID programs of the
	// template. Otherwise pods are what the Pod Security Standard "restricted" allows.
	Privileged bool
	// ReadOnlyRoot makes the root filesystem read-only, with a folder /tmp to write in.
	ReadOnlyRoot bool
	// ImageVolumes has nodes mount layers from images. Otherwise a container copies them.
	ImageVolumes bool
	// PullSecrets are Secrets of each namespace by which nodes pull images, besides a sandbox's
	// own.
	PullSecrets []string
	// PullTool is an image of sandpool, and PullProgram one of its programs, which "copy FOLDER"
	// has write itself to a folder. With them nodes pull the images of templates in advance;
	// if they are empty, they do not.
	PullTool, PullProgram string
	// UserNamespaces maps the users of a pod to such as the node has none of.
	UserNamespaces bool
	// CPUOvercommit is by how much the processors that pods may use exceed those that are set aside
	// for them: 1 for none.
	CPUOvercommit float64
	// NodeSelector, Tolerations, PriorityClass and SpreadOver (a label of nodes) say where
	// pods run.
	NodeSelector  map[string]string
	Tolerations   []rest.Toleration
	PriorityClass string
	SpreadOver    string
	// NodeLost is how long a node may be away until its pods count as lost.
	NodeLost time.Duration
	// Pending is how long a pod may find no room in the cluster until its start fails.
	Pending time.Duration
	// Accounts returns the root of an image as far as /etc/passwd and /etc/group are in it. Nil
	// means that users must be numbers.
	Accounts func(ctx context.Context, i sandbox.Image) (fs.FS, error)
}

// labelValue is what labels and the names of objects may be made of here.
var labelValue = pattern.Lazy(`^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$`)

// check finds what is missing.
func (c Config) check() error {
	switch {
	case c.Client == nil:
		return errors.New("kube: Config.Client is missing")
	case c.Namespace == "":
		return errors.New("kube: no namespace is named, neither in the configuration nor by the " +
			"kubeconfig file")
	case len(c.Namespaces.Validate(c.Namespace)) > 0:
		for name, err := range c.Namespaces.Validate(c.Namespace) {
			return fmt.Errorf("kube: the namespace %q: %w", name, err)
		}
	case !labelValue().MatchString(c.Instance):
		return fmt.Errorf("kube: the instance %q must be up to 32 lower-case letters, digits and "+
			"hyphens", c.Instance)
	case c.RuntimeClass == "" && !c.IsolationElsewhere:
		return errors.New("kube: no RuntimeClass is named. Code in a container of the usual " +
			"runtime shares the node's kernel: name a RuntimeClass of gVisor or Kata, or say that " +
			"isolation is somebody else's business")
	case c.CPUOvercommit < 1:
		return fmt.Errorf("kube: the processors are overcommitted by %v; use 1 or more",
			c.CPUOvercommit)
	}
	return nil
}

// Labels of objects.
const (
	labelManager  = "app.kubernetes.io/managed-by"
	labelInstance = "sandpool/instance"
	labelID       = "sandpool/id"
	labelNetwork  = "sandpool/network"
	labelProbe    = "sandpool/probe"
	labelPull     = "sandpool/pull"
	manager       = "sandpool"

	// annotationStart tells the pod of one Start from those of others.
	annotationStart = "sandpool/start"
	// annotationLogs marks the pods whose log may be read.
	annotationLogs = "sandpool/logs"
)

// all are all namespaces in which there may be sandboxes.
func (c Config) all() []string { return c.Namespaces.All(c.Namespace) }

// labels are those of everything that the engine makes.
func (c Config) labels(more ...string) map[string]string {
	l := map[string]string{labelManager: manager, labelInstance: c.Instance}
	for pair := range slices.Chunk(more, 2) {
		l[pair[0]] = pair[1]
	}
	return l
}

// selector is a label selector of what has all of the labels.
func selector(labels map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if labels[k] == "" {
			parts = append(parts, k)
		} else {
			parts = append(parts, k+"="+labels[k])
		}
	}
	return strings.Join(parts, ",")
}

// sandboxes selects the pods that are sandboxes.
func (c Config) sandboxes() string { return selector(c.labels(labelID, "")) }
