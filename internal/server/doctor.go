package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sandpool/sandpool/internal/descriptor"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor"
	"github.com/sandpool/sandpool/internal/server/datadir"
	"github.com/sandpool/sandpool/internal/server/engine"
)

// CheckFor says what a server with cfg has and lacks: of this machine, or of the cluster if that is
// asked for or cfg has its engine. To try network policies it makes three pods for a moment.
func CheckFor(ctx context.Context, cfg Config, cluster bool) []sandbox.Requirement {
	if !cluster && cfg.Engine != engine.InKubernetes {
		return Check(cfg)
	}
	return append(cfg.Kubernetes.Check(ctx), datadir.Check(cfg.DataDir), checkFiles())
}

// Check says what this machine has and lacks for serving. What only some uses need, such as
// building an image, is OK with a Fix. It takes back what it does; see gvisor.CheckHost.
func Check(cfg Config) []sandbox.Requirement {
	found := append(gvisor.CheckHost(cfg.gvisor()), datadir.Check(cfg.DataDir))
	program, err := cfg.agentProgram()
	if err != nil {
		program = err.Error()
	}
	found = append(found, checkFiles(), checkRoom(cfg), checkAgent(program),
		checkImage(cfg.Images()), checkTools())
	for _, r := range gvisor.CheckNetwork(cfg.Network.IPv6) {
		r.OK = true // a server without it serves pools without a network
		found = append(found, r)
	}
	return found
}

// enoughFiles is what the largest pool by default needs: some eight descriptors for each of 600
// sandboxes, a dozen for each that starts, and as many again for connections.
const enoughFiles = 8192

// fewestFiles is what one sandbox takes: its process gives its standard streams the numbers from
// 253 on.
const fewestFiles = 256

// checkFiles raises the limit, as serve does.
func checkFiles() sandbox.Requirement {
	limit, err := descriptor.Raise()
	if err != nil {
		return sandbox.Requirement{Name: "file descriptors", Detail: err.Error(),
			Fix: "Find out why prlimit(2) fails."}
	}
	return filesWithin(limit)
}

// filesWithin is the requirement under a limit of descriptors.
func filesWithin(limit uint64) sandbox.Requirement {
	r := sandbox.Requirement{Name: "file descriptors", OK: limit >= fewestFiles,
		Detail: fmt.Sprintf("%d, of which %d for connections", limit, descriptor.Share(limit))}
	switch {
	case !r.OK:
		r.Fix = fmt.Sprintf("No sandbox starts with so few: raise the limit to %d (ulimit -n; "+
			"in a systemd unit, LimitNOFILE=).", enoughFiles)
	case limit < enoughFiles:
		r.Fix = fmt.Sprintf(
			"Many sandboxes need more: raise the limit to %d (ulimit -n; in a systemd unit, LimitNOFILE=).",
			enoughFiles)
	}
	return r
}

// checkAgent looks for what runs in every sandbox.
func checkAgent(program string) sandbox.Requirement {
	r := sandbox.Requirement{Name: "sandpool-agent", OK: true, Detail: program}
	if info, err := os.Stat(program); err != nil || !info.Mode().IsRegular() {
		r.OK, r.Detail = false, "not at "+program
		r.Fix = "Install it beside sandpool, or name it with the setting agent."
	}
	return r
}

// checkImage looks for the image that pools use by default. Servers start without one.
func checkImage(dir string) sandbox.Requirement {
	r := sandbox.Requirement{Name: "image " + defaultImage, OK: true, Detail: dir}
	images, err := image.Open(dir)
	if err == nil {
		_, err = images.Resolve(defaultImage)
	}
	if err != nil {
		r.Detail, r.Fix = "not in "+dir, "Python pools need it: sandpool image build "+defaultImage
	}
	return r
}

// checkTools looks for what building an image needs.
func checkTools() sandbox.Requirement {
	r := sandbox.Requirement{Name: "image build", OK: true,
		Detail: "mmdebstrap, its tools and the archive's keys"}
	if lacking := image.Lacking(); len(lacking) > 0 {
		list := strings.Join(lacking, " ")
		r.Detail, r.Fix = "not installed: "+
			list, "Building an image needs it: apt-get install "+list
	}
	return r
}

// existing returns the nearest directory at or above path that exists.
func existing(path string) string {
	for {
		if info, err := os.Stat(path); err == nil && info.IsDir() || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}
