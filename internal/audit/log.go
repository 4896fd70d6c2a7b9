package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sandpool/sandpool/api"
)

// The bounds of the log.
const (
	// fileSize is when a new file begins.
	fileSize = 16 << 20
	// maxLine bounds a record. Before and After are left out of one that is larger.
	maxLine = 1 << 20
	// A refusal is written a second, and refusalBurst at once; of strangers, whose number nobody
	// bounds, one in strangerPause. A month of them is a part of the log, so that nobody can push
	// out by them what was changed.
	refusals       = 1
	refusalBurst   = 200
	strangerPause  = 10 * time.Second
	strangersBurst = 100
)

// Options are the parts of a Log that the server chooses.
type Options struct {
	// Keep bounds the bytes of all files; the oldest go. Zero means 1 GiB.
	Keep int64
	// FileSize is when a new file begins; zero means 16 MiB.
	FileSize int64
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Log is the log of one server. Its files are in a directory of its own.
type Log struct {
	dir string
	o   Options
	// known and strangers bound the refusals of those who have roles, and of all others.
	known, strangers *rate.Limiter

	mu      sync.Mutex
	file    *os.File
	size    int64
	seq     uint64
	head    Hash
	leftOut int
	// grown is closed and made anew with each record.
	grown chan struct{}
	// broken is why the last record could not be written.
	broken error
}

// Open opens the log in dir, which is made if it is not there. A last line that was not finished,
// as a full disk or a power failure leaves one, is moved out of the way, and a record says so.
func Open(dir string, o Options) (*Log, error) {
	if o.Keep == 0 {
		o.Keep = 1 << 30
	}
	if o.FileSize == 0 {
		o.FileSize = fileSize
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Log{dir: dir, o: o, grown: make(chan struct{}),
		known:     rate.NewLimiter(refusals, refusalBurst),
		strangers: rate.NewLimiter(rate.Every(strangerPause), strangersBurst)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the audit log: %w", err)
	}
	cut, err := l.resume()
	if err != nil {
		return nil, fmt.Errorf("the audit log: %w", err)
	}
	if cut > 0 {
		err := l.Append(Record{Action: "RECOVER", On: "/sandpool/audit", Outcome: api.AuditDone,
			Message: fmt.Sprintf("the log ended with %d bytes of a record that was not finished; "+
				"they are in %s", cut, unfinishedFile)})
		if err != nil {
			return nil, err
		}
	}
	return l, nil
}

// unfinishedFile gets the beginnings of records that were never finished.
const unfinishedFile = "unfinished"

// files returns the names of the log's files, the oldest first.
func files(dir string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	slices.Sort(names)
	return names, err
}

// resume finds the end of the log and opens its last file. It returns the bytes of a last line that
// was not finished.
func (l *Log) resume() (cut int64, err error) {
	names, err := files(l.dir)
	if err != nil || len(names) == 0 {
		return 0, err
	}
	for i, name := range slices.Backward(names) {
		whole, rest, last, err := end(name)
		if err != nil {
			return 0, err
		}
		if len(rest) > 0 && i == len(names)-1 {
			if err := l.setAside(name, whole, rest); err != nil {
				return 0, err
			}
			cut = int64(len(rest))
		}
		if last == nil {
			continue // a file that was begun, and nothing more
		}
		r, err := parse(last)
		if err != nil {
			return 0, fmt.Errorf("the last line of %s: %w; 'sandpool audit verify' says more", name,
				err)
		}
		_, l.head, _ = split(last)
		l.seq = r.Seq
		break
	}
	newest := names[len(names)-1]
	l.file, err = os.OpenFile(newest, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return cut, err
	}
	info, err := l.file.Stat()
	if err == nil {
		l.size = info.Size()
	}
	return cut, err
}

// end returns the number of bytes of a file's whole lines, what stands after them, and the last
// whole line; nil if there is none.
func end(name string) (whole int64, rest, last []byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, nil, nil, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 64<<10)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return whole, line, last, nil
		}
		if err != nil {
			return 0, nil, nil, err
		}
		whole += int64(len(line))
		last = bytes.TrimSuffix(line, []byte("\n"))
	}
}

// setAside moves the bytes after the whole lines of a file into another file.
func (l *Log) setAside(name string, whole int64, rest []byte) error {
	f, err := os.OpenFile(filepath.Join(l.dir, unfinishedFile),
		os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(rest, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Truncate(name, whole)
}

// Append writes r, whose Seq and Time it sets.
func (l *Log) Append(r Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.append(r)
}

// Refuse appends r, or counts it if there have been too many. A stranger is a caller without a
// role: they leave room for the records of those who have one.
func (l *Log) Refuse(r Record, stranger bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.known
	if stranger {
		limiter = l.strangers
	}
	if !limiter.AllowN(l.o.Now(), 1) {
		l.leftOut++
		return nil
	}
	return l.append(r)
}

func (l *Log) append(r Record) error {
	l.broken = l.write(r)
	if l.broken != nil {
		return fmt.Errorf("the audit log: %w", l.broken)
	}
	close(l.grown)
	l.grown = make(chan struct{})
	return nil
}

// write appends a record to the newest file, or begins one. A line that cannot be written whole is
// taken back, so that the next one does not stand in its middle.
func (l *Log) write(r Record) error {
	r.Seq, r.Time, r.LeftOut, r.Prev = l.seq+1, l.o.Now().UTC(), l.leftOut, ""
	if l.file == nil || l.size >= l.o.FileSize {
		if err := l.begin(); err != nil {
			return err
		}
	}
	if l.size == 0 {
		r.Prev = l.head.String()
	}
	line, h, err := lineOf(r, l.head)
	if err == nil && len(line) > maxLine {
		r.Before, r.After = nil, nil
		r.Message = strings.TrimSpace(r.Message + " (the resource is too large for a record)")
		line, h, err = lineOf(r, l.head)
	}
	if err != nil {
		return err
	}
	n, err := l.file.Write(append(line, '\n'))
	if err != nil {
		if n > 0 {
			err = errors.Join(err, l.file.Truncate(l.size))
		}
		return err
	}
	l.size += int64(n)
	l.seq, l.head, l.leftOut = r.Seq, h, 0
	return nil
}

// begin begins a new file, and removes the oldest while all together are too large.
func (l *Log) begin() error {
	name := filepath.Join(l.dir, fmt.Sprintf("%012d.jsonl", l.seq+1))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if l.file != nil {
		_ = l.file.Close() // each line was written
	}
	l.file, l.size = f, 0
	names, err := files(l.dir)
	if err != nil {
		return err
	}
	var total int64
	for _, name := range slices.Backward(names) {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		if total += info.Size(); total > l.o.Keep {
			if err := os.Remove(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Head is the number and the hash of the newest record.
func (l *Log) Head() (uint64, Hash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq, l.head
}

// Broken is why the last record could not be written, nil if it was.
func (l *Log) Broken() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken
}

// Close closes the log's file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
