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

// line is where the records of one execution go as they are made: whoever makes one writes it, and
// nobody need be woken for that. A host that does not take one at once gets it, and those after it,
// by a goroutine that reads them as every reader does.
//
// The registry's mu guards it.
type line struct {
	ctx  context.Context // of who follows
	conn Conn
	held []byte        // of records, to be sent with the next
	last int64         // the number of the last of them
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

// add sends a record. That the cell runs is said together with what it says next, or when it is
// still: the host of a short cell is woken for less. The caller holds mu.
func (l *line) add(g *Registry, e *execution, r agent.Record) {
	if l.err != nil || l.late != nil {
		return
	}
	frame, err := agent.EncodeFrame(agent.Answer{Record: &r})
	if err != nil {
		l.err = err
		return
	}
	e.read, l.last = r.Number, r.Number
	l.held = append(l.held, frame...)
	if r.State == "" {
		l.push(g, e)
	}
}

// push sends what is held. The caller holds mu.
func (l *line) push(g *Registry, e *execution) {
	if l.err != nil || l.late != nil || len(l.held) == 0 {
		return
	}
	n, err := l.conn.Offer(l.held)
	if err != nil {
		l.err, l.held = err, nil
		return
	}
	rest := l.held[n:]
	if len(rest) == 0 && cap(l.held) <= keptBuffer {
		l.held = l.held[:0]
		return
	}
	l.held = nil
	if len(rest) > 0 {
		l.late = make(chan struct{})
		go l.follow(g, e, rest)
	}
}

// follow sends the rest of a frame and the records after it, at the pace of the host.
func (l *line) follow(g *Registry, e *execution, rest []byte) {
	defer close(l.late)
	send := func(frame []byte) error {
		if err := l.conn.SetWriteDeadline(time.Now().Add(readTime)); err != nil {
			return fmt.Errorf("set the write deadline: %w", err)
		}
		_, err := l.conn.Write(frame)
		return err
	}
	err := send(rest)
	if err == nil {
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
