package kube_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/internal/oci/pack"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
	"github.com/sandpool/sandpool/test/kube/clustertest"
)

// sandpoolImage pushes the image of sandpool, as make oci writes it, and returns its repository.
// Its tag is 1.
func sandpoolImage(t *testing.T, hub *ocitest.Hub) (repository string) {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"sandpool", "sandpool-agent"} {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o",
			filepath.Join(bin, name), "github.com/sandpool/sandpool/cmd/"+name)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, text)
		}
	}
	image, err := pack.Image(pack.Files(bin, "/etc/ssl/certs/ca-certificates.crt"), "amd64",
		sandpool.Version)
	if err != nil {
		t.Fatal(err)
	}
	hub.PushImage("sandpool:1", image)
	return hub.Host() + "/sandpool"
}

// The kustomize base is what a real API server takes, and so is the chart, whose server then
// serves from its pod, is as healthy as its doctor says, and adopts its sessions when it is killed.
func TestClusterDeploy(t *testing.T) {
	c := clustertest.At(t)
	hub := ocitest.NewHubAt(t, clustertest.Registry)
	repository, reference := sandpoolImage(t, hub), guest(t, hub)

	c.Kubectl(t, "", "apply", "--server-side", "-k", kustomize)
	scaled(t, c)
	c.Kubectl(t, "", "delete", "--wait", "-k", kustomize)

	disk := t.TempDir()
	if err := os.Chown(disk, pack.User, pack.User); err != nil {
		t.Fatal(err)
	}
	c.Kubectl(t, fmt.Sprintf(`{"apiVersion": "v1", "kind": "PersistentVolume",
		"metadata": {"name": "release"}, "spec": {"accessModes": ["ReadWriteOnce"],
		"capacity": {"storage": "1Gi"}, "hostPath": {"path": "%s"}}}`, disk), "create", "-f", "-")
	t.Cleanup(func() {
		_, err := c.TryKubectl(context.WithoutCancel(t.Context()), "", "delete", "pv", "release")
		if err != nil {
			t.Error(err)
		}
	})
	r := release{name: "release", server: true, set: fmt.Sprintf(`
image: {repository: %s, tag: "1"}
sandboxes: {network: unverified, cpuOvercommit: 10}
server: {config: {registries: {plain_http: ["%s"]}}}
`, repository, clustertest.Registry)}
	kubeconfig := r.install(t, c)
	for _, set := range []string{
		"ingress: {enabled: true, className: nginx, host: a.example, tlsSecretName: tls,\n" +
			"  annotations: {a/b: c}}",
		"sandboxes: {quota: {pods: 10, limits.cpu: 4}, security: image, readOnlyRoot: true,\n" +
			"  userNamespaces: true, nodeSelector: {a: b}, tolerations: [{key: a}]}",
		"server: {store: {secretName: s}, nodeSelector: {a: b}}\n" +
			"service: {type: NodePort}",
	} {
		(release{name: r.name, set: set + "\nimage: {repository: a.example/b, tag: c,\n" +
			"  pullSecrets: [pull]}"}).try(t, c)
	}
	c.Kubectl(t, "", "rollout", "status", "--timeout=2m", "statefulset/release",
		"--namespace", "release")
	t.Log(c.Kubectl(t, "", "exec", "release-0", "--namespace", "release", "--", "sandpool",
		"doctor", "--kube", "--config", "/etc/sandpool/sandpool.yaml"))

	s := deployed(t, c, disk)
	s.customPool(t, reference, 2)
	alice, bobby := s.pod(t, "alice"), s.pod(t, "bobby")
	if alice == bobby {
		t.Errorf("alice and bobby are both answered by %s", alice)
	}
	c.Kubectl(t, "", "delete", "pod", "release-0", "--namespace", "release", "--force",
		"--grace-period=0")
	until(t, "there is another pod of the server", func() bool {
		_, err := c.TryKubectl(t.Context(), "", "wait", "--for=condition=Ready", "pod/release-0",
			"--namespace", "release", "--timeout=60s")
		return err == nil
	})
	s = deployed(t, c, disk)
	if got := s.pod(t, "alice"); got != alice {
		t.Errorf("after a kill alice is answered by %s, want %s", got, alice)
	}
	if _, err := s.DeletePool(t.Context(), "pool"); err != nil {
		t.Fatal(err)
	}
	until(t, "no pod is left", func() bool { return len(podsOf(t, c, r.boxes())) == 0 })
	forbidden(t, kubeconfig)
}

// scaled has the API server take the examples of scaling: that of KEDA by KEDA's own definition.
func scaled(t *testing.T, c *clustertest.Cluster) {
	t.Helper()
	const definition = "testdata/keda.sh_scaledobjects.yaml"
	c.Kubectl(t, "", "create", "-f", definition)
	defer c.Kubectl(t, "", "delete", "-f", definition)
	c.Kubectl(t, "", "wait", "--for=condition=Established", "--timeout=30s", "crd",
		"scaledobjects.keda.sh")
	for _, file := range []string{"hpa.yaml", "keda.yaml"} {
		c.Kubectl(t, "", "create", "--dry-run=server", "--validate=strict", "-f",
			filepath.Join(scaling, file))
	}
}

// deployed is the server in the pod of the release, whose data is in a folder.
func deployed(t *testing.T, c *clustertest.Cluster, disk string) *instance {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(disk, "sandpool", "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	s := &instance{token: strings.TrimSpace(string(token))}
	address := c.Kubectl(t, "", "get", "pod", "release-0", "--namespace", "release", "-o",
		"jsonpath={.status.podIP}")
	s.Client, err = client.New(client.Config{Endpoint: "http://" + address + ":8720",
		Token: s.token})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// podsOf are the names of the pods in a namespace.
func podsOf(t *testing.T, c *clustertest.Cluster, namespace string) []string {
	t.Helper()
	return strings.Fields(c.Kubectl(t, "", "get", "pods", "--namespace", namespace, "-o", "name"))
}

// forbidden tries what the server's account must not do.
func forbidden(t *testing.T, kubeconfig string) {
	t.Helper()
	at, err := rest.Kubeconfig(kubeconfig, "")
	if err != nil {
		t.Fatal(err)
	}
	account, err := rest.New(at)
	if err != nil {
		t.Fatal(err)
	}
	defer account.Close()
	boxes := "/api/v1/namespaces/" + at.Namespace
	for _, call := range []string{
		"GET " + boxes + "/secrets",
		"GET " + boxes + "/secrets/any",
		"DELETE " + boxes + "/pods",
		"DELETE " + boxes + "/secrets/any",
		"GET " + boxes + "/configmaps",
		"GET " + boxes + "/serviceaccounts",
		"POST " + boxes + "/serviceaccounts/default/token",
		"PATCH " + boxes + "/pods/any",
		"POST " + boxes + "/pods/any/portforward",
		"PATCH " + boxes + "/pods/any/ephemeralcontainers",
		"DELETE /apis/networking.k8s.io/v1/namespaces/" + at.Namespace + "/networkpolicies/any",
		"POST /apis/apps/v1/namespaces/" + at.Namespace + "/deployments",
		"POST /apis/rbac.authorization.k8s.io/v1/namespaces/" + at.Namespace + "/rolebindings",
		"GET /api/v1/pods",
		"GET /api/v1/nodes",
		"GET /api/v1/namespaces",
		"GET /api/v1/namespaces/kube-system/pods",
		"POST /api/v1/namespaces/default/pods",
	} {
		method, path, _ := strings.Cut(call, " ")
		err := account.Do(t.Context(), method, path, nil, map[string]string{}, nil)
		if rest.CodeOf(err) != http.StatusForbidden {
			t.Errorf("%s is answered %v, want 403", call, err)
		}
	}
}
