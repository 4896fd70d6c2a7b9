package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor"
)

// A hub is a registry in the test, with what a hostile one may do in between.
type testHub struct {
	t *testing.T
	*httptest.Server

	mu     sync.Mutex                                        // guards what follows
	before func(w http.ResponseWriter, r *http.Request) bool // see ask
	seen   []seen                                            // requests from pulls
}

// seen is what the registry saw of a request.
type seen struct{ method, path, authorization, rang string }

// newHub serves an empty registry without TLS on the loopback interface.
func newHub(t *testing.T) *testHub {
	t.Helper()
	h := &testHub{t: t}
	h.Server = httptest.NewServer(h.handler())
	t.Cleanup(h.Close)
	return h
}

func (h *testHub) handler() http.Handler {
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Test") == "" {
			h.mu.Lock()
			h.seen = append(h.seen, seen{r.Method, r.URL.Path, r.Header.Get("Authorization"),
				r.Header.Get("Range")})
			before := h.before
			h.mu.Unlock()
			if before != nil && before(w, r) {
				return
			}
		}
		inner.ServeHTTP(w, r)
	})
}

// ask has do see requests of pulls from now on, before the registry does. It returns true if it has
// answered.
func (h *testHub) ask(do func(w http.ResponseWriter, r *http.Request) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.before = do
}

func (h *testHub) host() string {
	return strings.TrimPrefix(strings.TrimPrefix(h.URL, "http://"), "https://")
}

// requests are those of pulls so far whose path has part in it.
func (h *testHub) requests(part string) (out []seen) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.seen {
		if strings.Contains(s.path, part) {
			out = append(out, s)
		}
	}
	return out
}

// send pushes something, past what ask was given.
func (h *testHub) send(method, path, mediaType string, body []byte) {
	h.t.Helper()
	r, err := http.NewRequest(method, h.URL+path, bytes.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Test", "push")
	r.Header.Set("Content-Type", mediaType)
	answer, err := h.Client().Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		text, _ := io.ReadAll(answer.Body)
		h.t.Fatalf("%s %s: %s %s", method, path, answer.Status, text)
	}
}

// blob pushes a blob and returns its descriptor.
func (h *testHub) blob(mediaType string, content []byte) descriptor {
	h.t.Helper()
	d := descriptor{MediaType: mediaType, Digest: digestOf(content), Size: int64(len(content))}
	h.send(http.MethodPost, "/v2/app/blobs/uploads/?digest="+string(d.Digest),
		"application/octet-stream", content)
	return d
}

// put pushes a manifest or an index.
func (h *testHub) put(which, mediaType string, v any) descriptor {
	h.t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		h.t.Fatal(err)
	}
	h.send(http.MethodPut, "/v2/app/manifests/"+which, mediaType, text)
	return descriptor{MediaType: mediaType, Digest: digestOf(text), Size: int64(len(text))}
}

// picture is an image that tests push.
type pictured struct {
	layers   [][]byte // as archives, plain
	config   map[string]any
	platform string // "linux/amd64" if empty
	plain    bool   // layers are not compressed
}

// parts returns the blobs of an image and its manifest.
func (p pictured) parts(t *testing.T) (config []byte, layers [][]byte, m map[string]any) {
	t.Helper()
	if p.platform == "" {
		p.platform = "linux/amd64"
	}
	system, arch, _ := strings.Cut(p.platform, "/")
	var diffs []digest
	var list []descriptor
	for _, l := range p.layers {
		diffs = append(diffs, digestOf(l))
		mediaType := "application/vnd.oci.image.layer.v1.tar"
		if !p.plain {
			l, mediaType = squeeze(t, l), mediaType+"+gzip"
		}
		layers = append(layers, l)
		list = append(list, descriptor{MediaType: mediaType, Digest: digestOf(l),
			Size: int64(len(l))})
	}
	config, err := json.Marshal(map[string]any{"os": system, "architecture": arch,
		"config": p.config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs}})
	if err != nil {
		t.Fatal(err)
	}
	return config, layers, map[string]any{"schemaVersion": 2, "mediaType": typeManifest,
		"config": descriptor{MediaType: typeConfig, Digest: digestOf(config),
			Size: int64(len(config))}, "layers": list}
}

// push pushes an image as app:tag; without a tag it is known by its digest alone.
func (h *testHub) push(tag string, p pictured) descriptor {
	h.t.Helper()
	config, layers, m := p.parts(h.t)
	h.blob(typeConfig, config)
	for _, l := range layers {
		h.blob("application/octet-stream", l)
	}
	if tag == "" {
		text, err := json.Marshal(m)
		if err != nil {
			h.t.Fatal(err)
		}
		tag = string(digestOf(text))
	}
	return h.put(tag, typeManifest, m)
}

// tarball makes a layer of files by name and content.
func tarball(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Typeflag: tar.TypeReg, Mode: 0o644,
			Size: int64(len(files[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func squeeze(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// small is an image with two layers.
func small(t testing.TB) pictured {
	return pictured{
		layers: [][]byte{tarball(t, "bin/app", "program", "etc/old", "old"), tarball(t,
			"etc/.wh.old", "", "etc/new", "new")},
		config: map[string]any{"Entrypoint": []string{"/bin/app"}, "Cmd": []string{"--serve"},
			"Env": []string{"A=b"}, "User": "1000:1000",
			"WorkingDir": "/srv", "ExposedPorts": map[string]any{"8080/tcp": struct{}{},
				"53/udp": struct{}{}}, "StopSignal": "SIGINT",
			"Healthcheck": map[string]any{"Test": []string{"CMD", "false"}}},
	}
}

// noise is content that does not compress.
func noise(n int) string {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return string(b)
}

// newClient returns a client with a store of its own.
func newClient(t *testing.T, cfg Config) (*Client, *image.Store) {
	t.Helper()
	store, err := image.Open(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(store, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, store
}

// pull resolves and pulls a reference.
func pull(t *testing.T, c *Client, ref string, cred Credentials) (image.Image, error) {
	t.Helper()
	pinned, err := c.Resolve(t.Context(), ref, cred)
	if err != nil {
		return image.Image{}, err
	}
	return c.Pull(t.Context(), Request{Pinned: pinned, Reference: ref, Credentials: cred})
}

// wantCode checks an error's code, and that its message is short, printable and has part in it.
func wantCode(t *testing.T, err error, code, part string) {
	t.Helper()
	var e *sandpool.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, part) {
		t.Errorf("error %v (%T), want the code %s with %q", err, err, code, part)
	}
	if err != nil && (len(err.Error()) > 800 || strings.ContainsFunc(err.Error(),
		func(r rune) bool { return r < ' ' || r == 0x7f })) {
		t.Errorf("the error is not for people: %.1000q", err)
	}
}

// clean fails the test if a pull has left something in the store.
func clean(t *testing.T, s *image.Store, images int) {
	t.Helper()
	if left, err := os.ReadDir(filepath.Join(s.Dir(), "tmp")); len(left) > 0 || err != nil &&
		!os.IsNotExist(err) {
		t.Errorf("work is left: %v, %v", left, err)
	}
	all, err := s.List()
	if err != nil || len(all) != images {
		t.Errorf("%d images, %v; want %d", len(all), err, images)
	}
}

func problem(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
}

// TestMain is also the process that TestPullKilled kills, and the kernel of sandboxes.
func TestMain(m *testing.M) {
	gvisor.HandOver()
	if dir, ref, ok := strings.Cut(os.Getenv(pullIn), " "); ok {
		store, err := image.Open(dir)
		if err == nil {
			var c *Client
			if c, err = New(store, Config{}); err == nil {
				var pinned string
				if pinned, err = c.Resolve(context.Background(), ref, Credentials{}); err == nil {
					_, err = c.Pull(context.Background(), Request{Pinned: pinned})
				}
			}
		}
		fmt.Println("ended:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// command is this program, to pull ref into the store in dir.
func command(t *testing.T, dir, ref string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), pullIn+"="+dir+" "+ref)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd
}
