package kube_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube"
	"github.com/sandpool/sandpool/internal/sandbox/kube/kubetest"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
	"github.com/sandpool/sandpool/test/kube/clustertest"
)

func TestMain(m *testing.M) { os.Exit(clustertest.Main(m)) }

// The RuntimeClass of the cluster whose pods are gVisor's.
const gvisorClass = "gvisor"

// release is an installation of the chart. Its name is that of its namespace and account, too.
type release struct {
	name string
	// set are values of the chart.
	set string
	// more are further namespaces, which the chart makes.
	more []string
	// server says that the server runs in the cluster. Otherwise all but it is there.
	server bool
}

// install installs it until the test ends, and returns a kubeconfig of the server's account.
func (r release) install(t *testing.T, c *clustertest.Cluster) (config string) {
	t.Helper()
	c.Kubectl(t, "", "create", "namespace", r.name)
	t.Cleanup(func() {
		// A namespace that ends takes its objects with it.
		_, err := c.TryKubectl(context.WithoutCancel(t.Context()), "", append([]string{"delete",
			"namespace", r.name, r.boxes(), "--ignore-not-found"}, r.more...)...)
		if err != nil {
			t.Error(err)
		}
	})
	all := r.values(t)
	admin := r.kubeconfig(t, c, r.name, "")
	if objects := renderText(t, "sandboxes.yaml", r.name, all); strings.TrimSpace(objects) != "" {
		c.Kubectl(t, objects, "apply", "--server-side", "--kubeconfig", admin, "-f", "-")
	}
	if r.server {
		c.Kubectl(t, renderText(t, "server.yaml", r.name, all), "apply", "--server-side",
			"--kubeconfig", admin, "-f", "-")
	} else {
		c.Kubectl(t, "", "create", "serviceaccount", r.name, "--namespace", r.name)
	}
	return r.kubeconfig(t, c, r.boxes(), strings.TrimSpace(
		c.Kubectl(t, "", "create", "token", r.name, "--namespace", r.name)))
}

// values are those of the chart for it.
func (r release) values(t *testing.T) map[string]any {
	t.Helper()
	return merge(map[string]any{"sandboxes": map[string]any{"runtimeClass": gvisorClass,
		"namespace": r.boxes()}}, values(t, r.set))
}

// try has the API server take what the chart makes of the release, which is installed in another
// form, without changing anything.
func (r release) try(t *testing.T, c *clustertest.Cluster) {
	t.Helper()
	admin := r.kubeconfig(t, c, r.name, "")
	for _, file := range []string{"sandboxes.yaml", "server.yaml"} {
		c.Kubectl(t, renderText(t, file, r.name, r.values(t)), "apply", "--server-side",
			"--force-conflicts", "--dry-run=server", "--validate=strict", "--kubeconfig", admin,
			"-f", "-")
	}
}

// boxes is the namespace of its sandboxes.
func (r release) boxes() string { return r.name + "-sandboxes" }

// kubeconfig writes the file by which the holder of a token reaches a namespace, or, without one,
// an administrator.
func (r release) kubeconfig(t *testing.T, c *clustertest.Cluster, namespace, token string) string {
	t.Helper()
	user := c.AdminUser()
	if token != "" {
		user = "{token: " + token + "}"
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: x
contexts: [{name: x, context: {cluster: c, user: u, namespace: %s}}]
clusters: [{name: c, cluster: {server: "%s", certificate-authority: %s}}]
users: [{name: u, user: %s}]
`, namespace, clustertest.API, c.CA(), user)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// guest pushes the program that suites ask, and returns its image's reference.
func guest(t *testing.T, hub *ocitest.Hub) string {
	t.Helper()
	return guestOf(t, hub, "guest")
}

// guestOf is guest by another name, which is in the image, too, so that no node has it.
func guestOf(t *testing.T, hub *ocitest.Hub, name string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "guest")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", program,
		"github.com/sandpool/sandpool/internal/sandbox/gvisor/testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the guest: %v\n%s", err, text)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	hub.Push(name+":1", ocitest.Image{
		Layers: []string{ocitest.Layer(t, ocitest.File("guest", 0o755, string(text)),
			ocitest.File("etc/passwd", 0o644, sandboxtest.Users),
			ocitest.File("etc/group", 0o644, sandboxtest.Groups))},
		Config: v1.Config{Entrypoint: []string{"/guest"}, User: "1234",
			Env: []string{"GUEST_HOST=0.0.0.0", "NAME=" + name}}})
	return hub.Host() + "/" + name + ":1"
}

// engineConfig is that of an engine in a cluster that enforces no network policies.
func engineConfig(t *testing.T, kubeconfig, class string) kube.Config {
	t.Helper()
	at, err := rest.Kubeconfig(kubeconfig, "")
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.New(at)
	if err != nil {
		t.Fatal(err)
	}
	return kube.Config{Client: client, Namespace: at.Namespace, Instance: "test",
		RuntimeClass: class, IsolationElsewhere: class == "", NetworkUnverified: true,
		Privileged: true, CPUOvercommit: 10, NodeLost: 5 * time.Second, Pending: 10 * time.Second,
		Accounts: func(context.Context, sandbox.Image) (fs.FS, error) {
			return fstest.MapFS{"etc/passwd": {Data: []byte(sandboxtest.Users)},
				"etc/group": {Data: []byte(sandboxtest.Groups)}}, nil
		}}
}

func openEngine(t *testing.T, cfg kube.Config) *kube.Engine {
	t.Helper()
	e, err := kube.New(t.Context(), slog.New(slog.DiscardHandler), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func guestTemplate(reference string) sandbox.Template {
	return sandbox.Template{
		Root:         sandbox.Image{Reference: reference},
		Args:         []string{"/guest"},
		Env:          []string{"PATH=/bin", "GUEST_HOST=0.0.0.0"},
		Capabilities: sandbox.DefaultCapabilities(),
		Setuid:       true,
		Ready:        sandpool.Probe{HTTP: sandpool.HTTPProbe{Port: 8080, Path: "/"}},
		Start:        sandbox.Boot,
		Limits:       sandpool.Resources{CPU: 0.5, Memory: 64 << 20, PIDs: 64, Disk: 16 << 20},
	}
}

// Real pods of runc and of gVisor do what the contract of engines says.
func TestClusterConformance(t *testing.T) {
	c := clustertest.At(t)
	hub := ocitest.NewHubAt(t, clustertest.Registry)
	reference := guest(t, hub)
	for name, class := range map[string]string{"runc": "", "gvisor": gvisorClass} {
		t.Run(name, func(t *testing.T) {
			kubeconfig := release{name: "suite-" + name,
				set: "sandboxes: {security: image}"}.install(t, c)
			sandboxtest.Run(t, func(t *testing.T) sandboxtest.Target {
				return realTarget(t, c, engineConfig(t, kubeconfig, class), reference)
			})
		})
	}
}

func realTarget(t *testing.T, c *clustertest.Cluster, cfg kube.Config,
	reference string) sandboxtest.Target {
	e := openEngine(t, cfg)
	ask := func(ctx context.Context, h sandbox.Handle, path string, query url.Values) ([]byte,
		error) {
		return kubetest.Ask(ctx, func(ctx context.Context) (net.Conn, error) {
			return e.Dial(ctx, h, 8080)
		}, path, query)
	}
	return sandboxtest.Target{
		Runtime:  e,
		Template: guestTemplate(reference),
		Without: []sandboxtest.Ability{sandboxtest.Channels, sandboxtest.Logs,
			sandboxtest.Measures, sandboxtest.Weights, sandboxtest.WorkingSets},
		Reopen: func(t *testing.T) sandbox.Runtime {
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			e = openEngine(t, cfg)
			return e
		},
		Crash: func(t *testing.T, id sandbox.ID) {
			c.Kubectl(t, "", "delete", "pod", "sandpool-"+string(id), "--namespace", cfg.Namespace,
				"--grace-period=1", "--wait=false")
		},
		Leave: func(t *testing.T, id sandbox.ID) {
			// One that no node takes is as far as a Start gets that is killed after its first step.
			c.Kubectl(t, fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod", "metadata": {
				"name": "sandpool-%s", "labels": {"app.kubernetes.io/managed-by": "sandpool",
				"sandpool/instance": "test", "sandpool/id": "%s"}},
				"spec": {"nodeSelector": {"there-is": "none"}, "containers": [
				{"name": "sandbox", "image": "%s"}]}}`, id, id, reference),
				"create", "--namespace", cfg.Namespace, "-f", "-")
		},
		Self: func(ctx context.Context, h sandbox.Handle) (self sandboxtest.Self, err error) {
			body, err := ask(ctx, h, "/self", nil)
			if err != nil {
				return self, err
			}
			return self, json.Unmarshal(body, &self)
		},
		Quit: func(t *testing.T, h sandbox.Handle, code int) {
			// The answer never comes: it exits.
			_, _ = ask(t.Context(), h, "/exit", url.Values{"code": {strconv.Itoa(code)}})
		},
		Exit: func(code int) []string { return []string{"/guest", "exit", strconv.Itoa(code)} },
	}
}
