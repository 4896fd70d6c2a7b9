package kube_test

import (
	"context"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube"
	"github.com/sandpool/sandpool/internal/sandbox/kube/kubetest"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

// config is an engine's configuration on a cluster that nobody enforces network policies in.
func config(t *testing.T, c *kubetest.Cluster) kube.Config {
	t.Helper()
	at, err := rest.Kubeconfig(c.Kubeconfig(t, "boxes"), "")
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.New(at)
	if err != nil {
		t.Fatal(err)
	}
	return kube.Config{Client: client, Namespace: at.Namespace, Instance: "test", RuntimeClass: "gvisor",
		NetworkUnverified: true, Privileged: true, CPUOvercommit: 1, NodeLost: 30 * time.Second,
		Pending: 10 * time.Second,
		Accounts: func(context.Context, sandbox.Image) (fs.FS, error) {
			return fstest.MapFS{"etc/passwd": {Data: []byte(sandboxtest.Users)},
				"etc/group": {Data: []byte(sandboxtest.Groups)}}, nil
		}}
}

// open returns an engine that ends with the test.
func open(t *testing.T, cfg kube.Config) *kube.Engine {
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

// template is one whose program answers on port 8080.
func template() sandbox.Template {
	return sandbox.Template{
		Root:         sandbox.Image{Reference: "registry.example/guest:1"},
		Args:         []string{"/guest"},
		Env:          []string{"PATH=/bin"},
		Capabilities: sandbox.DefaultCapabilities(),
		Setuid:       true,
		Ready:        sandpool.Probe{HTTP: sandpool.HTTPProbe{Port: 8080, Path: "/"}},
		Start:        sandbox.Boot,
		Limits:       sandpool.Resources{CPU: 0.2, Memory: 64 << 20, PIDs: 64, Disk: 16 << 20},
	}
}

func ask(ctx context.Context, e sandbox.Runtime, h sandbox.Handle, path string,
	query url.Values) ([]byte, error) {
	return kubetest.Ask(ctx, func(ctx context.Context) (net.Conn, error) {
		return e.Dial(ctx, h, 8080)
	}, path, query)
}

func TestConformance(t *testing.T) {
	sandboxtest.Run(t, func(t *testing.T) sandboxtest.Target {
		c := kubetest.New(t)
		cfg := config(t, c)
		e := open(t, cfg)
		return sandboxtest.Target{
			Runtime:  e,
			Template: template(),
			Without: []sandboxtest.Ability{sandboxtest.Channels, sandboxtest.Logs,
				sandboxtest.Measures, sandboxtest.Weights,
				sandboxtest.WorkingSets},
			Reopen: func(t *testing.T) sandbox.Runtime {
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
				e = open(t, cfg)
				return e
			},
			Crash: func(_ *testing.T, id sandbox.ID) { c.Kill("sandpool-" + string(id)) },
			Leave: func(t *testing.T, id sandbox.ID) {
				c.Full("0/1 nodes are available")
				_, err := cfg.Client.CreatePod(t.Context(), &rest.Pod{Metadata: rest.Meta{
					Name: "sandpool-" + string(id), Namespace: cfg.Namespace,
					Labels: map[string]string{"app.kubernetes.io/managed-by": "sandpool",
						"sandpool/instance": cfg.Instance, "sandpool/id": string(id)}},
					Spec: rest.PodSpec{Containers: []rest.Container{{Name: "sandbox"}}}})
				if err != nil {
					t.Fatal(err)
				}
			},
			Self: func(ctx context.Context, h sandbox.Handle) (self sandboxtest.Self, err error) {
				body, err := ask(ctx, e, h, "/self", nil)
				if err != nil {
					return self, err
				}
				return self, json.Unmarshal(body, &self)
			},
			Quit: func(t *testing.T, h sandbox.Handle, code int) {
				// The answer never comes: it exits.
				_, _ = ask(t.Context(), e, h, "/exit", url.Values{"code": {strconv.Itoa(code)}})
			},
			Exit: func(code int) []string { return []string{"/guest", "exit", strconv.Itoa(code)} },
		}
	})
}
