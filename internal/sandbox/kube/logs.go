package kube

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// The node keeps what a container writes, in files that it rotates, for as long as there is the
// pod. A position in it is the time of a line, in nanoseconds since 1970: the node writes it before
// each, and nothing else tells lines apart. The API does not say which of the two streams a line
// was written to; all count as standard output.
//
// Nobody can ask for a log from a position on: the API server rounds the time down to its second.
// So the connection of a page is kept for a moment for the next one, which else would read the
// lines of its second once more. A connection also ends when an API server is restarted or a proxy
// finds it old; then whoever follows asks again, from the last line that came.

const (
	// pageLimit is how much of a log is read if nobody says.
	pageLimit = 64 << 10
	// lineLimit is the longest part of a line that is kept in one piece.
	lineLimit = 16 << 10
	// keepLog is how long a connection waits for the reader of the next page, and keptLimit how
	// many do.
	keepLog   = 5 * time.Second
	keptLimit = 100
	// firstLogWait and lastLogWait are between two connections for one reader.
	firstLogWait = 100 * time.Millisecond
	lastLogWait  = 5 * time.Second
)

// ReadLog implements sandbox.LogReader, without what it says of the time after the end: a log goes
// with its pod.
func (e *Engine) ReadLog(ctx context.Context, id sandbox.ID,
	q sandbox.LogQuery) (sandbox.LogPage, error) {
	page := sandbox.LogPage{Sandbox: id, Start: q.From, Next: q.From}
	p := e.pods.peek(id)
	if p == nil || p.Metadata.Annotations[annotationLogs] == "" {
		return page, noLog(id)
	}
	at := logAt{id, q.Follow, q.From}
	s := e.logs.take(at)
	if s == nil {
		s = newLogStream(ctx, q.From)
	}
	stop := context.AfterFunc(ctx, s.end)
	err := e.readLog(ctx, s, p.Metadata.Namespace, q, &page)
	at.next = page.Next
	if !stop() || err != nil || len(page.Lines) == 0 || !e.logs.put(at, s) {
		s.close()
	}
	return page, err
}

// readLog reads a page of s, over as many connections as it takes.
func (e *Engine) readLog(ctx context.Context, s *logStream, namespace string, q sandbox.LogQuery,
	page *sandbox.LogPage) error {
	asked := false
	for wait := firstLogWait; ; wait = min(2*wait, lastLogWait) {
		p, changed := e.pods.get(page.Sandbox)
		if p == nil {
			e.pods.forget(page.Sandbox)
		}
		var err error
		if s.text == nil {
			_, s.last = exitOf(p) // all is written that this connection will bring
			err = s.open(e.cfg.Client, namespace, page.Sandbox, q.Follow)
			asked = true
		}
		var broken error
		if err == nil {
			broken = s.fill(page, q)
		}
		switch code := rest.CodeOf(err); {
		case len(page.Lines) > 0 || ctx.Err() != nil:
			return nil // also for a caller who leaves while nothing comes
		case code == http.StatusNotFound && s.said:
			return nil // its end, for who has read of it
		case code == http.StatusNotFound:
			return noLog(page.Sandbox)
		case !q.Follow && !asked:
			continue // the last page was read to its end, and there may be more by now
		case !q.Follow && (err == nil && errors.Is(broken, io.EOF) ||
			code == http.StatusBadRequest):
			return nil // there is no more, or its container is not there yet
		case err != nil && !(q.Follow && passes(err)):
			return fmt.Errorf("log of sandbox %q: %w", page.Sandbox, err)
		case err == nil && s.last && errors.Is(broken, io.EOF):
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// passes reports whether a log that is not given may be given later: its container is not there
// yet, or nobody answers for its node.
func passes(err error) bool {
	code := rest.CodeOf(err)
	return code == 0 || code == http.StatusBadRequest || code == http.StatusTooManyRequests ||
		code >= http.StatusInternalServerError
}

// logStream is a log that is read.
type logStream struct {
	life context.Context // of its connections
	end  context.CancelFunc
	text io.ReadCloser // nil between two connections
	last bool          // the sandbox had ended before the connection was made
	said bool          // a connection was given

	// at is the time of the last line that was said, and same how many of that time were.
	at   int64
	same int
	// from is the time at which the connection begins, and again how many lines of that time it
	// has that were said.
	from  int64
	again int

	lines  *bufio.Reader
	goesOn bool // the line before is not at its end
	skip   bool // it is not said
	// held is what was read and goes to the next page, with what the reader said of it.
	held    []byte
	heldErr error

	timer *time.Timer // closes it while it is kept
}

// newLogStream is the log behind a position. What one caller reads may be of use to the next.
func newLogStream(ctx context.Context, from int64) *logStream {
	s := &logStream{at: from, same: math.MaxInt}
	s.life, s.end = context.WithCancel(context.WithoutCancel(ctx))
	return s
}

// open makes a connection that goes on behind the last line.
func (s *logStream) open(c *rest.Client, namespace string, id sandbox.ID, follow bool) error {
	text, err := c.Log(s.life, namespace, podName(id), time.Unix(0, s.at), follow)
	if err != nil {
		return err
	}
	s.text, s.lines, s.said = text, bufio.NewReaderSize(text, lineLimit), true
	s.from, s.again, s.goesOn, s.skip = s.at, s.same, false, true
	return nil
}

// cut ends the connection.
func (s *logStream) cut() {
	if s.text != nil {
		_ = s.text.Close()
	}
	s.text, s.held = nil, nil
}

func (s *logStream) close() {
	s.end()
	s.cut()
}

// next returns a line, or what fits of it with bufio.ErrBufferFull.
func (s *logStream) next() ([]byte, error) {
	if held := s.held; held != nil {
		s.held = nil
		return held, s.heldErr
	}
	return s.lines.ReadSlice('\n')
}

// hold gives a line back.
func (s *logStream) hold(line []byte, err error) { s.held, s.heldErr = slices.Clone(line), err }

// begin looks at the time of a line, and returns the line's position and its text.
func (s *logStream) begin(line string) (at int64, text string) {
	stamp, text, _ := strings.Cut(line, " ")
	when, err := time.Parse(time.RFC3339Nano, stamp)
	if s.skip = err != nil; s.skip {
		return s.at, line
	}
	at = when.UnixNano()
	if at == s.from && s.again > 0 {
		s.again--
		s.skip = true
	}
	s.skip = s.skip || at < s.from
	return max(at, s.at), text
}

// fill adds to an empty page what there is, and returns how the connection ended if it has.
func (s *logStream) fill(page *sandbox.LogPage, q sandbox.LogQuery) (broken error) {
	limit := q.Limit
	if limit <= 0 {
		limit = pageLimit
	}
	var out strings.Builder
	var whole struct { // as it was before the line that goes on
		text, ends int
		at         int64
		same       int
	}
	for more := true; more; {
		line, err := s.next()
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			broken = err // the end, for now, or of the connection, or the caller has left
			break
		}
		at, text, begins := s.at, strings.TrimSuffix(string(line), "\n"), !s.goesOn
		if begins {
			was := s.again
			at, text = s.begin(text)
			// A page never ends between lines of one time: without the connection the next page
			// would leave some out.
			if !s.skip && out.Len() > 0 && (out.Len()+len(text) > limit && at > page.Next ||
				out.Len() > 4*limit) {
				s.again = was
				s.hold(line, err)
				break
			}
		}
		if s.goesOn = err != nil; s.skip {
			continue
		}
		if out.Len() > 4*limit { // one line without an end is cut
			s.skip = true
			break
		}
		if begins {
			whole.text, whole.ends, whole.at, whole.same = out.Len(), len(page.Ends), s.at, s.same
			if at > s.at {
				s.at, s.same = at, 0
			}
			s.same++
		}
		kind := "F"
		if s.goesOn {
			kind = "P"
		}
		fmt.Fprintf(&out, "%s stdout %s %s\n", time.Unix(0, at).UTC().Format(time.RFC3339Nano),
			kind, text)
		page.Next = at
		page.Ends = append(page.Ends, at)
		more = !q.Follow || s.goesOn || s.lines.Buffered() > 0
	}
	said := out.String()
	if broken != nil {
		if s.goesOn && !s.skip { // the next connection has the line again, from its beginning
			said, page.Ends = said[:whole.text], page.Ends[:whole.ends]
			s.at, s.same, page.Next = whole.at, whole.same, whole.at
		}
		s.cut()
	}
	page.Lines = []byte(said)
	return broken
}

// logAt is where a reader of a log goes on.
type logAt struct {
	id     sandbox.ID
	follow bool
	next   int64
}

// keptLogs are the logs that wait for the readers of their next pages.
type keptLogs struct {
	mu     sync.Mutex // guards what follows
	all    map[logAt]*logStream
	closed bool
}

// take returns the log that goes on at a position, or nil.
func (k *keptLogs) take(at logAt) *logStream {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.all[at]
	if s != nil {
		delete(k.all, at)
		s.timer.Stop()
	}
	return s
}

// put keeps a log, unless there is one already or there are enough.
func (k *keptLogs) put(at logAt, s *logStream) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.all[at] != nil || len(k.all) >= keptLimit {
		return false
	}
	if k.all == nil {
		k.all = map[logAt]*logStream{}
	}
	k.all[at] = s
	s.timer = time.AfterFunc(keepLog, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.all[at] == s { // nobody took it meanwhile
			delete(k.all, at)
			s.close()
		}
	})
	return true
}

// close ends all that is kept.
func (k *keptLogs) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.all {
		s.timer.Stop()
		s.close()
	}
	k.all, k.closed = nil, true
}

func noLog(id sandbox.ID) error {
	return sandpool.Errorf(sandpool.NotFound, "", "",
		"Nothing is kept of what the sandbox %q wrote: a cluster keeps it as long as the pod.", id)
}
