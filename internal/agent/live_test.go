package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// telling is the client of an agent that answers a StartRequest with the records that its code has
// a line each for, as JSON of an Answer, and waits at a line "wait" for a tick.
func telling(t *testing.T, links *atomic.Int32, ticks chan struct{}) *agent.Client {
	t.Helper()
	return linked(t, links, func(w io.Writer, code string) {
		for line := range strings.SplitSeq(code, "\n") {
			if line == "wait" {
				<-ticks
				continue
			}
			_, _ = fmt.Fprintf(w, "\x00\x00%c%c%s", len(line)>>8, len(line), line)
		}
	})
}

const (
	begun = `{"record":{"number":1,"state":"running"}}`
	text  = `{"record":{"number":2,"stdout":"a"}}`
	over  = `{"record":{"number":3,"execution":{"id":"e","state":"ended","outcome":"ok"}}}`
)

// TestLive: records come one by one, a reader that leaves between two of them goes on later, and
// the link serves the next execution.
func TestLive(t *testing.T) {
	var links atomic.Int32
	ticks := make(chan struct{}, 1)
	c := telling(t, &links, ticks)
	start := func(lines ...string) *agent.Live {
		t.Helper()
		live, err := c.Run(t.Context(), agent.StartRequest{ID: "e",
			ExecuteRequest: agent.ExecuteRequest{Code: strings.Join(lines, "\n")}})
		if err != nil {
			t.Fatal(err)
		}
		return live
	}
	read := func(live *agent.Live, want int64) agent.Record {
		t.Helper()
		r, _, err := live.Next(t.Context(), nil)
		if err != nil || r.Number != want {
			t.Errorf("record %d: %+v, %v", want, r, err)
		}
		return r
	}
	for range 2 {
		live := start(begun, text, "wait", over)
		read(live, 1)
		if r := read(live, 2); r.Stdout != "a" {
			t.Errorf("%+v", r)
		}
		ctx, leave := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, _, err := live.Next(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a reader that leaves: %v", err)
		}
		leave()
		ticks <- struct{}{}
		if r := read(live, 3); r.Execution == nil || r.Execution.Outcome != agent.OK {
			t.Errorf("the end: %+v", r)
		}
		if _, _, err := live.Next(t.Context(), nil); err == nil {
			t.Error("there is something after the end")
		}
	}
	refused := start(`{"fault":{"class":"conflict","message":"there is one"}}`)
	if _, _, err := refused.Next(t.Context(), nil); sandpool.ClassOf(err) != sandpool.Conflict {
		t.Errorf("refused: %v", err)
	}
	if n := links.Load(); n != 1 {
		t.Errorf("%d links", n)
	}
}

// TestLiveLeft: a reader that leaves while a record comes loses none.
func TestLiveLeft(t *testing.T) {
	var links atomic.Int32
	lines := []string{begun}
	for n := 2; n <= 400; n++ {
		lines = append(lines, fmt.Sprintf(`{"record":{"number":%d,"stdout":"a"}}`, n))
	}
	c := telling(t, &links, nil)
	live, err := c.Run(t.Context(), agent.StartRequest{ID: "e",
		ExecuteRequest: agent.ExecuteRequest{Code: strings.Join(lines, "\n")}})
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	for n := int64(1); n <= 400; {
		ctx, leave := context.WithCancel(t.Context())
		go leave()
		r, _, err := live.Next(ctx, nil)
		switch {
		case err == nil && r.Number == n:
			n++
		case !errors.Is(err, context.Canceled):
			t.Fatalf("record %d: %+v, %v", n, r, err)
		}
	}
}

// TestLiveLies: what no honest agent says ends the reading, and the link with it.
func TestLiveLies(t *testing.T) {
	var links atomic.Int32
	c := telling(t, &links, nil)
	for _, lines := range [][]string{
		{text}, {begun, begun}, {begun, over}, {`{}`}, {`{"result":{"outcome":"ok"}}`}, {`[]`},
	} {
		live, err := c.Run(t.Context(), agent.StartRequest{ID: "e",
			ExecuteRequest: agent.ExecuteRequest{Code: strings.Join(lines, "\n")}})
		if err != nil {
			t.Fatal(err)
		}
		for range lines {
			if _, _, err = live.Next(t.Context(), nil); err != nil {
				break
			}
		}
		if err == nil {
			t.Errorf("%q is taken", lines)
		}
		if _, _, err := live.Next(t.Context(), nil); err == nil {
			t.Errorf("after %q there is more", lines)
		}
	}
	if n := links.Load(); n != 6 {
		t.Errorf("%d links, want a new one after each lie", n)
	}
}

// An agent of an older server is not sent what its links do not take.
func TestNoRecords(t *testing.T) {
	c := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"+
			"Upgrade: "+agent.LinkProtocol+"\r\n\r\n")
		if n, _ := io.Copy(io.Discard, conn); n > 0 {
			t.Errorf("%d bytes were sent on the link", n)
		}
	})
	_, err := c.Run(t.Context(), agent.StartRequest{ID: "e"})
	if !errors.Is(err, agent.ErrNoRecords) {
		t.Errorf("%v", err)
	}
}
