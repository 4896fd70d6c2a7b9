package kube_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/test/kube/clustertest"
)

// Code pools run in pods of runc and of gVisor from an image that "sandpool image push" has pushed,
// whose agent is a layer that a container copies, or a volume of an image, and is another user than
// the code, or the same. In each of them code runs, streams, is interrupted and leaves files; what
// ends is said; and nothing is left.
func TestClusterCode(t *testing.T) {
	c := clustertest.At(t)
	hub := ocitest.NewHubAt(t, clustertest.Registry)
	sandpool, program := sandpoolImage(t, hub), build(t)
	image := hub.Host() + "/python:1"
	push(t, program, hub, image)
	for _, one := range []struct{ name, isolation, agent, security string }{
		{"code-gvisor", "runtime_class: gvisor", "copy", "restricted"},
		{"code-volume", "runtime_class: gvisor", "volume", "image"},
		{"code-runc", "isolation: elsewhere", "volume", "restricted"},
	} {
		t.Run(one.name, func(t *testing.T) {
			kubeconfig := release{name: one.name,
				set: "sandboxes: {security: " + one.security + "}"}.install(t, c)
			dir := t.TempDir()
			config := filepath.Join(dir, "sandpool.yaml")
			if err := os.WriteFile(config, []byte(fmt.Sprintf(`
engine: kubernetes
data_dir: %s/data
listen: 127.0.0.1:0
registries: {plain_http: ["%s"]}
kubernetes:
  kubeconfig: %s
  %s
  network: unverified
  security: %s
  cpu_overcommit: 10
  images: {python: "%s"}
  agent_image: "%s:1"
  agent: %s
`, dir, hub.Host(), kubeconfig, one.isolation, one.security, image, sandpool, one.agent)),
				0o600); err != nil {
				t.Fatal(err)
			}
			coder{serve(t, program, dir, config), c, one.name + "-sandboxes",
				strings.HasPrefix(one.isolation, "runtime_class")}.run(t)
		})
	}
}

// push pushes the slim Python image.
func push(t *testing.T, program string, hub *ocitest.Hub, reference string) {
	t.Helper()
	data := filepath.Join(os.Getenv("SANDPOOL_TEST_DATA"), "test-kube")
	if _, err := os.Stat(filepath.Join(data, "images", "names", "python.json")); err != nil {
		need.Lack(t, "needs the slim Python image, which make test-kube builds: %v", err)
	}
	config := filepath.Join(t.TempDir(), "sandpool.yaml")
	text := fmt.Sprintf("data_dir: %s\nregistries: {plain_http: [%q]}\n", data, hub.Host())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	said, err := exec.CommandContext(t.Context(), program, "image", "push", "python", reference,
		"--config", config).CombinedOutput()
	if err != nil || !strings.Contains(string(said), "/python@sha256:") {
		t.Fatalf("image push: %v\n%s", err, said)
	}
	t.Logf("pushed after %v", time.Since(began))
}

// coder uses a code pool.
type coder struct {
	*instance
	cluster   *clustertest.Cluster
	namespace string
	gvisor    bool
}

func (c coder) run(t *testing.T) {
	ready, most, memory := 1, 3, "512Mi"
	began := time.Now()
	if _, err := c.PutPool(t.Context(), "pool", api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{ContainerType: "PythonLTS",
			ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
				ReadySessionInstances: &ready},
			Sandpool: &api.SandpoolSettings{Memory: memory}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WaitReady(t.Context(), "pool", nil); err != nil {
		t.Fatalf("%v\n%s", err, c.cluster.Kubectl(t, "", "describe", "pods", "--namespace",
			c.namespace))
	}
	t.Logf("the first session is ready after %v", time.Since(began))
	c.secretly(t)
	for _, step := range []struct{ code, stdout, result string }{
		{"x = 20; 1 + 1", "", "2"},
		{"print(x); x + 22", "20\n", "42"},
		{"print('by the kernel')", "by the kernel\n", ""},
		{"import os; (os.getuid(), os.getcwd())", "", "(1000, '/mnt/data')"},
		{"open('made.txt', 'w').write('by code')", "", "7"},
		{lookAround, "", "[]"},
	} {
		got := c.exec(t, "alice", client.Run{Code: step.code})
		if got.Result.Stdout != step.stdout || c.text(got) != step.result {
			t.Errorf("%s\nis answered %q, %s %+v; want %q, %s", step.code, got.Result.Stdout,
				c.text(got), got.Error, step.stdout, step.result)
		}
	}
	var logged strings.Builder
	if err := c.SessionLogs(t.Context(), "pool", "alice", client.Logs{}, func(l api.LogLine) error {
		fmt.Fprintf(&logged, "%s: %s\n", l.Stream, l.Text)
		return nil
	}); err != nil || !strings.Contains(logged.String(), "stdout: by the kernel\n") {
		t.Errorf("the log of the session is %q, %v", logged.String(), err)
	}
	c.files(t)
	c.interrupted(t)
	c.broken(t)
	if err := c.DeleteSession(t.Context(), "pool", "alice"); err != nil {
		t.Fatal(err)
	}
	if got := c.exec(t, "alice", client.Run{Code: "'x' in dir()"}); c.text(got) != "False" {
		t.Errorf("a new session knows of the old one: %s", c.text(got))
	}
	if _, err := c.DeletePool(t.Context(), "pool"); err != nil {
		t.Fatal(err)
	}
	until(t, "no pod and no Secret is left", func() bool {
		return strings.TrimSpace(c.cluster.Kubectl(t, "", "get", "pods,secrets", "--namespace",
			c.namespace, "-o", "name")) == ""
	})
}

// lookAround finds what code must not: the agent's secret, its memory, a token of the cluster, a
// place to change the agent's program.
const lookAround = `
import os
found = []
for name in ('environ', 'mem', 'maps', 'fd/0', 'cwd'):
    try:
        (os.readlink if name in ('fd/0', 'cwd') else open)('/proc/1/' + name)
        found.append(name)
    except OSError: pass
found += [k for k in os.environ if 'SANDPOOL' in k or 'KUBERNETES' in k]
for p in ('/opt/sandpool/x', '/opt/sandpool/sandpool-agent', '/etc/x', '/usr/x'):
    try:
        open(p, 'a').close(); found.append(p)
    except OSError: pass
if os.path.exists('/var/run/secrets'): found.append('secrets')
found`

// exec runs code, for which it waits.
func (c coder) exec(t *testing.T, identifier string, run client.Run) client.Execution {
	t.Helper()
	got, err := c.Execute(t.Context(), "pool", identifier, run)
	if err != nil {
		t.Fatalf("%s: %v", run.Code, err)
	}
	return got
}

// text is the value of the last expression.
func (coder) text(e client.Execution) string {
	var s string
	if json.Unmarshal(e.Result.ExecutionResult, &s) == nil {
		return s
	}
	return string(e.Result.ExecutionResult)
}

// secretly checks that a pod says nothing that lets somebody else in: nobody but the server may
// call the agent first.
func (c coder) secretly(t *testing.T) {
	t.Helper()
	spec := c.cluster.Kubectl(t, "", "get", "pods", "--namespace", c.namespace, "-o", "json")
	var pods struct {
		Items []struct {
			Spec struct {
				Containers []struct {
					Env []struct {
						Name, Value string
						ValueFrom   *struct{ SecretKeyRef *struct{ Name string } }
					}
				}
				AutomountServiceAccountToken *bool
			}
			Status struct{ PodIP string }
		}
	}
	if err := json.Unmarshal([]byte(spec), &pods); err != nil || len(pods.Items) == 0 {
		t.Fatalf("%v in %s", err, spec)
	}
	for _, p := range pods.Items {
		held := false
		for _, v := range p.Spec.Containers[0].Env {
			if v.Name == "SANDPOOL_SECRET" {
				held = v.Value == "" && v.ValueFrom != nil && v.ValueFrom.SecretKeyRef != nil
			}
		}
		if mount := p.Spec.AutomountServiceAccountToken; !held || mount == nil || *mount {
			t.Errorf("the pod has its secret in its spec, or a token: %+v", p.Spec)
		}
		for _, path := range []string{"/init", "/execute"} {
			resp, err := http.Post("http://"+p.Status.PodIP+":7077"+path, "application/json",
				strings.NewReader(`{"secret": "0123456789abcdef",
					"seed": "MDEyMzQ1Njc4OWFiY2RlZg=="}`))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("a stranger's %s is answered %d", path, resp.StatusCode)
			}
		}
	}
}

// files moves files both ways.
func (c coder) files(t *testing.T) {
	t.Helper()
	content := strings.Repeat("up and down ", 100_000)
	if _, err := c.UploadFile(t.Context(), "pool", "alice", "in.txt",
		strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	got := c.exec(t, "alice", client.Run{Code: "len(open('in.txt').read())"})
	if want := fmt.Sprint(len(content)); c.text(got) != want {
		t.Errorf("what was uploaded has %s characters, want %s", c.text(got), want)
	}
	for name, want := range map[string]string{"in.txt": content, "made.txt": "by code"} {
		down, err := c.Download(t.Context(), "pool", "alice", name, client.Range{})
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(down)
		if err != nil || string(text) != want {
			t.Errorf("%s has %d bytes, %v; want %d", name, len(text), err, len(want))
		}
		_ = down.Close()
	}
}

// interrupted streams the output of code that does not end, and interrupts it; then the kernel is
// restarted.
func (c coder) interrupted(t *testing.T) {
	t.Helper()
	said, asked, last := "", false, api.ExecutionEvent{}
	for e, err := range c.Stream(t.Context(), "pool", "alice", client.Run{Code: "import time\n" +
		"print('begun', flush=True)\ntime.sleep(600)"}) {
		if err != nil {
			t.Fatalf("the stream breaks after %q: %v", said, err)
		}
		said, last = said+e.Text, e
		if strings.Contains(said, "begun") && !asked {
			asked = true
			if err := c.InterruptContext(t.Context(), "pool", "alice", "default"); err != nil {
				t.Fatal(err)
			}
		}
	}
	end, ok := last.Execution.(api.Execution)
	if !ok || end.Status != api.StatusFailed || !strings.Contains(said, "begun") {
		t.Errorf("the stream says %q, and ends with %+v", said, last)
	}
	if got := c.exec(t, "alice", client.Run{Code: "x"}); c.text(got) != "20" {
		t.Errorf("after an interrupt x is %s %+v", c.text(got), got.Error)
	}
	if err := c.RestartContext(t.Context(), "pool", "alice", "default"); err != nil {
		t.Fatal(err)
	}
	if got := c.exec(t, "alice", client.Run{Code: "'x' in dir()"}); c.text(got) != "False" {
		t.Errorf("after a restart x is there: %s", c.text(got))
	}
}

// broken has code take more memory than it may. In gVisor its sandbox ends, and the session with
// it. In a container the kernel of the language alone may be ended.
func (c coder) broken(t *testing.T) {
	t.Helper()
	got, err := c.Execute(t.Context(), "pool", "greedy", client.Run{
		Code: "b = bytearray(3 << 30)\nfor i in range(0, len(b), 4096): b[i] = 1"})
	t.Logf("code that takes too much memory is answered %+v, %v", got.Error, err)
	switch {
	case err == nil && !got.Failed():
		t.Errorf("code takes more memory than it may: %+v", got)
	case c.gvisor && (err != nil || !strings.Contains(got.Error.Error.Message, "out of memory")):
		t.Errorf("code that takes too much memory is told %+v, %v", got.Error, err)
	}
}
