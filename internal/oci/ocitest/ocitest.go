// Package ocitest is a kit for tests that pull container images: a registry inside the test, and
// images of Debian packages to push to it.
//
//	hub := ocitest.NewHub(t)
//	nginx := ocitest.Debian(t, "nginx-light")
//	hub.Push("web:1.0", ocitest.Image{Layers: []string{nginx}, Config: …})
//	client.Resolve(ctx, hub.Host()+"/web:1.0", …)
package ocitest

import (
	"archive/tar"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/need"
)

// Hub is a registry without TLS. It ends with the test.
type Hub struct {
	t      testing.TB
	server *httptest.Server
	// Before, if set, may answer a pull's request itself; then it returns true. Set it before
	// the first pull.
	Before func(w http.ResponseWriter, r *http.Request) bool
	// Wrap, if set, returns what the answer to a pull's request is written to. Set it before the
	// first pull.
	Wrap func(w http.ResponseWriter, r *http.Request) http.ResponseWriter
}

// NewHub starts an empty registry on the loopback interface, open to everybody.
func NewHub(t testing.TB) *Hub {
	t.Helper()
	return NewHubAt(t, "127.0.0.1:0")
}

// NewHubAt is NewHub at an address of this machine. Only a private one is asked without TLS.
func NewHubAt(t testing.TB, address string) *Hub {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	h := &Hub{t: t}
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	h.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request) {
		pushes := r.Header.Get("User-Agent") == pusher ||
			strings.HasPrefix(r.Header.Get("User-Agent"), pusher+" ")
		if !pushes && h.Before != nil && h.Before(w, r) {
			return
		}
		if !pushes && h.Wrap != nil {
			w = h.Wrap(w, r)
		}
		inner.ServeHTTP(w, r)
	}))
	_ = h.server.Listener.Close() // the one it would have had
	h.server.Listener = listener
	h.server.Start()
	t.Cleanup(h.server.Close)
	return h
}

// pusher is how Push is told from pulls.
const pusher = "ocitest-push"

// Host is the registry's host and port, the beginning of references.
func (h *Hub) Host() string { return strings.TrimPrefix(h.server.URL, "http://") }

// BasicAuth makes pulls show a user and a password.
func (h *Hub) BasicAuth(user, password string) {
	h.Before = func(w http.ResponseWriter, r *http.Request) bool {
		u, p, _ := r.BasicAuth()
		if u == user && p == password {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="hub"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

// TokenAuth makes pulls show a token, which the registry's own token service gives for a user and
// a password.
func (h *Hub) TokenAuth(user, password string) {
	token := fmt.Sprintf("%x", sha256.Sum256([]byte(user+password)))
	h.Before = func(w http.ResponseWriter, r *http.Request) bool {
		u, p, _ := r.BasicAuth()
		switch {
		case r.Header.Get("Authorization") == "Bearer "+token:
			return false
		case r.URL.Path == "/token" && u == user && p == password:
			fmt.Fprintf(w, `{"token":%q}`, token)
			return true
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="hub"`,
			h.server.URL))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

// Image is a container image to push.
type Image struct {
	Layers []string // tar files
	Config v1.Config
	Arch   string // amd64 if empty
}

// Push pushes an image under a repository and tag, such as "web:1.0".
func (h *Hub) Push(tag string, i Image) {
	h.t.Helper()
	h.PushImage(tag, i.build(h.t))
}

// PushImage is Push of an image that is made.
func (h *Hub) PushImage(tag string, built v1.Image) {
	h.t.Helper()
	ref, err := name.ParseReference(h.Host() + "/" + tag)
	if err == nil {
		err = remote.Write(ref, built, remote.WithUserAgent(pusher))
	}
	if err != nil {
		h.t.Fatalf("push %s: %v", tag, err)
	}
}

func (i Image) build(t testing.TB) v1.Image {
	t.Helper()
	arch := i.Arch
	if arch == "" {
		arch = "amd64"
	}
	built := empty.Image
	for _, file := range i.Layers {
		layer, err := tarball.LayerFromFile(file, tarball.WithCompressionLevel(1))
		if err == nil {
			built, err = mutate.AppendLayers(built, layer)
		}
		if err != nil {
			t.Fatalf("layer %s: %v", file, err)
		}
	}
	cfg, err := built.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Config = "linux", arch, i.Config
	built, err = mutate.ConfigFile(built, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// Entry is an entry of a layer; its size is that of the content.
type Entry struct {
	tar.Header
	Content string
}

// File is an entry of a file of user 0.
func File(name string, mode int64, content string) Entry {
	return Entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode}, content}
}

// Layer writes a tar file of entries.
func Layer(t testing.TB, entries ...Entry) string {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "layer.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := tar.NewWriter(out)
	for _, e := range entries {
		e.Size = int64(len(e.Content))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.Content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}

// Read returns the content of a file in a tar file.
func Read(t testing.TB, file, name string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("%q in %s: %v", name, file, err)
		}
		if path.Clean(h.Name) == name {
			content, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			return string(content)
		}
	}
}

// Debian returns a tar file of a Debian system with the given packages and what they need. It is
// made once and kept in SANDPOOL_TEST_DATA, for a minute's work each; tests without that
// variable, or without root, are skipped.
func Debian(t testing.TB, packages ...string) string {
	t.Helper()
	return debian(t, "essential", packages)
}

// Unpacked is like Debian, but the packages are unpacked and not installed, which takes some ten
// seconds: no script of theirs has run, there is no /etc/passwd, and what every Debian system has
// is not there unless a package asks for it. Much of what no server opens is left out.
func Unpacked(t testing.TB, packages ...string) string {
	t.Helper()
	return debian(t, "extract", packages,
		`--extract-hook=cd "$1/usr" && rm -rf share/doc share/man `+
			`share/locale share/i18n share/perl* lib/*/perl* lib/*/libLLVM* lib/*/libz3*`)
}

// debian makes a tar file by a variant of mmdebstrap.
func debian(t testing.TB, variant string, packages []string, more ...string) string {
	t.Helper()
	data := need.Data(t)
	packages = slices.Sorted(slices.Values(packages))
	sum := sha256.Sum256(fmt.Append(nil, variant, packages, more))
	file := filepath.Join(data, fmt.Sprintf("debian-%x.tar", sum[:8]))
	if _, err := os.Stat(file); err == nil {
		return file
	}
	options, err := image.AptOptions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(t.TempDir(), "debian.tar")
	// apt's hooks are scripts of dash, which knows descriptors of one digit alone: what this
	// process was given must not take them.
	args := []string{"-c", `exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec unshare "$@"`, "sh",
		"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "mmdebstrap", "--mode=root",
		"--variant=" + variant, "--include=" + strings.Join(packages, ","),
		"--dpkgopt=force-unsafe-io", `--aptopt=Apt::Install-Recommends "false"`,
		`--aptopt=Acquire::Languages "none"`, "--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/doc/*"}
	args = append(append(append(args, options...), more...), image.DebianSuite, half)
	if mirror := os.Getenv("SANDPOOL_DEBIAN_MIRROR"); mirror != "" {
		args = append(args, mirror)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", args...).CombinedOutput(); err != nil {
		t.Fatalf("make a Debian system of %v: %v\n%s", packages, err, out)
	}
	// Another test process may have been quicker; either file is as good.
	whole := file + fmt.Sprint(".", os.Getpid())
	if err := copyFile(half, whole); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(whole, file); err != nil {
		t.Fatal(err)
	}
	return file
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
