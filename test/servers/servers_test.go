// Package servers_test runs several real servers on one real PostgreSQL, with real sandboxes.
package servers_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/postgres/pgtest"
)

// replaceTime is within what a dead server is replaced by promise (5 s), and what a machine that
// does much else takes longer.
const replaceTime = time.Minute

const session = "session-a"

// world is a database, the programs and the servers.
type world struct {
	*testing.T
	bin, store, images string
	key                string // file of the store's key
}

// server is one process of "sandpool serve", and a client of it.
type server struct {
	w    *world
	name string
	dir  string
	env  []string // further settings
	log  bytes.Buffer
	cmd  *exec.Cmd
	*client.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, bin: t.TempDir(), images: filepath.Join(need.Data(t), "images"),
		key: filepath.Join(t.TempDir(), "key")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", w.bin, "../../cmd/sandpool",
		"../../cmd/sandpool-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	key, err := exec.CommandContext(t.Context(), filepath.Join(w.bin, "sandpool"), "store",
		"key").Output()
	if err == nil {
		err = os.WriteFile(w.key, key, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.store = pgtest.New(t)
	return w
}

// serve starts a server, which ends with all its sandboxes when the test does.
func (w *world) serve(name string, env ...string) *server {
	w.Helper()
	s := &server{w: w, name: name, dir: filepath.Join(w.TempDir(), name), env: env}
	w.Cleanup(func() {
		if s.cmd == nil {
			s.start("stop") // so that nothing stays
		}
		s.end(syscall.SIGTERM)
		if w.Failed() {
			w.Logf("the log of %s:\n%s", name, s.log.Bytes())
		}
	})
	s.start("stop")
	return s
}

// start starts the process; onExit says what becomes of sandboxes at an orderly end.
func (s *server) start(onExit string) {
	s.w.Helper()
	config := filepath.Join(s.w.TempDir(), "client.yaml")
	s.cmd = exec.Command(filepath.Join(s.w.bin, "sandpool"), "serve", "--data-dir", s.dir,
		"--listen", "127.0.0.1:0", "--log-level", "debug")
	s.cmd.Env = append(os.Environ(), "SANDPOOL_CONFIG="+config, "SANDPOOL_IMAGE_DIR="+s.w.images,
		"SANDPOOL_ON_EXIT="+onExit, "SANDPOOL_STORE="+s.w.store, "SANDPOOL_NAME="+s.name,
		"SANDPOOL_PEERS_LISTEN=127.0.0.1:0", "SANDPOOL_STORE_KEY_FILE="+s.w.key)
	s.cmd.Env = append(s.cmd.Env, s.env...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		s.w.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.w.Context()), 2*time.Minute)
	defer cancel()
	s.w.eventually(ctx, "the server wrote no client configuration", func() (err error) {
		cfg, err := client.LoadConfig(config)
		if err == nil {
			s.Client, err = client.New(cfg)
		}
		return err
	})
	if err := s.WaitHealthy(ctx); err != nil {
		s.w.Fatal(err)
	}
}

// eventually repeats do until it succeeds.
func (w *world) eventually(ctx context.Context, what string, do func() error) {
	w.Helper()
	for {
		err := do()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			w.Fatalf("%s: %v", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// end sends the process a signal and waits for its end.
func (s *server) end(signal syscall.Signal) {
	s.w.Helper()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Signal(signal); err != nil {
		s.w.Error(err)
	}
	if err := s.cmd.Wait(); err != nil && signal != syscall.SIGKILL {
		s.w.Errorf("end of %s: %v", s.name, err)
	}
	s.cmd = nil
	s.CloseIdle()
}

// run executes code and returns what it printed.
func (s *server) run(id, code string) (string, error) {
	got, err := s.Execute(s.w.Context(), "python", id, client.Run{Code: code})
	return strings.TrimSpace(got.Result.Stdout), err
}

func (s *server) want(id, code, want string) {
	s.w.Helper()
	if got, err := s.run(id, code); err != nil || got != want {
		s.w.Errorf("%s by %s = %q, %v; want %q", code, s.name, got, err, want)
	}
}

// makePool makes a pool by way of a server and waits until it is ready.
func (s *server) makePool(name string, ready int) {
	s.w.Helper()
	most := 20
	if _, err := s.PutPool(s.w.Context(), name, api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{
			ContainerType: string(sandpool.PythonLTS),
			ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
				ReadySessionInstances: &ready},
		}}); err != nil {
		s.w.Fatal(err)
	}
	if _, err := s.WaitReady(s.w.Context(), name, nil); err != nil {
		s.w.Fatal(err)
	}
}

// TestTwoServers: a caller may ask any server for anything of a pool; when the pool's server is
// killed or stopped in its tracks the other one has the pool soon, and says once of each session
// that it is lost. One that was stopped and goes on harms nobody.
func TestTwoServers(t *testing.T) {
	w := newWorld(t)
	one := w.serve("one")
	one.makePool("python", 1)
	two := w.serve("two")
	one.want(session, "x = 41; print(x)", "41")
	two.want(session, "print(x + 1)", "42")
	content := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB, more than is kept for a second try
	if _, err := two.UploadFile(t.Context(), "python", session, "large.txt",
		strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*server{one, two} {
		got, err := s.Download(t.Context(), "python", session, "large.txt", client.Range{})
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(got)
		if err != nil || string(text) != content {
			t.Errorf("%s has %d bytes of the file, %v", s.name, len(text), err)
		}
		if err := got.Close(); err != nil {
			t.Error(err)
		}
		if list, err := s.Sessions(t.Context(), "python"); err != nil || len(list) != 1 {
			t.Errorf("%s lists %+v, %v", s.name, list, err)
		}
		if n, err := s.PoolCounts(t.Context(), "python"); err != nil || n.Claimed != 1 {
			t.Errorf("%s counts %+v, %v", s.name, n, err)
		}
	}
	w.across(one, two)
	w.stopped(one, two)
	w.killed(two, one)
}

// stopped: one, which has the pool, is stopped for longer than others are patient, and goes on.
func (w *world) stopped(one, two *server) {
	w.Helper()
	if err := one.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		w.Fatal(err)
	}
	w.moved(two)
	if err := one.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		w.Fatal(err)
	}
	two.want(session, "x = 7; print(x)", "7")
	ctx, cancel := context.WithTimeout(w.Context(), replaceTime)
	defer cancel()
	// Until it has spoken to the database again it serves nothing, and says so.
	w.eventually(ctx, "one serves nothing after it went on", func() error {
		_, err := one.run(session, "print(x)")
		return err
	})
	one.want(session, "print(x)", "7")
}

// killed: two, which has the pool, is killed.
func (w *world) killed(two, one *server) {
	w.Helper()
	two.end(syscall.SIGKILL)
	w.moved(one)
	two.start("stop")
	one.want(session, "x = 8; print(x)", "8")
	two.want(session, "print(x)", "8")
}

// moved waits until a server has the pool and has said that session a is lost.
func (w *world) moved(to *server) {
	w.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(w.Context(), replaceTime)
	defer cancel()
	w.eventually(ctx, "the session is not said to be lost", func() error {
		got, err := to.Execute(ctx, "python", session, client.Run{Code: "print(1)"})
		if err == nil && !got.Failed() {
			w.Error("the session came back without a word")
		}
		if err == nil {
			w.Logf("%s said after %s: %s %+v", to.name, time.Since(began).Round(time.Millisecond),
				got.Status, got.Error)
		}
		return err
	})
	w.eventually(ctx, "no new session", func() error {
		_, err := to.Execute(ctx, "python", session, client.Run{Code: "print(1)"})
		return err
	})
	w.Logf("a new session after %s", time.Since(began).Round(time.Millisecond))
}
