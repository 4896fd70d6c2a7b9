package kube_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube"
	"github.com/sandpool/sandpool/internal/sandbox/kube/kubetest"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

func start(t *testing.T, e *kube.Engine, id sandbox.ID, change ...func(*sandbox.Template)) (
	sandbox.Handle, error) {
	t.Helper()
	tmpl := template()
	for _, c := range change {
		c(&tmpl)
	}
	p, err := e.Prepare(t.Context(), tmpl, nil)
	if err != nil {
		return sandbox.Handle{}, err
	}
	h, err := e.Start(t.Context(), id, p)
	if err == nil {
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_ = e.Stop(ctx, h) // the cluster of a test ends anyway
		})
	}
	return h, err
}

func mustStart(t *testing.T, e *kube.Engine, id sandbox.ID,
	change ...func(*sandbox.Template)) sandbox.Handle {
	t.Helper()
	h, err := start(t, e, id, change...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func wantError(t *testing.T, err error, class sandpool.Class, code string) {
	t.Helper()
	known, _ := err.(*sandpool.Error)
	if known == nil {
		for _, e := range flat(err) {
			if k, ok := e.(*sandpool.Error); ok {
				known = k
				break
			}
		}
	}
	if known == nil || known.Class != class || known.Code != code {
		t.Errorf("the error is %v, want class %s and code %q", err, class, code)
	}
}

// flat is an error with all that it wraps.
func flat(err error) (all []error) {
	if err == nil {
		return nil
	}
	all = append(all, err)
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		all = append(all, flat(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, each := range e.Unwrap() {
			all = append(all, flat(each)...)
		}
	}
	return all
}

// A busy API server is given the time that it asks for.
func TestBusy(t *testing.T) {
	c := kubetest.New(t)
	e := open(t, config(t, c))
	c.Order(kubetest.Fault{Verb: "create", Status: 429, Reason: "TooManyRequests"})
	c.Order(kubetest.Fault{Verb: "create", Status: 429, Reason: "TooManyRequests"})
	h := mustStart(t, e, "busy")
	if n := c.Calls("create"); n < 3 {
		t.Errorf("%d calls made the pod, want those that were refused repeated", n)
	}
	if _, err := ask(t.Context(), e, h, "/", nil); err != nil {
		t.Error(err)
	}
}

// A call that was served and whose answer was lost leaves nothing.
func TestAnswerLost(t *testing.T) {
	c := kubetest.New(t)
	e := open(t, config(t, c))
	p, err := e.Prepare(t.Context(), template(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Order(kubetest.Fault{Verb: "create", Lose: true})
	_, err = e.Start(t.Context(), "lost", p)
	wantError(t, err, sandpool.Unavailable, "ClusterUnreachable")
	if left := c.Pods(); len(left) > 0 {
		t.Errorf("after a start that failed there is %v", left)
	}
}

// A Start that fails removes its own pod and no other of the same name.
func TestForeignPod(t *testing.T) {
	c := kubetest.New(t)
	e := open(t, config(t, c))
	h := mustStart(t, e, "one")
	other := open(t, config(t, c))
	_, err := start(t, other, "one")
	wantError(t, err, sandpool.Conflict, "")
	if _, err := ask(t.Context(), e, h, "/", nil); err != nil {
		t.Error(err)
	}
}

// Events that are forgotten before they were seen are made up for by a list.
func TestWatchExpired(t *testing.T) {
	c := kubetest.New(t)
	e := open(t, config(t, c))
	h := mustStart(t, e, "expired")
	exits := make(chan sandbox.Exit, 1)
	go func() {
		exit, err := e.Wait(t.Context(), h)
		if err != nil {
			t.Error(err)
		}
		exits <- exit
	}()
	c.Outage(true)
	c.Kill("sandpool-expired")
	c.Compact()
	c.Outage(false)
	if exit := <-exits; exit.Reason == "" || exit.Reason == sandbox.Stopped {
		t.Errorf("it ended by %+v", exit)
	}
}

// While the API server is away, what runs is reached, and what would change something says so.
func TestOutage(t *testing.T) {
	c := kubetest.New(t)
	e := open(t, config(t, c))
	h := mustStart(t, e, "outage")
	p, err := e.Prepare(t.Context(), template(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Outage(true)
	if _, err := ask(t.Context(), e, h, "/", nil); err != nil {
		t.Errorf("a sandbox that runs is not reached: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if exit, err := e.Wait(ctx, h); err == nil {
		t.Errorf("a sandbox that runs is said to have ended: %+v", exit)
	}
	if _, err := e.List(t.Context()); err == nil {
		t.Error("List says something that nobody knows")
	}
	ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := e.Start(ctx, "other", p); err == nil {
		t.Error("a sandbox started without an API server")
	}
	c.Outage(false)
	if _, err := e.Start(t.Context(), "another", p); err != nil {
		t.Errorf("after the outage: %v", err)
	}
}

// Ends are told apart by what the cluster says of them.
func TestReasons(t *testing.T) {
	c := kubetest.New(t)
	e := open(t, config(t, c))
	terminated := func(reason string, code int) func(*rest.Pod) {
		return func(p *rest.Pod) {
			p.Status.Phase = rest.Failed
			p.Status.ContainerStatuses = []rest.ContainerStatus{{Name: "sandbox",
				State: rest.ContainerState{Terminated: &rest.Terminated{Reason: reason,
					ExitCode: code}}}}
		}
	}
	target := func(reason string) func(*rest.Pod) {
		return func(p *rest.Pod) {
			terminated("Error", 137)(p)
			p.Status.Conditions = []rest.Condition{{Type: "DisruptionTarget", Status: "True",
				Reason: reason}}
		}
	}
	away := func(p *rest.Pod) { // it never ends: nobody is there to end it
		when := time.Now()
		p.Metadata.DeletionTimestamp = &when
		p.Status.Conditions = []rest.Condition{{Type: "DisruptionTarget", Status: "True",
			Reason: "DeletionByTaintManager"}}
	}
	for id, test := range map[sandbox.ID]struct {
		change func(*rest.Pod)
		want   sandbox.Exit
	}{
		"oom":     {terminated("OOMKilled", 137), sandbox.Exit{Reason: sandbox.OutOfMemory, Code: 137}},
		"exited":  {terminated("Error", 3), sandbox.Exit{Reason: sandbox.Exited, Code: 3}},
		"unknown": {terminated("ContainerStatusUnknown", 137), sandbox.Exit{Reason: sandbox.Killed, Code: 137}},
		"evicted": {func(p *rest.Pod) { p.Status.Phase, p.Status.Reason = rest.Failed, "Evicted" },
			sandbox.Exit{Reason: sandbox.Evicted}},
		"drained":   {target("EvictionByEvictionAPI"), sandbox.Exit{Reason: sandbox.Evicted, Code: 137}},
		"preempted": {target("PreemptionByScheduler"), sandbox.Exit{Reason: sandbox.Preempted, Code: 137}},
		"collected": {target("DeletionByPodGC"), sandbox.Exit{Reason: sandbox.NodeLost, Code: 137}},
		"away":      {away, sandbox.Exit{Reason: sandbox.NodeLost}},
	} {
		t.Run(string(id), func(t *testing.T) {
			h := mustStart(t, e, id)
			c.Change("sandpool-"+string(id), test.change)
			if exit, err := e.Wait(t.Context(), h); err != nil || exit != test.want {
				t.Errorf("Wait = %+v, %v; want %+v", exit, err, test.want)
			}
		})
	}
}

// How a sandbox ended is known after its pod is gone, too.
func TestReasonOutlivesPod(t *testing.T) {
	c := kubetest.New(t)
	cfg := config(t, c)
	e := open(t, cfg)
	h := mustStart(t, e, "drained")
	c.Change("sandpool-drained", func(p *rest.Pod) {
		p.Status.Conditions = []rest.Condition{{Type: "DisruptionTarget", Status: "True",
			Reason: "EvictionByEvictionAPI"}}
	})
	if err := cfg.Client.DeletePod(t.Context(), cfg.Namespace, "sandpool-drained", "",
		0); err != nil {
		t.Fatal(err)
	}
	gone := func() bool {
		_, err := e.Dial(t.Context(), h, 8080)
		return sandpool.ClassOf(err) == sandpool.Ended
	}
	for deadline := time.Now().Add(time.Minute); !gone(); {
		if time.Now().After(deadline) {
			t.Fatal("a pod that was killed is still there")
		}
	}
	if exit, err := e.Wait(t.Context(), h); err != nil || exit.Reason != sandbox.Evicted {
		t.Errorf("Wait = %+v, %v; want it evicted", exit, err)
	}
}

// A container whose program is not there has not exited: nothing ran.
func TestNoProgram(t *testing.T) {
	c := kubetest.New(t)
	e := open(t, config(t, c))
	_, err := start(t, e, "none", func(t *sandbox.Template) { t.Args = []string{"/no/such"} })
	wantError(t, err, sandpool.Invalid, "ContainerNotStarted")
	if err == nil || !strings.Contains(err.Error(), "/no/such") {
		t.Errorf("%v does not name the program", err)
	}
}

// A pod whose node is away cannot be ended for sure, and Stop does not say that it was.
func TestStopOfLostNode(t *testing.T) {
	c := kubetest.New(t)
	e := open(t, config(t, c))
	h := mustStart(t, e, "far")
	c.Freeze("sandpool-far")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := e.Stop(ctx, h); err == nil {
		t.Error("Stop says that a pod has ended that has not")
	}
	if found, err := e.List(t.Context()); err != nil || len(found) != 1 || found[0].Running {
		t.Errorf("List = %+v, %v; want it, not running", found, err)
	}
	c.Thaw("sandpool-far")
}

// A cluster that has no room says so in words for whoever asked, and nothing is left.
func TestFull(t *testing.T) {
	c := kubetest.New(t)
	cfg := config(t, c)
	cfg.Pending = 50 * time.Millisecond
	e := open(t, cfg)
	c.Full("0/3 nodes are available: 3 Insufficient memory")
	_, err := start(t, e, "big")
	wantError(t, err, sandpool.Unavailable, "ClusterFull")
	if err == nil || !strings.Contains(err.Error(), "Insufficient memory") {
		t.Errorf("%v does not say what is missing", err)
	}
	c.Full("")
	c.Order(kubetest.Fault{Verb: "create"}) // that of the policy
	c.Order(kubetest.Fault{Verb: "create", Status: 403, Reason: "Forbidden",
		Message: `pods "x" is forbidden: exceeded quota: boxes, requested: pods=1`})
	_, err = start(t, open(t, cfg), "quota")
	wantError(t, err, sandpool.Unavailable, "ClusterFull")
	if left := c.Pods(); len(left) > 0 {
		t.Errorf("%d pods are left", len(left))
	}
}

func TestImageMissing(t *testing.T) {
	c := kubetest.New(t)
	e := open(t, config(t, c))
	c.Missing("registry.example/none:1")
	_, err := start(t, e, "none", func(t *sandbox.Template) {
		t.Root.Reference = "registry.example/none:1"
	})
	wantError(t, err, sandpool.Unavailable, "ImageNotPulled")
	if left := c.Pods(); len(left) > 0 {
		t.Errorf("%d pods are left", len(left))
	}
}

// What a container wrote before it failed is for its owner, and secrets are not in it.
func TestEndsEarly(t *testing.T) {
	c := kubetest.New(t)
	e := open(t, config(t, c))
	_, err := start(t, e, "early", func(t *sandbox.Template) {
		t.Args = []string{"/guest", "exit", "3"}
		t.SecretEnv = []sandbox.SecretVar{{Name: "ANIMAL", Value: sandpool.NewSecret("interpreter")}}
	})
	sentence, said := sandbox.Reason(err)
	if !strings.Contains(sentence, "code 3") || !strings.Contains(said, "the dog ate my ***") {
		t.Errorf("the reason is %q, with %q", sentence, said)
	}
}

// Values of secrets are in Secrets, which go with the pod, and nowhere in the pod itself.
func TestSecrets(t *testing.T) {
	c := kubetest.New(t)
	e := open(t, config(t, c))
	h := mustStart(t, e, "secret", func(t *sandbox.Template) {
		t.SecretEnv = []sandbox.SecretVar{{Name: "TOKEN", Value: sandpool.NewSecret("hunter2")}}
		t.Root.Username, t.Root.Password = "robot", sandpool.NewSecret("hunter3")
	})
	pods, err := json.Marshal(c.Pods())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(pods), "hunter") {
		t.Error("a secret is in the pod")
	}
	if n := len(c.Secrets()); n != 2 {
		t.Errorf("there are %d Secrets, want the variables' and the registry's", n)
	}
	pull := c.Secrets()["sandpool-secret-pull"]
	if pull == nil || pull.Type != "kubernetes.io/dockerconfigjson" ||
		!strings.Contains(pull.StringData[".dockerconfigjson"], `"registry.example":{"password":"hunter3"`) {
		t.Errorf("the registry's Secret is %+v", pull)
	}
	if err := e.Stop(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if n := len(c.Secrets()); n != 0 {
		t.Errorf("%d Secrets are left", n)
	}
}

// A pod has no more than it needs, whatever its template says.
func TestRestricted(t *testing.T) {
	c := kubetest.New(t)
	cfg := config(t, c)
	cfg.Privileged, cfg.ReadOnlyRoot, cfg.UserNamespaces = false, true, true
	e := open(t, cfg)
	_, err := start(t, e, "root")
	wantError(t, err, sandpool.Unsupported, "NotOnKubernetes")
	mustStart(t, e, "user", func(t *sandbox.Template) { t.User = "1000" })
	p := c.Pods()["sandpool-user"].Spec
	s, caps := p.Containers[0].SecurityContext, p.Containers[0].SecurityContext.Capabilities
	for what, ok := range map[string]bool{
		"a RuntimeClass":      p.RuntimeClassName == "gvisor",
		"no token":            p.AutomountServiceAccountToken != nil && !*p.AutomountServiceAccountToken,
		"no root":             *p.SecurityContext.RunAsNonRoot && *p.SecurityContext.RunAsUser == 1000,
		"seccomp":             p.SecurityContext.SeccompProfile.Type == "RuntimeDefault",
		"no capabilities":     len(caps.Add) == 0 && slices.Equal(caps.Drop, []string{"ALL"}),
		"no escalation":       !*s.AllowPrivilegeEscalation && !*s.Privileged,
		"a read-only root":    *s.ReadOnlyRootFilesystem,
		"a user namespace":    p.HostUsers != nil && !*p.HostUsers,
		"limits":              len(p.Containers[0].Resources.Limits) == 3,
		"no restart":          p.RestartPolicy == "Never",
		"no resolver":         p.DNSPolicy == "None",
		"no service variable": p.EnableServiceLinks != nil && !*p.EnableServiceLinks,
	} {
		if !ok {
			t.Errorf("the pod lacks: %s", what)
		}
	}
	cfg.RuntimeClass = ""
	if _, err := kube.New(t.Context(), nil, cfg); err == nil {
		t.Error("an engine without a RuntimeClass")
	}
}

// No sandbox starts before something is seen to enforce network policies.
func TestNetwork(t *testing.T) {
	c := kubetest.New(t)
	cfg := config(t, c)
	cfg.NetworkUnverified, cfg.ProbeImage = false, "registry.example/sandpool:1"
	e := open(t, cfg)
	_, err := start(t, e, "reaches")
	wantError(t, err, sandpool.Unsupported, "NetworkNotEnforced")
	if left := c.Pods(); len(left) > 0 {
		t.Errorf("of the trial %d pods are left", len(left))
	}
	c.Enforce(true)
	e = open(t, cfg)
	mustStart(t, e, "none")
	if p := c.Policies()["boxes/test-none-1"]; p == nil || len(p.Spec.Egress) > 0 ||
		!slices.Contains(p.Spec.PolicyTypes, "Egress") {
		t.Errorf("the policy of pods without a network is %+v", p)
	}
	mustStart(t, e, "open", func(t *sandbox.Template) {
		t.Network.Status = sandpool.EgressEnabled
	})
	if l := c.Pods()["sandpool-open"].Metadata.Labels["sandpool/network"]; l != "open" {
		t.Errorf("a pod with a network is under %q", l)
	}
	_, err = start(t, e, "names", func(t *sandbox.Template) {
		t.Network = sandpool.Network{Status: sandpool.EgressEnabled, Proxy: true, Bandwidth: 1,
			Allow: []string{"example.com"}}
	})
	wantError(t, err, sandpool.Unsupported, "NotOnKubernetes")
	for _, part := range []string{"no allow, no bandwidth, no proxy", "Leave that out",
		"sandpool/network=open"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("what cannot be had is refused with %v, without %q", err, part)
		}
	}
	h := mustStart(t, e, "kept")
	if err := e.SetNetwork(t.Context(), h, sandpool.Network{}); err != nil {
		t.Errorf("the network that a pod has: %v", err)
	}
	err = e.SetNetwork(t.Context(), h, sandpool.Network{Status: sandpool.EgressEnabled})
	wantError(t, err, sandpool.Unsupported, "NotOnKubernetes")
	cfg.ProbeImage = ""
	_, err = start(t, open(t, cfg), "untried")
	wantError(t, err, sandpool.Unsupported, "NetworkNotEnforced")
}
