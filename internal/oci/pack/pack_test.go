package pack

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
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
