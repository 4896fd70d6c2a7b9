// Package upgrade_test has the sessions of an earlier version of sandpool answer under this one.
package upgrade_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/test/leaks"
)

// TestUpgrade: sessions that an earlier version began go on under this one with their state,
// whatever they run; so does an execution that nobody waits for. Pools get sandboxes of this
// version, and nothing is left of either when it is over.
func TestUpgrade(t *testing.T) {
	old := os.Getenv("SANDPOOL_TEST_OLD")
	if old == "" {
		need.Except(t, need.OnRequest, "make test-upgrade FROM=VERSION builds an earlier version")
	}
	k := newKit(t)
	s := k.serve(old)
	for _, args := range []string{"python --container-type PythonLTS",
		"node --container-type NodeLTS", "shell --container-type Shell",
		"web --container-type CustomContainer --target-port 8080 --image " + k.image} {
		k.run(old, s, append([]string{"pool", "create", "--ready-sessions", "1", "--max-sessions",
			"5", "--cooldown-period", "3000"}, strings.Fields(args)...)...)
	}
	steps := []step{
		{"python", `{"code":"x = 41; open('/mnt/data/f', 'w').write('kept')"}`,
			`{"code":"x + 1, open('/mnt/data/f').read()"}`, "(42, 'kept')"},
		{"node", `{"code":"let kept = 41; const f = () => kept + 1"}`, `{"code":"f()"}`, "42"},
		{"shell", `{"shellCommand":"cd /tmp && x=41 && f() { echo $((x+1)) in $PWD; }"}`,
			`{"shellCommand":"f"}`, "42 in /tmp"},
	}
	was := map[string]string{}
	for _, st := range steps {
		_, was[st.pool] = k.execute(s, st.pool, st.before)
	}
	contexts := k.send(s, "PUT", "python", "/contexts/other", `{"kernel":"python"}`).status == 200
	if contexts {
		k.execute(s, "python", `{"code":"x = 'of the context'","context":"other"}`)
	}
	for range 2 {
		k.send(s, "GET", "web", "/count", "")
	}
	late := k.send(s, "POST", "python", "/executions", `{"executionType":"asynchronous",
		"code":"import time; time.sleep(20); print('after', x)"}`)
	id := late.header.Get("Operation-Id")
	if late.status != 202 || id == "" {
		t.Fatalf("an execution that nobody waits for: %d %s", late.status, late.body)
	}
	k.stop()

	s = k.serve(k.now)
	began := time.Now()
	if got := k.send(s, "GET", "web", "/count", ""); strings.TrimSpace(got.body) != "3" {
		t.Errorf("the container counts %q, want 3", got.body)
	}
	for ended := false; !ended; {
		got := k.send(s, "GET", "python", "/executions/"+id, "")
		if got.status != 200 {
			t.Fatalf("the execution that went on: %d %s", got.status, got.body)
		}
		if ended = !strings.Contains(got.body, `"Running"`); ended &&
			!strings.Contains(got.body, "after 41") {
			t.Errorf("the execution that went on: %s", got.body)
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("the execution that went on does not end: %s", got.body)
		}
	}
	for _, st := range steps {
		got, sandbox := k.execute(s, st.pool, st.after)
		if !strings.Contains(got, st.want) || sandbox != was[st.pool] {
			t.Errorf("%s in sandbox %s (was %s): %s, want %s", st.pool, sandbox, was[st.pool], got,
				st.want)
		}
	}
	if contexts {
		if got, _ := k.execute(s, "python", `{"code":"x","context":"other"}`); !strings.Contains(
			got, "of the context") {
			t.Errorf("the context: %s", got)
		}
	}
	t.Logf("contexts in the earlier version: %v", contexts)
	k.fresh(s, steps)
	k.stop()
}

// fresh has sessions of this version begin, beside those that are there, and ends one of those.
func (k *kit) fresh(s *server, steps []step) {
	k.t.Helper()
	k.run(k.now, s, "session", "delete", "--pool", "python", "--session", session)
	for _, pool := range []string{"python", "node", "shell", "web"} {
		k.run(k.now, s, "pool", "update", pool, "--ready-sessions", "2")
	}
	if got, _ := k.execute(s, "python", `{"code":"'x' in globals()"}`); !strings.Contains(got,
		"False") {
		k.t.Errorf("a session after its end: %s", got)
	}
	for _, st := range steps[1:] { // what was there outlives the update of its pool
		if got, _ := k.execute(s, st.pool, st.after); !strings.Contains(got, st.want) {
			k.t.Errorf("%s after an update: %s, want %s", st.pool, got, st.want)
		}
	}
}

// step is a session's state: what makes it, what shows it, and what that says.
type step struct{ pool, before, after, want string }

// session is the identifier of all sessions.
const session = "upgrade-1"

// kit is a data directory, the version that is tried, and a registry.
type kit struct {
	t               *testing.T
	dir, now, image string
	running         *server
}

func newKit(t *testing.T) *kit {
	t.Helper()
	data := need.Data(t)
	dir, err := os.MkdirTemp(data, "test-upgrade-")
	if err != nil {
		t.Fatal(err)
	}
	k := &kit{t: t, dir: dir, now: filepath.Join("..", "..", "bin", "sandpool")}
	config := fmt.Sprintf("data_dir: %s\nlisten: 127.0.0.1:0\n", filepath.Join(dir, "data"))
	write(t, filepath.Join(dir, "sandpool.yaml"), config)
	images := filepath.Join(dir, "data", "images")
	if err := os.MkdirAll(filepath.Dir(images), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-al", filepath.Join(data, "images"),
		images).CombinedOutput(); err != nil {
		t.Fatalf("link the images: %v\n%s", err, out)
	}
	app := filepath.Join(dir, "app")
	cmd := exec.Command("go", "build", "-o", app, "../custom/testdata/app")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the container's program: %v\n%s", err, out)
	}
	program, err := os.ReadFile(app)
	if err != nil {
		t.Fatal(err)
	}
	hub := ocitest.NewHub(t)
	hub.Push("web:1.0", ocitest.Image{
		Layers: []string{ocitest.Layer(t, ocitest.File("bin/app", 0o755, string(program)))},
		Config: v1.Config{Entrypoint: []string{"/bin/app"}, User: "1000"}})
	k.image = hub.Host() + "/web:1.0"
	t.Cleanup(func() {
		if k.running != nil { // the test has failed
			k.stop()
		}
		k.serveToStop()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return k
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// serveToStop ends what is left of sandboxes, and looks whether that is all of it.
func (k *kit) serveToStop() {
	config, err := os.ReadFile(filepath.Join(k.dir, "sandpool.yaml"))
	if err != nil {
		k.t.Fatal(err)
	}
	write(k.t, filepath.Join(k.dir, "sandpool.yaml"), string(config)+"on_exit: stop\n")
	k.serve(k.now)
	k.stop()
	left, err := leaks.Count(filepath.Join(k.dir, "data"))
	if err != nil || len(left.Sandboxes)+len(left.Cgroups)+len(left.Mounts) > 0 {
		k.t.Errorf("what is left: %+v, %v", left, err)
	}
}

// server is a sandpool server in a process of its own.
type server struct {
	cmd       *exec.Cmd
	at, token string
	ended     chan error
}

// serve starts a server of the program.
func (k *kit) serve(program string) *server {
	k.t.Helper()
	cmd := exec.Command(program, "serve", "--config", filepath.Join(k.dir, "sandpool.yaml"))
	cmd.Env = append(os.Environ(), "HOME="+k.dir)
	out, err := cmd.StderrPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	s := &server{cmd: cmd, ended: make(chan error, 1)}
	k.running = s
	lines := bufio.NewScanner(out)
	var said strings.Builder
	for s.at == "" && lines.Scan() {
		fmt.Fprintln(&said, lines.Text())
		if _, url, ok := strings.Cut(lines.Text(), "serving "); ok {
			s.at = strings.Fields(url)[0]
		}
	}
	go func() {
		for lines.Scan() {
			k.t.Log(filepath.Base(filepath.Dir(filepath.Dir(program))), lines.Text())
		}
		s.ended <- cmd.Wait()
	}()
	if s.at == "" {
		k.t.Fatalf("%s does not serve:\n%s", program, said.String())
	}
	token, err := os.ReadFile(filepath.Join(k.dir, "data", "admin-token"))
	if err != nil {
		k.t.Fatal(err)
	}
	s.token = strings.TrimSpace(string(token))
	return s
}

// stop ends the server that runs.
func (k *kit) stop() {
	k.t.Helper()
	s := k.running
	k.running = nil
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		k.t.Fatal(err)
	}
	select {
	case err := <-s.ended:
		if err != nil {
			k.t.Errorf("the server ends with %v", err)
		}
	case <-time.After(time.Minute):
		_ = s.cmd.Process.Kill()
		k.t.Error("the server does not end")
	}
}

// run runs the command line of a version.
func (k *kit) run(program string, s *server, args ...string) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "SANDPOOL_ENDPOINT="+s.at, "SANDPOOL_TOKEN="+s.token,
		"HOME="+k.dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("sandpool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// answer is what a server has answered.
type answer struct {
	status int
	header http.Header
	body   string
}

// send sends a request for the session of a pool.
func (k *kit) send(s *server, method, pool, path, body string) answer {
	k.t.Helper()
	r, err := http.NewRequestWithContext(k.t.Context(), method, s.at+
		"/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/sessionPools/"+
		pool+path+"?api-version=2025-10-02-preview&identifier="+session, strings.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		k.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		k.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// execute runs code in the session of a pool, and says what it showed and in which sandbox.
func (k *kit) execute(s *server, pool, body string) (shown, sandbox string) {
	k.t.Helper()
	got := k.send(s, "POST", pool, "/executions", body)
	var a struct {
		Status string
		Result map[string]any
	}
	if err := json.Unmarshal([]byte(got.body), &a); err != nil || got.status != 200 ||
		a.Status != "Succeeded" && a.Status != "0" {
		k.t.Fatalf("%s of %s: %d %s", body, pool, got.status, got.body)
	}
	return fmt.Sprint(a.Result["executionResult"], a.Result["stdout"]),
		got.header.Get("X-Ms-Session-Guid")
}
