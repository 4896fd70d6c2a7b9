// Package pack makes the container image of sandpool, as an OCI layout and without Docker: one
// layer with the programs, the same bytes for the same files.
package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// User runs the programs of the image.
const User = 65532

// programs is where they are in the image.
const programs = "/usr/local/bin"

// File is a file of the image.
type File struct {
	From string // on this machine
	To   string // an absolute path in the image
	Mode int64
}

// Files are those of an image: the programs of a folder, and the certificate authorities of this
// machine, without which no registry can be asked.
func Files(bin, authorities string) []File {
	return []File{
		{path.Join(bin, "sandpool"), path.Join(programs, "sandpool"), 0o755},
		{path.Join(bin, "sandpool-agent"), path.Join(programs, "sandpool-agent"), 0o755},
		{authorities, "/etc/ssl/certs/ca-certificates.crt", 0o644},
	}
}

// passwd has the one user, whose home is where the data is.
func passwd() []byte {
	return fmt.Appendf(nil, "sandpool:x:%d:%d::/data:/sbin/nologin\n", User, User)
}

// Image makes the image.
func Image(files []File, architecture, version string) (v1.Image, error) {
	var b bytes.Buffer
	if err := write(&b, files); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("layer: %w", err)
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1),
		types.OCIConfigJSON)
	if img, err = mutate.Append(img, mutate.Addendum{Layer: layer,
		History: v1.History{CreatedBy: "make oci"}}); err != nil {
		return nil, fmt.Errorf("append the layer: %w", err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", architecture
	cfg.Config = v1.Config{
		Entrypoint: []string{path.Join(programs, "sandpool")},
		Cmd:        []string{"--help"},
		Env:        []string{"PATH=" + programs, "HOME=/data"},
		User:       fmt.Sprintf("%d:%d", User, User),
		WorkingDir: "/",
		Labels: map[string]string{"org.opencontainers.image.title": "sandpool",
			"org.opencontainers.image.version": version},
	}
	return mutate.ConfigFile(img, cfg)
}

// write writes the layer. Nothing in it depends on when or by whom.
func write(w io.Writer, files []File) error {
	tw := tar.NewWriter(w)
	made := map[string]bool{"/": true}
	var folder func(string, int64, int) error
	folder = func(dir string, mode int64, owner int) error {
		if made[dir] {
			return nil
		}
		if err := folder(path.Dir(dir), 0o755, 0); err != nil {
			return err
		}
		made[dir] = true
		return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: mode,
			Uid: owner, Gid: owner, ModTime: time.Unix(0, 0)})
	}
	if err := folder("/tmp", 0o1777, 0); err != nil {
		return err
	}
	if err := folder("/data", 0o700, User); err != nil {
		return err
	}
	put := func(to string, mode int64, content []byte) error {
		if err := folder(path.Dir(to), 0o755, 0); err != nil {
			return err
		}
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: to[1:], Mode: mode,
			Size: int64(len(content)), ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
		_, err := tw.Write(content)
		return err
	}
	if err := put("/etc/passwd", 0o644, passwd()); err != nil {
		return err
	}
	for _, f := range files {
		content, err := os.ReadFile(f.From)
		if err != nil {
			return err
		}
		if err := put(f.To, f.Mode, content); err != nil {
			return err
		}
	}
	return tw.Close()
}

// Push writes an image to a registry, by a name with a tag, as whom docker's configuration of this
// user says. A registry on this machine is asked without TLS.
func Push(ctx context.Context, img v1.Image, reference string) error {
	tag, err := name.NewTag(reference)
	if err != nil {
		return err
	}
	return remote.Write(tag, img, remote.WithContext(ctx),
		remote.WithAuthFromKeychain(authn.DefaultKeychain))
}

// Layout writes an image as an OCI layout at dir, in place of what was there, under a name.
func Layout(img v1.Image, dir, name string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	at, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("layout %q: %w", dir, err)
	}
	return at.AppendImage(img, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": name}))
}
