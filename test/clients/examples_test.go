package clients_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const examples = "../../examples"

// tutorials runs every example as it is: with a model that is a script, and for the rest as a
// reader would.
func (s *server) tutorials(t *testing.T, python, site string, p project) {
	dirs, err := filepath.Glob(examples + "/*/main.*")
	if err != nil || len(dirs) != 10 {
		t.Fatalf("%d examples, %v", len(dirs), err)
	}
	readme, err := os.ReadFile(examples + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, main := range dirs {
		name := filepath.Base(filepath.Dir(main))
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(string(readme), "["+name+"]("+name+")") {
				t.Error("the page of the examples does not name it")
			}
			s.tutorial(t, python, site, main, p)
		})
	}
}

// tutorial runs one.
func (s *server) tutorial(t *testing.T, python, site, main string, p project) {
	pinned(t, filepath.Dir(main))
	m := s.newModel(t)
	ctx, cancel := context.WithTimeout(t.Context(), scriptTime)
	defer cancel()
	var run *exec.Cmd
	asked, want := false, "42 from /mnt/data"
	switch name := filepath.Base(filepath.Dir(main)); {
	case filepath.Ext(main) == ".py":
		asked, run = true, exec.CommandContext(ctx, python, main)
	default:
		// Beside the modules, where Node looks for them.
		asked = name == "vercel-ai-sdk"
		dir := filepath.Join(p.dir, name)
		if err := os.CopyFS(dir, os.DirFS(filepath.Dir(main))); err != nil {
			t.Fatal(err)
		}
		run = exec.CommandContext(ctx, p.m.node(), "main.mjs")
		run.Dir = dir
	}
	run.Env = append(p.env,
		"HOME="+t.TempDir(), "TMPDIR="+t.TempDir(), "PYTHONPATH="+site,
		"PYTHONPYCACHEPREFIX="+filepath.Join(filepath.Dir(filepath.Dir(python)), "pycache"),
		"SSL_CERT_FILE="+s.authority, "REQUESTS_CA_BUNDLE="+s.authority,
		"SANDPOOL_MCP_KEY="+s.key(t, ample),
		"OPENAI_API_KEY=none", "OPENAI_BASE_URL="+m.url, "OPENAI_API_BASE="+m.url,
		// Without it this one would send what it does to OpenAI.
		"OPENAI_AGENTS_DISABLE_TRACING=1",
	)
	started := time.Now()
	out, err := run.CombinedOutput()
	t.Logf("%s\n%s", time.Since(started).Round(10*time.Millisecond), out)
	if asked {
		want = primesAnswer
	}
	if n := m.calls.Load(); err != nil || !strings.Contains(string(out), want) ||
		asked && n < 2 || !asked && n > 0 {
		t.Errorf("%v, after %d calls of the model; want %q", err, n, want)
	}
}

// pinned checks that what an example has its reader install is what is tested: versions of the
// lock, or our own.
func pinned(t *testing.T, dir string) {
	t.Helper()
	if text, err := os.ReadFile(filepath.Join(dir, "requirements.txt")); err == nil {
		lock, err := os.ReadFile("python/requirements.lock")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			// The lock has packages without their extras.
			name := regexp.MustCompile(`\[.*\]`).ReplaceAllString(strings.TrimSpace(line), "")
			_, err := os.Stat(filepath.Join(dir, name))
			if err != nil && !strings.Contains("\n"+string(lock), "\n"+name+" \\") {
				t.Errorf("requirements.txt has %q, which is not what is tested", line)
			}
		}
	}
	var tested, packages struct{ Dependencies map[string]string }
	text, err := os.ReadFile(filepath.Join(dir, "package.json"))
	if err != nil {
		return
	}
	lock, err := os.ReadFile("mcp/package.json")
	if err == nil {
		err = json.Unmarshal(lock, &tested)
	}
	if err == nil {
		err = json.Unmarshal(text, &packages)
	}
	for name, version := range packages.Dependencies {
		if name != "sandpool" && tested.Dependencies[name] != version {
			t.Errorf("package.json has %s %s, tested is %s", name, version,
				tested.Dependencies[name])
		}
	}
	if err != nil {
		t.Error(err)
	}
}
