package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// unlike answers as an agent that does not have what it is asked for, or that has something else.
func unlike(class sandpool.Class) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		agent.WriteError(w, sandpool.Errorf(class, "", "path", "Not so."))
	}
}

// canned answers as an agent that has one of everything.
func canned(w http.ResponseWriter, r *http.Request) {
	frames := func(vs ...any) {
		for _, v := range vs {
			b, err := agent.EncodeFrame(v)
			if err != nil {
				panic(err)
			}
			_, _ = w.Write(b)
		}
	}
	const file = `{"name":"a","path":"a","type":"file"}`
	answers := map[string]string{
		"GET /terminals": `[{"name":"t","pid":7}]`, "DELETE /terminal": "",
		"POST /file/move": file, "POST /file/copy": file, "PATCH /file": file,
		"GET /archive": "bytes", "PUT /archive": `{"files":1}`,
		"DELETE /context": "", "POST /context/restart": "", "POST /context/interrupt": "",
	}
	key := r.Method + " " + r.URL.Path
	text, ok := answers[key]
	switch {
	case key == "GET /watch":
		frames(agent.FileEvent{Type: agent.FileReady})
	case key == "GET /background/logs":
		frames(agent.ProcessRecord{Process: &agent.BackgroundProcess{ID: "p", PID: 7,
			Command: agent.Words{"true"}}})
	case key == "POST /terminal":
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"+
			"Upgrade: "+agent.TerminalProtocol+"\r\n\r\n")
	case !ok:
		unlike(sandpool.NotFound)(w, r)
	default:
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, text)
	}
}

// TestAnswers gives the answers that no other test gives; the description lists them all.
func TestAnswers(t *testing.T) {
	const id = "?identifier=abcd"
	has := newWorldOf(t, Options{MaxUpload: 100}, nil)
	has.served(canned)
	lacks := newWorldOf(t, Options{}, nil)
	lacks.served(unlike(sandpool.NotFound))
	conflicts := newWorldOf(t, Options{}, nil)
	conflicts.served(unlike(sandpool.Conflict))
	for _, w := range []*world{has, lacks, conflicts} {
		if _, err := w.Acquire(t.Context(), sandpool.PoolID{Name: "python"}, "abcd"); err != nil {
			t.Fatal(err)
		}
	}
	const events = "text/event-stream"
	for _, row := range []struct {
		w                  *world
		status             int
		method, path, body string
		headers            []string
	}{
		{w: has, status: 200, method: "GET", path: "terminals" + id},
		{w: has, status: 204, method: "DELETE", path: "terminals/t" + id},
		{w: lacks, status: 404, method: "DELETE", path: "terminals/t" + id},
		{w: has, status: 200, method: "POST", path: "files/a" + id + "&operation=move&to=b"},
		{w: lacks, status: 404, method: "POST", path: "files/a" + id + "&operation=move&to=b"},
		{w: conflicts, status: 409, method: "POST",
			path: "files/a" + id + "&operation=copy&to=b"},
		{w: has, status: 200, method: "PATCH", path: "files/a/content" + id + "&offset=end"},
		{w: conflicts, status: 409, method: "PATCH", path: "files/a/content" + id + "&offset=1"},
		{w: has, status: 200, method: "GET", path: "archive" + id},
		{w: has, status: 200, method: "GET", path: "archive" + id + "&format=zip"},
		{w: lacks, status: 404, method: "GET", path: "archive" + id},
		{w: has, status: 200, method: "PUT", path: "archive" + id, body: "bytes"},
		{w: has, status: 413, method: "PUT", path: "files/a/content" + id,
			body: strings.Repeat("x", 101)},
		{w: has, status: 200, method: "GET", path: "watch" + id},
		{w: has, status: 200, method: "GET", path: "watch" + id,
			headers: []string{"Accept", events}},
		{w: lacks, status: 404, method: "GET", path: "watch" + id},
		{w: has, status: 200, method: "GET", path: "processes/p/logs" + id,
			headers: []string{"Accept", events}},
		{w: lacks, status: 404, method: "DELETE", path: "processes/p" + id},
		{w: conflicts, status: 409, method: "POST", path: "processes" + id,
			body: `{"id":"p","command":["true"]}`},
		{w: has, status: 413, method: "POST", path: "processes" + id,
			body: strings.Repeat(" ", maxProcessBody+1)},
		{w: conflicts, status: 409, method: "PUT", path: "contexts/c" + id,
			body: `{"kernel":"python"}`},
		{w: lacks, status: 404, method: "DELETE", path: "contexts/c" + id},
		{w: lacks, status: 404, method: "POST", path: "contexts/c/restart" + id},
		{w: lacks, status: 404, method: "POST", path: "contexts/c/interrupt" + id},
		{w: lacks, status: 404, method: "DELETE", path: "executions/x" + id},
		{w: lacks, status: 404, method: "DELETE", path: "files/a" + id},
		{w: lacks, status: 404, method: "GET", path: "files" + id},
		{w: has, status: 200, method: "GET", path: ".management/stopSession" + id},
	} {
		got := row.w.do(row.method, row.path, row.body, row.headers...)
		if got.status != row.status {
			t.Errorf("%s %s: %d %s, want %d", row.method, row.path, got.status, got.body,
				row.status)
		}
	}
	conn, _, err := websocket.Dial(t.Context(), has.url+endpoint+"/terminals/t"+id, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.CloseNow()
}

// TestNoSuchPool: an operation on a pool that is not there says so.
func TestNoSuchPool(t *testing.T) {
	w := newWorld(t, Options{})
	none := strings.Replace(endpoint, "python", "nothere", 1)
	for _, call := range []string{"GET metadata", "POST code/execute", "POST executions",
		"GET path/of/a/container", "GET ", "PATCH files"} {
		method, path, _ := strings.Cut(call, " ")
		got := w.raw(method, none+"/"+path+"?identifier=abcd", `{"properties":{"code":"1"}}`)
		if got.status != 404 || !strings.Contains(got.body, `"sessionPool"`) {
			t.Errorf("%s: %d %s", call, got.status, got.body)
		}
	}
}

// TestRangesOfOldPaths: the old path of a content takes ranges, too.
func TestRangesOfOldPaths(t *testing.T) {
	w := newWorld(t, Options{})
	w.files["a.txt"] = []byte("0123456789")
	const path = "files/content/a.txt?identifier=abcd"
	if got := w.do("GET", path, "", "Range", "bytes=2-4"); got.status != 206 || got.body != "234" {
		t.Errorf("a range: %d %q", got.status, got.body)
	}
	if got := w.do("GET", path, "", "Range", "bytes=20-"); got.status != 416 || got.body != "" {
		t.Errorf("beyond the end: %d %q", got.status, got.body)
	}
}
