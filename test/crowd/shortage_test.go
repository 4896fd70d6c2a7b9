package crowd_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/server"
	"golang.org/x/sys/unix"
)

// alone makes one pool that keeps nothing ready.
func alone(t *testing.T, c *client.Client) {
	t.Helper()
	most, ready := 20, 0
	if _, err := c.PutPool(t.Context(), poolName(0), api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{ContainerType: string(sandpool.PythonLTS),
			ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
				ReadySessionInstances: &ready}}}); err != nil {
		t.Fatal(err)
	}
}

// begin asks for a session until the machine is full, and returns how many there are then.
func begin(t *testing.T, c *client.Client, from int, lack string) (served int) {
	t.Helper()
	for n := from; n < from+20; n++ {
		_, err := c.Execute(t.Context(), poolName(0), fmt.Sprintf("user-%d", n),
			client.Run{Code: "1+1", Timeout: time.Minute})
		var e *sandpool.Error
		if errors.As(err, &e) && e.Code == "MachineFull" {
			if e.RetryAfter <= 0 || !strings.Contains(e.Message, "not enough "+lack) {
				t.Errorf("the machine is full: %+v, want that it has not enough %s", e, lack)
			}
			return n - from
		}
		if err != nil {
			t.Fatalf("session %d: %v", n, err)
		}
	}
	t.Fatalf("20 sessions began, and the machine has never not enough %s", lack)
	return 0
}

// still checks that a session that was there before answers.
func still(t *testing.T, c *client.Client, n int) {
	t.Helper()
	e, err := c.Execute(t.Context(), poolName(0), fmt.Sprintf("user-%d", n),
		client.Run{Code: "6*7", Timeout: time.Minute})
	if err != nil || string(e.Result.ExecutionResult) != "42" {
		t.Errorf("session %d: %s, %v", n, e.Result.ExecutionResult, err)
	}
}

// TestThreadsRunOut: in a group with few threads as many sessions begin as it bears, and not one of
// them meets the limit.
func TestThreadsRunOut(t *testing.T) {
	c := serve(t, func(cfg *server.Config) {
		cfg.CgroupParent = machine(t, "pids", 500) + "/sandboxes"
	})
	alone(t, c)
	served := begin(t, c, 0, "threads")
	if served < 2 || served > 10 {
		t.Errorf("500 threads are enough for %d sessions", served)
	}
	for n := range served {
		still(t, c, n)
	}
}

// TestDiskRunsOut: a session needs some of the disk of the data directory. What fills it up keeps
// new sessions away, and only for as long as it is there.
func TestDiskRunsOut(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=900m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	c := serve(t, func(cfg *server.Config) {
		cfg.DataDir, cfg.Reserve.DiskMB = filepath.Join(dir, "data"), 100
	})
	alone(t, c)
	still(t, c, 0)
	fill := filepath.Join(dir, "fill")
	var s unix.Statfs_t
	f, err := os.Create(fill)
	if err == nil {
		defer f.Close()
		err = unix.Statfs(dir, &s)
	}
	if err == nil {
		err = unix.Fallocate(int(f.Fd()), 0, 0, int64(s.Bavail)*s.Bsize-110<<20)
	}
	if err != nil {
		t.Fatal(err)
	}
	next := 1 + begin(t, c, 1, "disk space") // some, until the machine is measured
	if served := begin(t, c, next, "disk space"); served > 0 {
		t.Errorf("%d sessions began on a full disk", served)
	}
	still(t, c, 0)
	if err = os.Remove(fill); err == nil {
		err = f.Truncate(0)
	}
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := c.Execute(t.Context(), poolName(0), "after",
			client.Run{Code: "1", Timeout: time.Minute})
		if err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("when the disk has room again: %v", err)
		}
	}
}
