package executions

import (
	"context"
	"fmt"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// keptBuffer is the largest buffer that is kept between records.
const keptBuffer = 64 << 10

// Conn is a connection to the host.
type Conn interface {
	Write(p []byte) (int, error)
	SetWriteDeadline(t time.Time) error
	// Offer writes as much of p as the host takes at once.
	Offer(p []byte) (int, error)
}

// pace is how soon after another one a record is sent. Of a cell that prints without end each
// line would else wake the host, and the caller behind it.
const pace = time.Millisecond

// line is where the records of one execution go as they are made: whoever makes one writes it, and
// nobody need be woken for that. A host that does not take one at once gets it, and those after it,
// by a goroutine that reads them as every reader does.
//
// The registry's mu guards it.
type line struct {
	ctx  context.Context // of who follows
	conn Conn
	buf  []byte        // kept from one push to the next
	last int64         // the number of the last record that was sent
	sent time.Time     // when the last one with something to see was
	due  *time.Timer   // nil unless something waits for its time
	late chan struct{} // nil while the host keeps up; closed when it has got everything
	err  error
}

// Run runs an execution, which goes on if the host leaves, and sends its records on conn, the last
// one included. An error without records is why the execution was not begun; sent says that there
// were some.
func (g *Registry) Run(ctx context.Context, req agent.StartRequest, run Runner,
	conn Conn) (sent bool, err error) {
	l := &line{ctx: context.WithoutCancel(ctx), conn: conn}
	ctx, e, err := g.admit(ctx, req, l)
	if err != nil {
		return false, err
	}
	g.run(ctx, e, req.ExecuteRequest, run)
	g.mu.Lock()
	late := l.late
	g.mu.Unlock()
	if late != nil {
		<-late
	}
	return true, l.err
}

// add sends a record that is the last of its execution's, or has it sent soon. That the cell runs
// is said together with what it says next, or when it is still: the host of a short cell is woken
// for less. The caller holds mu.
func (l *line) add(g *Registry, e *execution, r agent.Record) {
	soon := pace - time.Since(l.sent)
	switch {
	case r.State != "" || l.due != nil && r.Execution == nil:
	case r.Execution != nil || soon <= 0:
		l.push(g, e)
	default:
		l.due = time.AfterFunc(soon, func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			l.push(g, e)
		})
	}
}

// push sends the records that were not sent yet. The caller holds mu.
func (l *line) push(g *Registry, e *execution) {
	if l.due != nil {
		l.due.Stop()
		l.due = nil
	}
	if l.err != nil || l.late != nil || l.last == e.view.Events {
		return
	}
	text := l.buf[:0]
	for _, r := range e.records[len(e.records)-int(e.view.Events-l.last):] {
		frame, err := agent.EncodeFrame(agent.Answer{Record: &r})
		if err != nil {
			l.err = err
			return
		}
		text = append(text, frame...)
		if r.State == "" { // else what the cell says first would wait for it
			l.sent = time.Now()
		}
	}
	l.last, e.read = e.view.Events, e.view.Events
	n, err := l.conn.Offer(text)
	l.buf, l.err = nil, err
	switch {
	case err != nil:
	case n < len(text):
		l.late = make(chan struct{})
		go l.follow(g, e, text[n:], e.records[len(e.records)-1].Execution != nil)
	case cap(text) <= keptBuffer:
		l.buf = text
	}
}

// follow sends the rest of what was to be sent, and the records after it unless that is all, at the
// pace of the host.
func (l *line) follow(g *Registry, e *execution, rest []byte, all bool) {
	defer close(l.late)
	send := func(frame []byte) error {
		if err := l.conn.SetWriteDeadline(time.Now().Add(readTime)); err != nil {
			return fmt.Errorf("set the write deadline: %w", err)
		}
		_, err := l.conn.Write(frame)
		return err
	}
	err := send(rest)
	if err == nil && !all {
		err = g.read(l.ctx, e, l.last, func(r agent.Record) error {
			frame, err := agent.EncodeFrame(agent.Answer{Record: &r})
			if err != nil {
				return err
			}
			return send(frame)
		})
	}
	if err == nil {
		err = l.conn.SetWriteDeadline(time.Time{})
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	l.err = err
}
