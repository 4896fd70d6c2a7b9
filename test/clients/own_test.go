package clients_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const ownSource = "../../clients/python"

// ownPython builds our client for Python as a registry would take it, checks its types and those of
// its test, and has it drive the server.
func (s *server) ownPython(t *testing.T, python string) {
	site, cache := t.TempDir(), filepath.Join(filepath.Dir(filepath.Dir(python)), "pycache")
	token := s.token(t, "session-executor")
	run := func(args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), scriptTime)
		defer cancel()
		cmd := exec.CommandContext(ctx, python, args...)
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LANG=C.UTF-8",
			"PYTHONPYCACHEPREFIX=" + cache, "PYTHONPATH=" + site, "MYPYPATH=" + site, "SSL_CERT_FILE=" + s.authority,
			"SANDPOOL_ENDPOINT=" + s.endpoints[ample], "SANDPOOL_FULL_ENDPOINT=" + s.endpoints[full],
			"SANDPOOL_SHELL_ENDPOINT=" + s.endpoints[shell], "SANDPOOL_TOKEN=" + token,
		}
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
	}
	// A build writes beside the source, and the checkout stays as it is.
	source, wheels := t.TempDir(), t.TempDir()
	if err := os.CopyFS(source, os.DirFS(ownSource)); err != nil {
		t.Fatal(err)
	}
	run("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", wheels, source)
	built, err := filepath.Glob(filepath.Join(wheels, "sandpool-*-py3-none-any.whl"))
	if err != nil || len(built) != 1 {
		t.Fatalf("wheels: %v, %v", built, err)
	}
	run("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", site, built[0])
	run("-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", filepath.Join(cache, "mypy"), filepath.Join(source, "src"))
	run("-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", filepath.Join(cache, "mypy"), "own/check.py")
	run("own/check.py")
	run("own/readme.py", ownSource+"/README.md")
}
