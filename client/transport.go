package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
)

// maxAnswer bounds a JSON answer: an execution's output and figures are the
// largest, and a server (or something that poses as one) must not fill our memory.
const maxAnswer = 256 << 20

// call is one request of the API.
type call struct {
	method  string
	path    string // escaped, beginning with "/"
	query   url.Values
	header  http.Header
	body    any           // encoded as JSON; nil means none
	stream  io.Reader     // a body that is no JSON; excludes body
	timeout time.Duration // if the context has no deadline; zero means callTimeout
}

// bound gives ctx a deadline unless it has one: no call waits for ever.
func (r call) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	t := r.timeout
	if t == 0 {
		t = callTimeout
	}
	return context.WithTimeout(ctx, t)
}

// do makes the call, decodes the answer's JSON into out (nil: ignored) and
// returns the answer's status and header.
func (c *Client) do(ctx context.Context, r call, out any) (int, http.Header, error) {
	ctx, cancel := r.bound(ctx)
	defer cancel()
	resp, err := c.send(ctx, r)
	if err != nil {
		return 0, nil, err
	}
	defer drain(resp.Body)
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return 0, nil, c.unreachable(ctx, r, err)
	}
	if len(data) > maxAnswer {
		return 0, nil, sandpool.Errorf(sandpool.Internal, "", "",
			"The server's answer to %s %s is over %d bytes.", r.method, r.path, maxAnswer)
	}
	if out != nil && len(data) > 0 {
		if err := json.Unmarshal(data, out); err != nil {
			return 0, nil, &sandpool.Error{Class: sandpool.Internal, Err: err, Message: fmt.Sprintf(
				"The answer to %s %s is not what a sandpool server sends; is %s one?", r.method,
				r.path, c.endpoint)}
		}
	}
	return resp.StatusCode, resp.Header, nil
}

// send makes the call and returns the answer with its body unread, if its status is
// 2xx; any other status becomes an error.
func (c *Client) send(ctx context.Context, r call) (*http.Response, error) {
	req, err := c.request(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, r, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer drain(resp.Body)
		return nil, readError(resp)
	}
	return resp, nil
}

func (c *Client) request(ctx context.Context, r call) (*http.Request, error) {
	body := r.stream
	if r.body != nil {
		data, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("encode body of %s %s: %w", r.method, r.path, err)
		}
		body = bytes.NewReader(data)
	}
	u := c.endpoint.String() + r.path
	if len(r.query) > 0 {
		// A "+" in a query is a plus sign to the server; Encode writes a space so.
		u += "?" + strings.ReplaceAll(r.query.Encode(), "+", "%20")
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	req.Header.Set("User-Agent", "sandpool-client")
	return req, nil
}

// unreachable is the error of a call that got no answer. The token is in no
// part of it: url.Error shows the URL alone, and that carries no secret.
func (c *Client) unreachable(ctx context.Context, r call, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%s %s: %w", r.method, r.path, context.Canceled)
	}
	msg := fmt.Sprintf("No answer from %s in time.", c.endpoint)
	if ctx.Err() == nil && !isTimeout(err) {
		cause := err
		var u *url.Error
		if errors.As(err, &u) {
			cause = u.Err // without the method and the long URL, which the message replaces
		}
		msg = fmt.Sprintf("No answer from %s: %v.", c.endpoint, cause)
	}
	return &sandpool.Error{Class: sandpool.Unavailable, Code: CodeUnreachable, Target: "endpoint",
		Message: msg, Err: err}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// drain reads what is left of a body, so that its connection can be used
// again, and closes it. A body that goes on for long is cut off instead.
func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 1<<20)
	_ = body.Close()
}

// follow returns the call that a link of the server leads to. Only the link's path and
// query are used: a server behind a proxy may call itself by another name, and the
// token goes nowhere but to the endpoint that the client was made for.
func (c *Client) follow(link string) (call, error) {
	u, err := c.endpoint.Parse(link)
	if err != nil {
		return call{}, fmt.Errorf("follow link %q: %w", link, err)
	}
	return call{method: http.MethodGet, path: strings.TrimPrefix(u.EscapedPath(),
		c.endpoint.EscapedPath()), query: u.Query()}, nil
}
