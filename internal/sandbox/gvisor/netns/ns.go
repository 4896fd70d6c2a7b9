package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// own is the namespace of the calling thread.
const own = "/proc/thread-self/ns/net"

// within runs do on a thread in the namespace ns. The thread comes back: one that ended in a
// foreign namespace could keep it, and the links in it, for as long as the kernel likes.
func within(ns *os.File, do func() error) error {
	runtime.LockOSThread()
	home, err := os.Open(own)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	err = do()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		// The thread stays locked, and ends with its goroutine.
		return errors.Join(err, fmt.Errorf("leave a network namespace: %w", back))
	}
	runtime.UnlockOSThread()
	return err
}

// makeNamespace makes a network namespace that path holds.
func makeNamespace(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a file for the gateway's namespace: %w", err)
	}
	f.Close()
	runtime.LockOSThread()
	home, err := os.Open(own)
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	err = unix.Mount(own, path, "", unix.MS_BIND, "")
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return nil, errors.Join(err, back)
	}
	runtime.UnlockOSThread()
	if err != nil {
		return nil, fmt.Errorf("hold the gateway's namespace: %w", err)
	}
	return openNamespace(path)
}

// openNamespace opens what makeNamespace has made. It is nil if there is none, or what is there
// holds none any more.
func openNamespace(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if fs.Type != unix.NSFS_MAGIC {
		return nil, f.Close()
	}
	return f, nil
}

// dropNamespace takes both away.
func dropNamespace(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) &&
		!errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("let go of the gateway's namespace: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// setting is a file below /proc/sys/net of the calling thread's namespace, and what is written to
// it.
type setting struct{ path, value string }

func apply(list []setting) error {
	for _, s := range list {
		if err := os.WriteFile(filepath.Join("/proc/sys/net", s.path), []byte(s.value),
			0); err != nil {
			return err
		}
	}
	return nil
}
