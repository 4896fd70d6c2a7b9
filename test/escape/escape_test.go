// Package escape_test attacks a real server with real sandboxes through the public API:
// hostile code in a session, and a hostile caller of the API. Every attack has to
// fail, and after each the server has to give the next session a right answer. At the end nothing
// may be left on the host.
package escape_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/server"
	"github.com/sandpool/sandpool/test/leaks"
)

func TestMain(m *testing.M) {
	server.HandOver()
	os.Exit(m.Run())
}

// The pools of the target: what attackers use, and what belongs to somebody else.
const (
	mine   = "mine"
	theirs = "theirs"
)

// TestEscape starts one server and runs every attack on it. The attacks run beside each
// other, as tenants do.
func TestEscape(t *testing.T) {
	need.Data(t)
	k := newTarget(t)
	t.Run("attacks", func(t *testing.T) {
		for name, attack := range map[string]func(*target, *testing.T){
			"network":      (*target).network,
			"redirect":     (*target).redirect,
			"agent":        (*target).agent,
			"rights":       (*target).rights,
			"paths":        (*target).paths,
			"file kinds":   (*target).fileKinds,
			"file names":   (*target).fileNames,
			"no token":     (*target).noToken,
			"scoped token": (*target).scopedToken,
			"identifiers":  (*target).identifiers,
			"smuggling":    (*target).smuggling,
			"reuse":        (*target).reuse,
			"randomness":   (*target).randomness,
			"neighbours":   (*target).neighbours,
			"bombs":        (*target).bombs,
			"memory":       (*target).memory,
			"disk":         (*target).disk,
			"fork":         (*target).fork,
			"kernel":       (*target).kernel,
			"slow callers": (*target).slowCallers,
			"idle callers": (*target).idleCallers,
			"stalled":      (*target).stalled,
			"big bodies":   (*target).bigBodies,
			"delete":       (*target).deleteDuring,
			"transfer":     (*target).transfer,
			"languages":    (*target).languages,
			"kernels":      (*target).kernels,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				attack(k, t)
				k.healthy(t)
			})
		}
	})
}

// target is a running server and an administrator's client of it.
type target struct {
	*client.Client
	dir   string // of the server's data
	addr  string // host:port
	token string
}

func newTarget(t *testing.T) *target {
	t.Helper()
	k := newServer(t, filepath.Join(need.Data(t), "images"))
	k.makePool(t, mine, sandpool.PythonLTS, 4)
	k.makePool(t, theirs, sandpool.PythonLTS, 1)
	k.makePool(t, script, sandpool.NodeLTS, 2)
	k.makePool(t, commands, sandpool.Shell, 2)
	return k
}

// newServer is a target without pools. Empty images are those of the server alone.
func newServer(t *testing.T, images string) *target {
	t.Helper()
	dir := t.TempDir()
	agent := filepath.Join(dir, "sandpool-agent")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", agent,
		"../../cmd/sandpool-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	cfg := server.DefaultConfig()
	cfg.DataDir, cfg.Listen, cfg.Agent = filepath.Join(dir, "data"), "127.0.0.1:0", agent
	cfg.ImageDir = images
	cfg.OnExit = server.StopSandboxes
	before, err := leaks.Count(cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	srv, err := server.New(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	k := &target{dir: cfg.DataDir, addr: strings.TrimPrefix(srv.URL(), "http://"),
		token: srv.AdminToken()}
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Errorf("the server ended: %v", err)
		}
		if err := srv.Close(); err != nil {
			t.Errorf("close the server: %v", err)
		}
		k.nothingLeft(t, cfg.DataDir, before)
		if strings.Contains(log.String(), k.token) || strings.Contains(log.String(), "panic") {
			t.Error("the log has a token or a panic in it")
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", log.String())
		}
	})
	if k.Client, err = client.New(client.Config{Endpoint: srv.URL(), Token: k.token}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.CloseIdle)
	return k
}

// makePool makes a pool of small sandboxes, which are soon full.
func (k *target) makePool(t *testing.T, name string, kind sandpool.ContainerType,
	ready int,
) {
	t.Helper()
	most, pids := 60, int64(256)
	_, err := k.PutPool(t.Context(), name, api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{
			ContainerType: string(kind),
			ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
				ReadySessionInstances: &ready},
			Sandpool: &api.SandpoolSettings{Memory: "512Mi", Disk: "64Mi", PIDs: &pids},
		}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.WaitReady(t.Context(), name, nil); err != nil {
		t.Fatal(err)
	}
}

// nothingLeft compares what the host has on behalf of the server with before.
func (k *target) nothingLeft(t *testing.T, dir string, before leaks.Found) {
	t.Helper()
	after, err := leaks.Count(dir)
	if err != nil {
		t.Error(err)
	}
	for _, line := range after.Diff(before) {
		t.Errorf("left behind: %s", line)
	}
}

// healthy shows that the server gives the next session a right answer.
func (k *target) healthy(t *testing.T) {
	t.Helper()
	if err := k.Health(t.Context()); err != nil {
		t.Errorf("health: %v", err)
	}
	s := k.session(t, "next")
	if got := s.run(t, "x = 6\nprint('out')\nx * 7"); string(got.Result.ExecutionResult) != "42" ||
		got.Result.Stdout != "out\n" {
		t.Errorf("the next session answers %+v", got.Execution)
	}
}

// session is an identifier of one test.
type session struct {
	k        *target
	pool, id string
}

// session names a session of the pool mine, which ends with the test.
func (k *target) session(t *testing.T, name string) session {
	t.Helper()
	return k.sessionOf(t, mine, name)
}

// sessionOf is session in any pool.
func (k *target) sessionOf(t *testing.T, pool, name string) session {
	t.Helper()
	clean := strings.NewReplacer("/", "-", " ", "-", "_", "-").Replace(t.Name() + "-" + name)
	s := session{k: k, pool: pool, id: clean}
	t.Cleanup(func() {
		// Not the test's context, which has ended. A session that was never made is none to delete.
		if err := k.DeleteSession(context.WithoutCancel(t.Context()), s.pool, s.id); err != nil &&
			sandpool.ClassOf(err) != sandpool.NotFound {
			t.Errorf("delete %s: %v", s.id, err)
		}
	})
	return s
}

// run executes code and fails the test if there is no answer.
func (s session) run(t *testing.T, code string) client.Execution {
	t.Helper()
	return s.runFor(t, 20*time.Second, code)
}

func (s session) runFor(t *testing.T, timeout time.Duration, code string) client.Execution {
	t.Helper()
	got, err := s.k.Execute(t.Context(), s.pool, s.id, client.Run{Code: code, Timeout: timeout})
	if err != nil {
		t.Fatalf("%s: execute %.80q: %v", s.id, code, err)
	}
	return got
}

// prints runs code that must not fail and returns what it printed.
func (s session) prints(t *testing.T, code string) string {
	t.Helper()
	got := s.run(t, code)
	if got.Failed() {
		t.Fatalf("%s: %.80q failed: %s", s.id, code, got.Result.Stderr)
	}
	return got.Result.Stdout
}

// verdicts runs code that fills the dictionary out with what became of each
// of its attempts, and returns it. try_ in it runs one and catches its error.
func (s session) verdicts(t *testing.T, code string) map[string]string {
	t.Helper()
	const prelude = `
import os, sys, json, errno, ctypes, socket, subprocess
out = {}
def try_(name, f):
    try: out[name] = 'DONE %.200r' % (f(),)
    except OSError as e: out[name] = errno.errorcode.get(e.errno, str(e))
    except BaseException as e: out[name] = type(e).__name__ + ': ' + str(e)
libc = ctypes.CDLL(None, use_errno=True)
def call(f, *args):
    ctypes.set_errno(0)
    r = f(*args)
    if r == -1: raise OSError(ctypes.get_errno(), 'refused')
    return r
`
	var out map[string]string
	text := s.prints(t, prelude+code+"\nprint(json.dumps(out))")
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("verdicts %q: %v", text, err)
	}
	return out
}

// refused fails the test for every attempt that was not ended by an error.
func refused(t *testing.T, verdicts map[string]string) {
	t.Helper()
	if len(verdicts) == 0 {
		t.Error("nothing was attempted")
	}
	for name, v := range verdicts {
		t.Logf("%s: %s", name, v)
		if strings.HasPrefix(v, "DONE") {
			t.Errorf("%s: %s; want it refused", name, v)
		}
	}
}

// request is a raw call of the API.
type request struct {
	method, path string
	header       http.Header
	body         io.Reader
}

// send sends r, whose path goes over the wire as it is, and returns status, header and the
// beginning of the body.
func (k *target) send(t *testing.T, r request) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), r.method, "http://"+k.addr, r.body)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = r.path
	for name, values := range r.header {
		req.Header[name] = values
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

// bearer is the header with a token.
func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

// endpoint is the path of a pool's data plane.
func endpoint(pool string) string {
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/sessionPools/%s",
		sandpool.DefaultSubscription, sandpool.DefaultResourceGroup, pool)
}
