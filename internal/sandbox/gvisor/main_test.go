package gvisor

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/erofs/go-erofs"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

func TestMain(m *testing.M) {
	HandOver()
	code := m.Run()
	os.RemoveAll(imageDir())
	os.Exit(code)
}

// imageDir holds the images that all tests share.
var imageDir = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "sandpool-images-")
	if err != nil {
		panic(err)
	}
	return dir
})

// guestProgram names the guest on a machine without the go command, such as that of make
// test-cgroup2.
const guestProgram = "GVISOR_TEST_GUEST"

// guestImage builds the guest once and packs it into an image.
var guestImage = sync.OnceValues(func() (sandbox.Layer, error) {
	if path := os.Getenv(serverImage); path != "" {
		return sandbox.Layer{Digest: "test", Path: path}, nil
	}
	dir := imageDir()
	program := os.Getenv(guestProgram)
	if program == "" {
		program = filepath.Join(dir, "guest")
		build := exec.Command("go", "build", "-trimpath",
			"-ldflags=-s -w", "-o", program, "./testdata/guest")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return sandbox.Layer{}, fmt.Errorf("build the guest: %w: %s", err, out)
		}
	}
	return pack(dir, map[string]string{"/guest": program, "/etc/image": "root\n",
		"/etc/passwd": sandboxtest.Users, "/etc/group": sandboxtest.Groups})
})

// pack makes an image in dir: of a host file where the value is an absolute path, else of a file
// with that text.
func pack(dir string, content map[string]string) (sandbox.Layer, error) {
	out, err := os.CreateTemp(dir, "image-")
	if err != nil {
		return sandbox.Layer{}, err
	}
	defer out.Close()
	w := erofs.Create(out)
	for _, dir := range []string{"/proc", "/sys", "/dev", "/tmp", "/etc", "/layer", "/root"} {
		if err := w.Mkdir(dir, 0o755); err != nil {
			return sandbox.Layer{}, err
		}
	}
	for name, value := range content {
		data := []byte(value)
		if filepath.IsAbs(value) {
			if data, err = os.ReadFile(value); err != nil {
				return sandbox.Layer{}, err
			}
		}
		f, err := w.Create(name)
		if err != nil {
			return sandbox.Layer{}, err
		}
		if _, err := f.Write(data); err != nil {
			return sandbox.Layer{}, err
		}
		if err := f.Chmod(0o755); err != nil {
			return sandbox.Layer{}, err
		}
		if err := f.Close(); err != nil {
			return sandbox.Layer{}, err
		}
	}
	if err := w.Close(); err != nil {
		return sandbox.Layer{}, err
	}
	data, err := os.ReadFile(out.Name())
	return sandbox.Layer{Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(data)),
		Path: out.Name()}, err
}

func template(t testing.TB, start sandbox.StartMode) sandbox.Template {
	t.Helper()
	need.Root(t)
	root, err := guestImage()
	if err != nil {
		t.Fatal(err)
	}
	return sandbox.Template{
		Root: sandbox.Image{Reference: root.Path, Digest: root.Digest},
		Args: []string{"/guest"},
		Env:  []string{"PATH=/"},
		Ready: sandpool.Probe{HTTP: sandpool.HTTPProbe{Port: 8080, Path: "/ready"},
			Timeout: 5 * time.Second},
		Start:   start,
		Limits:  sandpool.Resources{CPU: 1, Memory: 256 << 20, PIDs: 256, Disk: 32 << 20},
		Network: sandpool.Network{Status: sandpool.EgressDisabled},

		Capabilities: []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL",
			"CAP_SETGID", "CAP_SETUID"},
	}
}

// open returns an engine on a state directory of its own.
func open(t testing.TB) *Engine {
	t.Helper()
	return openAt(t, t.TempDir())
}

func openAt(t testing.TB, root string) *Engine {
	t.Helper()
	need.Root(t)
	e, err := New(slog.New(slog.NewTextHandler(t.Output(),
		&slog.HandlerOptions{Level: slog.LevelDebug})), Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		left, err := e.List(ctx)
		if err != nil {
			t.Error(err)
		}
		for _, f := range left {
			if err := e.Stop(ctx, sandbox.Handle{ID: f.ID}); err != nil {
				t.Error(err)
			}
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func prepare(t testing.TB, e *Engine, tmpl sandbox.Template) sandbox.Prepared {
	t.Helper()
	p, err := e.Prepare(t.Context(), tmpl, func(p sandbox.Progress) {
		t.Logf("prepare: %s after %v", p.Step, p.Elapsed)
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func start(t testing.TB, e *Engine, p sandbox.Prepared, id sandbox.ID) sandbox.Handle {
	t.Helper()
	h, err := e.Start(t.Context(), id, p)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// ask makes a GET request to the guest.
func ask(t testing.TB, e *Engine, h sandbox.Handle, path string, values url.Values) string {
	t.Helper()
	body, err := tryAsk(t.Context(), e, h, path, values)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return body
}

func tryAsk(ctx context.Context, e *Engine, h sandbox.Handle, path string,
	values url.Values) (string, error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return e.Dial(ctx, h, 8080)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet,
		"http://guest"+path+"?"+values.Encode(), nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func procPath(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

// procStatus returns the fields of /proc/PID/status, blanks made single.
func procStatus(t testing.TB, pid int) map[string]string {
	t.Helper()
	data, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if words := strings.Fields(line); len(words) > 0 {
			fields[words[0]] = strings.Join(words[1:], " ")
		}
	}
	return fields
}

// fds returns what a process has open.
func fds(t testing.TB, pid int) (targets []string) {
	t.Helper()
	entries, err := os.ReadDir(procPath(pid, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if target, err := os.Readlink(procPath(pid, "fd/"+entry.Name())); err == nil {
			targets = append(targets, target)
		}
	}
	return targets
}
