package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// Bounds of a bridge.
const (
	bridgeLine  = 40 << 20 // bytes of a message, either way
	bridgeCalls = 64       // at the same time
	bridgeTime  = 15 * time.Minute
	bridgeEnd   = 10 * time.Second // for the end of the session
)

// MCPKey returns the key of a pool's MCP endpoint. A pool that has none is an error of class
// Unsupported.
func (c *Client) MCPKey(ctx context.Context, pool string) (string, error) {
	return c.keyAction(ctx, pool, "fetchMCPServerCredentials")
}

// RotateMCPKey replaces the key of a pool's MCP endpoint and returns the new one. The old one is
// refused from then on.
func (c *Client) RotateMCPKey(ctx context.Context, pool string) (string, error) {
	return c.keyAction(ctx, pool, "rotateMCPServerCredentials")
}

func (c *Client) keyAction(ctx context.Context, pool, action string) (string, error) {
	var got api.McpServerCredentials
	_, _, err := c.do(
		ctx,
		call{method: http.MethodPost, path: c.control(pool, action), query: controlQuery()},
		&got,
	)
	return got.APIKey, err
}

// BridgeMCP speaks the Model Context Protocol's stdio transport on in and out for the MCP endpoint
// of a pool: a message a line. It returns when in has ended and every answer is written, or with an
// error of in or out. What the server refuses is the answer to its message.
func (c *Client) BridgeMCP(ctx context.Context, pool string, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b := &bridge{
		c:     c,
		path:  c.data(pool, "mcp"),
		out:   out,
		fail:  cancel,
		calls: map[string]context.CancelFunc{},
	}
	defer b.end(context.WithoutCancel(ctx))
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, bridgeLine)
	var all sync.WaitGroup
	slots := make(chan struct{}, bridgeCalls)
	for ctx.Err() == nil && lines.Scan() {
		text := bytes.Clone(bytes.TrimSpace(lines.Bytes()))
		if len(text) == 0 {
			continue
		}
		m := b.read(text)
		if m.method() == "notifications/cancelled" && b.cancel(m) {
			continue
		}
		slots <- struct{}{}
		call, done := b.begin(ctx, m)
		all.Go(func() {
			defer func() { done(); <-slots }()
			b.send(call, m)
		})
		if m.method() == "initialize" {
			all.Wait() // what follows is part of the session that it begins
		}
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return sandpool.Errorf(sandpool.TooLarge, "", "stdin", "A message has more than %d bytes.",
			bridgeLine)
	}
	return lines.Err()
}

// bridge is one BridgeMCP on its way.
type bridge struct {
	c    *Client
	path string
	fail context.CancelCauseFunc

	writing sync.Mutex // guards out
	out     io.Writer

	mu      sync.Mutex // guards the fields below it
	session string
	version string
	calls   map[string]context.CancelFunc // those without a session, by the id of the request
}

// bridged is a message on its way to the server.
type bridged struct {
	text []byte
	head struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params struct {
			Name      string                     `json:"name"`
			URI       string                     `json:"uri"`
			RequestID json.RawMessage            `json:"requestId"`
			Meta      map[string]json.RawMessage `json:"_meta"`
		} `json:"params"`
	}
}

func (m bridged) method() string { return m.head.Method }

// version is the one that the message itself names, as those of 2026-07-28 and newer do.
func (m bridged) version() (v string) {
	_ = json.Unmarshal(m.head.Params.Meta["io.modelcontextprotocol/protocolVersion"], &v)
	return v
}

func (b *bridge) read(text []byte) bridged {
	m := bridged{text: text}
	_ = json.Unmarshal(text, &m.head) // the server says what is wrong
	return m
}

// begin returns the context of a message's call, which a message that cancels it ends.
func (b *bridge) begin(ctx context.Context, m bridged) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, bridgeTime)
	if m.version() == "" || m.head.ID == nil {
		return ctx, cancel
	}
	id := string(m.head.ID)
	b.mu.Lock()
	b.calls[id] = cancel
	b.mu.Unlock()
	return ctx, func() {
		cancel()
		b.mu.Lock()
		delete(b.calls, id)
		b.mu.Unlock()
	}
}

// cancel ends the call that a message is about, if it has no session to tell of it: hanging up is
// how that is said.
func (b *bridge) cancel(m bridged) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	cancel := b.calls[string(m.head.Params.RequestID)]
	if cancel != nil {
		cancel()
	}
	return cancel != nil
}

// send posts a message and writes its answers.
func (b *bridge) send(ctx context.Context, m bridged) {
	err := b.post(ctx, m)
	if err == nil || m.head.ID == nil || ctx.Err() != nil {
		return
	}
	message := err.Error()
	var e *sandpool.Error
	if errors.As(err, &e) {
		message = e.Message
	}
	answer, err := json.Marshal(
		map[string]any{
			"jsonrpc": "2.0",
			"id":      m.head.ID,
			"error":   map[string]any{"code": -32000, "message": message},
		},
	)
	if err == nil { // an id that came as JSON is JSON
		b.write(answer)
	}
}

func (b *bridge) post(ctx context.Context, m bridged) error {
	r := call{
		method: http.MethodPost,
		path:   b.path,
		header: b.header(m),
		stream: bytes.NewReader(m.text),
	}
	req, err := b.c.request(ctx, r)
	if err != nil {
		return err
	}
	resp, err := b.c.http.Do(req)
	if err != nil {
		return b.c.unreachable(ctx, r, err)
	}
	defer drain(resp.Body)
	if id := resp.Header.Get("Mcp-Session-Id"); id != "" {
		b.mu.Lock()
		b.session = id
		b.mu.Unlock()
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return b.events(resp.Body)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, bridgeLine))
	if err != nil {
		return b.c.unreachable(ctx, r, err)
	}
	var answer struct {
		JSONRPC string `json:"jsonrpc"`
		Result  struct {
			ProtocolVersion string `json:"protocolVersion"`
		} `json:"result"`
	}
	known := json.Unmarshal(text, &answer) == nil && answer.JSONRPC != "" ||
		len(text) > 0 && text[0] == '['
	switch {
	case !known && resp.StatusCode >= 400:
		resp.Body = io.NopCloser(bytes.NewReader(text))
		return readError(resp)
	case known:
		if m.method() == "initialize" {
			b.mu.Lock()
			b.version = answer.Result.ProtocolVersion
			b.mu.Unlock()
		}
		b.write(text)
	}
	return nil
}

// header says what the HTTP transport says beside a message.
func (b *bridge) header(m bridged) http.Header {
	h := http.Header{
		"Content-Type": {"application/json"},
		"Accept":       {"application/json, text/event-stream"},
	}
	if version := m.version(); version != "" {
		h.Set("Mcp-Protocol-Version", version)
		h.Set("Mcp-Method", m.head.Method)
		if name := m.head.Params.Name + m.head.Params.URI; name != "" {
			h.Set("Mcp-Name", headerText(name))
		}
		return h
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.session != "" && m.head.Method != "initialize" {
		h.Set("Mcp-Session-Id", b.session)
	}
	if b.version != "" {
		h.Set("Mcp-Protocol-Version", b.version)
	}
	return h
}

// headerText is a text as a header's value, in base64 if it is more than plain ASCII.
func headerText(s string) string {
	if strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c > '~' }) < 0 &&
		strings.TrimSpace(s) == s {
		return s
	}
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?="
}

// events writes the messages of a stream of server-sent events, each of which has one line of data.
func (b *bridge) events(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, bridgeLine)
	for lines.Scan() {
		if data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:")); ok {
			b.write(data)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("the answer broke off: %w", err)
	}
	return nil
}

// write writes a message as a line. A client that has gone ends the bridge.
func (b *bridge) write(text []byte) {
	b.writing.Lock()
	defer b.writing.Unlock()
	if _, err := b.out.Write(append(bytes.TrimSpace(text), '\n')); err != nil {
		b.fail(fmt.Errorf("write an answer: %w", err))
	}
}

// end ends the session, whose environment nobody uses any more.
func (b *bridge) end(ctx context.Context) {
	if b.session == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, bridgeEnd)
	defer cancel()
	_, _, _ = b.c.do(
		ctx,
		call{
			method: http.MethodDelete,
			path:   b.path,
			header: http.Header{"Mcp-Session-Id": {b.session}},
		},
		nil,
	)
}
