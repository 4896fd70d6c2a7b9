package gvisor

import (
	"encoding/json"
	"fmt"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"gvisor.dev/gvisor/runsc/specutils"

	"github.com/sandpool/sandpool/internal/sandbox"
)

// guestCapabilities is what the first process may do inside the sandbox, to
// things of the sandbox alone: take another user for what it starts, signal
// it, and manage its files. They mean nothing on the host. Raw sockets,
// mounting, tracing other users and changing the network are not among them.
func guestCapabilities() []string {
	return []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"}
}

// Sizes of the guest's memory filesystems. They count towards the sandbox's
// memory limit; the bound makes a full one an error of the writer.
const (
	devSize = 64 << 10
	shmSize = 64 << 20
)

// guestSpec returns the OCI specification of a sandbox of t. It must depend on
// t alone: gVisor refuses to restore a snapshot into a different one.
func guestSpec(t sandbox.Template) ([]byte, error) {
	dir := t.Dir
	if dir == "" {
		dir = "/"
	}
	caps := guestCapabilities()
	s := specs.Spec{
		Version:  "1.2.0",
		Hostname: "sandbox",
		Root:     &specs.Root{Path: "/"},
		Process: &specs.Process{
			Args: t.Args,
			Env:  t.Env,
			Cwd:  dir,
			Capabilities: &specs.LinuxCapabilities{
				Bounding: caps, Effective: caps, Permitted: caps,
			},
			NoNewPrivileges: true,
			Rlimits: []specs.POSIXRlimit{
				{Type: "RLIMIT_NOFILE", Soft: 65536, Hard: 65536},
				{Type: "RLIMIT_CORE"},
				{Type: "RLIMIT_NPROC", Soft: uint64(t.Limits.PIDs), Hard: uint64(t.Limits.PIDs)},
			},
		},
		Mounts: guestMounts(t),
		Annotations: map[string]string{
			"dev.gvisor.spec.rootfs.type":    "erofs",
			"dev.gvisor.spec.rootfs.source":  t.Root.Path,
			"dev.gvisor.spec.rootfs.overlay": "memory",
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace},
			},
			MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode the guest's specification: %w", err)
	}
	return data, nil
}

func guestMounts(t sandbox.Template) []specs.Mount {
	size := func(n int64) string { return "size=" + strconv.FormatInt(n, 10) }
	hard := []string{"nosuid", "noexec", "nodev"}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: hard},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: append([]string{"ro"}, hard...)},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", size(devSize)}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: append([]string{"mode=1777", size(shmSize)}, hard...)},
		{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "mode=1777", size(min(t.Limits.Disk, t.Limits.Memory/2))}},
	}
	for _, l := range t.Layers {
		mounts = append(mounts, specs.Mount{
			Destination: l.Target, Type: "erofs", Source: l.Path, Options: []string{"ro", "nosuid", "nodev"},
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
		Lower: specutils.Erofs, Upper: specutils.AnonOverlay, Size: strconv.FormatInt(t.Limits.Disk, 10),
	}}
	for range t.Layers {
		confs = append(confs, specutils.GoferMountConf{Lower: specutils.Erofs, Upper: specutils.NoOverlay})
	}
	return confs.String()
}
