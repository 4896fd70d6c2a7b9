package custom_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/server"
	"github.com/sandpool/sandpool/test/leaks"
)

// kit is a running server, an administrator's client of it, and a registry.
type kit struct {
	*client.Client
	http  *http.Client
	token string
	host  string // of the registry
	dir   string
	bin   string // see program
	log   bytes.Buffer
	slow  atomic.Pointer[chan struct{}] // see slowly
}

func newKit(t testing.TB, settings ...func(*server.Config)) *kit {
	t.Helper()
	need.Data(t)
	dir := t.TempDir()
	k := &kit{dir: dir, http: &http.Client{Transport: &http.Transport{}}}
	images :=
		httptest.NewServer(k.slowly(registry.New(registry.Logger(log.New(io.Discard, "", 0)))))
	t.Cleanup(images.Close)
	k.host = strings.TrimPrefix(images.URL, "http://")
	cfg := server.DefaultConfig()
	cfg.DataDir, cfg.Listen = filepath.Join(dir, "data"), "127.0.0.1:0"
	cfg.Agent = build(t, "github.com/sandpool/sandpool/cmd/sandpool-agent")
	cfg.ImageDir = filepath.Join(dir, "images")
	cfg.OnExit = server.StopSandboxes
	for _, set := range settings {
		set(&cfg)
	}
	before, err := leaks.Count(cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := server.New(t.Context(), slog.New(slog.NewTextHandler(&k.log, nil)), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	k.token = srv.AdminToken()
	if k.Client, err = client.New(client.Config{Endpoint: srv.URL(), Token: k.token}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.CloseIdle()
		k.http.CloseIdleConnections()
		stop()
		if err := <-ran; err != nil {
			t.Errorf("the server ended: %v", err)
		}
		if err := srv.Close(); err != nil {
			t.Errorf("close the server: %v", err)
		}
		after, err := leaks.Count(cfg.DataDir)
		if err != nil {
			t.Error(err)
		}
		for _, line := range after.Diff(before) {
			t.Errorf("left behind: %s", line)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", k.log.String())
		}
	})
	return k
}

// makePool makes a pool and waits until its sandboxes are ready.
func (k *kit) makePool(t testing.TB, name string, p api.SessionPool) {
	t.Helper()
	if _, err := k.PutPool(t.Context(), name, p); err != nil {
		t.Fatal(err)
	}
	if _, err := k.WaitReady(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
}

// push puts an image into the registry and returns its reference.
func (k *kit) push(t *testing.T, called string, i v1.Image) string {
	t.Helper()
	ref, err := name.ParseReference(k.host + "/" + called)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, i); err != nil {
		t.Fatal(err)
	}
	return ref.String()
}

// app is an image with nothing but testdata/app in it, run by user 1000.
func app(t *testing.T) v1.Image {
	t.Helper()
	program, err := os.ReadFile(build(t, "./testdata/app"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err = w.WriteHeader(&tar.Header{Name: "app", Typeflag: tar.TypeReg, Mode: 0o755,
		Size: int64(len(program))})
	if err == nil {
		_, err = w.Write(program)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	i, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := i.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", "amd64"
	cfg.Config = v1.Config{Entrypoint: []string{"/app"}, Cmd: []string{"--serve"},
		User: "1000:1000", WorkingDir: "/srv", Env: []string{"FROM=image"}}
	if i, err = mutate.ConfigFile(i, cfg); err != nil {
		t.Fatal(err)
	}
	return i
}

// build compiles a program and returns its path.
func build(t testing.TB, pkg string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	compile(t, out, pkg)
	return out
}

func compile(t testing.TB, out, pkg string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, text)
	}
}
