package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

func plain(f func() error) error { return f() }

func open(t *testing.T, data, top string) *Watch {
	t.Helper()
	w, err := Open(data, top, plain, func(name string) bool { return !strings.HasPrefix(name, ".up-") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// until reads events, as text, until one is as wanted.
func until(t *testing.T, w *Watch, last string) string {
	t.Helper()
	var all []string
	for {
		events, err := w.Next()
		if err != nil {
			t.Fatalf("after %q: %v", all, err)
		}
		for _, e := range events {
			text := strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Type, e.Path, e.From))
			if all = append(all, text); text == last {
				return strings.Join(all, ", ")
			}
		}
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What happens in a tree is told, in directories too that appear, move and go.
func TestWatch(t *testing.T) {
	data := t.TempDir()
	in := func(name string) string { return filepath.Join(data, "top", name) }
	write := func(name, text string) error { return os.WriteFile(in(name), []byte(text), 0o600) }
	must(t, os.MkdirAll(in("a/b"), 0o700), write("a/b/old", "1"), os.Mkdir(data+"/out", 0o700))
	w := open(t, data, "top")
	must(t, write("a/b/new", "1"))
	got := until(t, w, "created top/a/b/new")
	must(t, os.Remove(in("a/b/old")))
	got += ", " + until(t, w, "removed top/a/b/old")
	must(t, os.Mkdir(in("c"), 0o700), write("c/in", "1"))
	got += ", " + until(t, w, "created top/c/in")
	must(t, os.Rename(in("a/b"), in("c/d")), write("c/d/late", "1"))
	got += ", " + until(t, w, "created top/c/d/late")
	must(t, os.Rename(in("c/d/late"), data+"/out/late"), write("end", ""))
	got += ", " + until(t, w, "created top/end")
	must(t, write(".up-1", "1"), os.Rename(in(".up-1"), in("whole")),
		os.Rename(data+"/out/late", in("back")))
	got += ", " + until(t, w, "created top/back")
	for _, want := range []string{"created top/c, ", "moved top/c/d top/a/b, ",
		"removed top/c/d/late", "created top/whole"} {
		if !strings.Contains(got, want) {
			t.Errorf("the events are %s, without %s", got, want)
		}
	}
	if strings.Contains(got, "top/.up-") || strings.Contains(got, "moved top/whole") {
		t.Errorf("a file that was arriving is told: %s", got)
	}
	must(t, os.RemoveAll(in(".")))
	for {
		if _, err := w.Next(); err != nil {
			if !strings.Contains(err.Error(), "gone") {
				t.Error(err)
			}
			return
		}
	}
}

// A directory that was moved away is watched no more, until it comes back.
func TestAway(t *testing.T) {
	data := t.TempDir()
	must(t, os.MkdirAll(data+"/top/a/b", 0o700), os.Mkdir(data+"/out", 0o700))
	w := open(t, data, "top")
	must(t, os.Rename(data+"/top/a", data+"/out/a"), os.WriteFile(data+"/top/1", nil, 0o600))
	until(t, w, "created top/1")
	must(t, os.WriteFile(data+"/out/a/b/secret", nil, 0o600),
		os.WriteFile(data+"/top/2", nil, 0o600))
	if got := until(t, w, "created top/2"); strings.Contains(got, "secret") {
		t.Errorf("what is elsewhere is told: %s", got)
	}
	must(t, os.Rename(data+"/out/a", data+"/top/c"), os.WriteFile(data+"/top/c/b/3", nil, 0o600))
	until(t, w, "created top/c/b/3")
}

// A reader that takes nothing costs no more than its bound: the system's queue is emptied.
func TestIdleReader(t *testing.T) {
	data := t.TempDir()
	w := open(t, data, ".")
	for i := range MaxQueue + 100 {
		must(t, os.WriteFile(fmt.Sprintf("%s/%d", data, i), nil, 0o600))
	}
	conn, err := w.file.SyscallConn()
	must(t, err)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for left := 1; left > 0; <-tick.C {
		must(t, conn.Control(func(fd uintptr) {
			left, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		}), err)
	}
	must(t, os.WriteFile(data+"/end", nil, 0o600))
	if got := until(t, w, "created end"); !strings.HasPrefix(got, "overflow, ") {
		t.Errorf("of more than there is room for is told %.200s", got)
	}
}

// What takes a directory's place holds up nobody.
func TestPipeInPlace(t *testing.T) {
	data := t.TempDir()
	must(t, unix.Mkfifo(data+"/pipe", 0o600))
	w := open(t, data, ".")
	if _, err := w.look("pipe", data+"/pipe", false); err == nil {
		t.Error("a pipe is looked into as a directory")
	}
	must(t, os.Symlink("/etc", data+"/link"))
	if _, err := w.look("link", data+"/link", false); err == nil {
		t.Error("a link is followed")
	}
}

// A watch that is closed ends who waits for it.
func TestClose(t *testing.T) {
	w := open(t, t.TempDir(), ".")
	ended := make(chan error)
	go func() {
		_, err := w.Next()
		ended <- err
	}()
	must(t, w.Close())
	if err := <-ended; err == nil {
		t.Error("Next returns events of a watch that is closed")
	}
}

// Many changes of one file that nobody has read are one, and more than there is room for give way
// to an event that says so.
func TestBounds(t *testing.T) {
	w := &Watch{dirs: map[int32]string{1: ""}, want: func(string) bool { return true }}
	for range 10 {
		w.tell(agent.FileModified, "a", false)
	}
	if len(w.queue) != 1 {
		t.Errorf("%d events for one file", len(w.queue))
	}
	for i := range MaxQueue {
		w.tell(agent.FileCreated, fmt.Sprint(i), false)
	}
	if len(w.queue) != 1 || w.queue[0].Type != agent.FileOverflow {
		t.Errorf("%d events, the first %+v", len(w.queue), w.queue[0])
	}
	for range maxQueued / 4000 {
		w.tell(agent.FileCreated, strings.Repeat("x", 4000), false)
	}
	if w.bytes > maxQueued || w.queue[0].Type != agent.FileOverflow {
		t.Errorf("%d bytes wait", w.bytes)
	}
	w.paths = maxPaths
	if err := w.add("x", 1, false); sandpool.ClassOf(err) != sandpool.TooLarge {
		t.Errorf("more paths than there is room for: %v", err)
	}
}

// Only a directory can be watched, and of names that are no UTF-8 the bytes are told.
func TestNames(t *testing.T) {
	data := t.TempDir()
	must(t, os.WriteFile(data+"/file", nil, 0o600))
	for _, top := range []string{"file", "none"} {
		if w, err := Open(data, top, plain, nil); err == nil {
			t.Errorf("%s is watched: %v", top, w.Close())
		}
	}
	w := open(t, data, ".")
	must(t, os.WriteFile(data+"/\xff", nil, 0o600))
	events, err := w.Next()
	if err != nil || string(events[0].Raw) != "\xff" {
		t.Errorf("%+v, %v", events, err)
	}
}
