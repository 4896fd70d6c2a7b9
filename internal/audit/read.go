package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Query asks for records.
type Query struct {
	// After is the number after which the records begin.
	After uint64
	// Limit is the most that are returned.
	Limit int
	// Who, On and Outcome narrow the question: the subject or the name, the beginning of the path
	// in any case, the outcome. Empty means all.
	Who, On string
	Outcome string
	// Since and Until bound the time; zero means no bound.
	Since, Until time.Time
}

func (q Query) wants(r Record) bool {
	return (q.Who == "" || q.Who == r.Who || q.Who == r.Name) && (q.On == "" || below(r.On, q.On)) &&
		(q.Outcome == "" || q.Outcome == r.Outcome) &&
		(q.Since.IsZero() || !r.Time.Before(q.Since)) &&
		(q.Until.IsZero() || r.Time.Before(q.Until))
}

// below reports whether path is that of the resource on, or of one below it.
func below(path, on string) bool {
	on = strings.TrimRight(on, "/")
	return len(path) >= len(on) && strings.EqualFold(path[:len(on)], on) &&
		(len(path) == len(on) || path[len(on)] == '/')
}

// Read returns the records that q asks for, the oldest first, and the number of the last that was
// looked at: those that follow are asked for by that.
func (l *Log) Read(ctx context.Context, q Query) (out []Record, last uint64, err error) {
	newest, _ := l.Head()
	last = q.After
	size, more := 0, false
	err = lines(l.dir, q.After+1, func(_ string, _ int, line []byte) error {
		r, err := parse(line)
		if err != nil || r.Seq <= q.After {
			return nil // what is no record is Verify's to tell
		}
		if r.Seq > newest {
			return errEnough
		}
		if more = len(out) >= q.Limit || size > maxAnswer; more {
			return errEnough
		}
		if last = r.Seq; q.wants(r) {
			out, size = append(out, r), size+len(line)
		}
		return ctx.Err()
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	if err == nil && !more {
		last = max(last, newest) // a line may be none that can be read, and is not waited for
	}
	return out, last, err
}

// maxAnswer is when an answer to Read is long enough, in bytes.
const maxAnswer = 8 << 20

var errEnough = errors.New("enough")

// Wait returns when there is a record after the one with that number, or ctx ends.
func (l *Log) Wait(ctx context.Context, after uint64) {
	l.mu.Lock()
	grown, seq := l.grown, l.seq
	l.mu.Unlock()
	if seq > after {
		return
	}
	select {
	case <-grown:
	case <-ctx.Done():
	}
}

// lines calls fn with each line of the files that may hold record number first and later ones.
func lines(dir string, first uint64, fn func(name string, number int, line []byte) error) error {
	names, err := files(dir)
	if err != nil {
		return err
	}
	for i, name := range names {
		if i+1 < len(names) {
			next := strings.TrimSuffix(filepath.Base(names[i+1]), ".jsonl")
			if n, err := strconv.ParseUint(next, 10, 64); err == nil && n <= first {
				continue
			}
		}
		err := linesOf(name, fn)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the oldest has gone meanwhile
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func linesOf(name string, fn func(name string, number int, line []byte) error) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 64<<10)
	for number := 1; ; number++ {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 && err == nil {
			if err := fn(name, number, bytes.TrimSuffix(line, []byte("\n"))); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			if len(line) > 0 {
				return fn(name, number, append(line, '\n')) // not finished, so it is no record
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Verification is what Verify found.
type Verification struct {
	// Records were read, from First to Last.
	Records     int
	First, Last uint64
	Head        Hash
	// Fault is the first thing that is wrong; empty if nothing is.
	Fault string
}

// Verify reads the log in dir and checks every byte of it. If head is not nil, the newest record
// must have that hash. A log that a server writes to is checked by the server: see Log.Verify.
func Verify(dir string, head *Hash) (Verification, error) {
	return verify(dir, math.MaxUint64, head)
}

// Verify checks the log as it is now, against what the server has in memory.
func (l *Log) Verify() (Verification, error) {
	seq, head := l.Head()
	return verify(l.dir, seq, &head)
}

// verify checks the records to number last.
func verify(dir string, last uint64, head *Hash) (Verification, error) {
	var v Verification
	err := lines(dir, 0, func(name string, number int, line []byte) error {
		if v.Last >= last {
			return errEnough
		}
		if fault := v.take(name, line); fault != "" {
			v.Fault = fmt.Sprintf("%s, line %d: %s", filepath.Base(name), number, fault)
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return v, err
	}
	if v.Fault == "" && head != nil && *head != v.Head {
		v.Fault = fmt.Sprintf("the newest record is %d, with another hash than %s: records were "+
			"removed from the end, or the log was written anew", v.Last, *head)
	}
	return v, nil
}

// take checks the next line and says what is wrong with it; empty if nothing is.
func (v *Verification) take(name string, line []byte) string {
	covered, h, err := split(line)
	var r Record
	if err != nil || json.Unmarshal(line, &r) != nil {
		return "this is no record"
	}
	if v.Records == 0 {
		// the records before it are gone, or there were none
		if v.Head, err = ParseHash(r.Prev); err != nil {
			return "the first record does not say what it follows"
		}
		begun := strings.TrimSuffix(filepath.Base(name), ".jsonl")
		if n, err := strconv.ParseUint(begun, 10, 64); err != nil || n != r.Seq {
			return fmt.Sprintf("the file begins with record %d", r.Seq)
		}
		v.First, v.Last = r.Seq, r.Seq-1
	}
	switch {
	case r.Seq != v.Last+1:
		return fmt.Sprintf("record %d follows record %d", r.Seq, v.Last)
	case chain(v.Head, covered) != h:
		return fmt.Sprintf("record %d was changed, or the one before it", r.Seq)
	}
	v.Records, v.Last, v.Head = v.Records+1, r.Seq, h
	return ""
}
