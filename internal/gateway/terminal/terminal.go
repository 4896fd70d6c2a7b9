// Package terminal carries a terminal of a session over a WebSocket (RFC 6455), in the form that
// docs/terminals.md describes: bytes in binary messages, everything else as JSON in text messages.
package terminal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
)

const (
	// pingEvery is how often a caller is asked whether it is there, and pingTime how long it may
	// take to say so.
	pingEvery = 30 * time.Second
	pingTime  = 20 * time.Second
	// maxMessage bounds a message of the caller.
	maxMessage = 64 << 10
)

// Terminal is what is carried; agent.Terminal is one.
type Terminal interface {
	io.ReadWriteCloser
	Resize(agent.TerminalSize) error
	Exit() (agent.TerminalExit, bool)
}

// Size reads the size that a caller wants; absent it is that of old terminals, 80 by 24.
func Size(columns, rows string) (agent.TerminalSize, error) {
	size := agent.TerminalSize{Columns: 80, Rows: 24}
	for _, side := range []struct {
		text string
		n    *int
	}{{columns, &size.Columns}, {rows, &size.Rows}} {
		if side.text == "" {
			continue
		}
		n, err := strconv.Atoi(side.text)
		if err != nil {
			n = 0
		}
		*side.n = n
	}
	return size, size.Check()
}

// Wanted is an error unless the request asks for a WebSocket.
func Wanted(w http.ResponseWriter, r *http.Request) error {
	if r.Header.Get("Sec-Websocket-Key") != "" {
		return nil
	}
	w.Header().Set("Upgrade", "websocket")
	return sandpool.Errorf(sandpool.Unsupported, "UpgradeRequired", "Upgrade",
		"A terminal is a WebSocket; ask for one with Upgrade: websocket. GET terminals lists those "+
			"that there are.")
}

// Carry makes the request's connection a view of t, until either ends or ctx does, and closes t.
// Each message is to be taken within stall.
func Carry(ctx context.Context, w http.ResponseWriter, r *http.Request, t Terminal,
	stall time.Duration) {
	defer t.Close()
	c, err := websocket.Accept(w, r,
		&websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return // which Accept has said
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(maxMessage)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = t.Close() })
	defer stop()
	// The end of a context that a connection is used under breaks it, before it can be said why.
	use := context.WithoutCancel(ctx)
	go func() {
		defer cancel()
		input(use, c, t)
	}()
	go func() {
		defer cancel()
		ping(ctx, use, c)
	}()
	output(ctx, use, c, t, stall)
}

// input carries what the caller types, until it is gone or does not speak as it should.
func input(ctx context.Context, c *websocket.Conn, t Terminal) {
	for {
		kind, data, err := c.Read(ctx)
		if err != nil {
			return
		}
		if kind == websocket.MessageBinary {
			if _, err := t.Write(data); err != nil {
				return
			}
			continue
		}
		var m api.TerminalMessage
		size := agent.TerminalSize{}
		if err := json.Unmarshal(data, &m); err == nil && m.Type == api.TerminalResize {
			size = agent.TerminalSize{Columns: m.Columns, Rows: m.Rows}
		}
		if err := size.Check(); err != nil {
			_ = c.Close(websocket.StatusUnsupportedData,
				`text messages are {"type":"resize","columns":80,"rows":24}`)
			return
		}
		if t.Resize(size) != nil {
			return
		}
	}
}

// ping ends when the caller does not answer.
func ping(ctx, use context.Context, c *websocket.Conn) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		answer, done := context.WithTimeout(use, pingTime)
		err := c.Ping(answer)
		done()
		if err != nil {
			return
		}
	}
}

// output carries what the terminal shows, and last how its shell ended.
func output(ctx, use context.Context, c *websocket.Conn, t Terminal, stall time.Duration) {
	send := func(kind websocket.MessageType, data []byte) error {
		taken, done := context.WithTimeout(use, stall)
		defer done()
		return c.Write(taken, kind, data)
	}
	buf := make([]byte, agent.MaxTerminalData)
	for {
		n, err := t.Read(buf)
		if n > 0 && send(websocket.MessageBinary, buf[:n]) != nil {
			return
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			end(c, t, send)
			return
		case ctx.Err() != nil:
			_ = c.Close(websocket.StatusGoingAway, "the session or the server has ended")
			return
		default:
			_ = c.Close(websocket.StatusGoingAway, "the terminal is gone, or was read too slowly")
			return
		}
	}
}

// end says how the shell ended.
func end(c *websocket.Conn, t Terminal, send func(websocket.MessageType, []byte) error) {
	exit, _ := t.Exit()
	text, err := json.Marshal(api.TerminalMessage{Type: api.TerminalExit, Code: &exit.Code,
		Signal: exit.Signal})
	if err == nil && send(websocket.MessageText, text) == nil {
		_ = c.Close(websocket.StatusNormalClosure, fmt.Sprintf("exit %d", exit.Code))
	}
}
