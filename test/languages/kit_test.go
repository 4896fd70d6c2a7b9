// Package languages_test runs the kernels of JavaScript and of shell commands in real sandboxes:
// what each promises, and a suite of code of which a session must say the same as a plain process
// in the same image.
package languages_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/erofs"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor"
)

func TestMain(m *testing.M) {
	gvisor.HandOver()
	os.Exit(m.Run())
}

// machine restores sandboxes of one language.
type machine struct {
	engine   *gvisor.Engine
	prepared sandbox.Prepared
	boxes    int
}

// newMachine takes a snapshot of a warm kernel in its image.
func newMachine(t testing.TB, language string) *machine {
	t.Helper()
	images, err := image.Open(filepath.Join(need.Data(t), "images"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := images.Resolve(language)
	if err != nil {
		need.Lack(t, "no image %q in SANDPOOL_TEST_DATA: %v", language, err)
	}
	return newMachineOf(t, language, img)
}

// newMachineOf is newMachine in another image.
func newMachineOf(t testing.TB, language string, img image.Image) *machine {
	t.Helper()
	root := t.TempDir()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	e, err := gvisor.New(log, gvisor.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	start := time.Now()
	p, err := e.Prepare(t.Context(), sandbox.Template{
		Root: img.Root(), Layers: []sandbox.Layer{agentLayer(t)}, Args: agent.Args(language),
		Dir: "/",
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"LANG=C.UTF-8"},
		Capabilities: agent.Capabilities(), Channel: true, Ready: agent.Ready(),
		Start:   sandbox.Restore,
		Limits:  sandpool.Resources{CPU: 2, Memory: 1 << 30, PIDs: 1024, Disk: 1 << 30},
		Network: sandpool.Network{Status: sandpool.EgressDisabled},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: snapshot after %v", language, time.Since(start))
	return &machine{engine: e, prepared: p}
}

func agentLayer(t testing.TB) sandbox.Layer {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, path.Base(agent.Path))
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", program,
		"github.com/sandpool/sandpool/cmd/sandpool-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v: %s", err, out)
	}
	store, err := image.Open(filepath.Join(dir, "layers"))
	if err != nil {
		t.Fatal(err)
	}
	entry, err := erofs.HostFile(path.Base(agent.Path), 0o755, program)
	if err != nil {
		t.Fatal(err)
	}
	img, err := store.Put(t.Context(), "agent", []erofs.Entry{entry})
	if err != nil {
		t.Fatal(err)
	}
	return img.Layer(path.Dir(agent.Path))
}

// restore starts a sandbox and gives it its secret and its seed.
func (m *machine) restore(t testing.TB) *agent.Client {
	t.Helper()
	m.boxes++
	h, err := m.engine.Start(t.Context(), sandbox.ID(fmt.Sprintf("language%d", m.boxes)),
		m.prepared)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.engine.Stop(context.WithoutCancel(t.Context()), h); err != nil {
			t.Error(err)
		}
	})
	secret := rand.Text()
	c := agent.NewClient(func(ctx context.Context, port int) (net.Conn, error) {
		return m.engine.Dial(ctx, h, port)
	}, secret)
	t.Cleanup(c.Close)
	if _, err := c.Init(t.Context(), agent.InitRequest{Secret: secret, Seed: []byte(rand.Text()),
		Time: time.Now()}); err != nil {
		t.Fatal(err)
	}
	return c
}

// run executes code and fails the test if there is no result.
func run(t testing.TB, c *agent.Client, timeout time.Duration, code string) agent.ExecuteResult {
	t.Helper()
	res, err := c.Execute(t.Context(), agent.ExecuteRequest{Code: code, Timeout: timeout,
		MaxOutput: agent.LimitMaxOutput})
	if err != nil {
		t.Fatalf("execute %q: %v", code, err)
	}
	return res
}
