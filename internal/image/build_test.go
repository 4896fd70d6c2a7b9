package image

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/images"
	"github.com/sandpool/sandpool/internal/erofs/erofstest"
	"github.com/sandpool/sandpool/internal/need"
)

// buildIn is set in the process that TestBuildKilled kills: the folder of its store.
const buildIn = "SANDPOOL_TEST_BUILD_IN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(buildIn); dir != "" {
		s, err := Open(dir)
		if err == nil {
			_, err = s.Build(context.Background(), testRecipe(), func(p Progress) {
				fmt.Println(p.Name, p.Note)
			})
		}
		fmt.Println("ended:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func testRecipe() Recipe {
	return Recipe{Name: "small", Files: fstest.MapFS{
		"debian.packages": {Data: []byte("# none\npython3\nzip\n")},
		"debian.exclude":  {Data: []byte("# drivers\n/usr/lib/libLLVM*\n")},
		"debian.lock":     {Data: []byte("python3=3.13\nzip=3.0\ngone=1\n")},
		"setup.sh":        {Data: []byte("step one\nstep two\n")},
	}}
}

// fakeDebian puts a program called mmdebstrap first in PATH. The real one takes a
// minute and a mirror; this one can also be told how to go wrong.
func fakeDebian(t *testing.T, script string) {
	t.Helper()
	need.Root(t)
	dir := t.TempDir()
	text := "#!/bin/sh\nset -e\nfor root; do :; done\n" + script
	if err := os.WriteFile(filepath.Join(dir, "mmdebstrap"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if err := missing(); err != nil {
		need.Lack(t, "this machine cannot build: %v", err)
	}
}

const goodDebian = `
mkdir -p "$root/usr/share" "$root/proc" "$root/etc"
for arg; do case $arg in *path-exclude=/usr/lib/*) echo "$arg" ;; esac; done >"$root/etc/left-out"
cat "$SANDPOOL_INPUTS/debian.packages" >"$root/etc/wanted"
mkdir "$root/proc/left"
echo "I: installing"
echo "step: one" >&2
echo '{"debian": ["python3=3.13.5", "zip=3.0", "new=2"], "python": ["numpy==2"]}' >"$root/usr/share/sandpool-packages.json"
echo "step: two" >&2
`

// A build makes an image of what mmdebstrap made, tells its steps, and leaves no work behind.
func TestBuild(t *testing.T) {
	fakeDebian(t, goodDebian)
	s := openStore(t)
	var steps []string
	var last Progress
	i, err := s.Build(t.Context(), testRecipe(), func(p Progress) {
		step := fmt.Sprintf("%d/%d %s", p.Step, p.Steps, p.Name)
		if len(steps) == 0 || steps[len(steps)-1] != step {
			steps = append(steps, step)
		}
		last = p
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1/4 debian", "2/4 one", "3/4 two", "4/4 pack"},
		steps); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if last.Elapsed <= 0 {
		t.Errorf("elapsed %s", last.Elapsed)
	}
	got := erofstest.Read(t, i.Path)
	if _, ok := got["proc/left"]; ok {
		t.Error("what lay beneath a mount point is in the image")
	}
	if out := got["etc/left-out"].Content; out != "--dpkgopt=path-exclude=/usr/lib/libLLVM*\n" {
		t.Errorf("mmdebstrap was told to leave out %q", out)
	}
	wantPackages := []string{"deb:python3=3.13.5", "deb:zip=3.0", "deb:new=2", "py:numpy==2"}
	if diff := cmp.Diff(wantPackages, i.Packages); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	wantDrift := []string{"python3: 3.13.5, not 3.13", "new: 2 is not in the lock",
		"gone: 1 is in the lock only"}
	if diff := cmp.Diff(wantDrift, i.Drift); diff != "" {
		t.Errorf("drift (-want +got):\n%s", diff)
	}
	resolved, err := s.Resolve("small")
	if err != nil || !cmp.Equal(resolved, i, cmpopts.IgnoreFields(Image{}, "Used")) {
		t.Errorf("resolve: %+v, %v; want %+v", resolved, err, i)
	}
	noWork(t, s)
}

func noWork(t *testing.T, s *Store) {
	t.Helper()
	left, err := os.ReadDir(s.tmp())
	if err != nil || len(left) > 0 {
		t.Errorf("work is left: %v, %v", left, err)
	}
}

// A build that goes wrong says what the tool said last, and leaves nothing.
func TestBuildFails(t *testing.T) {
	fakeDebian(t, `echo "E: no such package"; exit 25`)
	s := openStore(t)
	_, err := s.Build(t.Context(), testRecipe(), nil)
	if err == nil || !strings.Contains(err.Error(), "E: no such package") ||
		!strings.Contains(err.Error(), "25") {
		t.Errorf("error %v, want the tool's", err)
	}
	if all := list(t, s); len(all) > 0 {
		t.Errorf("listed %+v", all)
	}
	noWork(t, s)
}

// A build whose context ends stops, with its tools, and leaves nothing.
func TestBuildCancel(t *testing.T) {
	fakeDebian(t, `echo $$; echo "step: one"; exec sleep 1000`)
	s := openStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Build(ctx, testRecipe(), func(p Progress) {
		if p.Name == "one" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
	noWork(t, s)
}

// A build that never ends is ended, and says in which step and after which line.
func TestBuildHangs(t *testing.T) {
	fakeDebian(t, `echo "step: one"; echo "waiting for a browser"; exec sleep 1000`)
	s := openStore(t)
	long := errors.New("that took too long")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, long)
	defer cancel()
	_, err := s.Build(ctx, testRecipe(), nil)
	if !errors.Is(err, long) || !strings.Contains(err.Error(), `"one"`) ||
		!strings.Contains(err.Error(), "waiting for a browser") {
		t.Errorf("error %v, want the step, its last line and the cause", err)
	}
	noWork(t, s)
}

// One build runs at a time; the other is told so.
func TestBuildTwice(t *testing.T) {
	fakeDebian(t, goodDebian)
	s := openStore(t)
	lock, err := s.lockBuild()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Build(t.Context(), testRecipe(), nil); sandpool.ClassOf(
		err) != sandpool.Conflict {
		t.Errorf("a second build: %v, want class conflict", err)
	}
	lock.Close()
	if _, err := s.Build(t.Context(), testRecipe(), nil); err != nil {
		t.Errorf("a build after it: %v", err)
	}
}

// A build that is killed takes its tools with it, leaves no image, and its work
// is gone after the next Open.
func TestBuildKilled(t *testing.T) {
	mark := "sandpool-test-" + strconv.Itoa(os.Getpid())
	fakeDebian(t,
		`mkdir -p "$root/etc"; echo half >"$root/etc/f"; echo "step: one"; exec sh -c 'sleep 1000; :' `+mark)
	dir := filepath.Join(t.TempDir(), "images")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), buildIn+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "one") {
	}
	if got := lines.Text(); !strings.HasPrefix(got, "one") {
		t.Fatalf("the build said %q", got)
	}
	if !running(t, mark) {
		t.Fatal("the tool does not run: this test would see nothing")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for deadline := time.Now().Add(time.Minute); running(t, mark); {
		if time.Now().After(deadline) {
			t.Fatal("the tool outlives the build")
		}
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if all := list(t, s); len(all) > 0 {
		t.Errorf("listed %+v", all)
	}
	noWork(t, s)
}

// running says whether a process has mark among its arguments.
func running(t *testing.T, mark string) bool {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(f string) bool {
		text, err := os.ReadFile(f)
		return err == nil && slices.Contains(strings.Split(string(text), "\x00"), mark)
	})
}

// A machine without the tools is told which Debian packages to install.
func TestBuildMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	s := openStore(t)
	_, err := s.Build(t.Context(), testRecipe(), nil)
	if sandpool.ClassOf(err) != sandpool.Unsupported ||
		!strings.Contains(err.Error(), "apt-get install mmdebstrap apt dpkg util-linux") {
		t.Errorf("error %v, want the packages to install", err)
	}
}

// Recipes that cannot be built are refused with the line at fault.
func TestRecipeInvalid(t *testing.T) {
	fakeDebian(t, goodDebian)
	s := openStore(t)
	for want, files := range map[string]fstest.MapFS{
		"no setup.sh": {"debian.packages": {Data: []byte("zip")}},
		`"zip,curl"`: {"debian.packages": {Data: []byte("zip,curl")},
			"setup.sh": {Data: []byte("x")}},
		`"usr/x"`: {"debian.exclude": {Data: []byte("usr/x")}, "setup.sh": {Data: []byte("x")}},
	} {
		_, err := s.Build(t.Context(), Recipe{Name: "x", Files: files}, nil)
		if sandpool.ClassOf(err) != sandpool.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want class invalid with %q", err, want)
		}
	}
}

// The recipes that come with sandpool are whole.
func TestBuiltIn(t *testing.T) {
	if !slices.Contains(Recipes(), "python") {
		t.Errorf("recipes %q, want python among them", Recipes())
	}
	for name, variant := range builtIn() {
		r, err := BuiltIn(name, variant)
		if err != nil {
			t.Fatal(err)
		}
		if list, err := r.packages(); err != nil || len(list) == 0 {
			t.Errorf("%s %s wants packages %q, %v", name, variant, list, err)
		}
		if _, err := r.excluded(); err != nil {
			t.Errorf("%s %s: %v", name, variant, err)
		}
		if n, err := r.setupSteps(); err != nil || n < 2 {
			t.Errorf("%s %s announces %d steps, %v", name, variant, n, err)
		}
	}
	for _, name := range []string{"nothing", "../python", "python/setup.sh", ""} {
		if _, err := BuiltIn(name, ""); sandpool.ClassOf(err) != sandpool.NotFound {
			t.Errorf("recipe %q: %v, want class not found", name, err)
		}
	}
	if _, err := BuiltIn("python", "tiny"); sandpool.ClassOf(err) != sandpool.NotFound ||
		!strings.Contains(err.Error(), `"tiny"`) {
		t.Errorf("a variant that does not exist: %v, want class not found", err)
	}
}

// builtIn is all names of recipes with their variants.
func builtIn() iter.Seq2[string, string] {
	return func(yield func(name, variant string) bool) {
		for _, name := range Recipes() {
			for _, variant := range images.Variants(name) {
				if !yield(name, variant) {
					return
				}
			}
		}
	}
}

// The variants of a recipe differ in what they install and share how.
func TestVariants(t *testing.T) {
	full, err := BuiltIn("python", "")
	if err != nil {
		t.Fatal(err)
	}
	slim, err := BuiltIn("python", Slim)
	if err != nil {
		t.Fatal(err)
	}
	for name, same := range map[string]bool{"setup.sh": true, "base.sh": true,
		"requirements.lock": false, "debian.packages": false} {
		a, err1 := fs.ReadFile(full.Files, name)
		b, err2 := fs.ReadFile(slim.Files, name)
		if err1 != nil || err2 != nil || bytes.Equal(a, b) != same {
			t.Errorf("%s is the same: %t, %v, %v; want %t", name, bytes.Equal(a, b), err1, err2,
				same)
		}
	}
	if _, err := fs.Stat(slim.Files, "check_full.py"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the slim variant has files of the full one: %v", err)
	}
}

// An image knows the recipe that it was built from, and no other one.
func TestImageOf(t *testing.T) {
	fakeDebian(t, goodDebian)
	s := openStore(t)
	if _, err := s.Build(t.Context(), testRecipe(), nil); err != nil {
		t.Fatal(err)
	}
	i, err := s.Resolve("small")
	if err != nil || !i.Of(testRecipe()) {
		t.Errorf("the image is not of its recipe: %+v, %v", i, err)
	}
	changed := fstest.MapFS{"setup.sh": {Data: []byte("step one\nstep 2\n")}}
	if i.Of(Recipe{Name: "small", Files: changed}) {
		t.Error("the image is of a recipe that has changed since")
	}
	if (Image{}).Of(testRecipe()) {
		t.Error("an image of no recipe is of one")
	}
}

// Every wheel of the images is locked by hash.
func TestWheelLocks(t *testing.T) {
	for name, variant := range builtIn() {
		r, err := BuiltIn(name, variant)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"requirements.lock", "data.lock"} {
			lines, err := r.lines(file)
			if err != nil {
				t.Fatal(err)
			}
			for i, line := range lines {
				if strings.HasPrefix(line, "--hash=sha256:") {
					continue
				}
				if !strings.Contains(line, "==") || i+1 == len(lines) ||
					!strings.HasPrefix(lines[i+1], "--hash=sha256:") {
					t.Errorf("%s %s: line %q of %s has no version or no hash", name, variant, line,
						file)
				}
			}
		}
	}
}

// Of apt's configuration goes into a build what says how to reach a mirror, and nothing else.
func TestPickAptConfig(t *testing.T) {
	dump := `APT::Architecture amd64
Acquire::http::Proxy http://proxy.example:3128
Acquire::http::Proxy::other.example DIRECT
Acquire::Check-Date false
Acquire::IndexTargets::deb::Packages::MetaKey $(COMPONENT)
Acquire::Languages:: none
Acquire
Dir::State /var/lib/apt
`
	want := []string{
		`Acquire::http::Proxy "http://proxy.example:3128"`,
		`Acquire::http::Proxy::other.example "DIRECT"`,
		`Acquire::Check-Date "false"`,
	}
	if diff := cmp.Diff(want, pickAptConfig(dump)); diff != "" {
		t.Errorf("picked (-want +got):\n%s", diff)
	}
}

// A build sees how to reach the index, and nothing else of who started it.
func TestBuildEnv(t *testing.T) {
	inputs, home := t.TempDir(), t.TempDir()
	config := filepath.Join(home, "pip.ini")
	bundle := filepath.Join(home, "bundle.pem")
	for file, text := range map[string]string{config: "[global]\n", bundle: "pem"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PIP_CONFIG_FILE", config)
	t.Setenv("PIP_CERT", bundle)
	t.Setenv("PIP_INDEX_URL", "https://index.example/simple")
	t.Setenv("PIP_FIND_LINKS", home)
	t.Setenv("SECRET_TOKEN", "x")
	env, err := buildEnv(inputs)
	if err != nil {
		t.Fatal(err)
	}
	for want, is := range map[string]bool{
		"PIP_INDEX_URL=https://index.example/simple": true,
		"PIP_CONFIG_FILE=/build/pip.conf":            true,
		"PIP_CERT=/build/ca.crt":                     true,
		"PIP_FIND_LINKS=" + home:                     false,
		"SECRET_TOKEN=x":                             false,
	} {
		if slices.Contains(env, want) != is {
			t.Errorf("environment has %q: %t, want %t", want, !is, is)
		}
	}
	if text, err := os.ReadFile(filepath.Join(inputs, "ca.crt")); err != nil ||
		string(text) != "pem" {
		t.Errorf("the bundle in the build: %q, %v", text, err)
	}
}
