package sandbox

import (
	"bytes"
	"context"
	"iter"
	"net"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
)

// Stats is what one sandbox uses.
type Stats struct {
	Memory  int64         // bytes charged to the sandbox on the host
	Cache   int64         // of these, pages of files, which the host takes back when it needs them
	Threads int64         // on the host
	CPUTime time.Duration // since it started
	Disk    int64         // bytes of its writable layer on the host
	Sent    int64         // bytes that it sent to the network since it started
	// Read is the bytes that its process on the host has read since it started: nearly all of them
	// are pages of its snapshot. Zero where that is not known.
	Read int64
}

// Held is the memory that the host does not take back.
func (s Stats) Held() int64 { return s.Memory - s.Cache }

// StatsReader is the optional ability to measure a sandbox.
type StatsReader interface {
	Stats(ctx context.Context, h Handle) (Stats, error)
}

// Weigher is the optional ability to let sandboxes come before others where all of them want more
// of the processor than there is.
type Weigher interface {
	// CPUTime is that of Stats, with less work.
	CPUTime(id ID) (time.Duration, error)
	// SetWeight gives a sandbox its part of the processor, in proportion to the weights of others:
	// from 1 to 10000. A new one has 100.
	SetWeight(id ID, weight int) error
}

// Noticer is the optional ability to say what the owner of a pool should know of its sandboxes.
type Noticer interface {
	// Notice says it in a sentence, or nothing. It asks nobody and takes no time.
	Notice(p Prepared) string
}

// RoomReader is the optional ability to say what bounds all sandboxes together, besides the
// machine.
type RoomReader interface {
	// Room returns what they may take together.
	Room(ctx context.Context) (Room, error)
}

// Room is what bounds the memory (in bytes) and the threads of the host of all sandboxes.
type Room struct{ Memory, Threads Bound }

// Bound is the limit of one resource and how much of it may still be taken; both are
// math.MaxInt64 where nothing bounds it.
type Bound struct{ Limit, Left int64 }

// WorkingSetRecorder is the optional ability to learn from one sandbox what those
// after it need first of a snapshot, so that they need not wait for it, nor hold the rest.
type WorkingSetRecorder interface {
	// RecordWorkingSet notes what h has used of the snapshot of p since its Start,
	// unless that is known. It holds for all later sandboxes of p: call it before code of a
	// user runs in h.
	RecordWorkingSet(ctx context.Context, p Prepared, h Handle) error
}

// Pruner is the optional ability to know what Prepare keeps on disk, and to give it back.
type Pruner interface {
	// Key returns the key under which Prepare keeps what it makes of t, and which Prepared.Key
	// then says.
	Key(t Template) (string, error)
	// Kept returns what is kept under each key.
	Kept(ctx context.Context) (map[string]Kept, error)
	// Prune removes what Prepare made for every key that keep does not hold. A
	// Start of a pruned key needs another Prepare.
	Prune(ctx context.Context, keep []string) error
}

// Kept is something that Prepare keeps: how many bytes it takes, and when it was made.
type Kept struct {
	Bytes int64
	Made  time.Time
}

// LogReader is the optional ability to read what the first process of a sandbox wrote, if its
// template has Logs: the last of it, while it runs, after a restart, and for a while after its end.
type LogReader interface {
	// ReadLog returns whole lines. An ID of which nothing is kept is an error of class NotFound.
	ReadLog(ctx context.Context, id ID, q LogQuery) (LogPage, error)
}

// LogQuery says what to read of a log.
type LogQuery struct {
	// From is a position: 0 for the beginning, or LogPage.Next to go on.
	From int64
	// Limit bounds the bytes of the page; zero means 64 KiB. It is at least that of one line.
	Limit int
	// Follow waits for a line if there is none, unless the sandbox has ended.
	Follow bool
}

// LogPage is a piece of a log. Start is beyond LogQuery.From if what was there is not kept any
// more. Each line has the time in RFC 3339, "stdout" or "stderr", "F" for a whole line or "P" for a
// part of a long one, and the text, with a space between them.
type LogPage struct {
	Sandbox     ID
	Lines       []byte
	Start, Next int64
	// Ends are the positions behind each line, where an engine does not count them in bytes of
	// Lines.
	Ends []int64
}

// LogRecord is one line of a log. Text is hostile: it is what a sandbox wrote.
type LogRecord struct {
	Time   string // RFC 3339
	Stream string // "stdout" or "stderr"
	Part   bool   // the text is a part of a line, and more of the line follows
	Text   []byte
	// Next is the position behind the line.
	Next int64
}

// Records are the lines of the page, in order. What is no line of a log is left out.
func (p LogPage) Records() iter.Seq[LogRecord] {
	return func(yield func(LogRecord) bool) {
		at, n := p.Start, 0
		for line := range bytes.Lines(p.Lines) {
			at += int64(len(line))
			if n++; n <= len(p.Ends) {
				at = p.Ends[n-1]
			}
			fields := bytes.SplitN(bytes.TrimSuffix(line, []byte("\n")), []byte(" "), 4)
			if len(fields) < 4 {
				continue
			}
			r := LogRecord{Time: string(fields[0]), Stream: string(fields[1]),
				Part: string(fields[2]) == "P",
				Text: fields[3], Next: at}
			if !yield(r) {
				return
			}
		}
	}
}

// Tail is the end of what the page's lines say, whole lines of at most limit bytes, for people:
// control characters are replaced, and so are the values of t's secrets.
func (p LogPage) Tail(t Template, limit int) string {
	var lines []string
	part := map[string]bool{} // streams whose last line goes on
	for r := range p.Records() {
		text := printable(t.scrub(string(r.Text)))
		if n := len(lines) - 1; part[r.Stream] && n >= 0 {
			lines[n] += text
		} else {
			lines = append(lines, text)
		}
		part = map[string]bool{r.Stream: r.Part}
	}
	size := 0
	for i := len(lines) - 1; i >= 0; i-- {
		if size += len(lines[i]) + 1; size > limit {
			return strings.Join(append([]string{"…"}, lines[i+1:]...), "\n")
		}
	}
	return strings.Join(lines, "\n")
}

// printable is s without what a terminal might obey.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// Accepter is the optional ability to take connections that programs of a sandbox make to their own
// loopback interface, as if a program listened there. It needs no network.
type Accepter interface {
	// Listen takes a port of 127.0.0.1, for as long as the sandbox lives: from then on programs can
	// connect. One that a program has already is an error of class Conflict; a second call does
	// nothing.
	Listen(ctx context.Context, h Handle, port int) error
	// Accept waits for the next connection to the port that says something, and takes the port
	// first unless Listen has. Connections that come while nobody waits have to wait themselves,
	// a few of them. The stream is as one of Dial.
	Accept(ctx context.Context, h Handle, port int) (net.Conn, error)
}

// Executor is the optional ability to run further programs in a sandbox.
type Executor interface {
	// Exec runs a program as the user of the sandbox's first process, and returns when it has
	// ended. A program that cannot be started is an error of class Invalid.
	Exec(ctx context.Context, h Handle, p Program) (ProgramResult, error)
}

// Program is a command line to run in a sandbox.
type Program struct {
	Args []string
	Env  []string // KEY=value
	Dir  string   // empty means "/"
}

// ProgramResult says how a program ended. Output is the last of what it wrote to its standard
// output and error, a few KiB.
type ProgramResult struct {
	Code   int // 128+signal if a signal ended it
	Output string
}

// NetworkSetter is the optional ability to change what a running sandbox may reach.
type NetworkSetter interface {
	// SetNetwork makes n what the sandbox may reach, in place of what its Start was given. It holds
	// when the call returns, for connections that are open as well; a call for what holds
	// already costs nothing. A sandbox that was started without a network does not get one. What
	// the engine cannot make true of a running sandbox is an error of class Unsupported, and the
	// caller has to end it.
	SetNetwork(ctx context.Context, h Handle, n sandpool.Network) error
}

// RefusalReader is the optional ability to tell what a sandbox tried to reach and was not allowed
// to.
type RefusalReader interface {
	// Refusals returns what there is since the sandbox started, or since the engine did.
	Refusals(ctx context.Context, h Handle) (sandpool.Refusals, error)
}

// Placer is the optional ability to say where sandboxes run. Engines of several servers that say
// the same see, use and stop each other's sandboxes. Without it only the servers' own restarts do.
type Placer interface {
	Place() string
}
