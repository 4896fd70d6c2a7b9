package oci

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/erofs/erofstest"
)

// layout writes images as an OCI layout folder, by tag.
func layout(t *testing.T, images map[string]pictured) string {
	t.Helper()
	dir := t.TempDir()
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(content []byte) digest {
		d := digestOf(content)
		if err := os.WriteFile(filepath.Join(blobs, d.hex()), content, 0o644); err != nil {
			t.Fatal(err)
		}
		return d
	}
	var list []descriptor
	for tag, p := range images {
		config, layers, m := p.parts(t)
		write(config)
		for _, l := range layers {
			write(l)
		}
		text := encode(t, m)
		list = append(list, descriptor{MediaType: typeManifest, Digest: write(text),
			Size:        int64(len(text)),
			Annotations: map[string]string{"org.opencontainers.image.ref.name": tag}})
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), encode(t,
		map[string]any{"schemaVersion": 2, "manifests": list}), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// saved writes an image as docker save did before it wrote layouts: the second of two equal
// layers is a link.
func savedFile(t *testing.T, p pictured, tags ...string) string {
	t.Helper()
	config, _, _ := p.parts(t)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content []byte) {
		h.Size, h.Mode = int64(len(content)), 0o644
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for i, l := range p.layers {
		dir := strings.Repeat("abcdef"[i:i+1], 64)
		names = append(names, dir+"/layer.tar")
		if i > 0 && bytes.Equal(l, p.layers[0]) {
			add(tar.Header{Name: dir + "/layer.tar", Typeflag: tar.TypeSymlink,
				Linkname: "../" + names[0]}, nil)
			continue
		}
		add(tar.Header{Name: dir + "/layer.tar", Typeflag: tar.TypeReg}, l)
	}
	add(tar.Header{Name: "config.json", Typeflag: tar.TypeReg}, config)
	add(tar.Header{Name: "manifest.json", Typeflag: tar.TypeReg}, encode(t,
		[]saved{{Config: "config.json", RepoTags: tags, Layers: names}}))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "My-App.tar")
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// dockerSaved writes images as docker save does since it writes layouts: each is a list, in which
// an attestation stands beside it that is not in the file.
func dockerSaved(t *testing.T, images map[string]pictured) string {
	t.Helper()
	dir := layout(t, images)
	read := func(name string, v any) {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = json.Unmarshal(text, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, v any) {
		if err := os.WriteFile(filepath.Join(dir, name), encode(t, v), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var index, one manifest
	read("index.json", &index)
	list := map[digest]saved{}
	for i, d := range index.Manifests {
		tag := d.Annotations[tagAnnotation]
		read("blobs/sha256/"+d.Digest.hex(), &one)
		s := saved{Config: "blobs/sha256/" + one.Config.Digest.hex(),
			RepoTags: append(list[d.Digest].RepoTags, tag)}
		for _, l := range one.Layers {
			s.Layers = append(s.Layers, "blobs/sha256/"+l.Digest.hex())
		}
		list[d.Digest] = s
		inner := map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []any{
			map[string]any{"mediaType": typeManifest, "digest": d.Digest, "size": d.Size,
				"platform": map[string]any{"os": "linux", "architecture": "amd64"}},
			map[string]any{"mediaType": typeManifest, "digest": digestOf([]byte("lost")), "size": 9,
				"platform": map[string]any{"os": "unknown", "architecture": "unknown"}}}}
		at := digestOf(encode(t, inner))
		write("blobs/sha256/"+at.hex(), inner)
		r, err := ParseReference(tag)
		if err != nil {
			t.Fatal(err)
		}
		index.Manifests[i] = descriptor{MediaType: typeIndex, Digest: at,
			Annotations: map[string]string{tagAnnotation: r.Tag, nameAnnotation: r.String()}}
	}
	write("index.json", index)
	write("manifest.json", slices.Collect(maps.Values(list)))
	return packed(t, dir)
}

// packed writes a folder as an archive, compressed.
func packed(t *testing.T, dir string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "web.tar.gz")
	if err := os.WriteFile(file, squeeze(t, b.Bytes()), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// Layouts and saved files, plain and compressed, give the image that a registry would give, and
// pools can name it.
func TestLoad(t *testing.T) {
	twice := small(t)
	twice.layers = append(twice.layers, twice.layers[0])
	one := layout(t, map[string]pictured{"v1": small(t)})
	for _, c := range []struct {
		name string
		q    LoadRequest
		want string // reference
	}{
		{"layout", LoadRequest{Path: one, Name: "web:1"}, "local:web:1"},
		{"layout by tag", LoadRequest{Path: layout(t, map[string]pictured{"v1": small(t),
			"v2": twice}), Tag: "v1", Name: "web"}, "local:web"},
		{"archive of a layout", LoadRequest{Path: packed(t, one)}, "local:web"},
		{"docker save", LoadRequest{Path: savedFile(t, small(t), "acme/app:2")},
			"local:acme/app:2"},
		{"docker save without a tag", LoadRequest{Path: savedFile(t, small(t))}, "local:my-app"},
		{"docker save of today", LoadRequest{Path: dockerSaved(t,
			map[string]pictured{"acme/app:2": small(t)})}, "local:acme/app:2"},
		{"docker save of today by name", LoadRequest{Path: dockerSaved(t, map[string]pictured{
			"acme/app:2": small(t), "app:2": {}}), Tag: "acme/app:2"}, "local:acme/app:2"},
		{"docker save of today of two names", LoadRequest{Path: dockerSaved(t, map[string]pictured{
			"app:3": small(t), "app:4": small(t)}), Tag: "app:4"}, "local:app:4"},
		{"docker save of today without a choice", LoadRequest{Path: dockerSaved(t,
			map[string]pictured{"app:3": small(t), "app:4": small(t)}), Name: "x"}, "local:x"},
		{"docker save with a link", LoadRequest{Path: savedFile(t, twice, "app:3")}, "local:app:3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, store := newClient(t, Config{})
			i, err := client.Load(t.Context(), c.q)
			if err != nil {
				t.Fatal(err)
			}
			if got := erofstest.Read(t, i.Path)["etc/new"].Content; got != "new" ||
				i.Config.User != "1000:1000" {
				t.Errorf("loaded %q and %+v", got, i.Config)
			}
			clean(t, store, 1)
			pinned, err := client.Resolve(t.Context(), c.want, Credentials{})
			if err != nil || pinned != "local:"+i.Manifest {
				t.Fatalf("%s is %q, %v", c.want, pinned, err)
			}
			got, err := client.Pull(t.Context(), Request{Pinned: pinned, User: "pool"})
			if err != nil || got.Path != i.Path {
				t.Errorf("pulled %+v, %v", got, err)
			}
		})
	}
}

// Files that hold no image, or not one, are told apart.
func TestLoadRefused(t *testing.T) {
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, bytes.Repeat([]byte("junk"), 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	out := layout(t, map[string]pictured{"v1": small(t)})
	if err := os.Remove(filepath.Join(out, "index.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(out, "index.json")); err != nil {
		t.Fatal(err)
	}
	lost := layout(t, map[string]pictured{"v1": small(t)})
	_, layers, _ := small(t).parts(t)
	if err := os.Remove(filepath.Join(lost, "blobs", "sha256",
		digestOf(layers[1]).hex())); err != nil {
		t.Fatal(err)
	}
	changed := layout(t, map[string]pictured{"v1": small(t)})
	other := filepath.Join(changed, "blobs", "sha256", digestOf(layers[1]).hex())
	if err := os.WriteFile(other, bytes.Repeat([]byte("x"), len(layers[1])), 0o644); err != nil {
		t.Fatal(err)
	}
	lying := small(t)
	file := savedFile(t, lying, "a:1", "a:2")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".lie", bytes.Replace(b, []byte("program"), []byte("pirates"), 1),
		0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		q    LoadRequest
		code string
		part string
	}{
		{"nothing there", LoadRequest{Path: junk + "x"}, CodeMissing, "no such file"},
		{"junk", LoadRequest{Path: junk}, CodeDamaged, "no archive"},
		{"empty folder", LoadRequest{Path: t.TempDir()}, CodeDamaged,
			"neither index.json nor manifest.json"},
		{"several", LoadRequest{Path: layout(t, map[string]pictured{"v1": small(t),
			"v2": {}})}, CodeMissing, "v1, v2"},
		{"several by names", LoadRequest{Path: dockerSaved(t, map[string]pictured{
			"acme/app:1": small(t), "other:1": {}})}, CodeMissing, "acme/app:1, docker.io"},
		{"several of one tag", LoadRequest{Path: dockerSaved(t, map[string]pictured{
			"acme/app:1": small(t), "other:1": {}}), Tag: "1"}, CodeMissing, "2 images"},
		{"no such tag", LoadRequest{Path: layout(t, map[string]pictured{"v1": small(t)}),
			Tag: "v3"}, CodeMissing, "v1"},
		{"no such tag of a saved file", LoadRequest{Path: savedFile(t, small(t), "a:1"),
			Tag: "a:2"}, CodeMissing, "a:1"},
		{"other platform", LoadRequest{Path: layout(t,
			map[string]pictured{"v1": {platform: "linux/arm64"}})}, CodePlatform, "linux/arm64"},
		{"a link out of the folder", LoadRequest{Path: out}, CodeDamaged, "neither"},
		{"a layer is not there", LoadRequest{Path: lost}, CodeMissing, "no such file"},
		{"a layer is another", LoadRequest{Path: changed}, CodeDamaged,
			"is not what its digest says"},
		{"a saved layer is another", LoadRequest{Path: file + ".lie"}, CodeLayer,
			"configuration says"},
		{"bad name", LoadRequest{Path: file, Name: "A b"}, CodeReference, "local name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, store := newClient(t, Config{})
			_, err := client.Load(t.Context(), c.q)
			wantCode(t, err, c.code, c.part)
			clean(t, store, 0)
		})
	}
}
