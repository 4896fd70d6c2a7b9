package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sandpool/sandpool"
)

// Bounds of executions that go on without a caller.
const (
	MaxExecutions  = 256      // that are known, those that have ended included
	MaxExecutionID = 128      // bytes
	MaxRecord      = 32 << 20 // bytes kept of those that have ended, events and results together
)

// StartRequest is an execution that goes on whether or not anybody waits for it.
type StartRequest struct {
	// ID names it in its sandbox: letters, digits, hyphens, underscores and dots.
	ID string `json:"id"`
	ExecuteRequest
}

// ExecutionState is where an execution is on its way.
//
//	waiting ──▶ running ──▶ ended
//	   └────────────────────▲
type ExecutionState string

// The states of an execution.
const (
	ExecutionWaiting ExecutionState = "waiting" // for another one of its session
	ExecutionRunning ExecutionState = "running"
	ExecutionEnded   ExecutionState = "ended"
)

// Execution is one that goes on, or went on, without a caller.
type Execution struct {
	ID      string         `json:"id"`
	State   ExecutionState `json:"state"`
	Created time.Time      `json:"created"` // by the sandbox's clock, as the others
	Started time.Time      `json:"started,omitzero"`
	Ended   time.Time      `json:"ended,omitzero"`
	// Context is the one that it runs in; "" stands for the default one.
	Context string `json:"context,omitempty"`
	// Timeout is the one that it was given.
	Timeout time.Duration `json:"timeout"`
	// Outcome and Took are those of the result, once there is one.
	Outcome Outcome       `json:"outcome,omitempty"`
	Took    time.Duration `json:"took,omitempty"`
	// Canceled says that Cancel was called before it had ended.
	Canceled bool `json:"canceled,omitempty"`
	// Events is the number of the last event.
	Events int64 `json:"events"`
	// Result is there once it has ended, where it was asked for.
	Result *ExecuteResult `json:"result,omitempty"`
	// Fault is there if it ended without a result: it could not be run.
	Fault *Fault `json:"fault,omitempty"`
}

// Record is an event of an execution with its number; the first is 1, and none is left out.
type Record struct {
	Number int64 `json:"number"`
	Event
	// State is the one that the execution has from now on, if that is what happened.
	State ExecutionState `json:"state,omitempty"`
	// Execution is the last record's: how the execution ended. Its result holds neither output
	// nor displays, which the events before it are.
	Execution *Execution `json:"execution,omitempty"`
}

// Start begins an execution that nobody needs to wait for. An ID that is taken is an error of
// class Conflict.
func (c *Client) Start(ctx context.Context, req StartRequest) (Execution, error) {
	var e Execution
	err := c.call(ctx, http.MethodPost, "/executions", nil, req, &e, maxAnswer)
	if err == nil && req.Room != nil {
		req.Room.Sent()
	}
	return e, err
}

// Executions lists the executions that were started, the oldest first, without results.
func (c *Client) Executions(ctx context.Context) ([]Execution, error) {
	var all executionList
	err := c.call(ctx, http.MethodGet, "/executions", nil, nil, &all, maxAnswer)
	return all, err
}

// executionList is the list as it is read.
type executionList []Execution

// UnmarshalJSON implements json.Unmarshaler.
func (l *executionList) UnmarshalJSON(text []byte) (err error) {
	*l, err = decodeList[Execution](text, MaxExecutions)
	return err
}

// Execution returns an execution that was started, with its result if it has ended. room is
// asked for the memory of a large one; it may be nil.
func (c *Client) Execution(ctx context.Context, id string, room Room) (Execution, error) {
	var e Execution
	err := c.frames(ctx, http.MethodGet, "/execution", url.Values{"id": {id}}, room,
		func(r *FrameReader) error {
			return r.Next(&e)
		})
	return e, err
}

// Cancel ends an execution: one that waits does not start, one that runs is interrupted until it
// yields, or its time is over. It does not wait for the end.
func (c *Client) Cancel(ctx context.Context, id string) (Execution, error) {
	var e Execution
	err := c.call(ctx, http.MethodDelete, "/execution", url.Values{"id": {id}}, nil, &e, maxAnswer)
	return e, err
}

// Wait returns when an execution has ended, without its result.
func (c *Client) Wait(ctx context.Context, id string) (Execution, error) {
	var e Execution
	err := c.call(ctx, http.MethodGet, "/execution/end", url.Values{"id": {id}}, nil, &e, maxAnswer)
	return e, err
}

// Follow calls emit with the records of an execution after the given number, those that are
// there and those to come, until the last. If some of them are kept no more, the error has the
// class NotFound and the code EventsNotKept. An error of emit ends the call.
func (c *Client) Follow(ctx context.Context, id string, after int64, room Room,
	emit func(Record) error) error {
	query := url.Values{"id": {id}, "after": {strconv.FormatInt(after, 10)}}
	return c.frames(ctx, http.MethodGet, "/execution/events", query, room,
		func(r *FrameReader) error {
			for next := after + 1; ; {
				var rec Record
				if err := r.Next(&rec); err != nil {
					return err
				}
				if rec.Number < next {
					return sandpool.Errorf(sandpool.Internal, "", "",
						"The sandbox sent event %d twice.", rec.Number)
				}
				next = rec.Number + 1
				if err := emit(rec); err != nil || rec.Execution != nil {
					return err
				}
			}
		})
}

// maxRecord bounds one frame of an execution's record: its result, whose streams take six bytes
// for one in JSON.
const maxRecord = 6*2*LimitMaxOutput + 2*MaxDisplayBytes + 1<<20

// frames sends a request whose answer is frames, and reads them by read.
func (c *Client) frames(ctx context.Context, method, path string, query url.Values, room Room,
	read func(*FrameReader) error) (err error) {
	ctx, leave := context.WithCancel(ctx)
	defer leave() // otherwise what is left would be waited for
	resp, err := c.send(ctx, method, path, query, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err == nil { // nothing comes after it, and the connection serves the next call
			late := time.AfterFunc(endTime, leave)
			defer late.Stop()
			discard(resp)
		}
		_ = resp.Body.Close()
	}()
	r := NewFrameReader(resp.Body, maxRecord)
	r.Large = func(size int64) error {
		if room == nil || size <= LargeAnswer {
			return nil
		}
		return room.Take(ctx, size)
	}
	err = read(r)
	var known *sandpool.Error
	if err == nil || errors.As(err, &known) || !errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("agent: %s %q: %w", method, path, unexpected(err))
}

// endTime is how long an answer may take to end after its last frame.
const endTime = time.Second

// ErrNoRecords is the error of Run if the agent, one of an older server, has no records on its
// links.
var ErrNoRecords = errors.New("agent: there are no records on links")

// Live is an execution whose records are read as they are made. It goes on without its reader. One
// caller at a time reads it, to the end, to an error that is not of the caller's context, or until
// Close.
type Live struct {
	c    *Client
	l    *link // nil once it is of no more use here
	next int64 // the number of the next record
}

// Run starts an execution as Start does, and sends its records from the first: what Start and
// Follow do, in one exchange. That it was refused is the error of the first Next.
func (c *Client) Run(ctx context.Context, req StartRequest) (*Live, error) {
	l := c.links.take()
	if l == nil {
		var err error
		if l, err = c.openLink(ctx); err != nil {
			return nil, err
		}
	}
	if !l.records {
		c.links.put(l)
		return nil, ErrNoRecords
	}
	frame, err := EncodeFrame(req)
	if err != nil {
		c.links.put(l)
		return nil, err
	}
	err = l.until(ctx, func() error {
		_, err := l.conn.Write(frame)
		return err
	})
	if req.Room != nil {
		req.Room.Sent()
	}
	if err != nil {
		_ = l.conn.Close()
		return nil, err
	}
	return &Live{c: c, l: l, next: 1}, nil
}

// until does something with the connection that fails when ctx ends, and can be done again later.
func (l *link) until(ctx context.Context, do func() error) error {
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = l.conn.SetDeadline(time.Unix(1, 0))
		close(cut)
	})
	err := do()
	if stop() {
		return err
	}
	<-cut
	_ = l.conn.SetDeadline(time.Time{}) // fails on a closed connection, which is none any more
	if err == nil {
		return nil // it was done before, and is not done again
	}
	return context.Cause(ctx)
}

// Next returns the next record; the last one says how the execution ended. more says that the one
// after it is there already. room is asked for the memory of a large one; it may be nil.
func (v *Live) Next(ctx context.Context, room Room) (rec Record, more bool, err error) {
	if v.l == nil {
		return rec, false, errors.New("agent: there are no more records")
	}
	var a Answer
	err = v.l.until(ctx, func() error { return v.l.answer(ctx, &a, maxRecord, room) })
	switch {
	case err != nil && ctx.Err() != nil:
		return rec, false, err
	case err != nil:
		v.Close()
		return rec, false, fmt.Errorf("agent: execute: %w", unexpected(err))
	case a.Fault != nil:
		v.leave()
		return rec, false, a.Fault.asError("execute")
	case a.Record == nil || a.Record.Number != v.next:
		v.Close()
		return rec, false, sandpool.Errorf(sandpool.Internal, "", "",
			"The sandbox sent something else than event %d of an execution.", v.next)
	}
	v.next++
	more = v.l.frames.More()
	if a.Record.Execution != nil {
		v.leave()
	}
	return *a.Record, more, nil
}

// leave gives the link back.
func (v *Live) leave() {
	v.c.links.put(v.l)
	v.l = nil
}

// Close is for who reads no more records, although there may be some.
func (v *Live) Close() {
	if v.l != nil {
		_ = v.l.conn.Close()
		v.l = nil
	}
}

// ExecuteStream is Execute with what the cell puts out as it comes. Displays that are updated
// arrive again with the same ID. The last event carries the result, whose Stdout and
// Stderr hold the whole output again. An error of emit ends the call as the end of ctx does.
func (c *Client) ExecuteStream(ctx context.Context, req ExecuteRequest,
	emit func(Event) error) error {
	id := rand.Text()
	live, err := c.Run(ctx, StartRequest{ID: id, ExecuteRequest: req})
	if err != nil {
		return err
	}
	defer live.Close()
	for {
		rec, _, err := live.Next(ctx, req.Room)
		if err == nil && rec.Execution != nil {
			return c.last(ctx, *rec.Execution, req.Room, emit)
		}
		if err == nil && rec.State == "" {
			err = emit(rec.Event)
		}
		if err != nil {
			end, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
			defer stop()
			_, _ = c.Cancel(end, id) // which the sandbox may not have taken
			return err
		}
	}
}

// cancelTime is how long the end of an execution without a reader may take to arrive.
const cancelTime = 5 * time.Second

// last emits the last event of an execution.
func (c *Client) last(ctx context.Context, e Execution, room Room, emit func(Event) error) error {
	if e.Fault != nil {
		return e.Fault.asError("execute")
	}
	e, err := c.Execution(ctx, e.ID, room)
	if err != nil {
		return err
	}
	return emit(Event{Result: e.Result})
}
