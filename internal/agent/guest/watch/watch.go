// Package watch tells what happens to the files beneath a directory, as it happens.
//
// Linux (inotify(7)), and gVisor as well, watch one directory at a time and not what is beneath it.
// So each directory is watched, and one that appears is watched before it is looked into: what is
// in it by then is told as created, some of it perhaps twice. What a reader has made of the events
// so far and a list agree once nothing happens any more; that is what a watch promises.
//
// Nothing waits for a reader. Events that it has not taken are kept up to MaxQueue; beyond it, and
// where the system itself has lost some, all of them give way to one event that says so, after
// which the reader lists again. Several changes of one file that nobody has read are one.
package watch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// Bounds of a watch.
const (
	MaxQueue       = 4096 // events that wait for their reader
	MaxDirectories = 8192 // that are watched
	maxDepth       = 100  // levels below the top
)

const mask = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_DELETE |
	unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW

// Watch is a watch of one directory and all beneath it.
type Watch struct {
	file *os.File
	root string // on this system
	top  string // what paths begin with: the directory's, from the data directory
	as   func(func() error) error
	dirs map[int32]string // by watch, paths from root; "" is root
	want func(string) bool

	queue []agent.FileEvent
	from  *agent.FileEvent // a name that has gone, until its new one is known
	key   uint32           // by which it is known
}

// Open watches the directory that is called top beneath data. as runs what looks at files with the
// rights of the user; want says of a name whether it is to be told.
func Open(data, top string, as func(func() error) error, want func(string) bool) (*Watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	w := &Watch{file: os.NewFile(uintptr(fd), "watch"), root: path.Join(data, top), top: top,
		as: as, dirs: map[int32]string{}, want: want}
	if top == "." {
		w.top = ""
	}
	if err := as(func() error { return w.add("", 0, false) }); err != nil {
		return nil, errors.Join(err, w.Close())
	}
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
	if len(w.dirs) >= MaxDirectories {
		return errMany()
	}
	full := path.Join(w.root, dir)
	wd, err := w.watch(full)
	if err != nil {
		return &os.PathError{Op: "watch", Path: full, Err: err}
	}
	w.dirs[int32(wd)] = dir
	entries, err := os.ReadDir(full)
	if err != nil {
		return err
	}
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		if tell {
			w.tell(agent.FileCreated, p, e.IsDir())
		}
		if !e.IsDir() || depth == maxDepth {
			continue
		}
		// Any other error: unreadable, or gone meanwhile; the rest is still worth watching.
		if err := w.add(p, depth+1, tell); sandpool.ClassOf(err) == sandpool.TooLarge {
			return err
		}
	}
	return nil
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
	if n := len(w.queue); n > 0 && e.Type == agent.FileModified {
		last := w.queue[n-1]
		if (last.Type == agent.FileModified || last.Type == agent.FileCreated) &&
			last.Path == e.Path {
			return
		}
	}
	if len(w.queue) >= MaxQueue {
		w.overflow()
		return
	}
	w.queue = append(w.queue, e)
}

// overflow has all that is queued give way to one event that says so.
func (w *Watch) overflow() {
	w.from = nil
	w.queue = append(w.queue[:0], agent.FileEvent{Type: agent.FileOverflow})
}

// Next returns events as they come, at least one.
func (w *Watch) Next() ([]agent.FileEvent, error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return nil, err
		}
		if err := w.as(func() error { return w.take(buf[:n]) }); err != nil {
			return nil, err
		}
		if len(w.queue) > 0 {
			all := w.queue
			w.queue = nil
			return all, nil
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
			w.overflow()
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
	gone.Type = agent.FileRemoved
	w.push(gone)
}

// one takes one event.
func (w *Watch) one(wd int32, bits, key uint32, name string) error {
	dir, ok := w.dirs[wd]
	if bits&unix.IN_IGNORED != 0 {
		delete(w.dirs, wd)
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
		old := strings.TrimPrefix(strings.TrimPrefix(e.From, w.top), "/")
		for wd, dir := range w.dirs {
			if dir == old || strings.HasPrefix(dir, old+"/") {
				w.dirs[wd] = p + dir[len(old):]
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
