package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
)

// LinkProtocol is what a connection is upgraded to by POST /link.
const LinkProtocol = "sandpool-link"

// RecordsHeader is in the answer of an agent whose links take a StartRequest as well.
const RecordsHeader = "Sandpool-Records"

// Answer is what the agent sends on a link: one for an ExecuteRequest; for a StartRequest as many
// as there are records, or a Fault. Exactly one field is set.
type Answer struct {
	Result *ExecuteResult `json:"result,omitempty"`
	Record *Record        `json:"record,omitempty"`
	Fault  *Fault         `json:"fault,omitempty"`
}

// link is a connection on which the agent takes executions one after another, in frames
// rather than in HTTP: under gVisor a short execution costs what its system calls cost, of which a
// web server makes a third more. It is used by one caller at a time.
type link struct {
	conn    net.Conn
	frames  *FrameReader
	channel bool // the agent's standard input, which is quicker than the others, and there once
	records bool // the agent is none of an older server's, which has no records on its links
}

// spareLinks is how many links are kept besides the channel. More are there while executions wait
// for one that runs, each with a link of its own.
const spareLinks = 4

// links are those that no call uses.
type links struct {
	mu     sync.Mutex // guards the fields below it
	free   []*link    // the channel, if it is among them, is the last
	closed bool
}

// take returns a link that is there, the channel if it can be, or nil.
func (ls *links) take() *link {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	n := len(ls.free)
	if n == 0 {
		return nil
	}
	l := ls.free[n-1]
	ls.free = ls.free[:n-1]
	return l
}

// put keeps a link for the next call, or closes it.
func (ls *links) put(l *link) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	spare := len(ls.free)
	if spare > 0 && ls.free[spare-1].channel {
		spare--
	}
	switch {
	case ls.closed || !l.channel && spare == spareLinks:
		_ = l.conn.Close()
	case l.channel:
		ls.free = append(ls.free, l)
	default:
		ls.free = slices.Insert(ls.free, spare, l)
	}
}

func (ls *links) close() {
	ls.mu.Lock()
	free := ls.free
	ls.free, ls.closed = nil, true
	ls.mu.Unlock()
	for _, l := range free {
		_ = l.conn.Close() // which may call back
	}
}

// openLink asks the agent for a link.
func (c *Client) openLink(ctx context.Context) (*link, error) {
	conn, r, header, err := c.upgrade(ctx, "/link", nil, LinkProtocol)
	if err != nil {
		return nil, err
	}
	if r.Buffered() > 0 {
		return nil, errors.Join(
			errors.New("agent: open a link: the agent spoke before it was asked"), conn.Close())
	}
	return &link{conn: conn, frames: NewFrameReader(conn, 0),
		records: header.Get(RecordsHeader) != ""}, nil
}

// upgrade opens a connection and takes it out of HTTP. What the agent has sent already is
// in the reader.
func (c *Client) upgrade(ctx context.Context, path string, query url.Values,
	protocol string) (net.Conn, *bufio.Reader, http.Header, error) {
	conn, err := c.dial(ctx, Port)
	if err != nil {
		return nil, nil, nil, err
	}
	release := cut(ctx, conn)
	r, header, err := c.negotiate(ctx, conn, path, query, protocol)
	if cause := release(); cause != nil {
		err = cause
	}
	if err != nil {
		_ = conn.Close()
		return nil, nil, nil, err
	}
	return conn, r, header, nil
}

func (c *Client) negotiate(ctx context.Context, conn net.Conn, path string, query url.Values,
	protocol string) (*bufio.Reader, http.Header, error) {
	req, err := c.request(ctx, http.MethodPost, path, query, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", protocol)
	if err := req.Write(conn); err != nil {
		return nil, nil, fmt.Errorf("agent: POST %q: %w", path, err)
	}
	header := &io.LimitedReader{R: conn, N: maxHeader}
	r := bufio.NewReader(header)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, nil, fmt.Errorf("agent: POST %q: %w", path, unexpected(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, nil, readError("POST "+path, resp)
	}
	if resp.Header.Get("Upgrade") != protocol {
		return nil, nil, errors.New("agent: POST " + path + ": upgraded to another protocol")
	}
	header.N = math.MaxInt64 // what follows has bounds of its own
	return r, resp.Header, nil
}

// cut makes the calls on conn fail when ctx ends. What it returns ends that, and says
// whether ctx has ended: then conn is of no more use.
func cut(ctx context.Context, conn net.Conn) func() error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return func() error {
		if stop() {
			return nil
		}
		return context.Cause(ctx)
	}
}

// largeTime is how long a large answer may take to come, once it has room that others wait for.
const largeTime = 30 * time.Second

// execute runs a cell. After an error that the agent did not send, the link is of no more use.
func (l *link) execute(ctx context.Context, req ExecuteRequest) (res ExecuteResult, usable bool,
	err error) {
	frame, err := EncodeFrame(req)
	if err != nil {
		return res, true, err
	}
	release := cut(ctx, l.conn)
	room, limit := req.Room, maxExecution(req)
	req = ExecuteRequest{} // the execution may wait for long, and its code need not
	_, err = l.conn.Write(frame)
	frame = nil //nolint:ineffassign // it may be large, and the execution long
	if room != nil {
		room.Sent()
	}
	var a Answer
	if err == nil {
		err = l.answer(ctx, &a, limit, room)
	}
	if cause := release(); cause != nil {
		return res, false, cause
	}
	switch {
	case err != nil:
		return res, false, fmt.Errorf("agent: execute: %w", unexpected(err))
	case a.Fault != nil:
		return res, true, a.Fault.asError("execute")
	case a.Result == nil:
		return res, false, sandpool.Errorf(sandpool.Internal, "", "",
			"The sandbox's answer to an execution is empty.")
	}
	return *a.Result, true, nil
}

// answer reads an answer of at most limit bytes. room is asked for the memory of a large one.
func (l *link) answer(ctx context.Context, a *Answer, limit int64, room Room) error {
	var late *time.Timer
	l.frames.Limit = limit
	l.frames.Large = func(size int64) error {
		if room == nil || size <= LargeAnswer {
			return nil
		}
		err := room.Take(ctx, size)
		late = time.AfterFunc(largeTime, func() { _ = l.conn.SetDeadline(time.Unix(1, 0)) })
		return err
	}
	err := l.frames.Next(a)
	l.frames.Large = nil
	if late != nil && !late.Stop() && err == nil {
		return os.ErrDeadlineExceeded // the connection has its deadline now
	}
	return err
}
