package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
)

// The names of the FIFOs in a sandbox's directory, and of their streams.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// Bounds of one stream.
const (
	maxLine   = 16 << 10      // bytes of text in one record; a longer line becomes several
	maxRecord = maxLine + 128 // with what stands before it
	chunk     = 16 << 10      // what is read at once
	maxRate   = 4 << 20       // bytes a second
)

// Make makes the FIFOs of a sandbox in its directory, and returns the ends that it gets.
func Make(dir string) (out, errs *os.File, err error) {
	var ends []*os.File
	for _, name := range []string{Stdout, Stderr} {
		path := filepath.Join(dir, name)
		if err := unix.Mkfifo(path, 0o600); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("make the FIFO %q: %w", path, err),
				closeAll(ends))
		}
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil, nil, errors.Join(err, closeAll(ends))
		}
		ends = append(ends, f)
	}
	return ends[0], ends[1], nil
}

func closeAll(files []*os.File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// log is the log of a sandbox that runs.
type log struct {
	folder  string
	sources []*os.File
	done    sync.WaitGroup

	mu     sync.Mutex // guards what follows
	file   *os.File
	start  int64 // position of file's first byte
	size   int64
	change chan struct{} // closed by the next record
	ended  chan struct{} // closed when nothing comes any more
}

// Collect begins to keep what comes out of the FIFOs in dir, until the sandbox that holds their
// other ends has ended. A sandbox without FIFOs has no log.
func (s *Store) Collect(id sandpool.SandboxID, dir string) error {
	l := &log{folder: s.folder(id), change: make(chan struct{}), ended: make(chan struct{})}
	for _, name := range []string{Stdout, Stderr} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDONLY|unix.O_NONBLOCK, 0)
		if errors.Is(err, os.ErrNotExist) {
			return closeAll(l.sources)
		}
		if err != nil {
			return errors.Join(err, closeAll(l.sources))
		}
		l.sources = append(l.sources, f)
	}
	if err := l.begin(); err != nil {
		return errors.Join(fmt.Errorf("begin a log: %w", err), closeAll(l.sources))
	}
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.open[id] = l
	}
	s.mu.Unlock()
	if closed {
		return errors.Join(errors.New("the logs are closed"), closeAll(l.sources))
	}
	for i, name := range []string{Stdout, Stderr} {
		l.done.Go(func() { l.copy(name, l.sources[i]) })
	}
	go func() {
		l.done.Wait()
		l.finish()
		s.end(id)
	}()
	return nil
}

// begin opens the newest file, where an earlier server left off.
func (l *log) begin() error {
	if err := os.MkdirAll(l.folder, 0o700); err != nil {
		return err
	}
	starts, err := segments(l.folder)
	if err != nil {
		return err
	}
	if len(starts) > 0 {
		l.start = starts[len(starts)-1]
	}
	if l.file, err = os.OpenFile(l.path(l.start), os.O_CREATE|os.O_RDWR|os.O_APPEND,
		0o600); err != nil {
		return err
	}
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	l.size = info.Size()
	if l.size > 0 { // it may have been cut off in the middle of a record
		last := make([]byte, 1)
		if _, err := l.file.ReadAt(last, l.size-1); err == nil && last[0] != '\n' {
			_, err := l.file.Write([]byte("\n"))
			l.size++
			return err
		}
	}
	return nil
}

func (l *log) path(start int64) string {
	return filepath.Join(l.folder, strconv.FormatInt(start, 10))
}

// copy reads one FIFO to its end.
func (l *log) copy(stream string, f *os.File) {
	defer f.Close()
	buf := make([]byte, chunk)
	var line []byte
	budget := pace{rate: maxRate}
	for {
		n, err := f.Read(buf)
		rest := buf[:n]
		for len(rest) > 0 {
			part := rest[:min(len(rest), maxLine-len(line))]
			i := bytes.IndexByte(part, '\n')
			switch {
			case i >= 0:
				l.write(stream, 'F', append(line, part[:i]...))
				line, rest = line[:0], rest[i+1:]
			case len(line)+len(part) >= maxLine:
				l.write(stream, 'P', append(line, part...))
				line, rest = line[:0], rest[len(part):]
			default:
				line, rest = append(line, part...), nil
			}
		}
		if err != nil {
			if len(line) > 0 {
				l.write(stream, 'P', line)
			}
			return
		}
		budget.take(n)
	}
}

// pace holds a reader to a number of bytes a second.
type pace struct {
	rate  int
	began time.Time
	taken int
}

func (p *pace) take(n int) {
	now := time.Now()
	if now.Sub(p.began) >= time.Second {
		p.began, p.taken = now, 0
	}
	if p.taken += n; p.taken > p.rate {
		<-time.After(time.Until(p.began.Add(time.Second)))
	}
}

// write appends one record. What cannot be written is lost: a full disk must not end a session.
func (l *log) write(stream string, kind byte, text []byte) {
	record := make([]byte, 0, len(text)+64)
	record = time.Now().UTC().AppendFormat(record, time.RFC3339Nano)
	record = append(record, ' ')
	record = append(record, stream...)
	record = append(record, ' ', kind, ' ')
	record = append(record, text...)
	record = append(record, '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(record)) > fileSize && !l.roll() {
		return
	}
	n, _ := l.file.Write(record)
	l.size += int64(n)
	close(l.change)
	l.change = make(chan struct{})
}

// roll begins a new file, and removes all but the one before. It reports whether it could. The
// caller holds mu.
func (l *log) roll() bool {
	starts, err := segments(l.folder)
	if err != nil {
		return false
	}
	next, err := os.OpenFile(l.path(l.start+l.size), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return false
	}
	for _, old := range starts {
		if old != l.start {
			_ = os.Remove(l.path(old))
		}
	}
	_ = l.file.Close()
	l.file, l.start, l.size = next, l.start+l.size, 0
	return true
}

// changed returns what is closed when something was added, or nothing will be.
func (l *log) changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.change
}

func (l *log) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.file.Close()
	close(l.change)
	close(l.ended)
	l.change = l.ended
}

// stop ends the collecting from outside.
func (l *log) stop() {
	for _, f := range l.sources {
		_ = f.Close()
	}
	l.done.Wait()
}
