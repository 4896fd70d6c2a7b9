package test

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"
)

// registry serves container images for a script: app:1.0 to everybody, private/app:1.0 to the
// user "me" with the password "open-sesame", and other:1.0, which is for another platform. $REGISTRY is
// its host. The same image is in the folder layout, in app.tar as docker save writes it.
func registry(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 0 || neg {
		ts.Fatalf("usage: registry")
	}
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if strings.HasPrefix(r.URL.Path, "/v2/private/") && r.Method == http.MethodGet && (user != "me" || password != "open-sesame") {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	ts.Defer(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	ts.Setenv("REGISTRY", host)
	app := containerImage(ts, "amd64")
	for tag, image := range map[string]v1.Image{"app:1.0": app, "private/app:1.0": app, "other:1.0": containerImage(ts, "arm64")} {
		ref, err := name.ParseReference(host + "/" + tag)
		ts.Check(err)
		ts.Check(remote.Write(ref, image))
	}
	folder, err := layout.Write(ts.MkAbs("layout"), empty.Index)
	ts.Check(err)
	ts.Check(folder.AppendImage(app))
	ref, err := name.NewTag("acme/app:2.0")
	ts.Check(err)
	ts.Check(tarball.WriteToFile(ts.MkAbs("app.tar"), ref, app))
}

// containerImage is an image with one file.
func containerImage(ts *testscript.TestScript, arch string) v1.Image {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	ts.Check(w.WriteHeader(&tar.Header{Name: "bin/app", Typeflag: tar.TypeReg, Mode: 0o755, Size: 4}))
	_, err := w.Write([]byte("app\n"))
	ts.Check(err)
	ts.Check(w.WriteHeader(&tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}))
	ts.Check(w.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	ts.Check(err)
	image, err := mutate.AppendLayers(empty.Image, layer)
	ts.Check(err)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{OS: "linux", Architecture: arch, RootFS: v1.RootFS{Type: "layers", DiffIDs: diffs(ts, image)},
		Config: v1.Config{Entrypoint: []string{"/bin/app"}, Cmd: []string{"--serve"}, User: "1000", ExposedPorts: map[string]struct{}{"8080/tcp": {}}}})
	ts.Check(err)
	return image
}

func diffs(ts *testscript.TestScript, image v1.Image) []v1.Hash {
	cfg, err := image.ConfigFile()
	ts.Check(err)
	return cfg.RootFS.DiffIDs
}
