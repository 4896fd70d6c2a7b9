package terminal_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/gateway/terminal"
)

// echoing is a terminal that shows what is typed, and its sizes, until "exit" is typed.
type echoing struct {
	*io.PipeReader
	w    *io.PipeWriter
	exit bool
}

func newEchoing() *echoing {
	r, w := io.Pipe()
	return &echoing{PipeReader: r, w: w}
}

func (e *echoing) Write(p []byte) (int, error) {
	if string(p) == "exit" {
		e.exit = true
		return len(p), e.w.Close()
	}
	return e.w.Write(p)
}

func (e *echoing) Resize(s agent.TerminalSize) error {
	_, err := fmt.Fprintf(e.w, "%dx%d", s.Columns, s.Rows)
	return err
}

func (e *echoing) Exit() (agent.TerminalExit, bool) { return agent.TerminalExit{Code: 7}, e.exit }

func (e *echoing) Close() error {
	return errors.Join(e.w.CloseWithError(errClosed), e.PipeReader.Close())
}

var errClosed = errors.New("closed")

// dial connects with a terminal whose server ends it with ctx.
func dial(t *testing.T, ctx context.Context) *websocket.Conn {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := terminal.Wanted(w, r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		terminal.Carry(ctx, w, r, newEchoing(), time.Minute)
	}))
	t.Cleanup(srv.Close)
	c, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(srv.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	plain := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	if terminal.Wanted(httptest.NewRecorder(), plain) == nil {
		t.Error("a terminal without an upgrade")
	}
	return c
}

func say(t *testing.T, c *websocket.Conn, kind websocket.MessageType, text string) {
	t.Helper()
	if err := c.Write(t.Context(), kind, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c *websocket.Conn, kind websocket.MessageType, want string) {
	t.Helper()
	got, text, err := c.Read(t.Context())
	if err != nil || got != kind || string(text) != want {
		t.Fatalf("%v %q, %v; want %v %q", got, text, err, kind, want)
	}
}

// TestCarry: bytes go both ways, sizes go in, and the end comes out.
func TestCarry(t *testing.T) {
	c := dial(t, t.Context())
	say(t, c, websocket.MessageBinary, "a\x00\xff")
	hear(t, c, websocket.MessageBinary, "a\x00\xff")
	say(t, c, websocket.MessageText, `{"type":"resize","columns":100,"rows":30}`)
	hear(t, c, websocket.MessageBinary, "100x30")
	say(t, c, websocket.MessageBinary, "exit")
	hear(t, c, websocket.MessageText, `{"type":"exit","code":7}`)
	if _, _,
		err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("after the end: %v", err)
	}
}

// TestRefused: what is no message of a terminal ends the view, as the session's end does.
func TestRefused(t *testing.T) {
	for _, bad := range []string{"resize", `{"type":"resize"}`,
		`{"type":"resize","columns":5000,"rows":2}`, `{"type":"run"}`} {
		c := dial(t, t.Context())
		say(t, c, websocket.MessageText, bad)
		_, _, err := c.Read(t.Context())
		if websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
			t.Errorf("%s: %v", bad, err)
		}
	}
	ctx, end := context.WithCancel(t.Context())
	c := dial(t, ctx)
	end()
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the session's end: %v", err)
	}
}
