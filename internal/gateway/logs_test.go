package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// tapes are the logs of a world's sandboxes. Those that are not live have ended.
type tapes struct {
	text map[sandpool.SandboxID]string
	live map[sandpool.SandboxID]chan struct{} // closed by their end
	read int                                  // calls that followed
}

func (w *world) SandboxLog(ctx context.Context, _ sandpool.PoolID, of sandpool.SandboxID,
	q sandbox.LogQuery) (sandbox.LogPage, error) {
	w.mu.Lock()
	text, ok := w.tapes.text[of]
	live := w.tapes.live[of]
	if q.Follow {
		w.tapes.read++
	}
	w.mu.Unlock()
	if !ok {
		return sandbox.LogPage{}, sandpool.Errorf(sandpool.NotFound, "LogNotFound", "sandbox",
			"no log")
	}
	if int(q.From) == len(text) && q.Follow && live != nil {
		select {
		case <-live:
		case <-ctx.Done():
		}
		w.mu.Lock()
		text = w.tapes.text[of]
		w.mu.Unlock()
	}
	text = text[q.From:]
	return sandbox.LogPage{Sandbox: of, Lines: []byte(text), Start: q.From, Next: q.From +
		int64(len(text))}, nil
}

func (w *world) SessionLog(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier,
	of sandpool.SandboxID, q sandbox.LogQuery) (sandbox.LogPage, error) {
	own := "sb" + sandpool.SandboxID(identifier)
	if of != "" && of != own {
		return sandbox.LogPage{}, sandpool.Errorf(sandpool.NotFound,
			"SessionWithIdentifierNotFound", "identifier", "no session")
	}
	return w.SandboxLog(ctx, id, own, q)
}

// TestLogs reads a log whole, from where a reader was, and as streams; its text is hostile.
func TestLogs(t *testing.T) {
	w := newWorld(t, Options{})
	const hostile = "\x1b]0;title\x07 \xff \"\r"
	w.tapes.text = map[sandpool.SandboxID]string{
		"sbsession-a": "2026-05-04T03:02:01Z stdout F hello  there\n2026-05-04T03:02:02Z stderr P " + hostile + "\nnonsense\n",
		"sbsession-b": "", "sbready": "2026-05-04T03:02:01Z stdout F warm\n"}
	got := w.do("GET", ".management/logs?identifier=session-a", "")
	var page api.LogLines
	if err := json.Unmarshal([]byte(got.body), &page); err != nil || got.status != 200 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if len(page.Value) != 2 || page.Sandbox != "sbsession-a" ||
		page.Value[0].Text != "hello  there" || page.Value[0].Stream != "stdout" ||
		page.Value[0].Part ||
		page.Value[1].Text != "\x1b]0;title\x07 \ufffd \"\r" || page.Value[1].Stream != "stderr" ||
		!page.Value[1].Part || page.Value[0].Missed {
		t.Errorf("the log is %+v", page)
	}
	if strings.ContainsAny(strings.TrimSpace(got.body), "\x1b\x07\r\n") {
		t.Errorf("control characters are in the answer as they are: %q", got.body)
	}
	for _, headers := range [][]string{{"Accept", "application/x-ndjson"},
		{"Accept", "text/event-stream", "Last-Event-ID", page.Value[0].Next}} {
		got := w.do("GET", ".management/logs?identifier=session-a", "", headers...)
		if n := strings.Count(got.body, "stderr"); got.status != 200 || n != 1 ||
			strings.Contains(got.body, "hello") != (len(headers) == 2) {
			t.Errorf("%v: %d %q", headers, got.status, got.body)
		}
	}
	for query, want := range map[string]int{
		"identifier=session-b": 200, "identifier=session-c": 404, "": 400, "sandbox=sbready": 200,
		"sandbox=none":                         404,
		"identifier=session-a&sandbox=sbready": 400, "identifier=session-a&after=sbready.0": 400,
		"sandbox=sbready&after=sbsession-a.0":       400,
		"identifier=session-a&after=7":              400,
		"identifier=session-a&after=sbsession-a.-1": 400,
		"identifier=session-a&follow=perhaps":       400,
		"identifier=session-a&after=" + page.Next:   200,
	} {
		if got := w.do("GET", ".management/logs?"+query, ""); got.status != want {
			t.Errorf("%s: %d %s, want %d", query, got.status, got.body, want)
		}
	}
	if a, r := w.counts(); a != 0 || r != 0 {
		t.Errorf("%d leases were acquired to read logs", a)
	}
}

// TestLogsScope: who may not use a session may not read what it wrote, by no name of it.
func TestLogsScope(t *testing.T) {
	w := newWorld(t, Options{})
	line := "2026-05-04T03:02:01Z stdout F secret\n"
	w.tapes.text = map[sandpool.SandboxID]string{"sbtenant-7-a": line, "sbtenant-8-a": line}
	scope := strings.Replace(endpoint, "/sessionPools", "/providers/Microsoft.App/sessionPools",
		1) + "/identifiers/tenant-7-*"
	for query, want := range map[string]int{
		"identifier=tenant-7-a": 200, "identifier=tenant-8-a": 403, "sandbox=sbtenant-8-a": 400,
		"sandbox=sbtenant-7-a":                       400,
		"identifier=tenant-7-a&sandbox=sbtenant-8-a": 400,
		"identifier=tenant-7-a&after=sbtenant-8-a.0": 400,
	} {
		got := w.do("GET", ".management/logs?"+query, "", "Test-Role", "session-executor",
			"Test-Scope", scope)
		if got.status != want || want != 200 && strings.Contains(got.body, "secret") {
			t.Errorf("%s: %d %s, want %d", query, got.status, got.body, want)
		}
	}
	if got := w.do("GET", ".management/logs?identifier=tenant-7-a", "", "Test-Role",
		"pool-contributor"); got.status != 403 {
		t.Errorf("a contributor reads a session's log: %d %s", got.status, got.body)
	}
}

// TestLogsFollowed: a stream goes on until the sandbox ends, its reader leaves, or the server
// stops.
func TestLogsFollowed(t *testing.T) {
	for _, how := range []string{"the sandbox ends", "the server stops", "the reader leaves"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t, Options{Heartbeat: 10 * time.Millisecond})
			end := make(chan struct{})
			w.tapes.text = map[sandpool.SandboxID]string{
				"sbsession-a": "2026-05-04T03:02:01Z stdout F hello\n"}
			w.tapes.live = map[sandpool.SandboxID]chan struct{}{"sbsession-a": end}
			ctx, leave := context.WithTimeout(t.Context(), time.Minute)
			defer leave()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+endpoint+
				"/.management/logs?identifier=session-a&follow=true", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body := bufio.NewReader(resp.Body)
			first, err := body.ReadString('\n')
			if err != nil || !strings.Contains(first, "hello") {
				t.Fatalf("%q, %v", first, err)
			}
			for range 3 { // heartbeats, for which nobody asks anew
				if beat, err := body.ReadString('\n'); err != nil || len(beat) > 1 {
					t.Fatalf("a quiet log says %q, %v", beat, err)
				}
			}
			w.mu.Lock()
			read := w.tapes.read
			w.mu.Unlock()
			if read > 1 {
				t.Errorf("a quiet log was read on %d times, want one at most", read)
			}
			switch how {
			case "the sandbox ends":
				w.mu.Lock()
				w.tapes.text["sbsession-a"] += fmt.Sprintln(
					"2026-05-04T03:02:02Z stdout F last words")
				delete(w.tapes.live, "sbsession-a")
				w.mu.Unlock()
				close(end)
			case "the server stops":
				w.gateway.EndFollowing()
			case "the reader leaves":
				leave()
			}
			rest, err := io.ReadAll(body)
			if ctx.Err() != nil && how != "the reader leaves" {
				t.Errorf("the stream does not end: %q, %v", rest, err)
			}
			if strings.Contains(string(rest), "last words") != (how == "the sandbox ends") {
				t.Errorf("the rest is %q", rest)
			}
			w.finish()
		})
	}
}
