package guest

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper waits for every process that ends as a child of this one: kernels, and
// the orphans of the sandbox, since this is its first process.
type reaper struct {
	mu   sync.Mutex                      // guards what follows, and is held from a start or a wait to its record
	exit map[int]chan syscall.WaitStatus // of processes that somebody waits for
}

func newReaper() *reaper { return &reaper{exit: map[int]chan syscall.WaitStatus{}} }

// start starts a program; how it ended arrives in the channel. It is not
// os/exec, whose Wait and ours would wait for the same process.
func (r *reaper) start(args []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(args[0], args, attr)
	if err != nil {
		return 0, nil, fmt.Errorf("start %q: %w", args[0], err)
	}
	exit := make(chan syscall.WaitStatus, 1)
	r.exit[pid] = exit
	return pid, exit, nil
}

// run reaps until ctx ends.
func (r *reaper) run(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	for {
		for r.reap() {
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return
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
