package kube_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/internal/postgres/pgtest"
	"github.com/sandpool/sandpool/internal/sandbox/kube/kubetest"
)

// A server that moves from its file to a PostgreSQL keeps its pools, its tokens and its sessions,
// with the sandboxes that they have.
func TestStoreCopy(t *testing.T) {
	cluster, hub, dir := kubetest.New(t), ocitest.NewHub(t), t.TempDir()
	hub.Push("guest:1", ocitest.Image{Layers: []string{ocitest.Layer(t,
		ocitest.File("guest", 0o755, "a program"))}, Config: v1.Config{User: "1000",
		Entrypoint: []string{"/guest"}}})
	database := pgtest.New(t)
	config := filepath.Join(dir, "sandpool.yaml")
	text := fmt.Sprintf(`
engine: kubernetes
data_dir: %s/data
listen: 127.0.0.1:0
kubernetes: {kubeconfig: %s, runtime_class: gvisor, network: unverified}
`, dir, cluster.Kubeconfig(t, "boxes"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	program := build(t)
	s := serve(t, program, dir, config)
	s.customPool(t, hub.Host()+"/guest:1", 1)
	alice := s.pod(t, "alice")
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Fatalf("the server ends with %v", err)
	}
	pods := len(cluster.Pods())

	said, err := exec.CommandContext(t.Context(), program, "store", "copy", "--config", config,
		database).CombinedOutput()
	if err != nil || !strings.Contains(string(said), "1 pools, ") {
		t.Fatalf("store copy: %v\n%s", err, said)
	}
	// With nothing but the database it would not know its sandboxes.
	if err := os.WriteFile(config, []byte(text+"store: "+database+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := s.token
	s = serve(t, program, dir, config)
	if s.token != before {
		t.Error("the administrator's token is another one")
	}
	if got := s.pod(t, "alice"); got != alice {
		t.Errorf("after the move alice is answered by %s, want %s", got, alice)
	}
	if now := len(cluster.Pods()); now != pods {
		t.Errorf("there are %d pods, want the %d from before", now, pods)
	}
	if _, err := s.DeletePool(t.Context(), "pool"); err != nil {
		t.Fatal(err)
	}
	until(t, "no pod is left", func() bool { return len(cluster.Pods()) == 0 })
}
