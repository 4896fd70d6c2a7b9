package kube_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube"
	"github.com/sandpool/sandpool/internal/sandbox/kube/kubetest"
	"github.com/sandpool/sandpool/internal/sandbox/kube/place"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// of makes a template one of a pool.
func of(name string) func(*sandbox.Template) {
	return func(t *sandbox.Template) {
		t.Pool = sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: name}
	}
}

func listed(t *testing.T, e *kube.Engine) (ids []string) {
	t.Helper()
	found, err := e.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		ids = append(ids, string(f.ID))
	}
	slices.Sort(ids)
	return ids
}

// Sandboxes of a pool that has a namespace are there, with their Secrets and under a policy of it.
// All namespaces are listed, watched and cleaned; a pool that moves leaves nothing behind.
func TestNamespaces(t *testing.T) {
	c := kubetest.New(t)
	cfg := config(t, c)
	cfg.Namespaces = place.Namespaces{"boxes-a": {"team-a-*"}, "boxes-old": nil}
	e := open(t, cfg)
	usual := mustStart(t, e, "usual", of("any"))
	own := mustStart(t, e, "own", of("Team-A-1"), func(t *sandbox.Template) {
		t.SecretEnv = []sandbox.SecretVar{{Name: "A", Value: sandpool.NewSecret("secret")}}
	})
	for id, want := range map[string]string{"usual": "boxes", "own": "boxes-a"} {
		if got := c.Pods()["sandpool-"+id].Metadata.Namespace; got != want {
			t.Errorf("the pod of %s is in %q, want %q", id, got, want)
		}
		if c.Policies()[want+"/test-none-1"] == nil {
			t.Errorf("there is no policy in %s", want)
		}
	}
	if s := c.Secrets()["sandpool-own-env"]; s == nil || s.Metadata.Namespace != "boxes-a" {
		t.Errorf("the Secret is %+v", s)
	}
	if _, err := start(t, e, "own", of("any")); sandpool.ClassOf(err) != sandpool.Conflict {
		t.Errorf("a second sandbox of an ID in another namespace: %v", err)
	}
	for _, h := range []sandbox.Handle{usual, own} {
		if code, err := e.Exec(t.Context(), h, sandbox.Program{
			Args: []string{"/guest", "exit", "7"}}); err != nil || code.Code != 7 {
			t.Errorf("a program in %s: %+v, %v", h.ID, code, err)
		}
	}

	// The next server has the pool elsewhere, and knows what was there before.
	cfg.Namespaces = place.Namespaces{"boxes-a": nil, "boxes-old": {"team-a-1"}}
	e = open(t, cfg)
	if got := listed(t, e); !slices.Equal(got, []string{"own", "usual"}) {
		t.Errorf("the sandboxes are %q", got)
	}
	mustStart(t, e, "moved", of("team-a-1"))
	if got := c.Pods()["sandpool-moved"].Metadata.Namespace; got != "boxes-old" {
		t.Errorf("the moved pool's pod is in %q", got)
	}
	ended := make(chan sandbox.Exit, 1)
	go func() {
		exit, err := e.Wait(t.Context(), own)
		if err != nil {
			t.Error(err)
		}
		ended <- exit
	}()
	c.Kill("sandpool-own")
	if exit := <-ended; exit.Reason != sandbox.Exited && exit.Reason != sandbox.Killed {
		t.Errorf("the end is %+v", exit)
	}
	if err := e.Stop(t.Context(), own); err != nil {
		t.Error(err)
	}
	// A handle of a server that had one namespace does not name it.
	usual.Data = []byte(`{"v":1,"engine":"kubernetes","uid":"` +
		c.Pods()["sandpool-usual"].Metadata.UID + `"}`)
	if err := e.Stop(t.Context(), usual); err != nil {
		t.Error(err)
	}
	if got := listed(t, e); !slices.Equal(got, []string{"moved"}) {
		t.Errorf("what is left is %q", got)
	}
}

// A sandbox that nobody knows but by its ID is found wherever its pod is.
func TestUnknownWhereabouts(t *testing.T) {
	c := kubetest.New(t)
	cfg := config(t, c)
	cfg.Namespaces = place.Namespaces{"boxes-a": {"a"}}
	e := open(t, cfg)
	c.Full("0/1 nodes are available")
	_, err := cfg.Client.CreatePod(t.Context(), &rest.Pod{Metadata: rest.Meta{
		Name: "sandpool-half", Namespace: "boxes-a", Labels: map[string]string{
			"app.kubernetes.io/managed-by": "sandpool", "sandpool/instance": cfg.Instance,
			"sandpool/id": "half"}},
		Spec: rest.PodSpec{Containers: []rest.Container{{Name: "sandbox"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(t.Context(), sandbox.Handle{ID: "half"}); err != nil {
		t.Fatal(err)
	}
	if left := c.Pods(); len(left) > 0 {
		t.Errorf("%d pods are left", len(left))
	}
}

// The doctor looks into each namespace, and an engine does not start without one of them.
func TestCheckNamespaces(t *testing.T) {
	c := kubetest.New(t)
	c.Enforce(true)
	cfg := config(t, c)
	cfg.Namespaces = place.Namespaces{"boxes-a": {"a"}}
	cfg.NetworkUnverified, cfg.ProbeImage = false, "registry.example/sandpool:1"
	for _, r := range kube.Check(t.Context(), cfg) {
		if !r.OK {
			t.Errorf("a cluster that has all lacks %+v", r)
		}
	}
	c.Deny("create pods boxes-a")
	if r := requirement(t, cfg, "permissions in boxes"); !r.OK {
		t.Errorf("of the usual namespace: %+v", r)
	}
	if r := requirement(t, cfg, "permissions in boxes-a"); r.OK ||
		!strings.Contains(r.Detail, "create pods") {
		t.Errorf("of the namespace that lacks a permission: %+v", r)
	}
	cfg.Namespaces = place.Namespaces{"boxes": {"a"}}
	if _, err := kube.New(t.Context(), nil, cfg); err == nil ||
		!strings.Contains(err.Error(), "leave it out") {
		t.Errorf("the usual namespace named for a pool: %v", err)
	}
}

// Who asks for measurements while the metrics API says nothing leaves when he likes, and holds
// nobody up.
func TestStatsDoNotWait(t *testing.T) {
	c := kubetest.New(t)
	e := open(t, config(t, c))
	h := mustStart(t, e, "one")
	answer := make(chan struct{})
	c.Measure([]any{})
	c.Meter(answer)
	first := make(chan error, 1)
	go func() {
		_, err := e.Stats(t.Context(), h)
		first <- err
	}()
	leaves, leave := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	second := make(chan error, 1)
	go func() {
		_, err := e.Stats(leaves, h)
		second <- err
	}()
	leave(gone)
	if err := <-second; !errors.Is(err, gone) && !errors.Is(err, context.Canceled) {
		t.Errorf("who leaves is told %v", err)
	}
	close(answer)
	wantError(t, <-first, sandpool.Unavailable, "NotMeasuredYet")
}
