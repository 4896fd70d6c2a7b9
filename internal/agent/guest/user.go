package guest

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/agent/guest/process"
)

// unchanged leaves an id of a setres[ug]id call as it is.
const unchanged = ^uintptr(0)

// User is who cells run as.
type User struct{ UID, GID int }

// credential is what a process of the user starts with: no other groups.
func (u User) credential() *syscall.Credential { return process.Credential(u.UID, u.GID) }

// do calls f on a thread whose effective ids are the user's. Real and saved ids stay
// root's, so that the user can neither signal nor trace the thread. f must not
// start goroutines that rely on the ids.
//
// The calls are raw, because those of package unix change every thread.
func (u User) do(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		back, err := u.become()
		if err != nil {
			result <- err
			return // the thread ends with its goroutine, still locked
		}
		err = f()
		if back() {
			runtime.UnlockOSThread()
		}
		result <- err
	}()
	return <-result
}

// become changes the calling thread and returns how to change it back.
func (u User) become() (back func() bool, err error) {
	if os.Geteuid() != 0 {
		return func() bool { return true }, nil
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, unchanged, uintptr(u.GID),
		unchanged); e != 0 {
		return nil, fmt.Errorf("act as group %d: %w", u.GID, e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, unchanged, uintptr(u.UID),
		unchanged); e != 0 {
		return nil, fmt.Errorf("act as user %d: %w", u.UID, e)
	}
	return func() bool {
		_, _, e1 := unix.RawSyscall(unix.SYS_SETRESUID, unchanged, 0, unchanged)
		_, _, e2 := unix.RawSyscall(unix.SYS_SETRESGID, unchanged, 0, unchanged)
		return e1 == 0 && e2 == 0
	}, nil
}

// killPatience is how long killed processes may take to be gone.
const killPatience = 3 * time.Second

// killAll kills every process but this one, all in one system call, which even
// a fork bomb does not outrun, and waits until they are gone. It is for the
// first process of a sandbox only, where all others are the user's: elsewhere it
// would reach processes that are none of ours.
func killAll() error {
	if os.Getpid() != 1 {
		return nil
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(killPatience); time.Now().Before(end); <-tick.C {
		switch err := unix.Kill(-1, unix.SIGKILL); err {
		case nil:
		case unix.ESRCH:
			return nil
		default:
			return fmt.Errorf("kill the processes of the sandbox: %w", err)
		}
	}
	return nil // all have their signal; whoever is left is on its way out
}
