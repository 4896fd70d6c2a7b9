package clustertest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Variables of the environment.
const (
	// asked is set by whoever wants the tests with a real cluster: make test-kube.
	asked = "SANDPOOL_TEST_KUBE"
	// stage tells a process of a run where it is.
	stage = "SANDPOOL_TEST_KUBE_STAGE"
	// folder is the cluster's folder, and programs that of what is built.
	folder   = "SANDPOOL_TEST_KUBE_DIR"
	programs = "SANDPOOL_TEST_KUBE_BIN"
	// logs is a folder where the cluster's logs outlive it.
	logs = "SANDPOOL_TEST_KUBE_LOGS"
	// many is how many ready pods are to be simulated; see Many.
	many = "SANDPOOL_TEST_KUBE_READY"
)

// Stages of a run.
const (
	first  = "first"  // the first process of the room
	inside = "inside" // the tests
)

// Main runs a package's tests, with a cluster if one is asked for, and returns the exit code.
func Main(m *testing.M) int {
	var err error
	var code int
	switch {
	case os.Getenv(stage) == first:
		code, err = beFirst()
	case os.Getenv(stage) == inside:
		return beInside(m)
	case os.Getenv(asked) != "":
		code, err = beOutside()
	default:
		return m.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "clustertest:", err)
		return 1
	}
	return code
}

// beOutside makes the room, waits until it is empty, and cleans up.
func beOutside() (code int, err error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("a cluster needs root")
	}
	bin, err := build()
	if err != nil {
		return 0, err
	}
	unlock, err := lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	if err := removeRemains(); err != nil {
		return 0, fmt.Errorf("remains of an earlier run: %w", err)
	}
	dir, err := os.MkdirTemp("", folders)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, removeCgroups(), os.RemoveAll(dir)) }()
	// Pods whose users are mapped pass through it.
	if err := os.Chmod(dir, 0o711); err != nil {
		return 0, err
	}
	// The kernel ends the room with the thread that made it.
	runtime.LockOSThread()
	cmd := again(first)
	cmd.Env = append(cmd.Env, folder+"="+dir, programs+"="+bin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET}
	return exitCode(cmd.Run())
}

// again is this program in another stage.
func again(next string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), stage+"="+next)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(1, exit.ExitCode()), nil
	}
	return 0, err
}

// lock lets one cluster at a time be on a machine: its cgroups have a name that is the kubelet's.
func lock() (unlock func(), err error) {
	unlock, err = hold(filepath.Join(os.TempDir(), "sandpool-cluster.lock"), unix.LOCK_NB)
	if err != nil {
		err = fmt.Errorf("another cluster is up on this machine: %w", err)
	}
	return unlock, err
}

// hold locks a file against other processes.
func hold(name string, how int) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|how); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// folders is how the folders of clusters are called.
const folders = "sandpool-cluster-dir-"

// removeRemains removes what a run has left that was killed. The lock is held, so no other runs.
func removeRemains() error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), folders+"*"))
	errs := []error{err, removeCgroups()}
	for _, dir := range dirs {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// cleanTime bounds how long cgroups may take to become empty.
const cleanTime = 20 * time.Second

// removeCgroups removes those of pods. Their processes ended with the room, or are ending.
func removeCgroups() error {
	deadline := time.Now().Add(cleanTime)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := removeCgroupsOnce()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-tick.C
	}
}

func removeCgroupsOnce() error {
	roots, err := filepath.Glob("/sys/fs/cgroup/*/kubepods")
	if err != nil {
		return err
	}
	roots = append(roots, "/sys/fs/cgroup/kubepods")
	var errs []error
	for _, root := range roots {
		var dirs []string
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, name)
			}
			return nil // what is gone already is as it should be
		})
		errs = append(errs, err)
		for i := len(dirs) - 1; i >= 0; i-- { // the deepest first
			if err := unix.Rmdir(dirs[i]); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("cgroup %q: %w", dirs[i], err))
			}
		}
	}
	return errors.Join(errs...)
}

// beFirst is the first process of the room: it furnishes it, starts the tests, and takes in
// orphans until the tests have ended.
func beFirst() (int, error) {
	if err := furnish(); err != nil {
		return 0, fmt.Errorf("furnish the room: %w", err)
	}
	cmd := again(inside)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for the tests: %w", err)
		case pid == cmd.Process.Pid && status.Exited():
			return status.ExitStatus(), nil
		case pid == cmd.Process.Pid && status.Signaled():
			return 0, fmt.Errorf("the tests were ended by %v", status.Signal())
		}
	}
}

// furnish gives the room its own /proc, /run and addresses.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	dir := os.Getenv(folder)
	for _, m := range []struct{ what, at, kind string }{
		{"proc", "/proc", "proc"},
		{"tmpfs", "/run", "tmpfs"},         // sockets of shims, network namespaces of pods
		{"tmpfs", "/var/lib/cni", "tmpfs"}, // addresses of pods
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.what, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %q: %w", m.at, err)
		}
	}
	// What the kubelet mounts below it must be seen by containerd.
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := unix.Mount("", dir, "", unix.MS_SHARED, ""); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", nodeIP + "/32", "dev", "lo"},
		{"addr", "add", apiService + "/32", "dev", "lo"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
	}
	return nil
}

// beInside brings the cluster up and runs the tests. The room's end is the cluster's.
func beInside(m *testing.M) int {
	c := &Cluster{dir: os.Getenv(folder), bin: os.Getenv(programs)}
	ctx, cancel := context.WithTimeout(context.Background(), upTime)
	defer cancel()
	began := time.Now()
	if err := c.up(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "clustertest: bring the cluster up:", err)
		c.logs(os.Stderr)
		return 1
	}
	fmt.Fprintf(os.Stderr, "clustertest: the node is ready after %v\n",
		time.Since(began).Round(100*time.Millisecond))
	code := m.Run()
	if code != 0 {
		c.logs(os.Stderr)
	}
	return code
}
