// Package output takes what a kernel puts out: two pipes, which it and its child processes write
// to, and the memory in which it gathers what it prints before it moves that into the pipes.
//
// The pipes are emptied all the time, so that nothing in a sandbox ever waits for a reader. What
// is kept of them is bounded, and belongs to the cell that runs. Feed is the same, event by
// event, for whoever watches a cell. Log is all of it, whichever cell runs or none, for the host.
//
// # Order
//
// Of one stream, what is in the pipe comes before what is gathered: a kernel moves what it has
// gathered before anything else can write to the pipe. Between the streams and what a cell shows,
// the kernel sees to the order, if somebody watches: it says when it changes from one to the
// other, and waits until that is acknowledged, which comes after all that was there was taken.
package output

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Outputs is what one kernel puts out.
type Outputs struct {
	Out, Err *Sink
	memory   *memory
}

// Ends are what a kernel is to be started with. They are of no use after its start.
type Ends struct {
	Out, Err *os.File // to write to
	Memory   *os.File // to gather in
}

// Close closes the ends.
func (e Ends) Close() {
	for _, f := range []*os.File{e.Out, e.Err} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// Open makes the outputs of a kernel that runs as the given user. What it puts out goes to log as
// well, which may be nil.
func Open(uid, gid int, log *Log) (*Outputs, Ends, error) {
	var o Outputs
	var ends Ends
	var err error
	if o.memory, err = newMemory(); err == nil {
		ends.Memory = o.memory.file
		o.Out, ends.Out, err = openSink(uid, gid)
	}
	if err == nil {
		o.Err, ends.Err, err = openSink(uid, gid)
	}
	if err != nil {
		ends.Close()
		o.Close()
		return nil, Ends{}, err
	}
	if log != nil {
		o.Out.log, o.Err.log = &log.out, &log.errs
	}
	return &o, ends, nil
}

// openSink makes an output pipe; the second result is the end to write to.
func openSink(uid, gid int) (*Sink, *os.File, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("output pipe: %w", err)
	}
	writer := os.NewFile(uintptr(fds[1]), "output")
	// So that a child may open /dev/stdout. Without it that one thing fails.
	_ = unix.Fchown(fds[1], uid, gid)
	if err := unix.SetNonblock(fds[0], true); err != nil {
		_ = unix.Close(fds[0])
		_ = writer.Close()
		return nil, nil, fmt.Errorf("output pipe: %w", err)
	}
	s, err := newSink(os.NewFile(uintptr(fds[0]), "output"))
	if err != nil {
		_ = writer.Close()
		return nil, nil, err
	}
	return s, writer, nil
}

// Drain takes what is in both pipes.
func (o *Outputs) Drain() {
	o.Out.Drain()
	o.Err.Drain()
}

// Gather takes what is in both pipes and what the kernel has gathered, which must have ended.
func (o *Outputs) Gather() {
	o.Out.gathered(o.memory.area(0))
	o.Err.gathered(o.memory.area(1))
}

// Glance is Gather while the kernel runs, if there is something and the kernel is not about to
// move it itself.
func (o *Outputs) Glance() {
	if (o.memory.area(0).empty() && o.memory.area(1).empty()) || !o.memory.lock() {
		return
	}
	defer o.memory.unlock()
	o.Gather()
}

// Close forgets what was put out.
func (o *Outputs) Close() {
	for _, s := range []*Sink{o.Out, o.Err} {
		if s != nil {
			s.close()
		}
	}
	if o.memory != nil {
		o.memory.close()
	}
}
