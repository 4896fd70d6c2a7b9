package kube_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/test/kube/clustertest"
)

// With the engine gvisor, servers of the chart run sandboxes in their own pods: sessions are
// restored there, without a pod of theirs, and whichever server is asked answers. What the pod that
// is killed had is lost, each session is told so once, and the other server goes on with the pool.
func TestClusterWorkers(t *testing.T) {
	c := clustertest.At(t)
	images := filepath.Join(os.Getenv("SANDPOOL_TEST_DATA"), "test-kube", "images")
	if _, err := os.Stat(filepath.Join(images, "names", "python.json")); err != nil {
		need.Lack(t, "needs the slim Python image, which make test-kube builds: %v", err)
	}
	hub := ocitest.NewHubAt(t, clustertest.Registry)
	repository, program := sandpoolImage(t, hub), build(t)
	disk := volumes(t, c, "worker", 2)
	r := release{name: "worker", server: true, set: fmt.Sprintf(`
engine: gvisor
image: {repository: %s, tag: "1"}
server:
  replicas: 2
  store: {secretName: database}
  storeKey: {secretName: store-key}
  images: {hostPath: %q}
  resources: {requests: {cpu: 100m, memory: 256Mi}, limits: {memory: 4Gi}}
`, repository, images)}
	r.install(t, c)
	store := share(t, c, r, program)
	t.Log(c.Kubectl(t, "", "exec", "worker-0", "--namespace", r.name, "--", "sandpool", "doctor",
		"--config", "/etc/sandpool/sandpool.yaml"))
	servers := []*instance{inPod(t, c, disk, r.name, 0), inPod(t, c, disk, r.name, 1)}
	ready, most := 1, 10
	if _, err := servers[0].PutPool(t.Context(), "pool", api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{ContainerType: "PythonLTS",
			ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
				ReadySessionInstances: &ready}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := servers[0].WaitReady(t.Context(), "pool", nil); err != nil {
		t.Fatalf("%v\n%s", err, c.Kubectl(t, "", "logs", "worker-0", "--namespace", r.name))
	}
	coders := []coder{{instance: servers[0]}, {instance: servers[1]}}
	coders[0].exec(t, "alice", client.Run{Code: "x = 20"})
	if got := coders[1].exec(t, "alice", client.Run{Code: "x + 22"}); coders[1].said(got) != "42" {
		t.Errorf("the other server answers alice %q, %+v", coders[1].said(got), got.Error)
	}
	var took []time.Duration
	for i := range 9 {
		got := coders[i%2].exec(t, fmt.Sprint("session-", i), client.Run{Code: "1 + 1"})
		if coders[0].said(got) != "2" {
			t.Errorf("1 + 1 is %q, %+v", coders[0].said(got), got.Error)
		}
		took = append(took, got.Timing["claim"])
	}
	slices.Sort(took)
	t.Logf("new sessions have their sandbox after %v", took)
	pods := podsOf(t, c, r.name)
	if !slices.Equal(pods, []string{"pod/worker-0", "pod/worker-1"}) {
		t.Errorf("the pods are %v, want those of servers alone", pods)
	}

	owner, other := ownerIn(t, store), coders[0]
	if owner == "worker-0" {
		other = coders[1]
	}
	c.Kubectl(t, "", "delete", "pod", owner, "--namespace", r.name, "--force", "--grace-period=0")
	told := 0
	until(t, "alice has another session", func() bool {
		got, err := other.Execute(t.Context(), "pool", "alice", client.Run{Code: "'x' in dir()"})
		t.Logf("after the kill alice is answered %q, %+v, %v", other.said(got), got.Error, err)
		if strings.Contains(got.Result.Stderr, "files are lost") ||
			err != nil && strings.Contains(err.Error(), "SessionEnded") {
			told++
		}
		return err == nil && other.said(got) == "False"
	})
	if told != 1 {
		t.Errorf("alice was told %d times that her session is lost, want once", told)
	}
	if _, err := other.DeletePool(t.Context(), "pool"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.TryKubectl(t.Context(), "", "rollout", "status", "--timeout=2m",
		"statefulset/worker", "--namespace", r.name); err != nil {
		t.Error(err)
	}
}
