// Package logs keeps what the first processes of sandboxes write to their standard output and
// error: the last of it, in files of bounded size, while they run and for a while afterwards.
//
// # The way of a line
//
// A process writes into two FIFOs in its sandbox's directory. The sandbox holds them open for
// reading as well, so that it meets no broken pipe when the server ends: it waits once a FIFO is
// full, and goes on when the next server has opened them by their names. One goroutine for each
// FIFO cuts what comes into lines and appends them to the sandbox's folder here. It takes no more
// than maxRate, so that a process which only writes holds itself up and not the server.
//
// # Files
//
// A folder has the name of its sandbox and at most two files, each named by the position of its
// first byte since the sandbox began. When the newer one is full, the older one is removed and a
// new one begun. So a reader that says how far it has read goes on there, or learns what it has
// missed, also after a restart. Lines are in the format of container runtimes: the time, the
// stream, F for a whole line or P for a part of a long one, and the text.
package logs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
)

// Bounds of what is kept.
const (
	fileSize = 512 << 10        // of one of a sandbox's two files
	keepTime = 15 * time.Minute // after the sandbox has ended
	keepEnds = 256              // sandboxes that have ended
)

// Store is a directory of logs. Its methods may be called from many goroutines.
type Store struct {
	dir string

	mu     sync.Mutex // guards what follows
	open   map[sandpool.SandboxID]*log
	ended  []sandpool.SandboxID // oldest first
	timers map[sandpool.SandboxID]*time.Timer
	closed bool
}

// Open returns the store in dir, which it makes. What sandboxes left that do not run is kept as if
// they had just ended.
func Open(dir string, runs func(sandpool.SandboxID) bool) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("logs: %w", err)
	}
	s := &Store{dir: dir, open: map[sandpool.SandboxID]*log{},
		timers: map[sandpool.SandboxID]*time.Timer{}}
	for _, entry := range entries {
		if id := sandpool.SandboxID(entry.Name()); !runs(id) {
			s.end(id)
		}
	}
	return s, nil
}

// End is for a sandbox that is gone without having been collected to its end.
func (s *Store) End(id sandpool.SandboxID) {
	if _, err := os.Stat(s.folder(id)); err == nil {
		s.end(id)
	}
}

// end has the log of a sandbox removed after a while, and the oldest ones at once if there are
// too many.
func (s *Store) end(id sandpool.SandboxID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, id)
	if s.closed || slices.Contains(s.ended, id) {
		return
	}
	s.ended = append(s.ended, id)
	s.timers[id] = time.AfterFunc(keepTime, func() { s.Remove(id) })
	for len(s.ended) > keepEnds {
		s.remove(s.ended[0])
	}
}

// Remove forgets a log at once.
func (s *Store) Remove(id sandpool.SandboxID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.remove(id)
	}
}

func (s *Store) remove(id sandpool.SandboxID) {
	if t := s.timers[id]; t != nil {
		t.Stop()
		delete(s.timers, id)
	}
	s.ended = slices.DeleteFunc(s.ended, func(other sandpool.SandboxID) bool { return other == id })
	_ = os.RemoveAll(s.folder(id)) // what is left is found again by the next Open
}

func (s *Store) folder(id sandpool.SandboxID) string { return filepath.Join(s.dir, string(id)) }

// Close ends the collecting and leaves all files where they are.
func (s *Store) Close() {
	s.mu.Lock()
	s.closed = true
	var logs []*log
	for _, l := range s.open {
		logs = append(logs, l)
	}
	for _, t := range s.timers {
		t.Stop()
	}
	s.mu.Unlock()
	for _, l := range logs {
		l.stop()
	}
}

// segments returns the positions at which the files of a log begin, in order.
func segments(folder string) (starts []int64, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if n, err := strconv.ParseInt(entry.Name(), 10, 64); err == nil && n >= 0 {
			starts = append(starts, n)
		}
	}
	slices.Sort(starts)
	return starts, nil
}

// Read returns whole lines from the position from on, of at most limit bytes, and the position
// behind them. A position that is not kept any more becomes the first that is. With follow it waits
// for a line unless the sandbox has ended. An unknown sandbox is an error of class NotFound.
func (s *Store) Read(ctx context.Context, id sandpool.SandboxID, from int64, limit int,
	follow bool) (data []byte, start, next int64, err error) {
	for {
		s.mu.Lock()
		l := s.open[id]
		s.mu.Unlock()
		var changed <-chan struct{}
		if l != nil {
			changed = l.changed()
		}
		data, start, next, err = s.read(id, from, limit)
		if err != nil || len(data) > 0 || !follow || l == nil {
			return data, start, next, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, start, next, nil
		}
	}
}

func (s *Store) read(id sandpool.SandboxID, from int64, limit int) (data []byte, start, next int64,
	err error) {
	starts, err := segments(s.folder(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, 0, sandpool.Errorf(sandpool.NotFound, "LogNotFound", "sandbox",
			"There is no log of the sandbox %s. It may be too long ago.", id)
	}
	if err != nil {
		return nil, 0, 0, fmt.Errorf("read the log of %q: %w", id, err)
	}
	if len(starts) == 0 {
		return nil, 0, 0, nil
	}
	start = max(from, starts[0])
	next = start
	for i, begin := range starts {
		if i+1 < len(starts) && next >= starts[i+1] || len(data) >= limit {
			continue
		}
		part, err := readPart(filepath.Join(s.folder(id), strconv.FormatInt(begin, 10)), next-begin,
			limit-len(data))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, 0, 0, fmt.Errorf("read the log of %q: %w", id, err)
		}
		data, next = append(data, part...), next+int64(len(part))
	}
	return data, start, next, nil
}

// readPart returns whole lines of a file from an offset on.
func readPart(path string, offset int64, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, min(limit, fileSize+maxRecord))
	n, err := f.ReadAt(data, max(0, offset))
	if n == 0 && err != nil {
		return nil, nil // the end
	}
	data = data[:n]
	for i := len(data) - 1; i >= 0; i-- {
		if data[i] == '\n' {
			return data[:i+1], nil
		}
	}
	return nil, nil
}
