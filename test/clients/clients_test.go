// Package clients_test has the Python clients that people use drive a real server
// with real sandboxes. Nothing about a client is changed but the endpoint, and where its token
// comes from.
package clients_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/otlp/otlptest"
)

// scriptTime is how long one script may take; each takes a few seconds on an idle machine.
const scriptTime = 3 * time.Minute

// TestClients runs every script of the folder python. What a script checks is in the script.
func TestClients(t *testing.T) {
	data := need.Data(t)
	base, err := findPython(t.Context())
	if err != nil {
		need.Lack(t, "the clients are Python programs, and this machine cannot make an "+
			"environment for them: %v", err)
	}
	scripts, err := filepath.Glob("python/*_client.py")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	python := newEnvironment(t, base, filepath.Join(data, "clients"), locks())
	own := newEnvironment(t, base, filepath.Join(data, "clients-own"), []string{"python/build.lock", "own/requirements.lock"})
	npm, err := exec.LookPath("npm")
	if err != nil {
		need.Lack(t, "our client for TypeScript is built by npm, which is not here")
	}
	modules := newModules(t, npm, filepath.Join(data, "clients-node"))
	page := newOrigin(t)
	collector := &otlptest.Receiver{}
	s := startServer(t, filepath.Join(data, "images"), "SANDPOOL_CORS_ORIGINS=["+page.url()+"]",
		"SANDPOOL_TRACES_ENDPOINT="+collector.HTTP(t))
	s.makePools(t)
	s.makePoolOf(t, sandpool.Shell, shell, 1, 5)
	site, ours := s.installPython(t, own), s.newProject(t, modules)
	t.Run("our own", func(t *testing.T) { s.ownPython(t, own, python, site) })
	t.Run("our own, TypeScript", func(t *testing.T) { s.ownTypeScript(t, ours) })
	t.Run("our own, Go", s.ownGo)
	t.Run("traces, Python", func(t *testing.T) { s.tracePython(t, collector, own, python, site) })
	t.Run("traces, TypeScript", func(t *testing.T) { s.traceTypeScript(t, collector, ours) })
	t.Run("our own, in a page", func(t *testing.T) { s.ownPage(t, ours, page) })
	t.Run("examples", func(t *testing.T) { s.tutorials(t, python, site, ours) })
	t.Run("credentials", func(t *testing.T) { s.credentials(t, python, modules) })
	t.Run("scripts", func(t *testing.T) {
		for _, script := range scripts {
			t.Run(strings.TrimSuffix(filepath.Base(script), "_client.py"), func(t *testing.T) {
				t.Parallel()
				s.drive(t, python, script)
			})
		}
	})
}

// drive runs a script, which ends with status 1 at the first thing that is not as it should be.
func (s *server) drive(t *testing.T, python, script string) {
	t.Helper()
	role := "session-executor"
	if strings.HasPrefix(filepath.Base(script), "azure_sdk") {
		role = "pool-contributor"
	}
	ctx, cancel := context.WithTimeout(t.Context(), scriptTime)
	defer cancel()
	run := exec.CommandContext(ctx, python, script)
	// Nothing else of the caller's: a proxy or a setting of a library would change what is tested.
	run.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LANG=C.UTF-8",
		// The checkout stays as it is, and the next run finds its modules compiled.
		"PYTHONPYCACHEPREFIX=" + filepath.Join(filepath.Dir(filepath.Dir(python)), "pycache"),
		"SSL_CERT_FILE=" + s.authority, "REQUESTS_CA_BUNDLE=" + s.authority,
		"SANDPOOL_ENDPOINT=" + s.endpoints[ample], "SANDPOOL_FULL_ENDPOINT=" + s.endpoints[full],
		"SANDPOOL_SHELL_ENDPOINT=" + s.endpoints[shell],
		"SANDPOOL_ABSENT_ENDPOINT=" + s.PoolEndpoint("absent"), "SANDPOOL_TOKEN=" +
			s.token(t, role),
	}
	started := time.Now()
	out, err := run.CombinedOutput()
	t.Logf("%s\n%s", time.Since(started).Round(10*time.Millisecond), out)
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	c, ok := scripted()[strings.TrimSuffix(filepath.Base(script), "_client.py")]
	if !ok {
		t.Fatalf("%s is of no known client", script)
	}
	y := newTally(t, c[0], c[1], "python/requirements.lock")
	y.read(out)
	y.hold(t)
}
