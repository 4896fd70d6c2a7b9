package gvisor

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/runsc/boot/portforward"

	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/kernfile"
)

// TestHostOutOfMemory: of two sandboxes in a group that has less than both may use, the kernel ends
// one when they use it, and now and then the other one as well, before the memory of the first is
// free. That is not said to be their fault.
func TestHostOutOfMemory(t *testing.T) {
	need.Root(t)
	parent := fmt.Sprintf("sandpool-test-%d", os.Getpid())
	e, err := New(slog.New(slog.NewTextHandler(t.Output(), nil)), Config{Root: t.TempDir(),
		CgroupParent: parent})
	if err != nil {
		t.Fatal(err)
	}
	var above []string
	for _, dir := range e.cgroups.Dirs("any") {
		above = append(above, filepath.Dir(filepath.Dir(dir)))
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, id := range []sandbox.ID{"one", "two"} {
			if err := e.Stop(ctx, sandbox.Handle{ID: id}); err != nil {
				t.Error(err)
			}
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		for _, dir := range above {
			if err := unix.Rmdir(dir); err != nil {
				t.Error(err)
			}
		}
	})
	p := prepare(t, e, template(t, sandbox.Restore))
	one, two := start(t, e, p, "one"), start(t, e, p, "two")
	limitAbove(t, above, 300<<20)

	ends := make(chan sandbox.Exit, 2)
	for _, h := range []sandbox.Handle{one, two} {
		go func() {
			if exit, err := e.Wait(t.Context(), h); err == nil {
				ends <- exit
			}
		}()
		// one of them is cut off
		go func() { _, _ = tryAsk(t.Context(), e, h, "/memory", url.Values{"mb": {"150"}}) }()
	}
	select {
	case exit := <-ends:
		if exit.Reason != sandbox.HostOutOfMemory {
			t.Errorf("the first ended as %+v, want %s", exit, sandbox.HostOutOfMemory)
		}
	case <-time.After(time.Minute):
		t.Fatal("none of two sandboxes that use more than there is has ended")
	}
	select {
	case exit := <-ends:
		if exit.Reason != sandbox.HostOutOfMemory {
			t.Errorf("the second ended as %+v, want %s", exit, sandbox.HostOutOfMemory)
		}
	case <-time.After(time.Second):
	}
}

// limitAbove sets the memory limit of a group that consists of dirs.
func limitAbove(t *testing.T, dirs []string, bytes int64) {
	t.Helper()
	set := 0
	for _, dir := range dirs {
		for _, file := range []string{"memory.limit_in_bytes", "memory.max"} {
			if kernfile.Set(filepath.Join(dir, file), fmt.Sprint(bytes)) == nil {
				set++
			}
		}
	}
	if set != 1 {
		t.Fatalf("%d limits are set in %q, want 1", set, dirs)
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// TestCrash: a sandbox process that fails by itself was not killed from outside, and the log has
// the beginning of what it said, also if it was adopted.
func TestCrash(t *testing.T) {
	for _, adopted := range []bool{false, true} {
		t.Run(fmt.Sprintf("adopted %v", adopted), func(t *testing.T) {
			root := t.TempDir()
			e := openAt(t, root)
			h := start(t, e, prepare(t, e, template(t, sandbox.Restore)), "crash")
			var log lines
			if adopted {
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
				e = openAt(t, root)
			}
			e.log = slog.New(slog.NewTextHandler(&log, nil))
			pid, err := e.mainPID(h.ID)
			if err != nil {
				t.Fatal(err)
			}
			sabotage(t, pid)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			go func() { _, _ = tryAsk(ctx, e, h, "/state", nil) }() // it will not answer
			exit, err := e.Wait(ctx, h)
			if err != nil || exit.Reason != sandbox.Crashed {
				t.Errorf("Wait = %+v, %v; want %s", exit, err, sandbox.Crashed)
			}
			if got := log.String(); !strings.Contains(got, `report="`) ||
				!strings.Contains(got, "illegal instruction") {
				t.Errorf("the log does not say of what it died: %s", got)
			}
		})
	}
}

// sabotage makes a sandbox process, whose program is that of the test, fail when it is dialled.
func sabotage(t *testing.T, pid int) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		need.Except(t, need.Processor, "it knows an illegal instruction of amd64 alone")
	}
	memory, err := os.OpenFile(procPath(pid, "mem"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	const illegal = "\x0f\x0b" // UD2
	if _, err := memory.WriteAt([]byte(illegal),
		int64(reflect.ValueOf(portforward.NewNetstackConn).Pointer())); err != nil {
		t.Fatal(err)
	}
}

// TestReportKeepsTheHead: of a long report the beginning is kept, which says what was wrong.
func TestReportKeepsTheHead(t *testing.T) {
	e := open(t)
	write(t, filepath.Join(e.dir("x"), panicName), "panic: the reason\n"+
		strings.Repeat("goroutine 1\n", 1<<16))
	if got := e.crashReport("x"); !strings.HasPrefix(got, "panic: the reason\n") ||
		len(got) > reportSize {
		t.Errorf("the report is %d bytes and begins with %.40q", len(got), got)
	}
}
