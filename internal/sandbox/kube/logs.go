package kube

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// The node keeps what a container writes, in files that it rotates, for as long as there is the
// pod. A position in it is the time of a line, in nanoseconds since 1970: the node writes it before
// each, and nothing else tells lines apart. The API does not say which of the two streams a line
// was written to; all count as standard output.

const (
	// pageLimit is how much of a log is read if nobody says.
	pageLimit = 64 << 10
	// lineLimit is the longest part of a line that is kept in one piece.
	lineLimit = 16 << 10
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
	text, err := e.cfg.Client.Log(ctx, p.Metadata.Namespace, podName(id), time.Unix(0, q.From),
		q.Follow)
	switch {
	case rest.CodeOf(err) == http.StatusNotFound:
		return page, noLog(id)
	case rest.CodeOf(err) == http.StatusBadRequest: // its container is not there yet
		return page, nil
	case ctx.Err() != nil:
		return page, nil // a caller who leaves while nothing comes
	case err != nil:
		return page, fmt.Errorf("log of sandbox %q: %w", id, err)
	}
	defer text.Close()
	limit := q.Limit
	if limit <= 0 {
		limit = pageLimit
	}
	lines := bufio.NewReaderSize(text, lineLimit)
	var out strings.Builder
	skipped, goesOn := true, false // the line before, and whether it is not at its end
	for more := true; more; {
		line, err := lines.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			break // the end, for now, or of the connection, or the caller has left
		}
		at, said := page.Next, strings.TrimSuffix(string(line), "\n")
		if !goesOn {
			stamp, rest, _ := strings.Cut(said, " ")
			when, bad := time.Parse(time.RFC3339Nano, stamp)
			if skipped = bad != nil || when.UnixNano() <= q.From; !skipped {
				at, said = when.UnixNano(), rest
			}
		}
		// A page never ends between lines of one time: the next page would leave some out.
		if out.Len() > 0 && out.Len()+len(said) > limit && at > page.Next ||
			out.Len() > 4*limit { // one line without an end is cut
			break
		}
		if goesOn = err != nil; skipped {
			continue
		}
		kind := "F"
		if goesOn {
			kind = "P"
		}
		fmt.Fprintf(&out, "%s stdout %s %s\n", time.Unix(0, at).UTC().Format(time.RFC3339Nano),
			kind, said)
		page.Next = at
		page.Ends = append(page.Ends, at)
		more = !q.Follow || goesOn || lines.Buffered() > 0
	}
	page.Lines = []byte(out.String())
	return page, nil
}

func noLog(id sandbox.ID) error {
	return sandpool.Errorf(sandpool.NotFound, "", "",
		"Nothing is kept of what the sandbox %q wrote: a cluster keeps it as long as the pod.", id)
}
