package gvisor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/kernfile"
)

func TestCheckHost(t *testing.T) {
	need.Root(t)
	for _, r := range CheckHost(Config{Root: filepath.Join(t.TempDir(), "not", "yet")}) {
		if !r.OK || r.Fix != "" || r.Name == "" || r.Detail == "" {
			t.Errorf("on a host that runs these tests: %+v", r)
		}
	}
	for _, r := range CheckHost(Config{Root: "/proc/nowhere"}) {
		if r.Name == "state directory" && (r.OK || r.Fix == "") {
			t.Errorf("a state directory in /proc: %+v", r)
		}
	}
}

func TestMissing(t *testing.T) {
	full := sandbox.Requirement{Name: spaceName, Fix: "delete"}
	if err := missing([]sandbox.Requirement{{Name: "kernel", OK: true}, full}); err != nil {
		t.Errorf("a full disk: %v", err)
	}
	err := missing([]sandbox.Requirement{full, {Name: "seccomp", Detail: "none", Fix: "Use another kernel."}})
	if err == nil || !strings.Contains(err.Error(), "seccomp") || !strings.Contains(err.Error(), "Use another kernel.") {
		t.Errorf("without seccomp: %v", err)
	}
	// A state directory that cannot hold nameless files is refused by New itself.
	if e, err := New(nil, Config{Root: "/proc/nowhere"}); err == nil || !strings.Contains(err.Error(), "state directory") {
		t.Errorf("New in /proc: %v, %v", e, err)
	}
}

func TestInMap(t *testing.T) {
	for text, want := range map[string]bool{
		"         0          0 4294967295": true, "0 0 1": false, "0 1000 1\n65534 65534 1": true,
		"0 100000 65536": true, "0 100000 65534": false, "": false, "x": false,
	} {
		if got := inMap(text, nobody); got != want {
			t.Errorf("inMap(%q) = %v", text, got)
		}
	}
}

func TestKernelAtLeast(t *testing.T) {
	for release, want := range map[string]bool{
		"5.10.0-28-amd64": true, "5.9.16": false, "6.1": true, "4.19.300": false, "10.0-rc1": true, "": false, "x.y": false,
	} {
		if got := kernelAtLeast(release, 5, 10); got != want {
			t.Errorf("kernelAtLeast(%q) = %v", release, got)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTuneHost(t *testing.T) {
	e, path := open(t), filepath.Join(t.TempDir(), "shmem_enabled")
	for before, want := range map[string]string{
		"always inherit advise [never]\n": "always", "always [inherit] advise never\n": "always [inherit] advise never",
	} {
		write(t, path, before)
		e.tuneHost(path)
		if got, err := kernfile.Text(path); err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("of %q it makes %q, %v; want %q", before, got, err, want)
		}
	}
}

func TestOneOwner(t *testing.T) {
	e := open(t)
	if second, err := New(nil, Config{Root: e.cfg.Root}); err == nil {
		t.Errorf("a second engine on one directory: %v", second.Close())
	}
}

func TestTemplateErrors(t *testing.T) {
	e, good := open(t), template(t, sandbox.Restore)
	for target, spoil := range map[string]func(*sandbox.Template){
		"limits.cpu":    func(t *sandbox.Template) { t.Limits.CPU = 0 },
		"limits.memory": func(t *sandbox.Template) { t.Limits.Memory = 1 << 20 },
		"limits.pids":   func(t *sandbox.Template) { t.Limits.PIDs = 3 },
		"limits.disk":   func(t *sandbox.Template) { t.Limits.Disk = -1 },
		"args":          func(t *sandbox.Template) { t.Args = nil },
		"env":           func(t *sandbox.Template) { t.Env = []string{"=x"} },
		"dir":           func(t *sandbox.Template) { t.Dir = "tmp" },
		"ready.port":    func(t *sandbox.Template) { t.Ready.HTTP.Port = 70000 },
		"ready.path":    func(t *sandbox.Template) { t.Ready.HTTP.Path = "ready" },
		"start":         func(t *sandbox.Template) { t.Start = "" },
		"root.path":     func(t *sandbox.Template) { t.Root.Reference = "/etc/passwd" },
		"ready":         func(t *sandbox.Template) { t.Ready.TCP.Port = 1 },
		"capabilities":  func(t *sandbox.Template) { t.Capabilities = []string{"CAP_SYS_ADMIN"} },
		"root.digest":   func(t *sandbox.Template) { t.Root.Digest = "" },
		"layers[0].target": func(t *sandbox.Template) {
			t.Layers = []sandbox.Layer{{Digest: "x", Path: t.Root.Reference, Target: "/a/../b"}}
		},
		"network":          func(t *sandbox.Template) { t.Network.Status = "Open" },
		"network.allow[0]": func(t *sandbox.Template) { t.Network.Allow = []string{"10.0.0.0/33"} },
	} {
		bad := good
		spoil(&bad)
		_, err := e.Prepare(t.Context(), bad, nil)
		var se *sandpool.Error
		if !errors.As(err, &se) || se.Class != sandpool.Invalid || se.Target != target {
			t.Errorf("%s: error is %v", target, err)
		}
	}
}
