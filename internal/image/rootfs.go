package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/erofs"
)

// DebianSuite is the Debian release that images are made of.
const DebianSuite = "trixie"

// Lacking returns the Debian packages that a build needs and this machine does not have.
func Lacking() (packages []string) {
	for _, need := range [][2]string{{"mmdebstrap", "mmdebstrap"}, {"apt-get", "apt"},
		{"dpkg", "dpkg"}, {"unshare", "util-linux"}} {
		if _, err := exec.LookPath(need[0]); err != nil {
			packages = append(packages, need[1])
		}
	}
	if _, err := os.Stat("/usr/share/keyrings/debian-archive-keyring.gpg"); err != nil {
		packages = append(packages, "debian-archive-keyring")
	}
	return packages
}

// missing says what this machine lacks for a build.
func missing() error {
	if packages := Lacking(); len(packages) > 0 {
		return sandpool.Errorf(sandpool.Unsupported, "MissingTools", "host",
			"Building an image needs Debian packages that this machine lacks; run: apt-get "+
				"install %s", strings.Join(packages, " "))
	}
	if os.Geteuid() != 0 {
		return sandpool.Errorf(sandpool.Unsupported, "NotRoot", "host",
			"Building an image needs root; run the command with sudo.")
	}
	return nil
}

// makeRoot makes the root filesystem that r describes in root, with work for
// temporary files.
func makeRoot(ctx context.Context, r Recipe, work, root string, p *reporter) error {
	inputs, tmp := filepath.Join(work, "inputs"), filepath.Join(work, "tmp")
	if err := os.CopyFS(inputs, r.Files); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	env, err := buildEnv(inputs)
	if err != nil {
		return err
	}
	if env, err = npmEnv(ctx, inputs, env); err != nil {
		return err
	}
	args, err := mmdebstrapArgs(ctx, r, root)
	if err != nil {
		return err
	}
	mmdebstrap, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return err
	}
	p.step("debian")
	// A mount and process namespace of its own: whatever way the build ends,
	// the kernel then ends all its processes and undoes all its mounts.
	cmd := exec.CommandContext(ctx, "unshare",
		append([]string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", mmdebstrap},
			args...)...)
	cmd.Env = append(env, "SANDPOOL_INPUTS="+inputs, "TMPDIR="+tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return runTold(ctx, cmd, p)
}

// mmdebstrapArgs is the command line of mmdebstrap for r.
func mmdebstrapArgs(ctx context.Context, r Recipe, root string) ([]string, error) {
	packages, err := r.packages()
	if err != nil {
		return nil, err
	}
	args := []string{
		"--mode=root", "--variant=essential", "--format=directory",
		"--include=" + strings.Join(packages, ","),
		`--aptopt=Apt::Install-Recommends "false"`,
		`--aptopt=Acquire::Languages "none"`,
		"--dpkgopt=force-unsafe-io", // a build that is cut short starts anew; the image is synced
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		`--customize-hook=cp -R "$SANDPOOL_INPUTS" "$1/build"`,
		`--customize-hook=chroot "$1" /bin/sh /build/` + setupFile + ` /build`,
		`--customize-hook=rm -rf "$1/build" "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"`,
	}
	excluded, err := r.excluded()
	if err != nil {
		return nil, err
	}
	for _, pattern := range excluded {
		args = append(args, "--dpkgopt=path-exclude="+pattern)
	}
	options, err := AptOptions(ctx)
	if err != nil {
		return nil, err
	}
	args = append(args, options...)
	args = append(args, DebianSuite, root)
	if mirror := os.Getenv("SANDPOOL_DEBIAN_MIRROR"); mirror != "" {
		args = append(args, mirror)
	}
	return args, nil
}

// AptOptions are the flags by which mmdebstrap reaches a Debian mirror as apt does here.
func AptOptions(ctx context.Context) (flags []string, err error) {
	lines, err := aptConfig(ctx)
	for _, line := range lines {
		flags = append(flags, "--aptopt="+line)
	}
	return flags, err
}

// aptConfig returns the lines of this machine's apt configuration that say how to reach
// a mirror; mmdebstrap ignores that configuration.
func aptConfig(ctx context.Context) ([]string, error) {
	out, err := exec.CommandContext(ctx, "apt-config", "dump", "--format", "%F %v%n").Output()
	if err != nil {
		return nil, fmt.Errorf("read apt's configuration: %w", err)
	}
	return pickAptConfig(string(out)), nil
}

func pickAptConfig(dump string) []string {
	var lines []string
	for line := range strings.Lines(dump) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		low := strings.ToLower(key)
		if value == "" || !strings.HasPrefix(low, "acquire::") {
			continue
		}
		last := low[strings.LastIndex(low, ":")+1:]
		if strings.Contains(low, "::proxy") ||
			slices.Contains([]string{"check-date", "check-valid-until", "retries", "timeout",
				"cainfo", "forceipv4"}, last) {
			lines = append(lines, key+" "+strconv.Quote(value))
		}
	}
	return lines
}

// buildEnv is the environment of a build: nothing of the caller's but how
// to reach the package index. Files that it names are copied to inputs, which
// setup sees as /build.
func buildEnv(inputs string) ([]string, error) {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
		"SOURCE_DATE_EPOCH=" + strconv.Itoa(erofs.Stamp),
		"PIP_DISABLE_PIP_VERSION_CHECK=1",
	}
	for _, name := range []string{
		"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_PROXY",
		"PIP_DEFAULT_TIMEOUT", "PIP_RETRIES",
		"NPM_CONFIG_REGISTRY", "npm_config_registry",
		"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
		"ALL_PROXY", "all_proxy",
	} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	home := os.Getenv("HOME")
	config := []string{os.Getenv("PIP_CONFIG_FILE"), filepath.Join(home, ".config/pip/pip.conf"),
		filepath.Join(home, ".pip/pip.conf"), "/etc/pip.conf"}
	bundles := []string{os.Getenv("PIP_CERT"), os.Getenv("SSL_CERT_FILE"),
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"}
	for _, c := range []struct {
		name, set string
		from      []string
	}{
		{"pip.conf", "PIP_CONFIG_FILE=/build/pip.conf", config},
		{"ca.crt", "PIP_CERT=/build/ca.crt", bundles},
	} {
		ok, err := copyFirst(filepath.Join(inputs, c.name), c.from)
		if err != nil {
			return nil, err
		}
		if ok {
			env = append(env, c.set)
		}
	}
	return env, nil
}

// copyFirst copies the first file of from that exists to file.
func copyFirst(file string, from []string) (bool, error) {
	for _, name := range from {
		if name == "" {
			continue
		}
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		return true, os.WriteFile(file, text, 0o644)
	}
	return false, nil
}

// runTold runs cmd and tells p what it writes. The error holds the last lines.
func runTold(ctx context.Context, cmd *exec.Cmd, p *reporter) error {
	// The kernel sends Pdeathsig when the thread that started the process ends, so
	// this goroutine keeps its thread until the process has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// What this process has inherited stays with it: with two descriptors more than it expects,
	// mmdebstrap numbers its own above 9, and Debian's sh knows no such redirection.
	// Before Linux 5.11 this is an error, and the descriptors are passed on.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	read, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write
	cmd.WaitDelay = 10 * time.Second
	told := make(chan []string, 1)
	go func() { told <- tell(read, p) }()
	err := cmd.Run()
	write.Close()
	last := <-told
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case ctx.Err() != nil:
		return fmt.Errorf("step %q: %w; its last lines were:\n%s", p.name(), context.Cause(ctx),
			strings.Join(last, "\n"))
	case err != nil:
		return fmt.Errorf("%s: %w; its last lines were:\n%s", filepath.Base(cmd.Path), err,
			strings.Join(last, "\n"))
	}
	return nil
}

// tell reports each line of r, and returns the last ones.
func tell(r io.Reader, p *reporter) []string {
	const keep = 20
	var last []string
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if name, ok := strings.CutPrefix(line, "step: "); ok {
			p.step(name)
			continue
		}
		last = append(last, line)
		last = last[max(0, len(last)-keep):]
		p.note(line)
	}
	_, _ = io.Copy(io.Discard, r) // a line too long must not block the writer
	return last
}
