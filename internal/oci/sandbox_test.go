package oci_test

import (
	"archive/tar"
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/oci"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor"
)

// nginxConf lets nginx run without root, and serve what its start has written.
const nginxConf = `daemon off; pid /tmp/nginx.pid; error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c; uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;
	server { listen 8080; root /usr/share/nginx/html; location /out/ { root /tmp; } }
}
`

// An image of Debian packages comes from a registry with a login and serves in a sandbox, by its
// own configuration and as its own user; files keep owner, mode and capabilities on the way, and
// the image is in use as long as the sandbox lives.
func TestDebianInSandbox(t *testing.T) {
	debian := ocitest.Debian(t, "nginx-light", "libcap2-bin")
	hub := ocitest.NewHub(t)
	hub.TokenAuth("me", "open-sesame")
	program := ocitest.File("usr/local/bin/reader", 0o755, ocitest.Read(t, debian, "usr/bin/cat"))
	// CAP_NET_BIND_SERVICE, permitted and effective: version 2, bit 10.
	program.PAXRecords = map[string]string{
		"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	start := `mkdir -p /tmp/out; reader /proc/self/status > /tmp/out/status; getcap /usr/local/bin/reader > /tmp/out/cap
id > /tmp/out/id; stat -c %a:%U:%G /var/mail /usr/local/bin/su8 /tmp > /tmp/out/stat; exec nginx`
	owned := ocitest.File("usr/local/bin/su8", 0o4750, "x")
	owned.Uid, owned.Gid = 33, 60
	hub.Push("web:1.0", ocitest.Image{
		Layers: []string{debian, ocitest.Layer(t, program, owned,
			ocitest.File("etc/nginx/nginx.conf", 0o644, nginxConf),
			ocitest.Entry{Header: tar.Header{Name: "usr/share/nginx/html", Typeflag: tar.TypeDir,
				Mode: 0o755}},
			ocitest.File("usr/share/nginx/html/.wh..wh..opq", 0,
				""), ocitest.File("usr/share/nginx/html/index.html", 0o644, "from a layer\n"))},
		Config: v1.Config{Entrypoint: []string{"/bin/sh", "-c"}, Cmd: []string{start},
			User: "www-data",
			Env:  []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
	})
	store, err := image.Open(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := oci.New(store, oci.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cred := oci.Credentials{Username: "me", Password: "open-sesame"}
	begun := time.Now()
	pinned, err := client.Resolve(t.Context(), hub.Host()+"/web:1.0", cred)
	if err != nil {
		t.Fatal(err)
	}
	img, err := client.Pull(t.Context(), oci.Request{Pinned: pinned, Credentials: cred})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MB in %v", img.Size>>20, time.Since(begun))
	engine, handle := boot(t, img)
	get := func(path string) string { return fetch(t, engine, handle, path) }
	if got := get("/"); got != "from a layer\n" {
		t.Errorf("served %q", got)
	}
	if got := get("/out/id"); !strings.HasPrefix(got, "uid=33(www-data) gid=33(www-data)") {
		t.Errorf("it runs as %q", got)
	}
	if got := get("/out/cap"); !strings.Contains(got, "cap_net_bind_service=ep") {
		t.Errorf("the file has the capabilities %q", got)
	}
	if got := get("/out/status"); !strings.Contains(got, "CapEff:\t0000000000000400") {
		t.Errorf("the program ran with %q", got)
	}
	if got := get("/out/stat"); got != "2775:root:mail\n4750:www-data:games\n1777:root:root\n" {
		t.Errorf("modes and owners are %q", got)
	}

	if err := store.Remove(img.Manifest); sandpool.ClassOf(err) != sandpool.Conflict {
		t.Errorf("removed under a sandbox: %v, want class conflict", err)
	}
	if gone, err := store.Prune(nil); err != nil || len(gone) > 0 {
		t.Errorf("pruned under a sandbox: %v, %v", gone, err)
	}
	if err := engine.Stop(t.Context(), handle); err != nil {
		t.Fatal(err)
	}
	if gone, err := store.Prune(nil); err != nil || len(gone) != 1 {
		t.Errorf("pruned %v, %v after the sandbox ended", gone, err)
	}
}

// boot starts a sandbox of an image as its configuration says.
func boot(t *testing.T, img image.Image) (*gvisor.Engine, sandbox.Handle) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	engine, err := gvisor.New(log,
		gvisor.Config{Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	args, err := img.Config.CommandLine(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := engine.Prepare(t.Context(), sandbox.Template{
		Root: img.Root(), Args: args, Env: img.Config.Env, Dir: img.Config.WorkingDir,
		User:         img.Config.User,
		Capabilities: sandbox.DefaultCapabilities(), Setuid: true, HostFiles: sandbox.AllHostFiles,
		Ready: sandpool.Probe{HTTP: sandpool.HTTPProbe{Port: 8080, Path: "/"},
			Timeout: 5 * time.Second},
		Start:   sandbox.Boot,
		Limits:  sandpool.Resources{CPU: 1, Memory: 512 << 20, PIDs: 512, Disk: 64 << 20},
		Network: sandpool.Network{Status: sandpool.EgressDisabled},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := engine.Start(t.Context(), "oci-debian", p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Stop(context.WithoutCancel(t.Context()), h); err != nil {
			t.Error(err)
		}
	})
	return engine, h
}

// fetch asks the web server in a sandbox.
func fetch(t *testing.T, e *gvisor.Engine, h sandbox.Handle, path string) string {
	t.Helper()
	conn, err := e.Dial(t.Context(), h, 8080)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("%s: %s, %v", path, answer.Status, err)
	}
	return string(body)
}
