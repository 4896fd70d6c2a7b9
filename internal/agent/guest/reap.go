package guest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper waits for every process that ends as a child of this one: kernels, and
// the orphans of the sandbox, since this is its first process.
type reaper struct {
	started chan struct{} // holds a value after a start

	// guards what follows, and is held from a start or a wait to its record
	mu   sync.Mutex
	exit map[int]chan syscall.WaitStatus // of processes that somebody waits for
}

func newReaper() *reaper {
	return &reaper{started: make(chan struct{}, 1), exit: map[int]chan syscall.WaitStatus{}}
}

// start starts a program; how it ended arrives in the channel. It is not
// os/exec, whose Wait and ours would wait for the same process.
func (r *reaper) start(args []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus,
	error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(args[0], args, attr)
	if err != nil {
		return 0, nil, fmt.Errorf("start %q: %w", args[0], err)
	}
	exit := make(chan syscall.WaitStatus, 1)
	r.exit[pid] = exit
	select {
	case r.started <- struct{}{}:
	default:
	}
	return pid, exit, nil
}

// run reaps until ctx ends, and then until the next process does. It blocks a thread rather than
// take SIGCHLD: os/signal keeps three, and each thread is in the snapshot and in every restore.
func (r *reaper) run(ctx context.Context) {
	for ctx.Err() == nil {
		// The process stays to be waited for under the lock: its start may not be recorded yet.
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		for r.reap() {
		}
		if !errors.Is(err, unix.ECHILD) {
			continue
		}
		select { // there is nothing to wait for
		case <-r.started:
		case <-ctx.Done():
		}
	}
}

// reap waits for one process and reports false if none has ended.
func (r *reaper) reap() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var status unix.WaitStatus
	pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
	if err == unix.EINTR {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	if exit, ok := r.exit[pid]; ok {
		exit <- syscall.WaitStatus(status)
		delete(r.exit, pid)
	}
	return true
}
