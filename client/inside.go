package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// Terminal is a shell in a session. One caller may read while another writes and resizes.
type Terminal struct {
	ctx  context.Context // of the opening, without its end
	c    *websocket.Conn
	rest []byte
	exit *api.TerminalMessage
}

// Terminal opens the terminal of that name in the identifier's session, or joins it: what was
// written last can be read first. It goes on when it is closed. ctx bounds the connecting alone.
func (c *Client) Terminal(ctx context.Context, pool, identifier, name string, columns,
	rows int) (*Terminal, error) {
	query := sessionQuery(identifier)
	query.Set("columns", strconv.Itoa(columns))
	query.Set("rows", strconv.Itoa(rows))
	req, err := c.request(ctx, call{method: http.MethodGet, path: c.data(pool, "terminals", name),
		query: query})
	if err != nil {
		return nil, err
	}
	u := "ws" + strings.TrimPrefix(req.URL.String(), "http")
	conn, resp, err := websocket.Dial(ctx, u, &websocket.DialOptions{HTTPClient: c.http,
		HTTPHeader: req.Header, CompressionMode: websocket.CompressionDisabled})
	if err != nil && resp != nil && resp.StatusCode >= 300 {
		return nil, readError(resp)
	}
	if err != nil {
		return nil, c.unreachable(ctx, call{method: http.MethodGet, path: req.URL.Path}, err)
	}
	conn.SetReadLimit(1 << 20)
	return &Terminal{ctx: context.WithoutCancel(ctx), c: conn}, nil
}

// Read reads what the programs in the terminal wrote. It returns io.EOF when the shell has ended,
// and another error if the connection is lost before.
func (t *Terminal) Read(p []byte) (int, error) {
	for len(t.rest) == 0 {
		if t.exit != nil {
			return 0, io.EOF
		}
		kind, data, err := t.c.Read(t.ctx)
		if err != nil {
			return 0, fmt.Errorf("terminal: %w", err)
		}
		if kind == websocket.MessageBinary {
			t.rest = data
			continue
		}
		var m api.TerminalMessage
		if err := json.Unmarshal(data, &m); err != nil || m.Type != api.TerminalExit ||
			m.Code == nil {
			return 0, sandpool.Errorf(sandpool.Internal, "", "",
				"The server sent a message of a terminal that this client does not know.")
		}
		t.exit = &m
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// Write is what a person types.
func (t *Terminal) Write(p []byte) (int, error) {
	const most = 32 << 10
	for rest := p; len(rest) > 0; {
		n := min(len(rest), most)
		if err := t.c.Write(t.ctx, websocket.MessageBinary, rest[:n]); err != nil {
			return len(p) - len(rest), fmt.Errorf("terminal: %w", err)
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// Resize tells the programs in the terminal its new size.
func (t *Terminal) Resize(columns, rows int) error {
	text, err := json.Marshal(api.TerminalMessage{Type: api.TerminalResize, Columns: columns,
		Rows: rows})
	if err != nil {
		return err
	}
	return t.c.Write(t.ctx, websocket.MessageText, text)
}

// Exit is how the shell ended, once Read has returned io.EOF: its exit code, or the signal that
// ended it.
func (t *Terminal) Exit() (code, signal int) {
	if t.exit == nil {
		return 0, 0
	}
	return *t.exit.Code, t.exit.Signal
}

// Close leaves the terminal. Calls that wait return.
func (t *Terminal) Close() error { return t.c.CloseNow() }

// Terminals lists the terminals of a session, which is not made.
func (c *Client) Terminals(ctx context.Context, pool, identifier string) ([]api.Terminal, error) {
	var all api.Terminals
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: c.data(pool, "terminals"),
		query: sessionQuery(identifier)}, &all)
	return all.Value, err
}

// EndTerminal hangs a terminal up: its shell ends, and the programs in it.
func (c *Client) EndTerminal(ctx context.Context, pool, identifier, name string) error {
	_, _, err := c.do(ctx, call{method: http.MethodDelete, path: c.data(pool, "terminals", name),
		query: sessionQuery(identifier)}, nil)
	return err
}

// Kernels lists the kernels that code and contexts of a session can name, those included that the
// image has for Jupyter. The session is made if there is none.
func (c *Client) Kernels(ctx context.Context, pool, identifier string) ([]api.Kernel, error) {
	var all api.Kernels
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: c.data(pool, "kernels"),
		query: sessionQuery(identifier)}, &all)
	return all.Value, err
}

// Contexts lists the contexts of a session: kernels of their own that share its files. The session
// is not made.
func (c *Client) Contexts(ctx context.Context, pool, identifier string) ([]api.Context, error) {
	var all api.Contexts
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: c.data(pool, "contexts"),
		query: sessionQuery(identifier)}, &all)
	return all.Value, err
}

// MakeContext makes a context with the named kernel, "" meaning that of the session itself, unless
// it is there. The session is made if there is none.
func (c *Client) MakeContext(ctx context.Context, pool, identifier, name,
	kernel string) (api.Context, error) {
	var made api.Context
	_, _, err := c.do(ctx, call{method: http.MethodPut, path: c.data(pool, "contexts", name),
		query: sessionQuery(identifier), body: api.ContextRequest{Kernel: kernel},
		timeout: longestExecution}, &made)
	return made, err
}

// DeleteContext ends a context and what runs in it.
func (c *Client) DeleteContext(ctx context.Context, pool, identifier, name string) error {
	return c.onContext(ctx, http.MethodDelete, pool, identifier, name)
}

// RestartContext replaces the kernel of a context, whose variables are lost.
func (c *Client) RestartContext(ctx context.Context, pool, identifier, name string) error {
	return c.onContext(ctx, http.MethodPost, pool, identifier, name, "restart")
}

// InterruptContext interrupts what runs in a context.
func (c *Client) InterruptContext(ctx context.Context, pool, identifier, name string) error {
	return c.onContext(ctx, http.MethodPost, pool, identifier, name, "interrupt")
}

func (c *Client) onContext(ctx context.Context, method, pool, identifier string,
	path ...string) error {
	_, _, err := c.do(ctx, call{method: method,
		path:  c.data(pool, append([]string{"contexts"}, path...)...),
		query: sessionQuery(identifier)}, nil)
	return err
}

// StartProcess starts a process that goes on in the background of a session, which is made if there
// is none: until it ends, or the session does.
func (c *Client) StartProcess(ctx context.Context, pool, identifier string,
	req api.ProcessRequest) (api.Process, error) {
	var p api.Process
	_, _, err := c.do(ctx, call{method: http.MethodPost, path: c.data(pool, "processes"),
		query: sessionQuery(identifier), body: req}, &p)
	return p, err
}

// Processes lists the background processes of a session, which is not made.
func (c *Client) Processes(ctx context.Context, pool, identifier string) ([]api.Process, error) {
	var all api.Processes
	_, _, err := c.do(ctx, call{method: http.MethodGet, path: c.data(pool, "processes"),
		query: sessionQuery(identifier)}, &all)
	return all.Value, err
}

// processWait is how long one call waits for the end of a process.
const processWait = 20 * time.Second

// WaitProcess returns when a background process has ended. ctx alone bounds how long that takes.
func (c *Client) WaitProcess(ctx context.Context, pool, identifier, id string) (api.Process,
	error) {
	query := sessionQuery(identifier)
	query.Set("wait", strconv.Itoa(int(processWait/time.Second)))
	for {
		var p api.Process
		_, _, err := c.do(ctx, call{method: http.MethodGet, path: c.data(pool, "processes", id),
			query: query, timeout: callTimeout + processWait}, &p)
		if err != nil || p.Status == api.ProcessExited {
			return p, err
		}
	}
}

// SignalProcess sends a signal, such as "TERM" or "9", to a background process and its group.
func (c *Client) SignalProcess(ctx context.Context, pool, identifier, id, signal string) error {
	query := sessionQuery(identifier)
	query.Set("signal", signal)
	_, _, err := c.do(ctx, call{method: http.MethodPost, path: c.data(pool, "processes", id,
		"signal"), query: query}, nil)
	return err
}

// DeleteProcess ends a background process with all that it has started, and forgets it.
func (c *Client) DeleteProcess(ctx context.Context, pool, identifier, id string) error {
	_, _, err := c.do(ctx, call{method: http.MethodDelete, path: c.data(pool, "processes", id),
		query: sessionQuery(identifier)}, nil)
	return err
}

// ProcessLogs calls each for what a background process has put out after the event of a number, as
// far as it is kept, and with follow for what it puts out until it ends. The last event has the
// type api.EventStatus. The text is what hostile code may have written: a terminal must not see it
// as it is.
func (c *Client) ProcessLogs(ctx context.Context, pool, identifier, id string, after int64,
	follow bool, each func(api.ProcessEvent) error) error {
	query := sessionQuery(identifier)
	query.Set(api.AfterParameter, strconv.FormatInt(after, 10))
	query.Set(api.FollowParameter, strconv.FormatBool(follow))
	return readLines(ctx, c, call{method: http.MethodGet, path: c.data(pool, "processes", id,
		"logs"), query: query, header: http.Header{"Accept": {"application/x-ndjson"}}},
		func(e api.ProcessEvent) error {
			if e.Type == api.EventError && e.Error != nil {
				return sandpool.Errorf(sandpool.Unavailable, e.Error.Code, "", "%s",
					e.Error.Message)
			}
			return each(e)
		})
}

// readLines calls each for the objects of a stream of lines. ctx alone bounds how long it goes on.
func readLines[T any](ctx context.Context, c *Client, r call, each func(T) error) error {
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // not drained: it may go on for ever
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 64<<10), longestLine)
	for lines.Scan() {
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue // the server shows that it is there
		}
		var v T
		if err := json.Unmarshal(text, &v); err != nil {
			return &sandpool.Error{Class: sandpool.Internal, Err: err,
				Message: "The server's stream is not what a sandpool server sends."}
		}
		if err := each(v); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return c.unreachable(ctx, r, err)
	}
	return nil
}
