package kube_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/test/kube/clustertest"
)

// With pull_ahead a node has the image of a pool before the pool has a pod: a DaemonSet pulls it by
// the pool's own credentials, as the account of the chart and by the rules of its namespace, and
// goes again with its Secret. The first session then asks no registry for anything.
func TestClusterPullAhead(t *testing.T) {
	c := clustertest.At(t)
	hub := ocitest.NewHubAt(t, clustertest.Registry)
	sandpool, reference, program := sandpoolImage(t, hub), guestOf(t, hub, "ahead"), build(t)
	repository := strings.TrimSuffix(reference, ":1")
	var away atomic.Bool
	hub.Before = func(w http.ResponseWriter, r *http.Request) bool {
		user, shown, _ := r.BasicAuth()
		switch {
		case away.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		case !strings.HasPrefix(r.URL.Path, "/v2/ahead/") || user == "u" && shown == "s3cret":
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="hub"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	r := release{name: "ahead", set: "sandboxes: {pullAhead: true}"}
	kubeconfig, dir := r.install(t, c), t.TempDir()
	config := filepath.Join(dir, "sandpool.yaml")
	if err := os.WriteFile(config, []byte(fmt.Sprintf(`
engine: kubernetes
data_dir: %s/data
listen: 127.0.0.1:0
registries: {plain_http: ["%s"]}
kubernetes:
  kubeconfig: %s
  runtime_class: gvisor
  network: unverified
  cpu_overcommit: 10
  probe_image: "%s:1"
  pull_ahead: true
`, dir, hub.Host(), kubeconfig, sandpool)), 0o600); err != nil {
		t.Fatal(err)
	}
	has := func() bool {
		return slices.ContainsFunc(c.Images(t), func(name string) bool {
			return strings.HasPrefix(name, repository)
		})
	}
	if has() {
		t.Fatalf("the node has %s before anybody has asked for it", repository)
	}
	s := serve(t, program, dir, config)
	none, most, port, password := 0, 3, 8080, "s3cret"
	if _, err := s.PutPool(t.Context(), "pool", api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{ContainerType: "CustomContainer",
			ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
				ReadySessionInstances: &none},
			Secrets: []api.PoolSecret{{Name: "password", Value: &password}},
			CustomContainerTemplate: &api.CustomContainerTemplate{
				RegistryCredentials: &api.RegistryCredentials{Server: hub.Host(), Username: "u",
					PasswordSecretRef: "password"},
				Containers: []api.Container{{Image: reference}},
				Ingress:    &api.Ingress{TargetPort: &port}}}}); err != nil {
		t.Fatal(err)
	}
	until(t, "the pool says how far nodes are", func() bool {
		p, err := s.PoolStatus(t.Context(), "pool")
		if err != nil {
			t.Fatal(err)
		}
		if p.Notice != "" {
			t.Log(p.Notice)
		}
		return p.Notice != "" || has()
	})
	in := []string{"--namespace", r.boxes()}
	until(t, "the node has the image, and nothing is left of what pulled it", func() bool {
		left := c.Kubectl(t, "", append(in, "get", "daemonsets,pods,secrets", "-o", "name")...)
		return has() && strings.TrimSpace(left) == ""
	})
	p, err := s.PoolStatus(t.Context(), "pool")
	if err != nil || p.Notice != "" || p.Problem != "" {
		t.Errorf("afterwards the pool says %q and %q, %v", p.Notice, p.Problem, err)
	}
	away.Store(true)
	pod := s.pod(t, "alice")
	events := c.Kubectl(t, "", append(in, "get", "events", "-o",
		`jsonpath={range .items[*]}{.involvedObject.name} {.reason} {.message}{"\n"}{end}`,
		"--field-selector", "involvedObject.name="+pod)...)
	if !strings.Contains(events, "already present") ||
		strings.Contains(events, "Successfully pulled") {
		t.Errorf("of the first pod the cluster says\n%s", events)
	}
	if _, err := s.DeletePool(t.Context(), "pool"); err != nil {
		t.Fatal(err)
	}
	until(t, "no pod is left", func() bool { return len(podsOf(t, c, r.boxes())) == 0 })
}
