package pack

import (
	"archive/tar"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// An image of the same files is the same, whenever it is made, and what a layout holds is whole.
func TestImage(t *testing.T) {
	bin := t.TempDir()
	for _, name := range []string{"sandpool", "sandpool-agent", "authorities"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("the program "+name),
			0o700); err != nil {
			t.Fatal(err)
		}
	}
	files := Files(bin, filepath.Join(bin, "authorities"))
	one, err := Image(files, "amd64", "1.0")
	if err != nil {
		t.Fatal(err)
	}
	other, err := Image(files, "amd64", "1.0")
	if err != nil {
		t.Fatal(err)
	}
	a, err := one.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := other.Digest(); err != nil || a != b {
		t.Errorf("two images of the same files are %v and %v, %v", a, b, err)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	for range 2 { // the second takes the place of the first
		if err := Layout(one, dir, "1.0"); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest != a {
		t.Fatalf("the layout holds %+v, %v", manifest, err)
	}
	cfg, err := one.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Config.User != "65532:65532" || cfg.OS != "linux" || !cfg.Created.IsZero() {
		t.Errorf("the configuration is %+v", cfg)
	}
	layers, err := one.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatal(layers, err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	modes := map[string]int64{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		modes[h.Name] = h.Mode
		if h.ModTime.Unix() != 0 {
			t.Errorf("%s has a time: %v", h.Name, h.ModTime)
		}
	}
	for name, mode := range map[string]int64{"usr/local/bin/sandpool": 0o755,
		"usr/local/bin/sandpool-agent": 0o755, "etc/ssl/certs/ca-certificates.crt": 0o644,
		"tmp/": 0o1777, "data/": 0o700} {
		if modes[name] != mode {
			t.Errorf("%s has mode %o, want %o", name, modes[name], mode)
		}
	}
}

// What is pushed is what was made.
func TestPush(t *testing.T) {
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("a program"), 0o700); err != nil {
		t.Fatal(err)
	}
	img, err := Image([]File{{file, "/usr/local/bin/program", 0o755}}, "amd64", "1.0")
	if err != nil {
		t.Fatal(err)
	}
	hub := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer hub.Close()
	reference := strings.TrimPrefix(hub.URL, "http://") + "/sandpool:1"
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	if err := Push(t.Context(), img, reference); err != nil {
		t.Fatal(err)
	}
	if err := Push(t.Context(), img, "a reference"); err == nil {
		t.Error("an image is pushed to what is no reference")
	}
	at, err := name.NewTag(reference)
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Image(at)
	if err != nil {
		t.Fatal(err)
	}
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if digest, err := got.Digest(); err != nil || digest != want {
		t.Errorf("the registry has %v, %v; want %v", digest, err, want)
	}
	if err := validate.Image(got); err != nil {
		t.Error(err)
	}
}
