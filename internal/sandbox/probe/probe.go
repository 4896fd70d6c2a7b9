// Package probe asks a sandbox whether it works, in the ways of sandpool.Probe, over the streams
// that an engine opens into it. Engines use it to see when a sandbox is ready, the pool to see
// whether it still lives. What answers is hostile: an answer is read up to a bound, a redirect is
// an answer like any other and is not followed, and one attempt takes no longer than its timeout.
package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool"
)

// Dial opens a stream to a port of the sandbox's loopback interface.
type Dial func(ctx context.Context, port int) (net.Conn, error)

// Exec runs a command line in the sandbox; the error says why it did not exit with 0.
type Exec func(ctx context.Context, args []string) error

// Asker makes the attempts of one probe.
type Asker struct {
	probe  sandpool.Probe
	dial   Dial
	exec   Exec
	client *http.Client
	last   atomic.Pointer[watched]
}

// New returns an Asker for p. exec may be nil if p does not need it. Close it in the end.
func New(p sandpool.Probe, dial Dial, exec Exec) *Asker {
	a := &Asker{probe: p.WithDefaults(), dial: dial, exec: exec}
	// One connection for all attempts: each that is closed stays in the guest's network stack
	// for a minute, and so gets into a snapshot and costs every restore.
	a.client = &http.Client{
		Transport: &http.Transport{
			MaxConnsPerHost:        1,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
			// see sandpool.HTTPProbe
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12},
			DialContext:     a.dialHTTP,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	return a
}

func (a *Asker) dialHTTP(ctx context.Context, _, _ string) (net.Conn, error) {
	conn, err := a.dial(ctx, a.probe.HTTP.Port)
	if err != nil {
		return nil, err
	}
	w := &watched{Conn: conn, over: make(chan struct{})}
	a.last.Store(w)
	return w, nil
}

// Once makes one attempt. Nil means that it passed.
func (a *Asker) Once(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, a.probe.Timeout, fmt.Errorf("no answer within %v",
		a.probe.Timeout))
	defer cancel()
	err := a.once(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (a *Asker) once(ctx context.Context) error {
	switch {
	case a.probe.HTTP.Port != 0:
		return a.get(ctx, a.probe.HTTP)
	case a.probe.TCP.Port != 0:
		return a.connect(ctx, a.probe.TCP.Port)
	case len(a.probe.Exec) == 0:
		return errors.New("the probe asks nothing")
	case a.exec == nil:
		return errors.New("programs cannot be run in this sandbox")
	}
	return a.exec(ctx, a.probe.Exec)
}

// maxBody bounds what is read of an answer's body, so that a connection can be kept.
const maxBody = 64 << 10

func (a *Asker) get(ctx context.Context, p sandpool.HTTPProbe) error {
	scheme, path := "http", p.Path
	if p.TLS {
		scheme = "https"
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s://127.0.0.1:%d%s",
		scheme, p.Port, path), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "sandpool-probe")
	for _, h := range p.Headers {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
			continue
		}
		req.Header.Add(h.Name, h.Value)
	}
	if p.Host != "" {
		req.Host = p.Host
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, maxBody); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("GET %s://127.0.0.1:%d%s answers %d", scheme, p.Port, path,
			resp.StatusCode)
	}
	return nil
}

// settle is how long a connection must stay open. An engine may say that nothing listens by an
// end of file instead of an error.
const settle = 5 * time.Millisecond

func (a *Asker) connect(ctx context.Context, port int) error {
	conn, err := a.dial(ctx, port)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(settle)); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("port %d closes a connection at once: %w", port, err)
	}
	// The other side ends as well before the attempt has: see Close.
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		if err := conn.SetReadDeadline(time.Now().Add(hangUpWait)); err == nil {
			_, _ = io.CopyN(io.Discard, conn, maxBody)
		}
	}
	return nil
}

// Close ends the Asker's connection, and waits until the sandbox has let go of it: an engine cannot
// take a snapshot while it holds one.
func (a *Asker) Close() {
	if w := a.last.Load(); w != nil {
		w.hangUp()
	}
	a.client.CloseIdleConnections()
}

// hangUpWait bounds the wait for the sandbox to let go of a connection.
const hangUpWait = time.Second

// watched is a connection whose end is seen.
type watched struct {
	net.Conn
	once sync.Once
	over chan struct{} // closed at the first error of Read, such as the end of the file
}

// Read implements net.Conn.
func (c *watched) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.once.Do(func() { close(c.over) })
	}
	return n, err
}

// hangUp ends the connection, which the HTTP client reads, and waits until the other side has
// closed its end.
func (c *watched) hangUp() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	timer := time.NewTimer(hangUpWait)
	defer timer.Stop()
	select {
	case <-c.over:
	case <-timer.C:
	}
}
