package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/coder/websocket"
)

// protocol is the framing of exec: the first byte of each message says which stream it is of.
const protocol = "v4.channel.k8s.io"

// The streams.
const (
	streamOut    = 1
	streamErr    = 2
	streamStatus = 3
)

// outputLimit is how much of what a program writes is kept: the end of it.
const outputLimit = 4 << 10

// Exec runs a program in the container of a pod, and returns its exit code and the last of what it
// wrote. One that cannot be started is an error that is no *StatusError of the API server's own.
func (c *Client) Exec(ctx context.Context, namespace, name, container string,
	args []string) (code int, output string, err error) {
	query := url.Values{"container": {container}, "command": args, "stdout": {"1"}, "stderr": {"1"}}
	header := http.Header{}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.cfg.Host, nil)
	if err != nil {
		return 0, "", err
	}
	if err := c.authorize(req); err != nil {
		return 0, "", err
	}
	if a := req.Header.Get("Authorization"); a != "" {
		header.Set("Authorization", a)
	}
	// A WebSocket is a connection of HTTP/1.1 to itself.
	transport := &http.Transport{TLSClientConfig: c.cfg.TLS.Clone(),
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	conn, resp, err := websocket.Dial(ctx, c.cfg.Host+pods(namespace, name)+"/exec?"+query.Encode(),
		&websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}, HTTPHeader: header,
			Subprotocols: []string{protocol}})
	if err != nil {
		if ctx.Err() != nil {
			return 0, "", context.Cause(ctx)
		}
		if resp != nil && resp.StatusCode >= 300 {
			return 0, "", &StatusError{Status: Status{Code: resp.StatusCode,
				Reason: http.StatusText(resp.StatusCode), Message: err.Error()}}
		}
		return 0, "", fmt.Errorf("exec in pod %q: %w", name, err)
	}
	defer func() { _ = conn.CloseNow() }()
	return outcome(ctx, conn)
}

// outcome reads the streams to their end.
func outcome(ctx context.Context, conn *websocket.Conn) (code int, output string, err error) {
	var tail []byte
	for {
		_, message, err := conn.Read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return 0, string(tail), context.Cause(ctx)
			}
			return 0, string(tail), fmt.Errorf("exec: the connection ended early: %w", err)
		}
		if len(message) == 0 {
			continue
		}
		switch message[0] {
		case streamOut, streamErr:
			tail = append(tail, message[1:]...)
			tail = tail[max(0, len(tail)-outputLimit):]
		case streamStatus:
			code, err := exitCode(message[1:])
			return code, string(tail), err
		}
	}
}

// ErrNotStarted is the error of a program that could not be started.
var ErrNotStarted = errors.New("the program could not be started")

// exitCode reads the status that ends an exec.
func exitCode(message []byte) (int, error) {
	var s Status
	if err := json.Unmarshal(message, &s); err != nil {
		return 0, fmt.Errorf("exec: %w", err)
	}
	if s.Status == "Success" {
		return 0, nil
	}
	if s.Details != nil {
		for _, cause := range s.Details.Causes {
			if cause.Reason == "ExitCode" {
				return strconv.Atoi(cause.Message)
			}
		}
	}
	for _, sign := range []string{"no such file or directory", "executable file not found",
		"permission denied", "is a directory", "exec format error"} {
		if strings.Contains(s.Message, sign) {
			return 0, fmt.Errorf("%w: %s", ErrNotStarted, s.Message)
		}
	}
	return 0, fmt.Errorf("exec: %s", s.Message)
}
