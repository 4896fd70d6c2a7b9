package kube_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/kubetest"
	"github.com/sandpool/sandpool/internal/sandbox/kube/place"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// Where nodes pull in advance, the images of a template are pulled by a pod on each node, which
// runs nothing of them; how far they are is told, and nothing of it is left. Two templates of the
// same images are pulled once.
func TestPullAhead(t *testing.T) {
	c := kubetest.New(t)
	cfg := config(t, c)
	cfg.Namespaces = place.Namespaces{"boxes-a": {"a"}}
	cfg.PullTool, cfg.PullProgram = "registry.example/sandpool:1", "/usr/local/bin/sandpool-agent"
	old := time.Now().Add(-time.Hour)
	c.Forgotten("boxes/test-pull-old", &rest.DaemonSet{Metadata: rest.Meta{
		Name: "test-pull-old", Namespace: "boxes", CreationTimestamp: &old}})
	c.Nodes(3, 1)
	e := open(t, cfg)
	if left := c.DaemonSets(); len(left) > 0 {
		t.Errorf("of an earlier server there are %v", left)
	}
	private := template()
	private.Pool.Name, private.Root.Username = "a", "user"
	private.Root.Password = sandpool.NewSecret("s3cret")
	p, err := e.Prepare(t.Context(), private, nil)
	if err != nil {
		t.Fatal(err)
	}
	wait := func(p sandbox.Prepared, say string) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(30 * time.Second); e.Notice(p) != say; <-tick.C {
			if time.Now().After(end) {
				t.Fatalf("the notice is %q, want %q", e.Notice(p), say)
			}
		}
	}
	wait(p, "The nodes of the cluster pull the image: 1 of 3 have it.")
	all := c.DaemonSets()
	if len(all) != 1 {
		t.Fatalf("there are %v", all)
	}
	for name, d := range all {
		if !strings.HasPrefix(name, "boxes-a/test-pull-") {
			t.Errorf("it is called %s", name)
		}
		spec := d.Spec.Template.Spec
		if len(spec.InitContainers) != 2 ||
			spec.InitContainers[1].Image != private.Root.Reference ||
			spec.InitContainers[1].Command[0] != "/layer/sandpool-agent" ||
			spec.RuntimeClassName != cfg.RuntimeClass || *spec.SecurityContext.RunAsUser == 0 {
			t.Errorf("its pods are %+v", spec)
		}
		secret := c.Secrets()[strings.TrimPrefix(name, "boxes-a/")+"-secret"]
		if secret == nil || len(secret.Metadata.OwnerReferences) != 1 {
			t.Errorf("the credentials are %+v", secret)
		}
	}
	again := private
	again.Env = append(again.Env, "A=b")
	if _, err := e.Prepare(t.Context(), again, nil); err != nil {
		t.Fatal(err)
	}
	if n := len(c.DaemonSets()); n != 1 {
		t.Errorf("for the same images there are %d", n)
	}
	c.Nodes(3, 3)
	wait(p, "")
	if d, s := c.DaemonSets(), c.Secrets(); len(d) > 0 || len(s) > 0 {
		t.Errorf("there are left %v and %v", d, s)
	}
}
