package agent

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/sandpool/sandpool"
)

// Bounds of what is read of a sandbox, whose agent may have been taken over.
const (
	// maxAnswer is of answers that hold a few fields, or the packages of an image.
	maxAnswer = 4 << 20
	// maxListing holds the 20,000 entries that the agent lists at most, with long paths.
	maxListing = 32 << 20
	// maxHeader is of an answer's header.
	maxHeader = 64 << 10
)

// maxExecution bounds the answer to an execution: two streams, of which JSON makes six
// times as much if they are all control characters, the displays, the value, and the rest.
func maxExecution(req ExecuteRequest) int64 {
	output := cmp.Or(max(req.MaxOutput, 0), DefaultMaxOutput)
	return 6*2*int64(min(output, LimitMaxOutput)) + 2*MaxDisplayBytes + 1<<20
}

// Client talks to the agent of one sandbox. It keeps connections open between calls; Close
// closes them. All methods may be called at the same time.
//
// Errors of class Internal are of the connection: the sandbox may have ended.
type Client struct {
	http      *http.Client
	transport *http.Transport
	dial      func(ctx context.Context, port int) (net.Conn, error)
	secret    string
	links     links
}

// NewClient returns a client that reaches the sandbox by dial and shows secret.
func NewClient(dial func(ctx context.Context, port int) (net.Conn, error), secret string) *Client {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial(ctx, Port)
		},
		MaxIdleConns:        16,
		MaxIdleConnsPerHost: 16,
		// A connection ends with its sandbox, which may wait for hours: the first
		// call of its session finds the connection open.
		IdleConnTimeout:        0,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
		// The agent can refuse an upload before it has been sent in vain.
		ExpectContinueTimeout: time.Second,
	}
	// The agent never redirects; whoever does so in its place is not followed.
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{http: &http.Client{Transport: t, CheckRedirect: noRedirect}, transport: t,
		dial: dial, secret: secret}
}

// Close closes the connections that no call uses. The others are closed after their call.
func (c *Client) Close() {
	c.transport.CloseIdleConnections()
	c.links.close()
}

// Init makes a restored sandbox an individual. The second call for a sandbox is refused
// with class Conflict.
func (c *Client) Init(ctx context.Context, req InitRequest) (InitResult, error) {
	var res InitResult
	err := c.call(ctx, http.MethodPost, "/init", nil, req, &res, maxAnswer)
	return res, err
}

// Connect opens the link that an execution takes, for which the first would otherwise wait.
func (c *Client) Connect(ctx context.Context) error {
	l, err := c.openLink(ctx)
	if err == nil {
		c.links.put(l)
	}
	return err
}

// Attach makes executions take conn, which is the agent's standard input, until it breaks.
// It comes before the first of them.
func (c *Client) Attach(conn net.Conn) {
	c.links.put(&link{conn: conn, frames: NewFrameReader(conn, 0), channel: true, records: true})
}

// Execute runs a cell and returns how it ended; an exception in the cell is
// not an error. The agent runs cells one after another, in the order of their arrival there; one
// more than MaxQueue that wait is refused (TooMany). If ctx ends while
// the cell waits for its turn, it never runs; a cell that runs is interrupted until it yields,
// and if it does not, goes on until its timeout. What tells the agent is the end of the link.
func (c *Client) Execute(ctx context.Context, req ExecuteRequest) (ExecuteResult, error) {
	l := c.links.take()
	if l == nil { // all that are there are in use
		var err error
		if l, err = c.openLink(ctx); err != nil {
			return ExecuteResult{}, err
		}
	}
	res, usable, err := l.execute(ctx, req)
	if !usable {
		_ = l.conn.Close()
		return res, err
	}
	c.links.put(l)
	return res, err
}

// Interrupt interrupts the cell that runs now; without one it does nothing.
func (c *Client) Interrupt(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/interrupt", nil, nil, nil, 0)
}

// KernelInfo describes the default kernel and the packages of the image.
func (c *Client) KernelInfo(ctx context.Context) (KernelInfo, error) {
	var m KernelInfo
	err := c.call(ctx, http.MethodGet, "/metadata", nil, nil, &m, maxAnswer)
	return m, err
}

// call sends a request with a JSON body and reads a JSON answer of at most limit bytes.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any,
	limit int64) error {
	return c.callIn(ctx, nil, method, path, query, in, out, limit)
}

// callIn is call with room for an answer that turns out to be large.
func (c *Client) callIn(ctx context.Context, room Room, method, path string, query url.Values, in,
	out any, limit int64) error {
	resp, err := c.send(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer discard(resp)
	if out == nil {
		return nil
	}
	if resp.ContentLength > limit {
		return oversized(limit)
	}
	body, err := readWithin(ctx, room, resp.Body, limit)
	var known *sandpool.Error
	switch {
	case errors.As(err, &known):
		return err
	case err != nil:
		return fmt.Errorf("agent: %s %q: %w", method, path, unexpected(err))
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("agent: %s %q: decode: %w", method, path, err)
	}
	return nil
}

// readWithin reads at most limit bytes. An answer does not say how long it is: one of more than
// LargeAnswer bytes takes room for the most that it may have.
func readWithin(ctx context.Context, room Room, r io.Reader, limit int64) ([]byte, error) {
	var body bytes.Buffer
	_, err := body.ReadFrom(io.LimitReader(r, min(limit, LargeAnswer)+1))
	if err == nil && int64(body.Len()) > LargeAnswer && limit > LargeAnswer {
		if room != nil {
			err = room.Take(ctx, limit)
		}
		if err == nil {
			_, err = body.ReadFrom(io.LimitReader(r, limit+1-int64(body.Len())))
		}
	}
	if err == nil && int64(body.Len()) > limit {
		err = oversized(limit)
	}
	return body.Bytes(), err
}

// oversized is the error of an answer that no honest agent gives.
func oversized(limit int64) error {
	return sandpool.Errorf(sandpool.Internal, "", "",
		"The sandbox's answer is larger than %d bytes, the most that is read of it.", limit)
}

func (c *Client) send(ctx context.Context, method, path string, query url.Values,
	in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("agent: %s %q: encode: %w", method, path, err)
		}
		body = bytes.NewReader(data)
	}
	req, err := c.request(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	return c.do(req)
}

func (c *Client) request(ctx context.Context, method, path string, query url.Values,
	body io.Reader) (*http.Request, error) {
	u := url.URL{Scheme: "http", Host: "agent", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("agent: %s %q: %w", method, path, err)
	}
	req.Header.Set("Authorization", "Bearer "+c.secret)
	return req, nil
}

// do returns the answer if its status is 2xx; the caller closes its body.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		var known *sandpool.Error
		if errors.As(err, &known) {
			return nil, known
		}
		return nil, fmt.Errorf("agent: %s %q: %w", req.Method, req.URL.Path, nameless(err))
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer discard(resp)
	return nil, readError(req.Method+" "+req.URL.Path, resp)
}

// nameless returns what a url.Error holds. Its own text has the query, and so names of files, of
// which no log is to hear.
func nameless(err error) error {
	var whole *url.Error
	if errors.As(err, &whole) {
		return whole.Err
	}
	return err
}

// discard reads what little may be left of an answer, without which its
// connection could not be used again.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
}

// unexpected names an answer that ends too early for what it is.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
