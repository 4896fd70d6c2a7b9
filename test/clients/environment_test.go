package clients_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// locks are the files that the clients' environment is made of, in the order of their installation.
func locks() []string { return []string{"python/build.lock", "python/requirements.lock"} }

// oldestPython is what the locks were made for.
const oldestPython = "(3, 11)"

// foundPython is an interpreter that can make environments.
type foundPython struct {
	path string
	// identity tells it from others whose environments it could not run.
	identity string
}

// findPython returns the machine's Python, or an error that says what to install.
func findPython(ctx context.Context) (foundPython, error) {
	path, err := exec.LookPath("python3")
	if err != nil {
		return foundPython{}, errors.New("there is no python3; install the packages python3 and " +
			"python3-venv")
	}
	// Debian has ensurepip, without which venv makes nothing, in a package of its own.
	ask := exec.CommandContext(ctx, path, "-c", `
import platform, sys, sysconfig
if sys.version_info < `+oldestPython+`: sys.exit("it is older than `+oldestPython+`")
import ensurepip, venv
print(sys.version, sys.base_prefix, platform.machine(), sysconfig.get_platform())`)
	var complaint strings.Builder
	ask.Stderr = &complaint
	out, err := ask.Output()
	if err != nil {
		return foundPython{}, fmt.Errorf("%s cannot make virtual environments; install the "+
			"packages python3 and python3-venv: %w\n%s", path, err, complaint.String())
	}
	return foundPython{path, string(out)}, nil
}

// newEnvironment returns the interpreter of the environment of the locks beneath dir, which nobody
// else builds or removes until the test ends.
func newEnvironment(t *testing.T, base foundPython, dir string, locks []string) string {
	t.Helper()
	lock, err := lockDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Close() })
	started := time.Now()
	path, err := environment(t.Context(), base, dir, lock, locks)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the environment took %s", time.Since(started).Round(100*time.Millisecond))
	return path
}

// environment returns the interpreter of the environment beneath dir that has what the
// locks name, and builds it if it is not there. It is built beside its place and
// renamed: one that is there is whole. Environments of other locks or interpreters are removed.
func environment(ctx context.Context, base foundPython, dir string, lock *os.File,
	locks []string) (string, error) {
	key, err := keyOf(base, locks)
	if err != nil {
		return "", err
	}
	place := filepath.Join(dir, key)
	// Followed to its end: the interpreter that an environment links to may have gone.
	if _, err := os.Stat(interpreter(place)); err == nil {
		return interpreter(place), nil
	}
	if err := empty(dir, lock); err != nil {
		return "", err
	}
	beside := filepath.Join(dir, "new")
	steps := [][]string{{base.path, "-m", "venv", beside}}
	for _, l := range locks {
		steps = append(steps, install(interpreter(beside), l))
	}
	for _, step := range steps {
		cmd := exec.CommandContext(ctx, step[0], step[1:]...)
		// One that outlives a killed test keeps the lock until it ends.
		cmd.ExtraFiles = []*os.File{lock}
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%q: %w\n%s", step, err, out)
		}
	}
	return interpreter(place), os.Rename(beside, place)
}

func interpreter(environment string) string { return filepath.Join(environment, "bin", "python") }

// install is the command that installs a lock: exactly what it names, each file with a hash in
// it. Of two packages there is only source, which is built with what build.lock has installed.
func install(python, lock string) []string {
	return []string{python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
		"--no-input", "--no-compile",
		"--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-binary", "pybars4,pymeta3",
		"--no-build-isolation",
		"--requirement", lock}
}

// keyOf names the environment that base makes of the locks.
func keyOf(base foundPython, locks []string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00", base.path, base.identity)
	for _, l := range locks {
		text, err := os.ReadFile(l)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%q\x00%d\x00%s", install("", l), len(text), text)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

// lockDir makes dir and waits for its lock.
func lockDir(ctx context.Context, dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// empty removes all of dir but for its lock.
func empty(dir string, lock *os.File) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == filepath.Base(lock.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// A build that ends early leaves nothing that is taken for an environment, and the next
// one begins anew; an environment that is there is not built again.
func TestEnvironment(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "clients")
	lock, err := lockDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	// A Python whose environments have an interpreter that fails as long as the file broken is
	// there.
	base := foundPython{path: filepath.Join(t.TempDir(), "python3"), identity: "fake"}
	broken, built := base.path+".broken", base.path+".built"
	script := fmt.Sprintf(`#!/bin/sh
echo built >>%[2]s
mkdir -p "$3/bin" && touch "$3/of-$(wc -l <%[2]s)"
printf '#!/bin/sh\n! test -e %[1]s\n' >"$3/bin/python" && chmod +x "$3/bin/python"
`, broken, built)
	if err := errors.Join(os.WriteFile(base.path, []byte(script), 0o700), os.WriteFile(broken, nil,
		0o600)); err != nil {
		t.Fatal(err)
	}
	if path, err := environment(t.Context(), base, dir, lock, locks()); err == nil {
		t.Fatalf("a build whose installation fails gives %s", path)
	}
	if _, err := os.Stat(filepath.Join(dir, "new", "of-1")); err != nil {
		t.Fatalf("the failed build was not beside: %v", err)
	}
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	path, err := environment(t.Context(), base, dir, lock, locks())
	if err != nil {
		t.Fatal(err)
	}
	entries, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(path)), "of-*"))
	if err != nil || len(entries) != 1 || filepath.Base(entries[0]) != "of-2" {
		t.Errorf("the environment has %q, want what the second build made alone: %v", entries, err)
	}
	again, err := environment(t.Context(), base, dir, lock, locks())
	if text, _ := os.ReadFile(built); err != nil || again != path ||
		strings.Count(string(text), "built") != 2 {
		t.Errorf("the second call gives %q, %v, after builds %q; want %q and no third build", again,
			err, text, path)
	}
	base.identity = "another"
	other, err := environment(t.Context(), base, dir, lock, locks())
	if err != nil || other == path {
		t.Errorf("another interpreter gets %q, %v", other, err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the environment of the interpreter before is still there")
	}
}
