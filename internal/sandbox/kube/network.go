package kube

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// What a sandbox may reach is one of two network policies, chosen by a label of its pod:
//
//	none    nothing                                           EgressDisabled
//	open    public addresses, and resolvers outside too       EgressEnabled
//
// Names, single addresses, bandwidth and the like are more than a NetworkPolicy can say, and are
// refused. A cluster takes policies whether or not anything enforces them. So the engine has a pod
// under the policy "none" try to reach another pod, beside one under no policy, which must reach
// it; only if that goes as it should is a sandbox started. The answer is kept for verifiedFor.

// The policies.
const (
	policyNone = "none"
	policyOpen = "open"
)

// policyOf is the policy of a sandbox with network n.
func policyOf(n sandpool.Network) string {
	if n.Enabled() {
		return policyOpen
	}
	return policyNone
}

// verifiedFor is how long the engine believes that policies are enforced, and refusedFor how long
// that they are not.
const (
	verifiedFor = 6 * time.Hour
	refusedFor  = time.Minute
)

// network is what the engine knows of the policies in one namespace.
type network struct {
	mu    sync.Mutex // guards what follows, and lets one call at a time ask the cluster
	made  map[string]bool
	until time.Time
	err   error
}

// networks are those of all namespaces.
func networks(c Config) map[string]*network {
	out := map[string]*network{}
	for _, namespace := range c.all() {
		out[namespace] = &network{made: map[string]bool{}}
	}
	return out
}

// expressible refuses what no policy can say, all of it at once.
func expressible(n sandpool.Network) error {
	if !n.Enabled() {
		return nil
	}
	var lacks []string
	for _, field := range []struct {
		name string
		set  bool
	}{{"allow", len(n.Allow) > 0}, {"deny", len(n.Deny) > 0}, {"connections", n.Connections != 0},
		{"bandwidth", n.Bandwidth != 0}, {"inspect", n.Inspect}, {"proxy", n.Proxy},
		{"credentials", len(n.Credentials) > 0}} {
		if field.set {
			lacks = append(lacks, field.name)
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return unsupported("network."+lacks[0], "On Kubernetes a pool's network is enabled or disabled, "+
		"and has no %s. Leave that out, or disable the network; a policy of the cluster's network "+
		"plugin that denies can say more of the pods with the label %s=%s.",
		strings.Join(lacks, ", no "), labelNetwork, policyOpen)
}

// permit makes sure that the cluster gives sandboxes of a namespace the network n and no more.
func (e *Engine) permit(ctx context.Context, namespace string, n sandpool.Network) error {
	if err := expressible(n); err != nil {
		return err
	}
	known := e.net[namespace]
	known.mu.Lock()
	defer known.mu.Unlock()
	if err := e.makePolicy(ctx, namespace, policyOf(n)); err != nil {
		return err
	}
	if e.cfg.NetworkUnverified {
		return nil
	}
	if time.Now().Before(known.until) {
		return known.err
	}
	err := e.verify(ctx, namespace)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	known.err, known.until = err, time.Now().Add(verifiedFor)
	if err != nil {
		known.until = time.Now().Add(refusedFor)
	}
	return err
}

// SetNetwork implements sandbox.NetworkSetter. A pod stays under the policy that it was made with:
// whether another one holds for connections that are open is every network plugin's own affair.
func (e *Engine) SetNetwork(_ context.Context, h sandbox.Handle, n sandpool.Network) error {
	p, err := e.running(h)
	if err != nil {
		return err
	}
	if err := expressible(n); err != nil {
		return err
	}
	if p.Metadata.Labels[labelNetwork] != policyOf(n) {
		return unsupported("network", "The network of a pod that runs cannot be changed.")
	}
	return nil
}

// notPublic are the ranges that "open" leaves out: networks of the cluster and of its machines, the
// metadata services of clouds, and what is no address of a host at all. See RFC 6890.
func notPublic() (four, six []string) {
	return []string{"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
			"172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4",
			"240.0.0.0/4"},
		[]string{"::/128", "::1/128", "64:ff9b::/96", "fc00::/7", "fe80::/10", "ff00::/8"}
}

// policy is a network policy of a namespace. A change of what it says needs another name: policies
// are made and never changed.
func (c Config) policy(namespace, name string) *rest.NetworkPolicy {
	p := &rest.NetworkPolicy{
		Metadata: rest.Meta{Name: c.Instance + "-" + name + "-1", Namespace: namespace,
			Labels: c.labels()},
		Spec: rest.NetworkPolicySpec{
			PodSelector: rest.LabelSelector{MatchLabels: c.labels(labelNetwork, name)},
			PolicyTypes: []string{"Egress"},
		},
	}
	var from []rest.Peer
	for _, cidr := range c.Servers {
		from = append(from, rest.Peer{IPBlock: &rest.IPBlock{CIDR: cidr}})
	}
	if len(c.ServerLabels) > 0 {
		from = append(from, rest.Peer{NamespaceSelector: &rest.LabelSelector{},
			PodSelector: &rest.LabelSelector{MatchLabels: c.ServerLabels}})
	}
	if len(from) > 0 {
		p.Spec.PolicyTypes = append(p.Spec.PolicyTypes, "Ingress")
		p.Spec.Ingress = []rest.Ingress{{From: from}}
	}
	if name == policyOpen {
		four, six := notPublic()
		p.Spec.Egress = []rest.Egress{{To: []rest.Peer{
			{IPBlock: &rest.IPBlock{CIDR: "0.0.0.0/0", Except: four}},
			{IPBlock: &rest.IPBlock{CIDR: "::/0", Except: six}}}}}
	}
	return p
}

// makePolicy makes a policy unless it is there. The caller holds network.mu.
func (e *Engine) makePolicy(ctx context.Context, namespace, name string) error {
	made := e.net[namespace].made
	if made[name] {
		return nil
	}
	err := e.cfg.Client.CreateNetworkPolicy(ctx, e.cfg.policy(namespace, name))
	if err != nil && rest.CodeOf(err) != http.StatusConflict {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &sandpool.Error{Class: sandpool.Unavailable, Code: "NetworkPolicyNotMade",
			Message: "The cluster does not take the pool's network policy.", Err: err}
	}
	made[name] = true
	return nil
}

// The port at which the pod listens that the others try to reach, how long a pod of the trial may
// take to end, and how long the one that listens lives.
const (
	trialPort = 8723
	trialTime = 90 * time.Second
)

// Exit codes of "sandpool reach".
const (
	reached    = 0
	notReached = 3
)

// verify has pods try whether policies are enforced. The caller holds network.mu.
func (e *Engine) verify(ctx context.Context, namespace string) (err error) {
	refuse := func(format string, args ...any) error {
		return &sandpool.Error{Class: sandpool.Unsupported, Code: "NetworkNotEnforced",
			Target: "network",
			Message: "This cluster is not seen to enforce network policies, so sandboxes would " +
				"reach what they must not.",
			Err: fmt.Errorf(format, args...)}
	}
	if e.cfg.ProbeImage == "" {
		return refuse("there is no image to try it with: set probe_image to an image of " +
			"sandpool, or network to unverified if something else keeps sandboxes apart")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, trialTime,
		fmt.Errorf("the trial of network policies did not end within %v", trialTime))
	defer cancel()
	run := trial{e, namespace, strings.ToLower(rand.Text()[:10])}
	defer func() {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
		defer cancel()
		for _, role := range []string{"listen", "free", "bound"} {
			gone := e.cfg.Client.DeletePod(undo, namespace, run.name(role), "", 0)
			if gone != nil && rest.CodeOf(gone) != http.StatusNotFound {
				e.log.Warn("a pod of the trial of network policies is left", "error", gone)
			}
		}
	}()
	if err := e.makePolicy(ctx, namespace, policyNone); err != nil {
		return err
	}
	if err := run.try(ctx, "listen", "", "reach", "--listen", ":"+strconv.Itoa(trialPort),
		"--for", trialTime.String()); err != nil {
		return refuse("start the pod that listens: %w", err)
	}
	listens, err := run.look(ctx, "listen", runs)
	if err != nil {
		return refuse("start the pod that listens: %w", err)
	}
	target := net.JoinHostPort(listens.Status.PodIP, strconv.Itoa(trialPort))
	codes := map[string]int{}
	for role, policy := range map[string]string{"free": "", "bound": policyNone} {
		if err := run.try(ctx, role, policy, "reach", target); err != nil {
			return refuse("start the pod that is %s: %w", role, err)
		}
	}
	for _, role := range []string{"free", "bound"} {
		p, err := run.look(ctx, role, func(p *rest.Pod) bool {
			return containerOf(p).State.Terminated != nil
		})
		if err != nil {
			return refuse("the pod that is %s: %w", role, err)
		}
		codes[role] = containerOf(p).State.Terminated.ExitCode
	}
	switch {
	case codes["free"] != reached:
		return refuse("a pod under no policy does not reach another at %s (code %d), so the trial "+
			"says nothing", target, codes["free"])
	case codes["bound"] == reached:
		return refuse("a pod under a policy that forbids everything reached %s: the cluster's "+
			"network plugin does not enforce NetworkPolicy", target)
	case codes["bound"] != notReached:
		return refuse("the pod under the policy ended with code %d", codes["bound"])
	}
	e.log.Info("the cluster enforces network policies", "namespace", namespace, "tried", target)
	return nil
}

// trial is one trial of network policies.
type trial struct {
	*Engine
	namespace, run string
}

func (t trial) name(role string) string {
	return fmt.Sprintf("%s-trial-%s-%s", t.cfg.Instance, t.run, role)
}

// try starts a pod of the trial.
func (t trial) try(ctx context.Context, role, policy string, args ...string) error {
	e := t.Engine
	no, yes, uid, grace := false, true, int64(65532), int64(1)
	labels := e.cfg.labels(labelProbe, "true")
	if policy != "" {
		labels[labelNetwork] = policy
	}
	_, err := e.cfg.Client.CreatePod(ctx, &rest.Pod{
		Metadata: rest.Meta{Name: t.name(role), Namespace: t.namespace,
			Labels: labels},
		Spec: rest.PodSpec{
			RestartPolicy: "Never", RuntimeClassName: e.cfg.RuntimeClass,
			TerminationGracePeriodSeconds: &grace, AutomountServiceAccountToken: &no,
			EnableServiceLinks: &no, NodeSelector: e.cfg.NodeSelector,
			Tolerations: e.cfg.tolerations(), ImagePullSecrets: e.cfg.pullSecrets(),
			SecurityContext: &rest.PodSecurity{RunAsUser: &uid, RunAsNonRoot: &yes,
				SeccompProfile: &rest.Seccomp{Type: "RuntimeDefault"}},
			Containers: []rest.Container{{Name: containerName, Image: e.cfg.ProbeImage,
				ImagePullPolicy: "IfNotPresent", Args: args,
				Resources: e.cfg.resources(sandbox.Template{Limits: sandpool.Resources{CPU: 0.1,
					Memory: 128 << 20, Disk: 16 << 20}}),
				SecurityContext: &rest.ContainerSecurity{AllowPrivilegeEscalation: &no,
					ReadOnlyRootFilesystem: &yes,
					Capabilities:           &rest.Capabilities{Drop: []string{"ALL"}}}}},
		}})
	return err
}

// look waits until a pod of the trial is as it should be.
func (t trial) look(ctx context.Context, role string, as func(*rest.Pod) bool) (*rest.Pod,
	error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var last *rest.Pod
	for {
		p, err := t.cfg.Client.Pod(ctx, t.namespace, t.name(role))
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w; it is %s", context.Cause(ctx), describe(last))
		}
		if err != nil {
			return nil, err
		}
		if as(p) {
			return p, nil
		}
		if w := containerOf(p).State.Waiting; w != nil && stuck(w.Reason) {
			return nil, imageError(w)
		}
		if exit, over := exitOf(p); over {
			return nil, fmt.Errorf("it ended: %s, code %d", exit.Reason, exit.Code)
		}
		last = p
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// sweepProbes removes what trials of an earlier process left in a namespace.
func (e *Engine) sweepProbes(ctx context.Context, namespace string) error {
	list, _, err := e.cfg.Client.ListPods(ctx, namespace,
		selector(e.cfg.labels(labelProbe, "true")))
	var errs []error
	for _, p := range list {
		made := p.Metadata.CreationTimestamp
		if made != nil && time.Since(*made) < 2*trialTime {
			continue // another server's trial may be under way
		}
		if err := e.cfg.Client.DeletePod(ctx, namespace, p.Metadata.Name, p.Metadata.UID,
			0); rest.CodeOf(err) != http.StatusNotFound {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, err)...)
}
