package guest

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// reap waits for every process that ends as a child of this one: orphans of the
// sandbox, since this is its first process, and the nursery. It returns when ctx ends.
func reap(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	for {
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if err == unix.EINTR {
				continue
			}
			if err != nil || pid <= 0 {
				break
			}
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return
		}
	}
}
