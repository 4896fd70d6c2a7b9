package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
	"github.com/sandpool/sandpool/internal/sandbox/passwd"
)

// checkTime bounds the questions of Check but the trial of network policies, which has its own.
const checkTime = 15 * time.Second

// metricsGroup is the group of the metrics API.
const metricsGroup = "metrics.k8s.io"

// Needs are what the server's account must be allowed to do in each namespace of sandboxes, and
// nothing else.
func Needs() []rest.Access {
	var all []rest.Access
	for _, n := range []struct {
		group, resource, sub string
		verbs                []string
	}{
		{"", "pods", "", []string{"create", "get", "list", "watch", "delete"}},
		{"", "pods", "exec", []string{"get", "create"}}, // a WebSocket is a GET, and checked as both
		{"", "pods", "log", []string{"get"}},
		{"", "secrets", "", []string{"create"}},
		{"networking.k8s.io", "networkpolicies", "", []string{"create"}},
		{metricsGroup, "pods", "", []string{"list"}},
	} {
		for _, verb := range n.verbs {
			all = append(all, rest.Access{Verb: verb, Group: n.group, Resource: n.resource,
				Subresource: n.sub})
		}
	}
	return all
}

// NeedsToPull are what the account must be allowed to do besides, where nodes pull in advance.
func NeedsToPull() (all []rest.Access) {
	for _, verb := range []string{"create", "get", "list", "delete"} {
		all = append(all, rest.Access{Verb: verb, Group: "apps", Resource: "daemonsets"})
	}
	return all
}

// Check says what a cluster has and lacks for an engine, and for pods of code pools, which are like
// code. It takes back what it makes.
func Check(ctx context.Context, cfg Config, code ...sandbox.Template) []sandbox.Requirement {
	short, cancel := context.WithTimeoutCause(ctx, checkTime,
		fmt.Errorf("no answer within %v", checkTime))
	defer cancel()
	found := []sandbox.Requirement{checkServer(short, cfg)}
	if !found[0].OK {
		return found
	}
	if err := cfg.check(); err != nil {
		return append(found, sandbox.Requirement{Name: "settings", Detail: err.Error(),
			Fix: "Set what is missing; docs/kubernetes.md has all settings."})
	}
	for _, namespace := range cfg.all() {
		one := []sandbox.Requirement{checkAccess(short, cfg, namespace),
			checkPod(short, cfg, namespace, "a sandbox's pod", tried())}
		for _, t := range code {
			t.Limits = tried().Limits
			one = append(one, checkPod(short, cfg, namespace, "a code pool's pod", t))
		}
		one = append(one, checkVolumes(short, cfg, namespace),
			checkMetrics(short, cfg, namespace), checkPolicies(ctx, cfg, namespace))
		for i := range one {
			if len(cfg.Namespaces) > 0 {
				one[i].Name += " in " + namespace
			}
		}
		found = append(found, one...)
	}
	return found
}

func checkServer(ctx context.Context, cfg Config) sandbox.Requirement {
	version, err := cfg.Client.Version(ctx)
	if err != nil {
		return sandbox.Requirement{Name: "API server", Detail: err.Error(),
			Fix: "See that " + cfg.Client.Host() + " is reached from here, and who asks is known."}
	}
	return sandbox.Requirement{Name: "API server", OK: true,
		Detail: version + " at " + cfg.Client.Host()}
}

// checkAccess asks for each permission. Without those of the metrics API nothing but measurements
// lacks, so checkMetrics says it.
func checkAccess(ctx context.Context, cfg Config, namespace string) sandbox.Requirement {
	var lacks []string
	needs := Needs()
	if cfg.PullTool != "" {
		needs = append(needs, NeedsToPull()...)
	}
	for _, a := range needs {
		if a.Group == metricsGroup {
			continue
		}
		a.Namespace = namespace
		may, err := cfg.Client.May(ctx, a)
		if err != nil {
			return sandbox.Requirement{Name: "permissions", Detail: err.Error(),
				Fix: "Let the account ask what it may (SelfSubjectAccessReview)."}
		}
		if !may {
			name := a.Resource
			if a.Subresource != "" {
				name += "/" + a.Subresource
			}
			lacks = append(lacks, a.Verb+" "+name)
		}
	}
	r := sandbox.Requirement{Name: "permissions", OK: len(lacks) == 0,
		Detail: "all in namespace " + namespace}
	if !r.OK {
		r.Detail = "in namespace " + namespace + " not: " + strings.Join(lacks, ", ")
		r.Fix = "Bind the Role of deploy/kustomize/role.yaml to the server's account."
	}
	return r
}

// tried is the template of a pod that is admitted and not made.
func tried() sandbox.Template {
	return sandbox.Template{Args: []string{"/bin/true"}, User: "1000:1000",
		Root:   sandbox.Image{Reference: "sandpool.invalid/doctor:1"},
		Limits: sandpool.Resources{CPU: 1, Memory: 256 << 20, Disk: 256 << 20}}
}

// checkPod has the API server admit a pod as sandboxes of t are, without making it: that asks for
// the namespace, the RuntimeClass, what policies of the cluster forbid, and the quota.
func checkPod(ctx context.Context, cfg Config, namespace, name string,
	t sandbox.Template) sandbox.Requirement {
	r := sandbox.Requirement{Name: name, OK: true, Detail: "is admitted to namespace " + namespace}
	_, err := cfg.try(ctx, namespace, t)
	if err == nil {
		return r
	}
	r.OK, r.Detail = false, err.Error()
	switch {
	case rest.CodeOf(err) == http.StatusNotFound:
		r.Fix = "Make the namespace: kubectl create namespace " + namespace
	case strings.Contains(err.Error(), "RuntimeClass"):
		r.Fix = "Install the runtime on the nodes and make the RuntimeClass " + cfg.RuntimeClass
	default:
		r.Fix = "Let the namespace admit such pods, or change the settings that it objects to."
	}
	return r
}

// try has the API server admit a pod of t, which names its user by numbers.
func (c Config) try(ctx context.Context, namespace string, t sandbox.Template) (*rest.Pod, error) {
	user, err := passwd.Lookup(fstest.MapFS{}, t.User, t.Groups)
	if err != nil {
		return nil, err
	}
	p := c.pod("doctor", t, user)
	p.Metadata.Namespace = namespace
	return c.Client.TryPod(ctx, p)
}

// checkVolumes asks whether a pod may mount a part of an image. A server without that refuses such
// a pod, or drops the volume. What nodes can is seen by the first pod alone.
func checkVolumes(ctx context.Context, cfg Config, namespace string) sandbox.Requirement {
	r := sandbox.Requirement{Name: "image volumes", OK: true,
		Detail: "are taken; nodes need containerd 2.1 or CRI-O 1.33 for them"}
	wants := cfg.ImageVolumes
	cfg.ImageVolumes = true
	t := tried()
	t.Layers = []sandbox.Layer{{Target: "/layer", Folder: "/bin", Image: t.Root}}
	p, err := cfg.try(ctx, namespace, t)
	took := err == nil && slices.ContainsFunc(p.Spec.Volumes, func(v rest.Volume) bool {
		return v.Image != nil
	}) && slices.ContainsFunc(p.Spec.Containers[0].VolumeMounts, func(m rest.VolumeMount) bool {
		return m.SubPath != ""
	})
	if took {
		return r
	}
	r.OK, r.Detail = !wants, "are not taken"
	if err != nil {
		r.Detail += ": " + err.Error()
	}
	if wants {
		r.Fix = "Set kubernetes.agent to copy, or use Kubernetes 1.35 (before, the feature gate " +
			"ImageVolume)."
	}
	return r
}

// checkMetrics asks for the metrics API, without which nothing but measurements lacks.
func checkMetrics(ctx context.Context, cfg Config, namespace string) sandbox.Requirement {
	r := sandbox.Requirement{Name: "metrics API", OK: true, Detail: "measures pods"}
	_, err := cfg.Client.PodMetrics(ctx, namespace, cfg.sandboxes())
	switch {
	case rest.CodeOf(err) == http.StatusForbidden:
		r.Detail = "may not be asked: what sandboxes use is not measured"
		r.Fix = "Let the server's account list pods of " + metricsGroup + ", to see it."
	case err != nil:
		r.Detail = "none: what sandboxes use is not measured"
		r.Fix = "Install metrics-server, or another that serves " + metricsGroup + ", to see it."
	}
	return r
}

// checkPolicies tries whether network policies are enforced.
func checkPolicies(ctx context.Context, cfg Config, namespace string) sandbox.Requirement {
	r := sandbox.Requirement{Name: "network policies", OK: true, Detail: "are enforced"}
	if cfg.NetworkUnverified {
		r.Detail = "not tried"
		r.Fix = "If nothing enforces policies, nothing keeps sandboxes apart: see that it does."
		return r
	}
	e := &Engine{log: slog.New(slog.DiscardHandler), cfg: cfg, net: networks(cfg)}
	if err := e.permit(ctx, namespace, sandpool.Network{}); err != nil {
		r.OK, r.Detail = false, err.Error()
		r.Fix = "Use a network plugin that enforces NetworkPolicy, such as Calico or Cilium, or " +
			"set kubernetes.network to unverified if something else keeps sandboxes apart."
	}
	return r
}
