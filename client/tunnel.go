package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
)

// A Tunnel is a byte stream to a port of a session's container. CloseWrite ends what is sent and
// leaves the other direction open.
type Tunnel struct {
	net.Conn
	body io.ReadWriteCloser
}

// Read implements net.Conn.
func (t *Tunnel) Read(p []byte) (int, error) { return t.body.Read(p) }

// Write implements net.Conn.
func (t *Tunnel) Write(p []byte) (int, error) { return t.body.Write(p) }

// Close implements net.Conn.
func (t *Tunnel) Close() error { return t.body.Close() }

// CloseWrite tells the container that nothing more is sent.
func (t *Tunnel) CloseWrite() error {
	if c, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return t.Close()
}

// Tunnel connects with a TCP port of the session's container, for whatever protocol; the pool must
// expose it. A session that does not exist begins. ctx bounds the connecting alone.
func (c *Client) Tunnel(ctx context.Context, pool, identifier string, port int) (*Tunnel, error) {
	r := call{method: http.MethodGet, path: c.data(pool, ".management", "tunnel"),
		query: url.Values{"api-version": {dataVersion}, "identifier": {identifier},
			"port": {strconv.Itoa(port)}},
		header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"tcp"}}}
	ctx, cancel := r.bound(ctx)
	defer cancel()
	var conn net.Conn
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { conn = info.Conn },
	})
	req, err := c.request(traced, r)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, r, err)
	}
	body, ok := resp.Body.(io.ReadWriteCloser)
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols && ok:
		return &Tunnel{Conn: conn, body: body}, nil
	case resp.StatusCode >= 300:
		defer drain(resp.Body)
		return nil, readError(resp)
	}
	_ = resp.Body.Close()
	return nil, sandpool.Errorf(sandpool.Internal, "", "",
		"%s answered %s where a tunnel was asked for; is it a sandpool server?", c.endpoint,
		resp.Status)
}

// Forward accepts connections of l and connects each with the port of the session's container,
// until ctx ends; it then closes them all and l, and returns nil. A connection that cannot be made
// is told to failed and closed.
func (c *Client) Forward(
	ctx context.Context, l net.Listener, pool, identifier string, port int, failed func(error),
) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer l.Close()
	var all sync.WaitGroup
	defer all.Wait()
	whole := ctx // ends before the contexts that are made from it
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		conn, err := l.Accept()
		switch {
		case whole.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case err != nil:
			return fmt.Errorf("accept a connection: %w", err)
		}
		all.Go(func() {
			defer conn.Close()
			t, err := c.Tunnel(ctx, pool, identifier, port)
			if err != nil {
				if ctx.Err() == nil {
					failed(err)
				}
				return
			}
			defer t.Close()
			join(ctx, conn, t)
		})
	}
}

// lastWords is how long the two ends of a broken connection have left.
const lastWords = 500 * time.Millisecond

// join copies both ways until both directions have ended, one has failed, or ctx ends.
func join(ctx context.Context, a, b net.Conn) {
	defer context.AfterFunc(ctx, func() { _, _ = a.Close(), b.Close() })()
	half := func(dst, src net.Conn) {
		_, err := io.Copy(dst, src)
		if w, ok := dst.(interface{ CloseWrite() error }); err == nil && ok &&
			w.CloseWrite() == nil {
			return
		}
		// What the other end has sent last may still be under way.
		soon := time.Now().Add(lastWords)
		_, _ = a.SetDeadline(soon), b.SetDeadline(soon)
	}
	var up sync.WaitGroup
	up.Go(func() { half(b, a) })
	half(a, b)
	up.Wait()
}
