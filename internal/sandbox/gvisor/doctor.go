package gvisor

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/cgroup"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/kernfile"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/netns"
)

// CheckHost says what this host has and lacks of what the engine needs. It
// needs no engine, so that it can explain why New fails. The state directory, cfg.Root, may
// not exist yet. It takes back what it does, but for an empty group called cfg.CgroupParent.
func CheckHost(cfg Config) []sandbox.Requirement {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return []sandbox.Requirement{requirement("configuration", false, err.Error(),
			"Correct it.")}
	}
	checks := []func() sandbox.Requirement{
		checkUser, checkMachine, checkKernel, checkBinary,
		func() sandbox.Requirement { return checkCgroups(cfg.CgroupParent) },
		checkUsers, checkNamespaces, checkCode, checkSeccomp, checkPtrace, checkPrograms,
		checkGVisor,
		func() sandbox.Requirement { return checkStore(cfg.Root) },
		func() sandbox.Requirement { return checkSpace(cfg.Root) },
		func() sandbox.Requirement { return checkSnapshots(cfg.Root) },
		checkLargePages,
	}
	found := make([]sandbox.Requirement, len(checks))
	for i, check := range checks {
		found[i] = check()
	}
	return found
}

// CheckNetwork says what this host has and lacks for sandboxes with a network. Those without one
// run all the same.
func CheckNetwork(ipv6 bool) []sandbox.Requirement {
	dir, err := os.MkdirTemp("", "sandpool-check-")
	if err != nil {
		return []sandbox.Requirement{requirement("network", false, err.Error(),
			"Make the folder for temporary files writable.")}
	}
	defer os.RemoveAll(dir)
	return netns.Check(dir, ipv6)
}

// missing is the error of a host that lacks something. A disk that is nearly full is
// none: a server must start on it, to stop sandboxes.
func missing(found []sandbox.Requirement) error {
	var errs []error
	for _, r := range found {
		if !r.OK && r.Name != spaceName {
			errs = append(errs, fmt.Errorf("the host lacks %q: %s. %s", r.Name, r.Detail, r.Fix))
		}
	}
	return errors.Join(errs...)
}

// requirement fills in the advice only where it is needed.
func requirement(name string, ok bool, detail, fix string) sandbox.Requirement {
	if ok {
		fix = ""
	}
	return sandbox.Requirement{Name: name, OK: ok, Detail: detail, Fix: fix}
}

func checkUser() sandbox.Requirement {
	uid := os.Geteuid()
	return requirement("root", uid == 0, fmt.Sprintf("user %d", uid),
		"Run the server as root: it makes cgroups and namespaces. Sandboxes themselves run as nobody.")
}

// checkUsers looks for who sandboxes are: a user namespace with root alone, as PrivateUsers=yes of
// a systemd unit makes, lets nobody become another user.
func checkUsers() sandbox.Requirement {
	var lacking []string
	for _, file := range []string{"uid_map", "gid_map"} {
		text, err := kernfile.Text("/proc/self/" + file)
		if err == nil && !inMap(text, nobody) {
			lacking = append(lacking, file)
		}
	}
	detail := fmt.Sprintf("root and nobody (%d)", nobody)
	if len(lacking) > 0 {
		detail = fmt.Sprintf("the user namespace has no %d (%s)", nobody,
			strings.Join(lacking, ", "))
	}
	return requirement("users", len(lacking) == 0, detail,
		"Start the server outside of the user namespace (in a systemd unit, without PrivateUsers=), or have it map all users.")
}

// inMap says whether a user is in a map of a user namespace (user_namespaces(7)).
func inMap(text string, id int) bool {
	for line := range strings.Lines(text) {
		var first, outside, count int
		if _, err := fmt.Sscan(line, &first, &outside, &count); err == nil && first <= id &&
			id-first < count {
			return true
		}
	}
	return false
}

// checkCode makes a page that was written executable, as gVisor does for code that it makes itself.
func checkCode() sandbox.Requirement {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON)
	if err == nil {
		page[0] = 0xc3 // which is never run
		err = errors.Join(unix.Mprotect(page, unix.PROT_READ|unix.PROT_EXEC), unix.Munmap(page))
	}
	detail := "allowed"
	if err != nil {
		detail = err.Error()
	}
	return requirement("code made at run time", err == nil, detail,
		"Let the server make memory executable (in a systemd unit, without MemoryDenyWriteExecute=).")
}

func checkMachine() sandbox.Requirement {
	ok := runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64"
	return requirement("processor", ok, runtime.GOARCH,
		"gVisor runs on amd64 and arm64; use such a machine.")
}

// minKernel is the first with everything that the engine calls: CLONE_INTO_CGROUP
// came with 5.7, PIDFD_NONBLOCK with 5.10.
const minMajor, minMinor = 5, 10

func checkKernel() sandbox.Requirement {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return requirement("kernel", false, err.Error(), "Find out why uname(2) fails.")
	}
	release := unix.ByteSliceToString(u.Release[:])
	return requirement("kernel", kernelAtLeast(release, minMajor, minMinor), "Linux "+release,
		fmt.Sprintf("Install Linux %d.%d or later.", minMajor, minMinor))
}

// kernelAtLeast compares a release such as "6.12.9-amd64".
func kernelAtLeast(release string, major, minor int) bool {
	parts := strings.SplitN(release, ".", 3)
	if len(parts) < 2 {
		return false
	}
	digits := func(s string) int {
		end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
		if end < 0 {
			end = len(s)
		}
		n, err := strconv.Atoi(s[:end])
		if err != nil {
			return -1
		}
		return n
	}
	a, b := digits(parts[0]), digits(parts[1])
	return a > major || a == major && b >= minor
}

// checkBinary looks at this program: gVisor executes it again as nobody, inside a root
// directory that has no dynamic loader.
func checkBinary() sandbox.Requirement {
	const name, self = "static binary", "/proc/self/exe"
	f, err := elf.Open(self)
	if err != nil {
		return requirement(name, false, err.Error(), "Make the server's binary readable.")
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return requirement(name, false, "dynamically linked",
				"Build the server with CGO_ENABLED=0.")
		}
	}
	info, err := os.Stat(self)
	if err != nil {
		return requirement(name, false, err.Error(), "Make the server's binary readable.")
	}
	return requirement(name, info.Mode().Perm()&0o005 == 0o005,
		"static, mode "+info.Mode().Perm().String(),
		"Make the server's binary readable and executable for everyone (chmod a+rx); sandboxes run it as nobody.")
}

// checkCgroups does what the engine does for a sandbox.
func checkCgroups(parent string) sandbox.Requirement {
	const name = "cgroup controllers"
	detail, err := cgroup.Check(parent)
	var lack *cgroup.Lack
	switch {
	case err == nil:
		return requirement(name, true, detail, "")
	case errors.As(err, &lack):
		return requirement(name, false, lack.Err.Error(), lack.Fix)
	default:
		return requirement(name, false, err.Error(),
			"Give the server a cgroup that it may change; see cgroups(7).")
	}
}

func checkNamespaces() sandbox.Requirement {
	var lacking []string
	for _, ns := range []string{"user", "mnt", "pid", "net", "ipc", "uts"} {
		_, err := os.Stat("/proc/self/ns/" + ns)
		limit, err2 := kernfile.Int("/proc/sys/user/max_" + ns + "_namespaces")
		if err != nil || err2 == nil && limit == 0 {
			lacking = append(lacking, ns)
		}
	}
	detail := "user, mount, pid, net, ipc and uts"
	if len(lacking) > 0 {
		detail = "missing: " + strings.Join(lacking, ", ")
	}
	return requirement("namespaces", len(lacking) == 0, detail,
		"Use a kernel with namespaces, and set the limits user.max_*_namespaces (sysctl) above zero.")
}

// checkSeccomp asks the kernel itself: files about it may be hidden (proc(5), subset=pid).
func checkSeccomp() sandbox.Requirement {
	const getActionAvail = 2 // SECCOMP_GET_ACTION_AVAIL, seccomp(2)
	var lacking, found []string
	for _, action := range []struct {
		name  string
		value uint32
	}{
		{"trap", unix.SECCOMP_RET_TRAP}, {"errno", unix.SECCOMP_RET_ERRNO},
		{"kill_process", unix.SECCOMP_RET_KILL_PROCESS},
	} {
		_, _, errno := unix.Syscall(unix.SYS_SECCOMP, getActionAvail, 0,
			uintptr(unsafe.Pointer(&action.value)))
		if errno != 0 {
			lacking = append(lacking, fmt.Sprintf("%s: %v", action.name, errno))
		}
		found = append(found, action.name)
	}
	detail := strings.Join(found, ", ")
	if len(lacking) > 0 {
		detail = "missing: " + strings.Join(lacking, ", ")
	}
	return requirement("seccomp", len(lacking) == 0, detail,
		"Use a kernel with CONFIG_SECCOMP_FILTER.")
}

// checkPtrace: gVisor's systrap platform attaches to the stub processes that it
// forks. Yama allows that to a parent up to level 1.
func checkPtrace() sandbox.Requirement {
	const name = "ptrace"
	scope, err := kernfile.Int("/proc/sys/kernel/yama/ptrace_scope")
	if err != nil {
		detail := "not restricted"
		if _, err := os.Stat("/proc/sys"); err != nil {
			detail = "not known, for /proc/sys is hidden; kernel.yama.ptrace_scope must be 0 or 1"
		}
		return requirement(name, true, detail, "")
	}
	return requirement(name, scope <= 1, fmt.Sprintf("kernel.yama.ptrace_scope is %d", scope),
		"Set kernel.yama.ptrace_scope to 1 (sysctl -w kernel.yama.ptrace_scope=1).")
}

// checkPrograms tries what addPrograms does.
func checkPrograms() sandbox.Requirement {
	const name = "programs in memory"
	if !tinyPrograms {
		return requirement(name, true, "not needed on this processor", "")
	}
	fd, err := programFile("check", launchCode)
	if err != nil {
		return requirement(name, false, err.Error(),
			"Set vm.memfd_noexec to 0 or 1 (sysctl -w vm.memfd_noexec=1).")
	}
	unix.Close(fd)
	return requirement(name, true, "allowed", "")
}

// checkStore tries what openStore does.
func checkStore(root string) sandbox.Requirement {
	dir := existing(root)
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return requirement("state directory", false, fmt.Sprintf("%s: %v", dir, err),
			"Put the data directory on a writable local filesystem that has files without names: ext4, xfs, btrfs or tmpfs.")
	}
	unix.Close(fd)
	return requirement("state directory", true, dir, "")
}

const spaceName = "disk space"

// minSpace is room for a snapshot and the writable layers of a few sandboxes.
const minSpace = 2 << 30

func checkSpace(root string) sandbox.Requirement {
	dir := existing(root)
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return requirement(spaceName, false, err.Error(),
			"Choose a data directory on a local filesystem.")
	}
	free := s.Bavail * uint64(s.Bsize)
	return requirement(spaceName, free >= minSpace, fmt.Sprintf("%d MB free at %s", free>>20, dir),
		fmt.Sprintf("Free at least %d MB, or choose another data directory.", minSpace>>20))
}

// checkSnapshots says what the snapshots take. There is one for each pool that has one.
func checkSnapshots(root string) sandbox.Requirement {
	all, err := kept(root)
	if err != nil {
		return requirement("snapshots", false, err.Error(), "Make the data directory readable.")
	}
	var sum int64
	for _, one := range all {
		sum += one.Bytes
	}
	return requirement("snapshots", true, fmt.Sprintf("%d, %d MB", len(all), sum>>20), "")
}

// checkGVisor refuses gVisor as it is, whose streams lose data; see third_party/gvisor.
func checkGVisor() sandbox.Requirement {
	return requirement("gVisor with our changes", changedGVisor(), gvisorVersion(),
		"Build the program with make: as it is, gVisor loses a part of what is sent to a slow reader.")
}

// checkLargePages never fails: without them the engine is slower and no worse.
func checkLargePages() sandbox.Requirement {
	const name = "large pages"
	setting, err := kernfile.Text(largePagesFile)
	switch {
	case err != nil:
		return requirement(name, true,
			"this kernel has none for shared memory (Linux 6.11 has); restores take more processor time", "")
	case strings.Contains(setting, "[never]"):
		return requirement(name, true,
			"off; restores take a third less processor time after: echo always > "+
				largePagesFile, "")
	default:
		return requirement(name, true, "on", "")
	}
}

// existing returns the nearest directory above path that exists.
func existing(path string) string {
	for {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return path
		}
		up := filepath.Dir(path)
		if up == path {
			return path
		}
		path = up
	}
}
