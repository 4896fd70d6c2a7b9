package clients_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
)

// custom is a pool of containers.
const custom = "custom"

// TestMCPCustom has the SDKs of the Model Context Protocol use the containers of a custom pool.
func TestMCPCustom(t *testing.T) {
	old, newest, modules := sdks(t)
	s := startServer(t, filepath.Join(need.Data(t), "images"))
	s.makeCustom(t)
	for name, command := range map[string][]string{
		"python 1":              {old, "mcp/sdk.py", "legacy"},
		"python 2, 2025-11-25":  {newest, "mcp/sdk.py", "legacy"},
		"python 2, 2026-07-28":  {newest, "mcp/sdk.py", "auto"},
		"python 2, stdio":       {newest, "mcp/sdk.py", "auto", s.program},
		"typescript 1":          {modules.node(), modules.script(), "sdk"},
		"typescript 2, session": {modules.node(), modules.script(), "client", "legacy"},
		"typescript 2":          {modules.node(), modules.script(), "client", "auto"},
	} {
		t.Run(name, func(t *testing.T) { s.script(t, custom, command...) })
	}
}

// makeCustom makes the pool of containers, whose application counts, and gives it a key.
func (s *server) makeCustom(t *testing.T) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../custom/testdata/app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	hub := ocitest.NewHub(t)
	hub.Push("app:1", ocitest.Image{
		Layers: []string{ocitest.Layer(t, ocitest.File("app", 0o755, string(program)))},
		Config: v1.Config{Entrypoint: []string{"/app"}, User: "1000:1000"}})
	most, ready, port := 30, 2, 8080
	p, err := s.PutPool(t.Context(), custom, api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{
			ContainerType: "CustomContainer",
			ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
				ReadySessionInstances: &ready},
			CustomContainerTemplate: &api.CustomContainerTemplate{
				Containers: []api.Container{{Image: hub.Host() + "/app:1"}},
				Ingress:    &api.Ingress{TargetPort: &port},
			},
		}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WaitReady(t.Context(), custom, nil); err != nil {
		t.Fatal(err)
	}
	s.endpoints[custom] = p.Properties.PoolManagementEndpoint
	s.enableMCP(t, custom)
}
