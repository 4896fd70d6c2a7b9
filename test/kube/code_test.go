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

// Code pools of each language run in pods of runc and of gVisor from an image that "sandpool image
// push" has pushed, whose agent is a layer that a container copies, or a volume of an image, and is
// another user than the code, or the same. In each of them code runs, streams, is interrupted and
// leaves files; what ends is said; and nothing is left.
func TestClusterCode(t *testing.T) {
	c := clustertest.At(t)
	hub := ocitest.NewHubAt(t, clustertest.Registry)
	sandpool, program := sandpoolImage(t, hub), build(t)
	var images []string
	for _, l := range spoken {
		images = append(images, fmt.Sprintf("%s: %q", l.name, l.push(t, program, hub)))
	}
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
  images: {%s}
  agent_image: "%s:1"
  agent: %s
`, dir, hub.Host(), kubeconfig, one.isolation, one.security, strings.Join(images, ", "), sandpool,
				one.agent)), 0o600); err != nil {
				t.Fatal(err)
			}
			s := serve(t, program, dir, config)
			for _, l := range spoken {
				t.Run(l.name, func(t *testing.T) {
					coder{s, l, c, one.name + "-sandboxes",
						strings.HasPrefix(one.isolation, "runtime_class"),
						one.security == "image"}.run(t)
				})
			}
		})
	}
}

// push pushes the image of the language and returns its reference.
func (l language) push(t *testing.T, program string, hub *ocitest.Hub) (reference string) {
	t.Helper()
	data := filepath.Join(os.Getenv("SANDPOOL_TEST_DATA"), l.data)
	if _, err := os.Stat(filepath.Join(data, "images", "names", l.name+".json")); err != nil {
		need.Lack(t, "needs the image of %s, which make test-kube builds: %v", l.name, err)
	}
	config := filepath.Join(t.TempDir(), "sandpool.yaml")
	text := fmt.Sprintf("data_dir: %s\nregistries: {plain_http: [%q]}\n", data, hub.Host())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	began, reference := time.Now(), hub.Host()+"/"+l.name+":1"
	said, err := exec.CommandContext(t.Context(), program, "image", "push", l.name, reference,
		"--config", config).CombinedOutput()
	if err != nil || !strings.Contains(string(said), "/"+l.name+"@sha256:") {
		t.Fatalf("image push: %v\n%s", err, said)
	}
	t.Logf("%s is pushed after %v", l.name, time.Since(began))
	return reference
}

// coder uses a code pool.
type coder struct {
	*instance
	language
	cluster   *clustertest.Cluster
	namespace string
	gvisor    bool // its pods are gVisor's
	apart     bool // the agent is another user than the code
}

func (c coder) run(t *testing.T) {
	ready, most, memory := 1, 3, "512Mi"
	began := time.Now()
	if _, err := c.PutPool(t.Context(), "pool", api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{ContainerType: c.kind,
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
	for _, step := range c.steps {
		got := c.exec(t, "alice", client.Run{Code: step.code})
		if said := c.said(got); said != step.want {
			t.Errorf("%s\nis answered %q, %+v; want %q", step.code, said, got.Error, step.want)
		}
	}
	until(t, "the log of the session has what it printed", func() bool {
		var logged strings.Builder
		if err := c.SessionLogs(t.Context(), "pool", "alice", client.Logs{},
			func(l api.LogLine) error {
				fmt.Fprintf(&logged, "%s: %s\n", l.Stream, l.Text)
				return nil
			}); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(logged.String(), "stdout: by the kernel\n")
	})
	c.files(t)
	c.interrupted(t)
	c.contained(t)
	c.broken(t)
	if err := c.DeleteSession(t.Context(), "pool", "alice"); err != nil {
		t.Fatal(err)
	}
	if got := c.exec(t, "alice", client.Run{Code: c.kept}); c.said(got) != c.lost {
		t.Errorf("a new session knows of the old one: %s", c.said(got))
	}
	if _, err := c.DeletePool(t.Context(), "pool"); err != nil {
		t.Fatal(err)
	}
	until(t, "no pod and no Secret is left", func() bool {
		return strings.TrimSpace(c.cluster.Kubectl(t, "", "get", "pods,secrets", "--namespace",
			c.namespace, "-o", "name")) == ""
	})
}

// exec runs code, for which it waits.
func (c coder) exec(t *testing.T, identifier string, run client.Run) client.Execution {
	t.Helper()
	got, err := c.Execute(t.Context(), "pool", identifier, run)
	if err != nil {
		t.Fatalf("%s: %v", run.Code, err)
	}
	return got
}

// said is what code has printed, and the value of its last expression.
func (coder) said(e client.Execution) string {
	var text string
	if json.Unmarshal(e.Result.ExecutionResult, &text) != nil {
		text = string(e.Result.ExecutionResult)
	}
	return e.Result.Stdout + text
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
	got := c.exec(t, "alice", client.Run{Code: c.size})
	if want := fmt.Sprint(len(content)); strings.TrimSpace(c.said(got)) != want {
		t.Errorf("what was uploaded has %s bytes, want %s", c.said(got), want)
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
	for e, err := range c.Stream(t.Context(), "pool", "alice", client.Run{Code: c.endless,
		Timeout: time.Minute}) {
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
	if !ok || end.Result.ErrorName != "Interrupted" || !strings.Contains(said, "begun") {
		t.Errorf("the stream says %q, and ends with %+v", said, last)
	}
	if got := c.exec(t, "alice", client.Run{Code: c.kept}); c.said(got) == c.lost {
		t.Errorf("after an interrupt x is lost: %+v", got.Error)
	}
	if err := c.RestartContext(t.Context(), "pool", "alice", "default"); err != nil {
		t.Fatal(err)
	}
	if got := c.exec(t, "alice", client.Run{Code: c.kept}); c.said(got) != c.lost {
		t.Errorf("after a restart x is there: %s", c.said(got))
	}
}

// contained has code try the ways out that test/escape knows, where the agent is another user and
// gVisor's kernel the one that is asked.
func (c coder) contained(t *testing.T) {
	t.Helper()
	if c.attacks == "" || !c.gvisor || !c.apart {
		return
	}
	text, err := os.ReadFile(filepath.Join("../escape/testdata", c.attacks))
	if err != nil {
		t.Fatal(err)
	}
	got := c.exec(t, "mallory", client.Run{Code: string(text), Timeout: 3 * time.Minute})
	verdicts := map[string]string{}
	if err := json.Unmarshal([]byte(got.Result.Stdout), &verdicts); err != nil || got.Failed() {
		t.Fatalf("the attacks say %.500q: %+v, %v", got.Result.Stdout, got.Error, err)
	}
	delete(verdicts, "interfaces") // a pod has one
	for name, verdict := range verdicts {
		if strings.HasPrefix(verdict, "DONE") {
			t.Errorf("%s: %s; want it refused", name, verdict)
		}
	}
	t.Logf("%d ways out are closed", len(verdicts))
	if err := c.DeleteSession(t.Context(), "pool", "mallory"); err != nil {
		t.Error(err)
	}
}

// broken has code take more memory than it may. In gVisor its sandbox ends, and the session with
// it. In a container the kernel of the language alone may be ended.
func (c coder) broken(t *testing.T) {
	t.Helper()
	got, err := c.Execute(t.Context(), "pool", "greedy", client.Run{Code: c.greedy})
	t.Logf("code that takes too much memory is told %q, %v", got.Result.Stderr, err)
	switch {
	case err == nil && !got.Failed():
		t.Errorf("code takes more memory than it may: %+v", got)
	case c.gvisor && (err != nil || !strings.Contains(got.Result.Stderr, "out of memory")):
		t.Errorf("that is not that its sandbox was out of memory")
	}
}
