package kube

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing/fstest"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pattern"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/passwd"
)

func invalid(target, format string, args ...any) error {
	return sandpool.Errorf(sandpool.Invalid, "InvalidTemplate", target, format, args...)
}

func unsupported(target, format string, args ...any) error {
	return sandpool.Errorf(sandpool.Unsupported, "NotOnKubernetes", target, format, args...)
}

// envName is what Kubernetes takes as the name of a variable.
var envName = pattern.Lazy(`^[-._a-zA-Z][-._a-zA-Z0-9]*$`)

// checkTemplate refuses what no pod can be made of.
func checkTemplate(t sandbox.Template) error {
	switch {
	case t.Start == sandbox.Restore && len(t.SecretEnv) > 0:
		return invalid("secretEnv", "A snapshot would hold the secret %q.", t.SecretEnv[0].Name)
	case t.Start == sandbox.Restore:
		return unsupported("start",
			"Pods are not restored from snapshots: use the start mode %q.", sandbox.Boot)
	case t.Start != sandbox.Boot:
		return invalid("start", "The start mode %q is unknown; use %q.", t.Start, sandbox.Boot)
	case t.Channel:
		return unsupported("channel", "The first process of a pod has no channel.")
	case len(t.Args) == 0 || t.Args[0] == "":
		return invalid("args", "The command line %q names no program.", t.Args)
	case t.Dir != "" && !path.IsAbs(t.Dir):
		return invalid("dir", "The working directory %q must be an absolute path.", t.Dir)
	case t.StopSignal != "" && sandbox.ParseSignal(t.StopSignal) == 0:
		return invalid("stopSignal",
			"The stop signal %.60q is unknown; use a name such as SIGTERM, or a number.",
			t.StopSignal)
	case t.Root.Reference == "":
		return invalid("image", "The template names no image.")
	}
	for _, kv := range t.Env {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || !envName().MatchString(name) {
			return invalid("env", "The environment entry %q has no name that Kubernetes takes.", kv)
		}
	}
	for _, v := range t.SecretEnv {
		if !envName().MatchString(v.Name) {
			return invalid("secretEnv",
				"The name %q of a secret variable is none that Kubernetes takes.", v.Name)
		}
	}
	for _, c := range t.Capabilities {
		if !slices.Contains(sandbox.DefaultCapabilities(), c) {
			return invalid("capabilities",
				"The capability %q is unknown, or reaches beyond the sandbox.", c)
		}
	}
	return checkLimits(t.Limits)
}

func checkLimits(l sandpool.Resources) error {
	switch {
	case l.CPU < 0.01 || l.CPU > 4096:
		return invalid("limits.cpu", "The CPU limit is %g cores; use 0.01 to 4096.", l.CPU)
	case l.Memory < 16<<20:
		return invalid("limits.memory", "The memory limit is %d bytes; use at least %d.",
			l.Memory, 16<<20)
	case l.PIDs <= 0:
		return invalid("limits.pids", "The limit of processes is %d; use 1 or more.", l.PIDs)
	case l.Disk < 1<<20:
		return invalid("limits.disk", "The limit of the disk is %d bytes; use at least %d.", l.Disk,
			1<<20)
	}
	return nil
}

// userOf finds who the first process is. Pods know numbers alone.
func (e *Engine) userOf(ctx context.Context, t sandbox.Template) (passwd.Identity, error) {
	named := false
	for _, name := range append(strings.SplitN(t.User, ":", 2), t.Groups...) {
		named = named || strings.Trim(name, "0123456789") != ""
	}
	root, err := fstest.MapFS{}, error(nil)
	if !named {
		return passwd.Lookup(root, t.User, t.Groups)
	}
	if e.cfg.Accounts == nil {
		return passwd.Identity{}, unsupported("user",
			"The image's user %q has a name, and pods know numbers alone: let the image name its "+
				"user by a number.", t.User)
	}
	files, err := e.cfg.Accounts(ctx, t.Root)
	if err != nil {
		return passwd.Identity{}, fmt.Errorf("users of image %q: %w", t.Root.Reference, err)
	}
	return passwd.Lookup(files, t.User, t.Groups)
}

// checkUser refuses who may not be in a pod here.
func (e *Engine) checkUser(t sandbox.Template, user passwd.Identity) error {
	if e.cfg.Privileged || user.UID != 0 {
		return nil
	}
	return unsupported("user", "The image runs as root, which this server's cluster does not allow: "+
		"let the image have another user, by its number.")
}

// errForeign is the error of a Start that got what another engine value prepared.
var errForeign = errors.New("another engine value prepared the template")
