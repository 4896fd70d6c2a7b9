package gvisor

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"gvisor.dev/gvisor/pkg/cpuid"
	"gvisor.dev/gvisor/runsc/boot/portforward"
	"gvisor.dev/gvisor/runsc/specutils"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// layout is the version of what the engine makes of a template. It is part of
// a snapshot's key: raise it with every change of guestSpec, of the sentry's
// flags or of the snapshot's files.
const layout = 9

func invalid(target, format string, args ...any) error {
	return sandpool.Errorf(sandpool.Invalid, "InvalidTemplate", target, format, args...)
}

// checkTemplate refuses what the engine cannot run, before anything is made.
func (e *Engine) checkTemplate(t sandbox.Template) error {
	switch {
	case len(t.Args) == 0 || t.Args[0] == "":
		return invalid("args", "The command line %q names no program.", t.Args)
	case t.Dir != "" && !path.IsAbs(t.Dir):
		return invalid("dir",
			"The working directory %q must be an absolute path inside the sandbox.", t.Dir)
	case t.Start == sandbox.Restore && len(t.SecretEnv) > 0:
		return invalid("secretEnv",
			"A snapshot would hold the secret %q; start sandboxes with secrets by %q.",
			t.SecretEnv[0].Name, sandbox.Boot)
	case t.StopSignal != "" && sandbox.ParseSignal(t.StopSignal) == 0:
		return invalid("stopSignal",
			"The stop signal %.60q is unknown; use a name such as SIGTERM, or a number.",
			t.StopSignal)
	case t.Start != sandbox.Restore && t.Start != sandbox.Boot:
		return invalid("start", "The start mode %q is unknown; use %q or %q.", t.Start,
			sandbox.Restore, sandbox.Boot)
	}
	for _, kv := range t.Env {
		if i := strings.IndexByte(kv, '='); i < 1 {
			return invalid("env", "The environment entry %q is not of the form KEY=value.", kv)
		}
	}
	for _, v := range t.SecretEnv {
		if v.Name == "" || strings.Contains(v.Name, "=") {
			return invalid("secretEnv",
				"The name %q of a secret variable is empty or has a '=' in it.", v.Name)
		}
	}
	for _, c := range t.Capabilities {
		if !slices.Contains(knownCapabilities(), c) {
			return invalid("capabilities",
				"The capability %q is unknown, or reaches beyond the sandbox.", c)
		}
	}
	if err := e.checkNetwork(t.Network); err != nil {
		return err
	}
	if err := checkReady(t.Ready); err != nil {
		return err
	}
	if err := checkLimits(t.Limits); err != nil {
		return err
	}
	return checkLayers(t)
}

// minMemory is what the sentry itself needs to start and to say no.
const minMemory = 64 << 20

func checkLimits(l sandpool.Resources) error {
	switch {
	case l.CPU < 0.01 || l.CPU > 4096:
		return invalid("limits.cpu", "The CPU limit is %g cores; use 0.01 to 4096.", l.CPU)
	case l.Memory < minMemory:
		return invalid("limits.memory", "The memory limit is %d bytes; use at least %d.",
			l.Memory, minMemory)
	case l.PIDs < 64:
		return invalid("limits.pids",
			"The limit of host threads is %d; use at least 64, the sandbox's own kernel needs about 40.", l.PIDs)
	case l.Disk < 1<<20:
		return invalid("limits.disk",
			"The limit of the writable layer is %d bytes; use at least %d.", l.Disk, 1<<20)
	}
	return nil
}

func checkLayers(t sandbox.Template) error {
	for i, l := range t.Layers {
		name := fmt.Sprintf("layers[%d]", i)
		if err := checkImage(name, l); err != nil {
			return err
		}
		if !path.IsAbs(l.Target) || path.Clean(l.Target) != l.Target || l.Target == "/" {
			return invalid(name+".target",
				"The layer's target %q must be a clean absolute path below /.", l.Target)
		}
	}
	return nil
}

// erofsMagic begins the superblock, which lies 1024 bytes into the image.
const (
	erofsOffset = 1024
	erofsMagic  = "\xe2\xe1\xf5\xe0"
)

func checkImage(name string, l sandbox.Layer) error {
	if l.Digest == "" {
		return invalid(name+".digest",
			"The layer at %q has no digest; a snapshot's key needs it.", l.Target)
	}
	if !path.IsAbs(l.Path) {
		return badFile(name, fmt.Errorf("%q is not an absolute path", l.Path),
			"The image's file must be named by an absolute path.")
	}
	f, err := os.Open(l.Path)
	if err != nil {
		return badFile(name, err, "The image's file cannot be opened; build or pull it first.")
	}
	defer f.Close()
	magic := make([]byte, len(erofsMagic))
	if _, err := f.ReadAt(magic, erofsOffset); err != nil ||
		!bytes.Equal(magic, []byte(erofsMagic)) {
		return badFile(name, fmt.Errorf("the magic number of %q is %x", l.Path, magic),
			"The image's file is not an EROFS image; make it with mkfs.erofs -Enoinline_data.")
	}
	return nil
}

// badFile is the error of an image's file. Its path is for the operator alone.
func badFile(name string, err error, message string) error {
	return &sandpool.Error{Class: sandpool.Invalid, Code: "InvalidTemplate", Target: name + ".path",
		Message: message, Err: err}
}

// snapshotKey names the snapshot of t on this machine by this engine. A
// snapshot holds gVisor's own data structures and the processor features that programs
// saw when they started, so both are part of it.
func snapshotKey(t sandbox.Template) (string, error) {
	cpuid.Initialize()
	fs := cpuid.HostFeatureSet()
	// How long one waits does not change what one gets.
	t.Ready, t.ReadyTimeout = sandpool.Probe{HTTP: t.Ready.HTTP, TCP: t.Ready.TCP,
		Exec: t.Ready.Exec}, 0
	t.StopSignal, t.Grace = "", 0
	t.Network = sandpool.Network{Proxy: t.Network.Proxied()} // which the environment tells of
	data, err := json.Marshal(struct {
		Layout   int
		GVisor   string
		Flags    []string
		Features string
		Template sandbox.Template
	}{layout, gvisorVersion(), sentryFlags(), fs.FlagString(), t})
	if err != nil {
		return "", fmt.Errorf("encode the template: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// gvisorVersion returns the version of the gVisor module in this binary, and
// which changes it was built with.
func gvisorVersion() string {
	m := gvisorModule()
	switch {
	case m == nil:
		return "unknown"
	case m.Replace != nil:
		// whose name tells changes apart; see scripts/gvisor
		return m.Version + " as " + m.Replace.Path
	default:
		return m.Version + " " + m.Sum
	}
}

// changedGVisor reports whether gVisor was built as third_party/gvisor changes it. A field that
// one of the changes adds tells; what Go notes of a build is not there in tests.
func changedGVisor() bool {
	_, ok := reflect.TypeFor[portforward.Proxy]().FieldByName("ended")
	return ok
}

func gvisorModule() *debug.Module {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, m := range info.Deps {
		if m.Path == "gvisor.dev/gvisor" {
			return m
		}
	}
	return nil
}

// checkReady refuses a probe that can never pass.
func checkReady(p sandpool.Probe) error {
	ways := 0
	for _, used := range []bool{p.HTTP.Port != 0, p.TCP.Port != 0, len(p.Exec) > 0} {
		if used {
			ways++
		}
	}
	for _, port := range []int{p.HTTP.Port, p.TCP.Port} {
		if port < 0 || port > 65535 {
			return invalid("ready.port", "The readiness check's port is %d; use 1 to 65535.", port)
		}
	}
	if ways != 1 {
		return invalid("ready",
			"The readiness check asks in %d ways; use one of HTTP, TCP and a program.", ways)
	}
	if p.HTTP.Path != "" && !strings.HasPrefix(p.HTTP.Path, "/") {
		return invalid("ready.path", "The readiness check's path %q must begin with a slash.",
			p.HTTP.Path)
	}
	return nil
}

// knownCapabilities are those that a template may give: they are about things of the sandbox
// alone, and mean nothing on the host. Raw sockets, mounting and changing the network are not
// among them.
func knownCapabilities() []string {
	return append(sandbox.DefaultCapabilities(), "CAP_SYS_PTRACE", "CAP_SYS_NICE", "CAP_IPC_LOCK",
		"CAP_DAC_READ_SEARCH")
}

// capabilities are what the first process has and can gain. As with Linux's own rules for a
// change of user, only user 0 has them in effect.
func (p *prepared) capabilities() *specs.LinuxCapabilities {
	caps := slices.Sorted(slices.Values(p.template.Capabilities))
	c := &specs.LinuxCapabilities{Bounding: caps}
	if p.user.UID == 0 {
		c.Effective, c.Permitted = caps, caps
	}
	return c
}

// devSize is that of the guest's /dev. Memory filesystems count towards the sandbox's memory
// limit; the bound makes a full one an error of the writer. /dev/shm and /tmp have half of that
// limit, which is what Linux gives a tmpfs.
const devSize = 64 << 10

// What of Limits.PIDs, which counts threads of the host, the guest's processes and threads get.
const (
	sentryThreads = 48 // the most that gVisor itself was seen to take, and a little more
	// of each process of the guest: two at rest (measured: 200 for 100), in a storm of forks on a
	// busy machine 3.4
	hostThreads = 4
	fewestTasks = 16
)

// guestTasks is how many processes and threads a user of the guest may have. A sentry that
// cannot make a thread ends with all that is in it, so that the guest must meet a limit before.
func guestTasks(l sandpool.Resources) uint64 {
	return uint64(max((l.PIDs-sentryThreads)/hostThreads, fewestTasks))
}

// guestSpec returns the OCI specification of a sandbox of p. But for the host
// name it must depend on p alone: gVisor refuses to restore a snapshot into a
// different one. The host name it sets anew in every clone.
func guestSpec(p *prepared, host sandbox.ID) ([]byte, error) {
	t := p.template
	dir := t.Dir
	if dir == "" {
		dir = "/"
	}
	s := specs.Spec{
		Version:  "1.2.0",
		Hostname: p.hostName(host),
		Root:     &specs.Root{Path: "/"},
		Process: &specs.Process{
			Args: t.Args,
			Env:  p.environment(),
			Cwd:  dir,
			User: specs.User{UID: p.user.UID, GID: p.user.GID, AdditionalGids: p.user.Groups},

			Capabilities:    p.capabilities(),
			NoNewPrivileges: !t.Setuid,
			Rlimits: []specs.POSIXRlimit{
				{Type: "RLIMIT_NOFILE", Soft: 65536, Hard: 65536},
				{Type: "RLIMIT_CORE"},
				{Type: "RLIMIT_NPROC", Soft: guestTasks(t.Limits), Hard: guestTasks(t.Limits)},
			},
		},
		Mounts: guestMounts(p),
		Annotations: map[string]string{
			"dev.gvisor.spec.rootfs.type":    "erofs",
			"dev.gvisor.spec.rootfs.source":  p.root.Path,
			"dev.gvisor.spec.rootfs.overlay": "memory",
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace},
			},
			MaskedPaths: []string{"/proc/kcore", "/proc/keys", "/proc/timer_list",
				"/proc/sched_debug", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
				"/proc/sysrq-trigger"},
		},
	}
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode the guest's specification: %w", err)
	}
	return data, nil
}

func guestMounts(p *prepared) []specs.Mount {
	t := p.template
	size := func(n int64) string { return "size=" + strconv.FormatInt(n, 10) }
	hard := []string{"nosuid", "noexec", "nodev"}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: hard},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs",
			Options: append([]string{"ro"}, hard...)},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "strictatime", "mode=755", size(devSize)}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid",
			"noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: append([]string{"mode=1777", size(t.Limits.Memory / 2)}, hard...)},
	}
	if !p.tmp {
		mounts = append(mounts, specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "nodev", "mode=1777",
				size(min(t.Limits.Disk, t.Limits.Memory/2))}})
	}
	for _, l := range t.Layers {
		mounts = append(mounts, specs.Mount{
			Destination: l.Target, Type: "erofs", Source: l.Path,
			Options: []string{"ro", "nosuid", "nodev"},
		})
	}
	return mounts
}

// mountConfs tells the sentry how the root and each layer are made, in the
// order of their file descriptors. The writable layer is a filesystem of the
// sentry over the root whose data is in a host file that has no name, bounded
// by Limits.Disk. In memory it would be as fast, but then a session that
// writes files is killed for want of memory where it should meet a full disk.
func mountConfs(t sandbox.Template) string {
	confs := specutils.GoferMountConfFlags{{
		Lower: specutils.Erofs, Upper: specutils.AnonOverlay,
		Size: strconv.FormatInt(t.Limits.Disk, 10),
	}}
	for range t.Layers {
		confs = append(confs, specutils.GoferMountConf{Lower: specutils.Erofs,
			Upper: specutils.NoOverlay})
	}
	return confs.String()
}
