package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sandpool/sandpool"
)

// page is an application's: everything in it is relative, and nothing knows of a session.
const page = `<!doctype html><link rel=stylesheet href="style.css"><body><script src="./js/app.js"></script>
<a id=next href="next?page=2">next</a>`

// app uses what the page has, and reports.
const app = `
const seen = [];
const report = () => fetch("report", {method: "POST", body: seen.join(" ")});
(async () => {
  seen.push(await (await fetch("api/data?a=1;2")).text());
  const form = new FormData(); form.append("x", "y");
  seen.push(await (await fetch("api/form", {method: "POST", body: form})).text());
  const ws = new WebSocket("ws://" + location.host + "/ws");
  seen.push(await new Promise((ok, no) => {
    ws.onopen = () => ws.send("echo"); ws.onmessage = m => ok(m.data); ws.onerror = () => ok("no-websocket");
  }));
  seen.push(document.cookie === "" ? "no-cookie" : document.cookie);
  const events = new EventSource("events");
  seen.push(await new Promise(ok => { events.onmessage = m => { events.close(); ok(m.data); }; }));
  await report();
  location.href = location.hash.slice(1);
})().catch(e => { seen.push(String(e)); report(); });`

// evil is a page of another pool, whose host has the same parent. It tries what a page can without
// leave.
const evil = `<!doctype html><body><script>
const target = "%s", seen = [];
(async () => {
  await fetch("http://" + target + "/steal/fetch", {mode: "no-cors", credentials: "include"}).catch(() => {});
  await fetch("http://" + target + "/steal/post", {method: "POST", mode: "no-cors", credentials: "include", body: "x"}).catch(() => {});
  await new Promise(ok => { const i = new Image(); i.onload = i.onerror = ok; i.src = "http://" + target + "/steal/image"; });
  await new Promise(ok => { const s = document.createElement("script"); s.onload = s.onerror = ok; s.src = "http://" + target + "/steal/script"; document.body.append(s); });
  await new Promise(ok => { const f = document.createElement("iframe"); f.onload = f.onerror = ok; f.src = "http://" + target + "/steal/frame"; document.body.append(f); });
  await new Promise(ok => { const ws = new WebSocket("ws://" + target + "/steal/ws"); ws.onopen = ws.onerror = ok; });
  await fetch("report", {method: "POST", body: "tried"});
})();
</script>`

// A browserWorld is a server with two pools' hosts: web, where the sessions chat-42 and chat-43
// live, and evil.
type browserWorld struct {
	addr     string
	mu       sync.Mutex
	arrived  map[sandpool.Identifier][]string
	reported chan string
	denied   []string // paths that pages of others asked for
}

func (b *browserWorld) web() string { return "web.pools.localhost" + b.addr }

// application is what runs in the session's container.
func (b *browserWorld) application(id sandpool.Identifier) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.arrived[id] = append(b.arrived[id], r.URL.Path)
		b.mu.Unlock()
		switch r.URL.Path {
		case "/":
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, page)
		case "/js/app.js":
			w.Header().Set("Content-Type", "text/javascript")
			_, _ = io.WriteString(w, app)
		case "/style.css":
			w.Header().Set("Content-Type", "text/css")
		case "/api/data":
			_, _ = io.WriteString(w, string(id)+":"+r.URL.RawQuery)
		case "/api/form":
			_, _ = io.WriteString(w, r.FormValue("x"))
		case "/ws":
			echo(w, r)
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: event\n\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case "/report":
			text, _ := io.ReadAll(r.Body)
			b.reported <- string(text)
		case "/steal/ws":
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
			if err == nil {
				_ = c.CloseNow()
			}
		}
	})
}

func newBrowserWorld(t *testing.T) *browserWorld {
	t.Helper()
	b := &browserWorld{arrived: map[sandpool.Identifier][]string{}, reported: make(chan string, 1)}
	sessions := map[sandpool.Identifier]*container{}
	for _, id := range []sandpool.Identifier{"chat-42", "chat-43"} {
		sessions[id] = newContainer(t)
		sessions[id].serve(8080, b.application(id))
	}
	p := New(Options{})
	t.Cleanup(p.Close)
	srv := serveFunc(t, func(w http.ResponseWriter, r *http.Request) error {
		if strings.HasPrefix(r.Host, "evil.") {
			if r.URL.Path == "/report" {
				text, _ := io.ReadAll(r.Body)
				b.reported <- string(text)
				return nil
			}
			w.Header().Set("Content-Type", "text/html")
			_, err := fmt.Fprintf(w, evil, "web."+strings.TrimPrefix(r.Host, "evil."))
			return err
		}
		named := r.URL.Query().Get("identifier")
		id, err := Identify(r, named, true)
		if sandpool.ClassOf(err) == sandpool.Denied {
			b.mu.Lock()
			b.denied = append(b.denied, r.URL.Path)
			b.mu.Unlock()
		}
		if err != nil {
			return err
		}
		if named != "" {
			Remember(w, r, id)
		}
		return serve(p, w, r, sessions[id], Target{Port: 8080, Path: RawPath(r)})
	})
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	b.addr = ":" + port
	return b
}

// browse opens an address in Chromium, and returns the first n reports of pages.
func (b *browserWorld) browse(t *testing.T, url string, n int) (reports []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := []string{"--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--remote-debugging-port=0", "--user-data-dir=" + t.TempDir(), url}
	cmd := exec.CommandContext(ctx, "chromium", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: make test-deps installs chromium", err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait()
	}()
	for range n {
		select {
		case got := <-b.reported:
			reports = append(reports, got)
		case <-ctx.Done():
			t.Fatalf("a page does not report; those before: %q", reports)
		}
	}
	return reports
}

// A web application's page works in a real browser: its relative links, scripts, forms, events and
// WebSocket find the session that its address named once. A page of another pool, open in the same
// browser, cannot reach that session, although the browser sends the cookie along.
func TestBrowser(t *testing.T) {
	b := newBrowserWorld(t)
	got := b.browse(t, "http://"+b.web()+"/?identifier=chat-42#http://evil.pools.localhost"+b.addr+
		"/", 2)
	if want := []string{"chat-42:a=1;2 y echo no-cookie event", "tried"}; !slices.Equal(got, want) {
		t.Errorf("the pages report %q, want %q", got, want)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	paths := b.arrived["chat-42"]
	for _, path := range []string{"/", "/style.css", "/js/app.js", "/api/data", "/api/form", "/ws",
		"/events", "/report"} {
		if !slices.Contains(paths, path) {
			t.Errorf("the application has not got %s: %v", path, paths)
		}
	}
	for _, path := range paths {
		if strings.HasPrefix(path, "/steal") {
			t.Errorf("a page of another pool has reached %s", path)
		}
	}
	if len(b.denied) == 0 {
		t.Error("the hostile page's requests did not come with the cookie: nothing was tested")
	}
	t.Logf("denied: %v", b.denied)
}
