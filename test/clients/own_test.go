package clients_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const ownSource = "../../clients/python"

// ownRun runs a program of our client's tests, whose packages are in site, and returns what it has
// printed.
func (s *server) ownRun(t *testing.T, site, python string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scriptTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, args...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LANG=C.UTF-8",
		"PYTHONPYCACHEPREFIX=" + pycache(python), "PYTHONPATH=" + site, "MYPYPATH=" + site,
		"SSL_CERT_FILE=" + s.authority,
		"SANDPOOL_ENDPOINT=" + s.endpoints[ample], "SANDPOOL_FULL_ENDPOINT=" + s.endpoints[full],
		"SANDPOOL_SHELL_ENDPOINT=" + s.endpoints[shell],
		"SANDPOOL_TOKEN=" + s.token(t, "session-executor"),
	}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return string(out)
}

// pycache is where an environment keeps what is made of its modules.
func pycache(python string) string {
	return filepath.Join(filepath.Dir(filepath.Dir(python)), "pycache")
}

// installPython builds our client for Python as a registry would take it, and returns where it has
// installed it.
func (s *server) installPython(t *testing.T, python string) string {
	t.Helper()
	// A build writes beside the source, and the checkout stays as it is.
	source, wheels, site := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.CopyFS(source, os.DirFS(ownSource)); err != nil {
		t.Fatal(err)
	}
	s.ownRun(t, site, python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
		"--no-build-isolation", "--wheel-dir", wheels, source)
	built, err := filepath.Glob(filepath.Join(wheels, "sandpool-*-py3-none-any.whl"))
	if err != nil || len(built) != 1 {
		t.Fatalf("wheels: %v, %v", built, err)
	}
	s.ownRun(t, site, python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
		"--no-compile", "--target", site, built[0])
	return site
}

// ownPython checks the types of our client and of its tests, and has them drive the server. The
// frameworks are in an environment of their own.
func (s *server) ownPython(t *testing.T, python, frameworks, site string) {
	mypy := []string{"-m", "mypy", "--strict", "--no-error-summary"}
	for interpreter, file := range map[string]string{
		python: "own/check.py", frameworks: "own/frameworks.py",
	} {
		s.ownRun(t, site, python, append(mypy, "--python-executable", interpreter,
			"--cache-dir", filepath.Join(pycache(interpreter), "mypy"), file)...)
	}
	y := tally{client: ownClient("Python")}
	y.read([]byte(s.ownRun(t, site, python, "own/check.py")))
	y.hold(t)
	s.ownRun(t, site, frameworks, "own/frameworks.py")
	s.ownRun(t, site, python, "own/notebook.py")
	s.ownRun(t, site, python, "own/readme.py", "4", ownSource+"/README.md", "../../docs/python.md")
}
