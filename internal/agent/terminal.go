package agent

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool"
)

// TerminalProtocol is what a connection is upgraded to by POST /terminal.
const TerminalProtocol = "sandpool-terminal"

// Bounds of terminals.
const (
	MaxTerminals    = 8        // open at once in a sandbox
	MaxTerminalData = 32 << 10 // bytes of a frame
	MaxTerminalSide = 1000     // columns or rows
)

// TerminalKind says what a frame of a terminal is about.
type TerminalKind byte

// The kinds of frames of a terminal.
const (
	TerminalData   TerminalKind = iota // bytes, in both directions
	TerminalResize                     // a TerminalSize, to the agent
	TerminalEnd                        // a TerminalExit, from the agent; the last frame
)

// TerminalSize is the size of a terminal in characters.
type TerminalSize struct{ Columns, Rows int }

// Check is an error of class Invalid unless both sides are 1 to MaxTerminalSide.
func (s TerminalSize) Check() error {
	for name, n := range map[string]int{"columns": s.Columns, "rows": s.Rows} {
		if n < 1 || n > MaxTerminalSide {
			return sandpool.Errorf(sandpool.Invalid, "InvalidTerminalSize", name,
				"The terminal would have %d %s; use 1 to %d.", n, name, MaxTerminalSide)
		}
	}
	return nil
}

// Encode returns the size as the body of a frame: two big-endian numbers of two bytes.
func (s TerminalSize) Encode() []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(s.Columns)) // checked
	return binary.BigEndian.AppendUint16(body, uint16(s.Rows))    // checked
}

// DecodeTerminalSize is the reverse of Encode, and checks the size.
func DecodeTerminalSize(body []byte) (TerminalSize, error) {
	if len(body) != 4 {
		return TerminalSize{}, fmt.Errorf("a terminal's size of %d bytes", len(body))
	}
	s := TerminalSize{Columns: int(binary.BigEndian.Uint16(body)),
		Rows: int(binary.BigEndian.Uint16(body[2:]))}
	return s, s.Check()
}

// TerminalExit is how the shell of a terminal ended: with a code, or by a signal if
// that is not 0.
type TerminalExit struct{ Code, Signal int }

// Encode returns the exit as the body of a frame: a byte each.
func (e TerminalExit) Encode() []byte { return []byte{byte(e.Code), byte(e.Signal)} }

// TerminalWriter writes frames: a byte that is the kind, a 4 byte big-endian length, the
// body. Its method may be called by several at the same time.
type TerminalWriter struct {
	w   io.Writer
	mu  sync.Mutex // guards what follows and the order of frames
	buf []byte
}

// NewTerminalWriter returns a writer of frames to w.
func NewTerminalWriter(w io.Writer) *TerminalWriter { return &TerminalWriter{w: w} }

// Send writes a frame of at most MaxTerminalData bytes.
func (t *TerminalWriter) Send(kind TerminalKind, body []byte) error {
	if len(body) > MaxTerminalData {
		return oversized(MaxTerminalData)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf[:0], byte(kind))
	t.buf = binary.BigEndian.AppendUint32(t.buf, uint32(len(body))) // bounded
	t.buf = append(t.buf, body...)
	_, err := t.w.Write(t.buf)
	return err
}

// TerminalReader reads what a TerminalWriter writes.
type TerminalReader struct {
	r   io.Reader
	buf []byte
}

// NewTerminalReader returns a reader of frames from r.
func NewTerminalReader(r io.Reader) *TerminalReader {
	return &TerminalReader{r: r, buf: make([]byte, MaxTerminalData)}
}

// Next returns a frame; its body is valid until the next call.
func (t *TerminalReader) Next() (TerminalKind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(t.r, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > MaxTerminalData {
		return 0, nil, oversized(MaxTerminalData)
	}
	body := t.buf[:size]
	if _, err := io.ReadFull(t.r, body); err != nil {
		return 0, nil, unexpected(err)
	}
	return TerminalKind(head[0]), body, nil
}

// Terminal is a shell of the sandbox's user on a pseudo terminal. One caller may read
// while others write and resize. Who does not read holds up the programs in the terminal.
//
// A kernel that has to be killed takes every process of the user with it, terminals too:
// their shells end by signal 9.
type Terminal struct {
	conn net.Conn
	in   *TerminalReader
	out  *TerminalWriter
	rest []byte // of a frame that the last Read did not take whole
	exit atomic.Pointer[TerminalExit]
}

// Terminal opens a terminal; the caller closes it. ctx is for the opening alone. The error
// is of class Unavailable while MaxTerminals are open.
func (c *Client) Terminal(ctx context.Context, size TerminalSize) (*Terminal, error) {
	if err := size.Check(); err != nil {
		return nil, err
	}
	return c.openTerminal(ctx, size, url.Values{})
}

func (c *Client) openTerminal(ctx context.Context, size TerminalSize,
	query url.Values) (*Terminal, error) {
	query.Set("columns", strconv.Itoa(size.Columns))
	query.Set("rows", strconv.Itoa(size.Rows))
	conn, r, _, err := c.upgrade(ctx, "/terminal", query, TerminalProtocol)
	if err != nil {
		return nil, err
	}
	return &Terminal{conn: conn, in: NewTerminalReader(r), out: NewTerminalWriter(conn)}, nil
}

// TerminalInfo describes a terminal that has a name.
type TerminalInfo struct {
	Name    string    `json:"name"`
	PID     int       `json:"pid"`     // of its shell
	Created time.Time `json:"created"` // by the sandbox's clock
	Columns int       `json:"columns"`
	Rows    int       `json:"rows"`
	Viewers int       `json:"viewers"`
}

// AttachTerminal opens the terminal of that name, or joins it: it has what was written last to be
// read, and then what comes. It lives on when it is closed. Others may have joined it too.
func (c *Client) AttachTerminal(ctx context.Context, name string,
	size TerminalSize) (*Terminal, error) {
	if err := cmp.Or(CheckName("terminal", name), size.Check()); err != nil {
		return nil, err
	}
	return c.openTerminal(ctx, size, url.Values{"name": {name}})
}

// Terminals lists the terminals that have names.
func (c *Client) Terminals(ctx context.Context) ([]TerminalInfo, error) {
	var all terminalList
	err := c.call(ctx, http.MethodGet, "/terminals", nil, nil, &all, maxAnswer)
	return all, err
}

// EndTerminal hangs a terminal up: its shell and all processes of that session end.
func (c *Client) EndTerminal(ctx context.Context, name string) error {
	return c.inContext(ctx, http.MethodDelete, "/terminal", name)
}

// terminalList is the list as it is read.
type terminalList []TerminalInfo

// UnmarshalJSON implements json.Unmarshaler.
func (l *terminalList) UnmarshalJSON(text []byte) (err error) {
	*l, err = decodeList[TerminalInfo](text, MaxTerminals)
	return err
}

// Read reads what the programs in the terminal wrote. It returns io.EOF when the shell
// has ended, and another error if the connection is lost before.
func (t *Terminal) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(t.rest) == 0 {
		if t.exit.Load() != nil {
			return 0, io.EOF
		}
		if err := t.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// next reads a frame into rest.
func (t *Terminal) next() error {
	kind, body, err := t.in.Next()
	switch {
	case err != nil:
		return fmt.Errorf("agent: terminal: %w", unexpected(err))
	case kind == TerminalData && len(body) > 0:
		t.rest = body
		return nil
	case kind == TerminalEnd && len(body) == 2:
		t.exit.Store(&TerminalExit{Code: int(body[0]), Signal: int(body[1])})
		return io.EOF
	}
	return fmt.Errorf("agent: terminal: a frame of the kind %d with %d bytes, which no agent sends",
		kind, len(body))
}

// Write is input: what a person would type. What programs do not take for five seconds is
// dropped, as by terminals.
func (t *Terminal) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		n := min(len(p), MaxTerminalData)
		if err := t.out.Send(TerminalData, p[:n]); err != nil {
			return written, fmt.Errorf("agent: terminal: %w", err)
		}
		written += n
		p = p[n:]
	}
	return written, nil
}

// Resize tells the programs in the terminal its new size.
func (t *Terminal) Resize(size TerminalSize) error {
	if err := size.Check(); err != nil {
		return err
	}
	if err := t.out.Send(TerminalResize, size.Encode()); err != nil {
		return fmt.Errorf("agent: terminal: %w", err)
	}
	return nil
}

// Exit says how the shell ended, once Read has returned io.EOF; false before.
func (t *Terminal) Exit() (TerminalExit, bool) {
	if e := t.exit.Load(); e != nil {
		return *e, true
	}
	return TerminalExit{}, false
}

// Close hangs up: the shell and all processes of its session end, unless the terminal has a name.
// Calls that wait return.
func (t *Terminal) Close() error { return t.conn.Close() }
