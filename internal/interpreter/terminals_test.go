package interpreter

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// TestViews: a session has a bounded number of views of terminals, and one that is closed, or could
// not be opened, makes room.
func TestViews(t *testing.T) {
	refuse := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if refuse {
			agent.WriteError(w, sandpool.Errorf(sandpool.NotFound, "", "", "no"))
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"+
			"Upgrade: "+agent.TerminalProtocol+"\r\n\r\n")
		_, _ = io.Copy(io.Discard, conn)
	}))
	defer server.Close()
	set := New(Options{Connect: func(Session) Agent {
		return agent.NewClient(func(ctx context.Context, _ int) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
		}, "secret")
	}})
	s := newSession(t, "box")
	defer s.end(nil)
	open := func() (*View, error) {
		return set.Of(s).Terminal(t.Context(), "main", agent.TerminalSize{Columns: 80, Rows: 24})
	}
	refuse = true
	if _, err := open(); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("a terminal that cannot be opened: %v", err)
	}
	refuse = false
	var views []*View
	for range maxViews {
		v, err := open()
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		views = append(views, v)
	}
	if _, err := open(); sandpool.ClassOf(err) != sandpool.Unavailable {
		t.Errorf("one view more: %v", err)
	}
	for range 2 {
		_ = views[0].Close()
	}
	v, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if _, err := open(); err == nil {
		t.Error("a view that was closed twice made room for two")
	}
}
