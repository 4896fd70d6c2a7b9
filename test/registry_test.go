package test

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
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

	"github.com/sandpool/sandpool/client"
)

// registry serves container images for a script: app:1.0 to everybody, private/app:1.0 to the
// user "me" with the password "open-sesame", other:1.0, which is for another platform, and web:1.0
// and private/web:1.0, a web server on port 8080. $REGISTRY is its host. The same image is in the
// folder layout, in app.tar as docker save writes it.
func registry(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 0 || neg {
		ts.Fatalf("usage: registry")
	}
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if strings.HasPrefix(r.URL.Path, "/v2/private/") && r.Method == http.MethodGet &&
			(user != "me" || password != "open-sesame") {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	ts.Defer(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	ts.Setenv("REGISTRY", host)
	app, web := containerImage(ts, "amd64", []byte("app\n")), containerImage(ts, "amd64",
		webServer(ts))
	for tag, image := range map[string]v1.Image{"app:1.0": app, "private/app:1.0": app,
		"web:1.0": web, "private/web:1.0": web,
		"other:1.0": containerImage(ts, "arm64", []byte("app\n"))} {
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

// webServer is a program that serves HTTP on port 8080.
func webServer(ts *testscript.TestScript) []byte {
	out := ts.MkAbs("web-server")
	cmd := exec.Command("go", "build", "-o", out, "./custom/testdata/app")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	text, err := cmd.CombinedOutput()
	if err != nil {
		ts.Fatalf("build the web server: %v\n%s", err, text)
	}
	program, err := os.ReadFile(out)
	ts.Check(err)
	return program
}

// containerImage is an image with one program.
func containerImage(ts *testscript.TestScript, arch string, program []byte) v1.Image {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	ts.Check(w.WriteHeader(&tar.Header{Name: "bin/app", Typeflag: tar.TypeReg, Mode: 0o755,
		Size: int64(len(program))}))
	_, err := w.Write(program)
	ts.Check(err)
	ts.Check(w.WriteHeader(&tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Devmajor: 1,
		Devminor: 3}))
	ts.Check(w.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	})
	ts.Check(err)
	image, err := mutate.AppendLayers(empty.Image, layer)
	ts.Check(err)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{OS: "linux", Architecture: arch,
		RootFS: v1.RootFS{Type: "layers", DiffIDs: diffs(ts, image)},
		Config: v1.Config{Entrypoint: []string{"/bin/app"}, Cmd: []string{"--serve"}, User: "1000",
			ExposedPorts: map[string]struct{}{"8080/tcp": {}}}})
	ts.Check(err)
	return image
}

func diffs(ts *testscript.TestScript, image v1.Image) []v1.Hash {
	cfg, err := image.ConfigFile()
	ts.Check(err)
	return cfg.RootFS.DiffIDs
}

// request sends GET PATH to the container of a session and prints the answer:
// request POOL IDENTIFIER PATH.
func request(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: request POOL IDENTIFIER PATH")
	}
	cfg, err := client.LoadConfig(ts.Getenv("SANDPOOL_CONFIG"))
	ts.Check(err)
	c, err := client.New(cfg)
	ts.Check(err)
	defer c.CloseIdle()
	separator := "?"
	if strings.Contains(args[2], "?") {
		separator = "&"
	}
	r, err := http.NewRequest(http.MethodGet, c.PoolEndpoint(args[0])+args[2]+separator+
		"identifier="+args[1], nil)
	ts.Check(err)
	r.Header.Set("Authorization", "Bearer "+cfg.Token)
	resp, err := http.DefaultClient.Do(r)
	ts.Check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if _, err := ts.Stdout().Write(text); err != nil {
		ts.Fatalf("print the answer: %v", err)
	}
	if (resp.StatusCode >= 400) != neg {
		ts.Fatalf("GET %s answers %d", args[2], resp.StatusCode)
	}
}
