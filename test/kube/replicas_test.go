package kube_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/internal/oci/pack"
	"github.com/sandpool/sandpool/internal/postgres/pgtest"
	"github.com/sandpool/sandpool/test/kube/clustertest"
)

// The chart makes two servers of one PostgreSQL: each answers for the pools of both, one at a time
// may be evicted, and the sessions of the one that goes are the other's at once.
func TestClusterReplicas(t *testing.T) {
	c := clustertest.At(t)
	hub := ocitest.NewHubAt(t, clustertest.Registry)
	repository, reference, program := sandpoolImage(t, hub), guest(t, hub), build(t)
	disk := volumes(t, c, "pair", 2)
	r := release{name: "pair", server: true, set: fmt.Sprintf(`
image: {repository: %s, tag: "1"}
sandboxes: {network: unverified, cpuOvercommit: 10}
server:
  replicas: 2
  store: {secretName: database}
  storeKey: {secretName: store-key}
  resources: {requests: {cpu: 10m, memory: 64Mi}, limits: {memory: 1Gi}}
  config: {registries: {plain_http: ["%s"]}}
`, repository, clustertest.Registry)}
	r.install(t, c)
	share(t, c, r, program)
	servers := []*instance{inPod(t, c, disk, r.name, 0), inPod(t, c, disk, r.name, 1)}
	servers[0].customPool(t, reference, 2)
	alice := servers[0].pod(t, "alice")
	if got := servers[1].pod(t, "alice"); got != alice {
		t.Errorf("the other server answers alice by %s, want %s", got, alice)
	}
	until(t, "the budget lets one server go", func() bool {
		return c.Kubectl(t, "", "get", "pdb", "pair", "--namespace", r.name, "-o",
			"jsonpath={.status.disruptionsAllowed}") == "1"
	})
	evict := func(pod string) error {
		_, err := c.TryKubectl(t.Context(), fmt.Sprintf(`{"apiVersion": "policy/v1",
			"kind": "Eviction", "metadata": {"name": "%s", "namespace": "pair"}}`, pod), "create",
			"--raw", "/api/v1/namespaces/pair/pods/"+pod+"/eviction", "-f", "-")
		return err
	}
	if err := evict("pair-0"); err != nil {
		t.Fatal(err)
	}
	if err := evict("pair-1"); err == nil || !strings.Contains(err.Error(), "disruption budget") {
		t.Errorf("the eviction of the second server: %v", err)
	}
	if got := servers[1].pod(t, "alice"); got != alice {
		t.Errorf("after the eviction alice is answered by %s, want %s", got, alice)
	}
	if _, err := servers[1].DeletePool(t.Context(), "pool"); err != nil {
		t.Fatal(err)
	}
	until(t, "no pod is left", func() bool { return len(podsOf(t, c, r.boxes())) == 0 })
}

// volumes makes a volume for the data of each server of a release, below a folder of the node.
func volumes(t *testing.T, c *clustertest.Cluster, release string, n int) (disk string) {
	t.Helper()
	disk = t.TempDir()
	for i := range n {
		at := filepath.Join(disk, fmt.Sprint(i))
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(at, pack.User, pack.User); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%s-%d", release, i)
		c.Kubectl(t, fmt.Sprintf(`{"apiVersion": "v1", "kind": "PersistentVolume",
			"metadata": {"name": "%s"}, "spec": {"accessModes": ["ReadWriteOnce"],
			"capacity": {"storage": "1Gi"}, "hostPath": {"path": "%s"},
			"claimRef": {"namespace": "%s", "name": "data-%s"}}}`, name, at, release, name),
			"create", "-f", "-")
		t.Cleanup(func() {
			_, err := c.TryKubectl(context.WithoutCancel(t.Context()), "", "delete", "pv", name)
			if err != nil {
				t.Error(err)
			}
		})
	}
	return disk
}

// share gives the servers of a release a database and its key, for which their pods wait, and
// returns the database's address when all serve.
func share(t *testing.T, c *clustertest.Cluster, r release, program string) (store string) {
	t.Helper()
	key, err := exec.CommandContext(t.Context(), program, "store", "key").Output()
	if err != nil {
		t.Fatal(err)
	}
	c.Kubectl(t, "", "create", "secret", "generic", "store-key", "--namespace", r.name,
		"--from-literal=key="+strings.TrimSpace(string(key)))
	store = databaseForPods(t)
	c.Kubectl(t, "", "create", "secret", "generic", "database", "--namespace", r.name,
		"--from-literal=url="+store)
	if _, err := c.TryKubectl(t.Context(), "", "rollout", "status", "--timeout=4m",
		"statefulset/"+r.name, "--namespace", r.name); err != nil {
		said, _ := c.TryKubectl(t.Context(), "", "logs", r.name+"-0", "--namespace", r.name)
		t.Fatalf("%v\n%s\n%s", err, c.Kubectl(t, "", "describe", "pods", "--namespace", r.name),
			said)
	}
	return store
}

// inPod is the server of a pod of a release, whose data is below a folder.
func inPod(t *testing.T, c *clustertest.Cluster, disk, release string, i int) *instance {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(disk, "0", "sandpool", "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	s := &instance{token: strings.TrimSpace(string(token))}
	address := c.Kubectl(t, "", "get", "pod", fmt.Sprintf("%s-%d", release, i), "--namespace",
		release, "-o", "jsonpath={.status.podIP}")
	s.Client, err = client.New(client.Config{Endpoint: "http://" + net.JoinHostPort(address,
		"8720"), Token: s.token})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := http.Get("http://" + net.JoinHostPort(address, "8720") + "/healthz"); err != nil {
		t.Fatal(err)
	}
	return s
}

// databaseForPods starts a PostgreSQL that pods reach at the node's address, and returns its.
func databaseForPods(t *testing.T) string {
	t.Helper()
	at, err := url.Parse(pgtest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ := strings.Cut(clustertest.Registry, ":")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	socket := filepath.Join(at.Query().Get("host"), ".s.PGSQL.5432")
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("unix", socket)
			if err != nil {
				_ = from.Close()
				continue
			}
			go func() { _, _ = io.Copy(to, from); _ = to.Close() }()
			go func() { _, _ = io.Copy(from, to); _ = from.Close() }()
		}
	}()
	return fmt.Sprintf("postgres://sandpool@%s%s?sslmode=disable", listener.Addr(), at.Path)
}
