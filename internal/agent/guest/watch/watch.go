// Package watch tells what happens to the files beneath a directory, as it happens.
//
// Linux (inotify(7)), and gVisor as well, watch one directory at a time and not what is beneath it.
// So each directory is watched, and one that appears is watched before it is looked into: what is
// in it by then is told as created, some of it perhaps twice. What a reader has made of the events
// so far and a list agree once nothing happens any more; that is what a watch promises.
//
// Nothing waits for a reader. The system's own queue has no bound in gVisor, so that it is emptied
// all the time. Events that a reader has not taken are kept up to MaxQueue; beyond it, and where
// the system itself has lost some, all of them give way to one event that says so, after which the
// reader lists again. Several changes of one file that nobody has read are one.
//
// The directories are the user's, who may put anything in their place at any time: they are opened
// in a way that waits for nothing, and read a piece at a time.
package watch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// Bounds of a watch.
const (
	MaxQueue       = 4096    // events that wait for their reader
	maxQueued      = 1 << 20 // bytes of them
	MaxDirectories = 8192    // that are watched
	maxPaths       = 4 << 20 // bytes of their paths
	maxDepth       = 100     // levels below the top
)

const mask = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_DELETE |
	unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW

// Watch is a watch of one directory and all beneath it.
type Watch struct {
	file *os.File
	root string // on this system
	top  string // what paths begin with: the directory's, from the data directory
	as   func(func() error) error
	want func(string) bool

	// Of Open, then of the goroutine that empties the system's queue.
	dirs  map[int32]string // by watch, paths from root; "" is root
	paths int              // bytes of them
	from  *agent.FileEvent // a name that has gone, until its new one is known
	key   uint32           // by which it is known

	mu    sync.Mutex // guards the rest
	queue []agent.FileEvent
	bytes int
	err   error         // why there are no more
	more  chan struct{} // holds a value when there is something new in the rest
}

// Open watches the directory that is called top beneath data. as runs what looks at files with the
// rights of the user; want says of a name whether it is to be told.
func Open(data, top string, as func(func() error) error, want func(string) bool) (*Watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	w := &Watch{file: os.NewFile(uintptr(fd), "watch"), root: path.Join(data, top), top: top,
		as: as, dirs: map[int32]string{}, want: want, more: make(chan struct{}, 1)}
	if top == "." {
		w.top = ""
	}
	if err := as(func() error { return w.add("", 0, false) }); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	go w.empty()
	return w, nil
}

// Close ends the watch. A Next that waits returns.
func (w *Watch) Close() error { return w.file.Close() }

// errMany says that there are too many directories.
func errMany() error {
	return sandpool.Errorf(sandpool.TooLarge, "TooManyDirectories", "path",
		"There are more than %d directories to watch. Watch one of them.", MaxDirectories)
}

// watch has the system watch a directory. File.Fd would make reading from w.file a wait that
// nothing ends.
func (w *Watch) watch(dir string) (wd int, err error) {
	conn, err := w.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	failed := conn.Control(func(fd uintptr) { wd, err = unix.InotifyAddWatch(int(fd), dir, mask) })
	return wd, errors.Join(failed, err)
}

// add watches a directory, then those in it; tell has what is in it told as created.
func (w *Watch) add(dir string, depth int, tell bool) error {
	if len(w.dirs) >= MaxDirectories || w.paths+len(dir) > maxPaths {
		return errMany()
	}
	full := path.Join(w.root, dir)
	wd, err := w.watch(full)
	if err != nil {
		return &os.PathError{Op: "watch", Path: full, Err: err}
	}
	w.forget(int32(wd)) // it may be known by another name
	w.dirs[int32(wd)] = dir
	w.paths += len(dir)
	below, err := w.look(dir, full, tell)
	if err != nil || depth == maxDepth {
		return err
	}
	for _, name := range below {
		// Any other error: unreadable, or gone meanwhile; the rest is still worth watching.
		if err := w.add(path.Join(dir, name), depth+1, tell); sandpool.ClassOf(err) ==
			sandpool.TooLarge {
			return err
		}
	}
	return nil
}

// look returns the names of directories in one.
func (w *Watch) look(dir, full string, tell bool) (below []string, err error) {
	fd, err := unix.Open(full, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK|
		unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: full, Err: err}
	}
	f := os.NewFile(uintptr(fd), full)
	defer f.Close()
	for {
		entries, err := f.ReadDir(1024)
		for _, e := range entries {
			if tell {
				w.tell(agent.FileCreated, path.Join(dir, e.Name()), e.IsDir())
			}
			if !e.IsDir() {
				continue
			}
			if below = append(below, e.Name()); len(w.dirs)+len(below) > MaxDirectories {
				return nil, errMany()
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return below, nil
		case err != nil:
			return nil, err
		}
	}
}

// forget takes a watch for gone.
func (w *Watch) forget(wd int32) {
	w.paths -= len(w.dirs[wd])
	delete(w.dirs, wd)
}

// leave ends the watches of a directory that is no longer beneath the top, and of those in it.
func (w *Watch) leave(old string) {
	conn, err := w.file.SyscallConn()
	if err != nil {
		return // closed
	}
	_ = conn.Control(func(fd uintptr) {
		for wd, dir := range w.dirs {
			if dir == old || strings.HasPrefix(dir, old+"/") {
				w.forget(wd)
				_, _ = unix.InotifyRmWatch(int(fd), uint32(wd)) // it may be gone by itself
			}
		}
	})
}

// tell queues an event of a path from root.
func (w *Watch) tell(kind agent.FileEventType, p string, dir bool) {
	w.push(w.event(kind, p, dir))
}

func (w *Watch) event(kind agent.FileEventType, p string, dir bool) agent.FileEvent {
	e := agent.FileEvent{Type: kind, Path: path.Join(w.top, p), Directory: dir}
	if !utf8.ValidString(e.Path) {
		e.Raw = []byte(e.Path)
	}
	return e
}

func (w *Watch) push(e agent.FileEvent) {
	if !w.want(path.Base(e.Path)) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.queue); n > 0 && e.Type == agent.FileModified {
		last := w.queue[n-1]
		if (last.Type == agent.FileModified || last.Type == agent.FileCreated) &&
			last.Path == e.Path {
			return
		}
	}
	size := len(e.Path) + len(e.From) + len(e.Raw) + len(e.RawFrom)
	if len(w.queue) >= MaxQueue || w.bytes+size > maxQueued {
		w.overflow()
		return
	}
	w.queue = append(w.queue, e)
	w.bytes += size
	w.wake()
}

// overflow has all that is queued give way to one event that says so. The caller holds mu.
func (w *Watch) overflow() {
	w.queue, w.bytes = []agent.FileEvent{{Type: agent.FileOverflow}}, 0
	w.wake()
}

// wake tells Next that there is something new.
func (w *Watch) wake() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}

// Next returns events as they come, at least one.
func (w *Watch) Next() ([]agent.FileEvent, error) {
	for {
		w.mu.Lock()
		all, err := w.queue, w.err
		w.queue, w.bytes = nil, 0
		w.mu.Unlock()
		if len(all) > 0 {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		<-w.more
	}
}

// empty takes what the system tells, until the watch ends.
func (w *Watch) empty() {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if err == nil {
			err = w.as(func() error { return w.take(buf[:n]) })
		}
		if err != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.err = err
			w.wake()
			return
		}
	}
}

// take takes what the system has told: structures of struct inotify_event and a name.
func (w *Watch) take(data []byte) error {
	for len(data) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(data))
		bits := binary.NativeEndian.Uint32(data[4:])
		key := binary.NativeEndian.Uint32(data[8:])
		size := int(binary.NativeEndian.Uint32(data[12:]))
		data = data[unix.SizeofInotifyEvent:]
		if size > len(data) {
			return io.ErrUnexpectedEOF
		}
		name, _, _ := strings.Cut(string(data[:size]), "\x00")
		data = data[size:]
		if bits&unix.IN_Q_OVERFLOW != 0 {
			w.from = nil
			w.mu.Lock()
			w.overflow()
			w.mu.Unlock()
			continue
		}
		if err := w.one(wd, bits, key, name); err != nil {
			return err
		}
	}
	w.settle()
	return nil
}

// settle tells that a name has gone whose new one was not told next: it is outside.
func (w *Watch) settle() {
	if w.from == nil {
		return
	}
	gone := *w.from
	w.from = nil
	if gone.Directory {
		w.leave(w.below(gone.Path))
	}
	gone.Type = agent.FileRemoved
	w.push(gone)
}

// one takes one event.
func (w *Watch) one(wd int32, bits, key uint32, name string) error {
	dir, ok := w.dirs[wd]
	if bits&unix.IN_IGNORED != 0 {
		w.forget(wd)
		if ok && dir == "" {
			w.settle()
			return sandpool.Errorf(sandpool.NotFound, "FileNotFound", "path",
				"The directory that was watched is gone.")
		}
		return nil
	}
	if !ok || name == "" { // of the directory itself, which the one above it tells of
		return nil
	}
	p, isDir := path.Join(dir, name), bits&unix.IN_ISDIR != 0
	if bits&unix.IN_MOVED_TO == 0 || w.from == nil || w.key != key {
		w.settle()
	}
	switch {
	case bits&unix.IN_MOVED_FROM != 0:
		e := w.event(agent.FileRemoved, p, isDir)
		w.from, w.key = &e, key
	case bits&unix.IN_MOVED_TO != 0 && w.from != nil:
		w.moved(p, isDir)
	case bits&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0:
		w.tell(agent.FileCreated, p, isDir)
		if isDir {
			err := w.add(p, strings.Count(p, "/")+1, true)
			if sandpool.ClassOf(err) == sandpool.TooLarge {
				return err
			}
		}
	case bits&unix.IN_DELETE != 0:
		w.tell(agent.FileRemoved, p, isDir)
	case bits&(unix.IN_MODIFY|unix.IN_ATTRIB) != 0:
		w.tell(agent.FileModified, p, isDir)
	}
	return nil
}

// moved tells that a name has become another one. Watches go with the directory that they are of.
func (w *Watch) moved(p string, isDir bool) {
	e := w.event(agent.FileMoved, p, isDir)
	e.From, e.RawFrom = w.from.Path, w.from.Raw
	w.from = nil
	if isDir {
		old := w.below(e.From)
		for wd, dir := range w.dirs {
			if dir == old || strings.HasPrefix(dir, old+"/") {
				w.dirs[wd] = p + dir[len(old):]
				w.paths += len(p) - len(old)
			}
		}
	}
	switch {
	case w.want(path.Base(e.From)):
		w.push(e)
	default: // a file that has arrived whole
		w.tell(agent.FileCreated, p, isDir)
	}
}

// below is the path from root of one that is told.
func (w *Watch) below(told string) string {
	return strings.TrimPrefix(strings.TrimPrefix(told, w.top), "/")
}
