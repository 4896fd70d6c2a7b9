package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Lack is something that the host does not have, or does not let this process have.
type Lack struct {
	Err error
	Fix string // a sentence: how to get it
}

// Error implements error.
func (l *Lack) Error() string { return fmt.Sprintf("%v. %s", l.Err, l.Fix) }

// Unwrap makes errors.Is look at the cause.
func (l *Lack) Unwrap() error { return l.Err }

// lacking adds advice to an error of the kernel.
func lacking(err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return &Lack{err, "Mount it writable (mount -o remount,rw); a container needs a writable " +
			"cgroup filesystem of its own."}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return &Lack{err, "Run the server as root, and have whatever manages this group delegate " +
			"it (in a systemd unit, Delegate=yes)."}
	case errors.Is(err, unix.EBUSY):
		return &Lack{err, "Leave the group to the server alone: name one that nothing else " +
			"manages (cgroup_parent)."}
	case errors.Is(err, fs.ErrNotExist):
		return &Lack{err, "Enable the controllers " + fmt.Sprint(controllers()) +
			" in the group above (in a systemd unit, Delegate=yes)."}
	case errors.Is(err, unix.ENOSYS):
		return &Lack{err,
			"Have nothing filter the server's system calls (in a systemd unit, neither RestrictNamespaces= nor SystemCallFilter=)."}
	case errors.Is(err, unix.ENOSPC):
		return &Lack{err, "The machine has no room for more cgroups: end what holds them, or " +
			"raise cgroup.max.descendants of the groups above."}
	default:
		return err
	}
}

// Check does once what an engine does with the parent group called name, and with the group
// of a sandbox, and takes it back. It says which version of cgroups this host has, or returns a
// Lack.
func Check(name string) (detail string, err error) {
	m, err := find()
	if err != nil {
		return "", err
	}
	t, err := m.open(fmt.Sprintf("%s/check-%d", name, os.Getpid()))
	if err != nil {
		return "", err
	}
	detail = "cgroup v1"
	if _, ok := t.version.(v2); ok {
		detail = "cgroup v2 at " + m.v2
	}
	if t.left != "" {
		detail += "; the server will move itself into " + t.left + "/" + leafName
	}
	return detail, errors.Join(t.try("probe"), t.removeProbe("probe"), t.Close(), t.goBack())
}

// try makes a group, starts a process in it that has no program, and measures it.
func (t *Tree) try(id sandbox.ID) error {
	const nowhere = "/proc/self/there-is-no-such-program"
	if err := t.Create(id, sandpool.Resources{Memory: 64 << 20, PIDs: 64}); err != nil {
		return lacking(err)
	}
	if err := t.LimitCPU(id, 1); err != nil {
		return lacking(err)
	}
	if err := t.SetWeight(id, 100); err != nil {
		return lacking(err)
	}
	// The new process is in the group before it looks for its program.
	err := t.Start(id, &exec.Cmd{Path: nowhere, Args: []string{"check"}})
	var notFound *fs.PathError
	if !errors.As(err, &notFound) || notFound.Path != nowhere || !errors.Is(err, unix.ENOENT) {
		return lacking(fmt.Errorf("start a process in a cgroup: %w", err))
	}
	if _, err := t.Usage(id); err != nil {
		return lacking(fmt.Errorf("measure a cgroup: %w", err))
	}
	if _, err := t.Want(id); err != nil {
		return lacking(fmt.Errorf("count the ends of a cgroup for want of memory: %w", err))
	}
	events, err := t.OOMEvents(id)
	if err != nil {
		return lacking(err)
	}
	if events != nil {
		return events.Close()
	}
	return nil
}

// removeProbe removes a group in which no process was.
func (t *Tree) removeProbe(id sandbox.ID) error {
	end := time.Now().Add(5 * time.Second)
	return removeAll(t.Dirs(id), func(d time.Duration) error {
		if time.Now().After(end) {
			return os.ErrDeadlineExceeded
		}
		time.Sleep(d)
		return nil
	})
}
