package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube"
	"github.com/sandpool/sandpool/internal/sandbox/kube/kubetest"
	"github.com/sandpool/sandpool/test/kube/clustertest"
)

// world is an engine in the real cluster, with what its pods run.
type world struct {
	*kube.Engine
	cluster   *clustertest.Cluster
	release   release
	cfg       kube.Config
	reference string
}

// newWorld installs a release and opens an engine as its account.
func newWorld(t *testing.T, name string) *world {
	t.Helper()
	c := clustertest.At(t)
	w := &world{cluster: c, release: release{name: name, set: "sandboxes: {security: image}"},
		reference: guest(t, ocitest.NewHubAt(t, clustertest.Registry))}
	w.cfg = engineConfig(t, w.release.install(t, c), "")
	w.Engine = openEngine(t, w.cfg)
	return w
}

// start starts a sandbox that ends with the test.
func (w *world) start(t *testing.T, id sandbox.ID, change ...func(*sandbox.Template)) (
	sandbox.Handle, error) {
	t.Helper()
	template := guestTemplate(w.reference)
	for _, c := range change {
		c(&template)
	}
	p, err := w.Prepare(t.Context(), template, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := w.Stop(ctx, sandbox.Handle{ID: id}); err != nil {
			t.Errorf("stop %s: %v", id, err)
		}
	})
	return w.Start(t.Context(), id, p)
}

// ends starts a sandbox, has something happen to it, and returns how it ended.
func (w *world) ends(t *testing.T, id sandbox.ID, happens func(h sandbox.Handle),
	change ...func(*sandbox.Template)) sandbox.Exit {
	t.Helper()
	h, err := w.start(t, id, change...)
	if err != nil {
		t.Fatal(err)
	}
	happens(h)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	exit, err := w.Wait(ctx, h)
	if err != nil {
		t.Fatalf("wait for the end of %s: %v\n%s", id, err, w.describe(t))
	}
	return exit
}

// describe is what the cluster says of the sandboxes.
func (w *world) describe(t *testing.T) string {
	t.Helper()
	return w.cluster.Kubectl(t, "", "get", "pods", "--namespace", w.cfg.Namespace, "-o", "yaml")
}

// ask asks a sandbox for what may never be answered.
func (w *world) ask(t *testing.T, h sandbox.Handle, path string, query url.Values) {
	t.Helper()
	_, err := kubetest.Ask(t.Context(), func(ctx context.Context) (net.Conn, error) {
		return w.Dial(ctx, h, 8080)
	}, path, query)
	t.Logf("%s: %v", path, err)
}

func podOf(id sandbox.ID) string { return "pod/sandpool-" + string(id) }

// Each way in which a pod can end is told from the others.
func TestClusterEnds(t *testing.T) {
	w := newWorld(t, "ends")
	kubectl := func(args ...string) {
		t.Helper()
		w.cluster.Kubectl(t, "", args...)
	}
	for _, c := range []struct {
		id      sandbox.ID
		happens func(sandbox.Handle)
		want    sandbox.Exit
	}{
		{"exits", func(h sandbox.Handle) { w.ask(t, h, "/exit", url.Values{"code": {"7"}}) },
			sandbox.Exit{Reason: sandbox.Exited, Code: 7}},
		{"grows", func(h sandbox.Handle) { w.ask(t, h, "/memory", url.Values{"mb": {"200"}}) },
			sandbox.Exit{Reason: sandbox.OutOfMemory, Code: 137}},
		{"writes", func(h sandbox.Handle) {
			w.ask(t, h, "/disk", url.Values{"path": {"/big"}, "mb": {"64"}})
		}, sandbox.Exit{Reason: sandbox.Evicted}},
		{"deleted", func(h sandbox.Handle) {
			kubectl("delete", podOf(h.ID), "--namespace", w.cfg.Namespace, "--wait=false")
		}, sandbox.Exit{Reason: sandbox.Killed}},
		{"drained", func(sandbox.Handle) {
			kubectl("drain", clustertest.Node, "--force", "--delete-emptydir-data",
				"--pod-selector=sandpool/id=drained")
			kubectl("uncordon", clustertest.Node)
		}, sandbox.Exit{Reason: sandbox.Evicted}},
	} {
		got := w.ends(t, c.id, c.happens)
		if c.want.Code == 0 {
			got.Code = 0 // by which signal is the runtime's affair
		}
		if got != c.want {
			t.Errorf("%s: the end is %+v, want %+v\n%s", c.id, got, c.want, w.describe(t))
		}
	}
}

// A sandbox gives its place to a pod of a higher priority.
func TestClusterPreempted(t *testing.T) {
	w := newWorld(t, "preempted")
	w.cluster.Kubectl(t, `{"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
		"metadata": {"name": "urgent"}, "value": 1000}`, "create", "-f", "-")
	t.Cleanup(func() {
		_, err := w.cluster.TryKubectl(context.WithoutCancel(t.Context()), "", "delete",
			"priorityclass", "urgent")
		if err != nil {
			t.Error(err)
		}
	})
	room := w.cluster.Kubectl(t, "", "get", "node", clustertest.Node, "-o",
		"jsonpath={.status.allocatable.cpu}")
	exit := w.ends(t, "modest", func(sandbox.Handle) {
		w.cluster.Kubectl(t, fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod",
			"metadata": {"name": "urgent"}, "spec": {"priorityClassName": "urgent",
			"containers": [{"name": "c", "image": "%s",
			"resources": {"requests": {"cpu": "%s"}}}]}}`, w.reference, room),
			"create", "--namespace", w.cfg.Namespace, "-f", "-")
	})
	if exit.Reason != sandbox.Preempted {
		t.Errorf("the end is %+v, want it preempted\n%s", exit, w.describe(t))
	}
}

// A sandbox whose node says nothing any more counts as lost. It is not gone: Stop says that its
// node is away, and succeeds when the node is back.
func TestClusterNodeLost(t *testing.T) {
	w := newWorld(t, "lost")
	// A cluster all of whose nodes are away gives none of them up.
	w.cluster.FakeNodes(t, 2)
	back := func() {}
	began := time.Now()
	exit := w.ends(t, "stranded", func(sandbox.Handle) { back = w.cluster.Silence(t) })
	if exit.Reason != sandbox.NodeLost {
		t.Errorf("the end is %+v, want its node lost\n%s", exit, w.describe(t))
	}
	t.Logf("the loss was known after %v", time.Since(began).Round(time.Second))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := w.Stop(ctx, sandbox.Handle{ID: "stranded"})
	if err == nil || !strings.Contains(err.Error(), clustertest.Node) {
		t.Errorf("Stop while the node is away: %v, want an error that names the node", err)
	}
	back()
	if err := w.Stop(t.Context(), sandbox.Handle{ID: "stranded"}); err != nil {
		t.Errorf("Stop after the node is back: %v", err)
	}
	// It is a node again that pods can be started on.
	until(t, "a sandbox starts on the node that is back", func() bool {
		_, err := w.start(t, "after")
		return err == nil
	})
}

// What cannot start is refused in words, and leaves nothing.
func TestClusterRefusals(t *testing.T) {
	w := newWorld(t, "refusals")
	w.cfg.Pending = 2 * time.Second
	w.Engine = openEngine(t, w.cfg)
	for _, c := range []struct {
		id     sandbox.ID
		code   string
		change func(*sandbox.Template)
		before func()
	}{
		{"noimage", "ImageNotPulled", func(t *sandbox.Template) {
			t.Root.Reference = clustertest.Registry + "/nothing:1"
		}, nil},
		{"noprogram", "ContainerNotStarted", func(t *sandbox.Template) {
			t.Args = []string{"/no/such/program"}
		}, nil},
		{"fails", "SandboxExited", func(t *sandbox.Template) {
			t.Args = []string{"/guest", "fail"}
		}, nil},
		{"huge", "ClusterFull", func(t *sandbox.Template) { t.Limits.Memory = 1 << 40 }, nil},
		{"quota", "ClusterFull", func(*sandbox.Template) {}, func() {
			w.cluster.Kubectl(t, "", "create", "quota", "none", "--namespace", w.cfg.Namespace,
				"--hard=pods=0")
		}},
	} {
		if c.before != nil {
			c.before()
		}
		_, err := w.start(t, c.id, c.change)
		var known *sandpool.Error
		if !errors.As(err, &known) || known.Code != c.code {
			t.Errorf("%s: the error is %v, want %s", c.id, err, c.code)
		}
		t.Logf("%s: %v", c.id, err)
	}
	if left := podsOf(t, w.cluster, w.cfg.Namespace); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}
