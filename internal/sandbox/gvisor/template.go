package gvisor

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"runtime/debug"
	"strings"

	"gvisor.dev/gvisor/pkg/cpuid"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// layout is the version of what the engine makes of a template. It is part of
// a snapshot's key: raise it with every change of guestSpec, of the sentry's
// flags or of the snapshot's files.
const layout = 2

func invalid(target, format string, args ...any) error {
	return sandpool.Errorf(sandpool.Invalid, "InvalidTemplate", target, format, args...)
}

// checkTemplate refuses what the engine cannot run, before anything is made.
func checkTemplate(t sandbox.Template) error {
	switch {
	case t.Network == sandpool.EgressEnabled:
		return sandpool.Errorf(sandpool.Unsupported, "NetworkStatusNotSupported", "sessionNetworkConfiguration.status",
			"The gVisor engine has no way out to the network yet; use EgressDisabled.")
	case t.Network != sandpool.EgressDisabled && t.Network != "":
		return invalid("network", "The network status %q is unknown; use EgressDisabled.", t.Network)
	case len(t.Args) == 0 || !path.IsAbs(t.Args[0]):
		return invalid("args", "The command line %q must begin with an absolute path inside the root filesystem.", t.Args)
	case t.Dir != "" && !path.IsAbs(t.Dir):
		return invalid("dir", "The working directory %q must be an absolute path inside the sandbox.", t.Dir)
	case t.Ready.Port < 1 || t.Ready.Port > 65535:
		return invalid("ready.port", "The readiness check's port is %d; use 1 to 65535.", t.Ready.Port)
	case !strings.HasPrefix(t.Ready.Path, "/"):
		return invalid("ready.path", "The readiness check's path %q must begin with a slash.", t.Ready.Path)
	case t.Start != sandbox.Restore && t.Start != sandbox.Boot:
		return invalid("start", "The start mode %q is unknown; use %q or %q.", t.Start, sandbox.Restore, sandbox.Boot)
	}
	for _, kv := range t.Env {
		if i := strings.IndexByte(kv, '='); i < 1 {
			return invalid("env", "The environment entry %q is not of the form KEY=value.", kv)
		}
	}
	if err := checkLimits(t.Limits); err != nil {
		return err
	}
	return checkLayers(t)
}

// minMemory is what the sentry itself needs to start and to say no.
const minMemory = 64 << 20

func checkLimits(l sandbox.Limits) error {
	switch {
	case l.CPU < 0.01 || l.CPU > 4096:
		return invalid("limits.cpu", "The CPU limit is %g cores; use 0.01 to 4096.", l.CPU)
	case l.Memory < minMemory:
		return invalid("limits.memory", "The memory limit is %d bytes; use at least %d.", l.Memory, minMemory)
	case l.PIDs < 64:
		return invalid("limits.pids", "The limit of host threads is %d; use at least 64, the sandbox's own kernel needs about 40.", l.PIDs)
	case l.Disk < 1<<20:
		return invalid("limits.disk", "The limit of the writable layer is %d bytes; use at least %d.", l.Disk, 1<<20)
	}
	return nil
}

func checkLayers(t sandbox.Template) error {
	if err := checkImage("root", t.Root); err != nil {
		return err
	}
	if t.Root.Target != "" && t.Root.Target != "/" {
		return invalid("root.target", "The root filesystem's target is %q; leave it empty.", t.Root.Target)
	}
	for i, l := range t.Layers {
		name := fmt.Sprintf("layers[%d]", i)
		if err := checkImage(name, l); err != nil {
			return err
		}
		if !path.IsAbs(l.Target) || path.Clean(l.Target) != l.Target || l.Target == "/" {
			return invalid(name+".target", "The layer's target %q must be a clean absolute path below /.", l.Target)
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
		return invalid(name+".digest", "The layer %q has no digest; a snapshot's key needs it.", l.Path)
	}
	if !path.IsAbs(l.Path) {
		return invalid(name+".path", "The image %q must be an absolute path on the host.", l.Path)
	}
	f, err := os.Open(l.Path)
	if err != nil {
		return &sandpool.Error{Class: sandpool.Invalid, Code: "InvalidTemplate", Target: name + ".path",
			Message: fmt.Sprintf("The image %q cannot be opened; build or pull it first.", l.Path), Err: err}
	}
	defer f.Close()
	magic := make([]byte, len(erofsMagic))
	if _, err := f.ReadAt(magic, erofsOffset); err != nil || !bytes.Equal(magic, []byte(erofsMagic)) {
		return invalid(name+".path", "The file %q is not an EROFS image; make it with mkfs.erofs -Enoinline_data.", l.Path)
	}
	return nil
}

// snapshotKey names the snapshot of t on this machine by this engine. A
// snapshot holds gVisor's own data structures and the processor features that programs
// saw when they started, so both are part of it.
func snapshotKey(t sandbox.Template) (string, error) {
	cpuid.Initialize()
	fs := cpuid.HostFeatureSet()
	t.Ready.Timeout = 0 // how long one waits does not change what one gets
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

// gvisorVersion returns the version of the gVisor module in this binary.
func gvisorVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == "gvisor.dev/gvisor" {
			return m.Version + " " + m.Sum
		}
	}
	return "unknown"
}
