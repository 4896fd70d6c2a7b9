// Package kube_test is the whole product with the engine of Kubernetes: a server in a process of
// its own, a registry, and a small cluster whose pods outlive the server.
package kube_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/internal/sandbox/kube/kubetest"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

// instance is a sandpool server in a process of its own.
type instance struct {
	*client.Client
	token string
	cmd   *exec.Cmd
}

// serve starts a server. It ends with the test, or by kill.
func serve(t *testing.T, program, dir, config string) *instance {
	t.Helper()
	cmd := exec.Command(program, "serve", "--config", config, "--log-level", "debug")
	cmd.Env = append(os.Environ(), "HOME="+dir)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &instance{cmd: cmd}
	t.Cleanup(s.kill)
	var said strings.Builder
	at := ""
	for lines := bufio.NewScanner(out); at == "" && lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		if _, url, ok := strings.Cut(lines.Text(), "serving "); ok {
			at = strings.Fields(url)[0]
		}
	}
	if at == "" {
		t.Fatalf("the server does not serve:\n%s", said.String())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	token, err := os.ReadFile(filepath.Join(dir, "data", "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	s.token = strings.TrimSpace(string(token))
	if s.Client, err = client.New(client.Config{Endpoint: at, Token: s.token}); err != nil {
		t.Fatal(err)
	}
	return s
}

// kill is kill -9.
func (s *instance) kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.cmd.Wait()
}

// ask asks the container of an identifier.
func (s *instance) ask(t *testing.T, identifier, path string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.PoolEndpoint("pool")+path+
		"?identifier="+url.QueryEscape(identifier), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// pod is the name of the pod that answers an identifier.
func (s *instance) pod(t *testing.T, identifier string) string {
	t.Helper()
	status, body := s.ask(t, identifier, "/self")
	var self sandboxtest.Self
	if err := json.Unmarshal([]byte(body), &self); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	return self.Hostname
}

// TestServe is the way from a pool to its end: sessions in pods, a pod that somebody deletes, a
// server that is killed and whose sessions the next adopts, an API server that is away meanwhile.
func TestServe(t *testing.T) {
	cluster, hub, dir := kubetest.New(t), ocitest.NewHub(t), t.TempDir()
	hub.Push("guest:1", ocitest.Image{Layers: []string{ocitest.Layer(t,
		ocitest.File("guest", 0o755, "a program"))}, Config: v1.Config{User: "1000",
		Entrypoint: []string{"/guest"}}})
	config := filepath.Join(dir, "sandpool.yaml")
	if err := os.WriteFile(config, []byte(fmt.Sprintf(`
engine: kubernetes
data_dir: %s/data
listen: 127.0.0.1:0
kubernetes:
  kubeconfig: %s
  runtime_class: gvisor
  network: unverified
  namespaces: {boxes-pool: [po*]}
`, dir, cluster.Kubeconfig(t, "boxes"))), 0o600); err != nil {
		t.Fatal(err)
	}
	program := build(t)
	s := serve(t, program, dir, config)
	s.customPool(t, hub.Host()+"/guest:1", 2)
	alice, bobby := s.pod(t, "alice"), s.pod(t, "bobby")
	if again := s.pod(t, "alice"); again != alice || alice == bobby {
		t.Errorf("alice is answered by %s, then by %s, and bobby by %s", alice, again, bobby)
	}
	if got := cluster.Pods()[alice].Metadata.Namespace; got != "boxes-pool" {
		t.Errorf("alice's pod is in the namespace %q", got)
	}
	cluster.Kill(bobby)
	until(t, "bobby gets another sandbox", func() bool {
		status, body := s.ask(t, "bobby", "/self")
		return status == http.StatusOK && !strings.Contains(body, bobby)
	})

	s.kill()
	s = serve(t, program, dir, config)
	if got := s.pod(t, "alice"); got != alice {
		t.Errorf("after a kill alice is answered by %s, want %s", got, alice)
	}
	cluster.Outage(true)
	if got := s.pod(t, "alice"); got != alice {
		t.Errorf("while the API server is away alice is answered by %s, want %s", got, alice)
	}
	cluster.Outage(false)
	if _, err := s.DeletePool(t.Context(), "pool"); err != nil {
		t.Fatal(err)
	}
	until(t, "no pod is left", func() bool { return len(cluster.Pods()) == 0 })
}

// customPool makes the pool of a container, with ready sessions, and waits for them.
func (s *instance) customPool(t *testing.T, image string, ready int) {
	t.Helper()
	s.customPoolOf(t, image, ready, ready+3)
}

// customPoolOf is customPool with a maximum of sessions.
func (s *instance) customPoolOf(t *testing.T, image string, ready, most int) {
	t.Helper()
	port := 8080
	if _, err := s.PutPool(t.Context(), "pool", api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{ContainerType: "CustomContainer",
			ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
				ReadySessionInstances: &ready},
			CustomContainerTemplate: &api.CustomContainerTemplate{
				Containers: []api.Container{{Image: image}},
				Ingress:    &api.Ingress{TargetPort: &port}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.WaitReady(t.Context(), "pool", nil); err != nil {
		t.Fatal(err)
	}
}

// until polls for what other processes bring about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	within(t, time.Minute, what, ok)
}

// within is until with a bound, which is also one of how often it asks.
func within(t *testing.T, bound time.Duration, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	tick := time.NewTicker(bound / 1200)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// build builds the program.
func build(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "sandpool")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out,
		"github.com/sandpool/sandpool/cmd/sandpool")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build sandpool: %v\n%s", err, text)
	}
	return out
}
