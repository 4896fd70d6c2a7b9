package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
)

// tricks is a page of a container that tries to run, to ask others, to leave its frame, and to be
// clicked on: the link lies over everything.
const tricks = `<meta http-equiv=refresh content="0;url=https://evil.example/refresh">
<base href="https://evil.example/"><link rel=stylesheet href="https://evil.example/sheet.css">
<style>@import "https://evil.example/import.css"; body { background: url(https://evil.example/b) }
</style><script>top.location = "https://evil.example/top"; parent.pwned = 1</script>
<img src=x onerror="parent.pwned = 1"><svg onload="parent.pwned = 1"><animate onbegin="parent.pwned=1"/>
</svg><iframe src="/ui/access" onload="parent.pwned = 1"></iframe>
<iframe srcdoc="<script>top.pwned = 1</script>"></iframe><object data="/ui/access"></object>
<embed src="/ui/access"><video src="https://evil.example/v" onerror="parent.pwned = 1"></video>
<form action="/ui/sign-out" method=post target=_top><button autofocus onfocus="parent.pwned = 1">
</button></form><p style="height: 200px">what is shown</p>
<a href="https://evil.example/link" target=_top ping="https://evil.example/ping"
style="position: fixed; inset: 0; z-index: 9">a prize</a>`

// tricky is busy, whose container serves tricks.
type tricky struct{ busy }

func (f tricky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/tricks") {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, tricks)
		return
	}
	f.busy.ServeHTTP(w, r)
}

// TestHostileFrame: the page of a container is drawn, and none of its tricks does anything, also
// when somebody clicks on it.
func TestHostileFrame(t *testing.T) {
	f := newFixture(t)
	f.serve(t, tricky{busy{f.now}})
	ctx := f.world.browser(t)
	f.signIn(t, ctx, "good")
	var at struct{ X, Y float64 }
	f.do(t, ctx, chromedp.Navigate(f.url+"/ui/pools/web/play"),
		chromedp.SetValue("#path", "/tricks", chromedp.ByID), chromedp.Click("#request button"),
		awaits("document.querySelector('#view iframe')?.offsetHeight > 100"),
		chromedp.ScrollIntoView("#view iframe"), chromedp.Evaluate(`(() => {
			const r = document.querySelector('#view iframe').getBoundingClientRect();
			return { X: r.x + r.width / 2, Y: r.y + 60 }; })()`, &at))
	f.do(t, ctx, chromedp.MouseClickXY(at.X, at.Y),
		// Whatever the click has begun would have happened after a second.
		chromedp.Evaluate("setTimeout(() => { window.late = true }, 1000)", nil),
		awaits("window.late"))
	var where string
	var ran bool
	f.do(t, ctx, chromedp.Location(&where), chromedp.Evaluate("window.pwned === 1", &ran))
	if where != f.url+"/ui/pools/web/play" || ran {
		t.Errorf("the browser is at %s; it runs (%t)", where, ran)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, asked := range f.asked {
		if !strings.HasPrefix(asked, f.url+"/ui/") && !strings.HasPrefix(asked, "data:") ||
			strings.HasSuffix(asked, "/ui/access") || strings.HasSuffix(asked, "/ui/sign-out") {
			t.Errorf("the frame asks %s", asked)
		}
	}
}

// counted is an API that notes what is to be changed.
type counted struct {
	busy
	mu      sync.Mutex // guards changes
	changes []string
}

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		c.mu.Lock()
		c.changes = append(c.changes, r.Method+" "+r.URL.Path)
		c.mu.Unlock()
	}
	c.busy.ServeHTTP(w, r)
}

// TestHostileNeighbour: a page at another port of the same host, whose cookies are those of the
// dashboard, has a browser that is signed in send forms and requests, opens a connection, frames
// a page, and plants a cookie. Nothing changes, and it reads nothing.
func TestHostileNeighbour(t *testing.T) {
	f := newFixture(t)
	c := &counted{busy: busy{f.now}}
	f.serve(t, c)
	ctx := f.world.browser(t)
	f.signIn(t, ctx, "good")
	page := neighbour(t, f.url)
	for _, path := range []string{"/ui/pools/python/delete", "/ui/pools/python/end", "/ui/new",
		"/ui/sign-out", "/ui/sign-in"} {
		f.do(t, ctx, chromedp.Navigate(page+"/form?"+url.Values{"to": {f.url + path}}.Encode()),
			awaits("location.href.startsWith('"+f.url+"') && document.body"))
		var text string
		f.do(t, ctx, chromedp.Evaluate("document.body.textContent", &text))
		if !strings.Contains(text, "does not come from a page of the dashboard") {
			t.Errorf("a form for %s: %s", path, text)
		}
	}
	var got struct{ Read, Wrote, Socket, Cookie string }
	f.do(t, ctx, chromedp.Navigate(page+"/try"), awaits("window.over"),
		chromedp.Evaluate("window.got", &got))
	if got.Read != "refused" || got.Wrote != "refused" || got.Socket != "refused" ||
		got.Cookie != "" {
		t.Errorf("the page got %+v", got)
	}
	f.mu.Lock()
	if said := strings.Join(f.errors, "\n"); !strings.Contains(said, "frame-ancestors") {
		t.Errorf("the page could frame the dashboard; the browser says %s", said)
	}
	f.mu.Unlock()
	c.mu.Lock()
	if len(c.changes) != 0 {
		t.Errorf("something was changed: %q", c.changes)
	}
	c.mu.Unlock()
	// A cookie that the page has planted signs nobody in, also after its victim has signed in.
	f.do(t, ctx, chromedp.Navigate(page+"/plant"), awaits("window.over"))
	f.signIn(t, ctx, "good")
	f.do(t, ctx, awaits("document.querySelector('a[href=\"/ui/pools/python\"]')"))
	r := httptest.NewRequest(http.MethodGet, "/ui/", nil)
	r.AddCookie(&http.Cookie{Name: "sandpool-ui", Value: "planted"})
	w := httptest.NewRecorder()
	f.site.ServeHTTP(w, r)
	if to := w.Header().Get("Location"); !strings.HasPrefix(to, "/ui/sign-in") {
		t.Errorf("the planted cookie leads to %q: %d", to, w.Code)
	}
}

// neighbour serves the hostile page, and returns its address: the dashboard's host, another port.
func neighbour(t *testing.T, target string) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /form", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<form method=post action=%q><input name=csrf value=guess>
			<input name=token value=good><input name=name value=evil><input name=identifier value=x>
			</form><script>document.forms[0].submit()</script>`, r.URL.Query().Get("to"))
	})
	mux.HandleFunc("GET /try", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<script>const to = %q; %s</script>`, target, attempts)
	})
	mux.HandleFunc("GET /plant", func(w http.ResponseWriter, _ *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "sandpool-ui", Value: "planted", Path: "/ui/"})
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<script>window.over = true</script>`)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

// attempts is what the hostile page tries, and what it gets.
const attempts = `
window.got = { Cookie: document.cookie };
const refused = () => "refused";
const all = { credentials: "include" };
const framed = () => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.src = to + "/ui/";
  frame.onload = done;
  setTimeout(done, 2000); // what is not shown does not load
  document.documentElement.append(frame);
});
const socket = () => new Promise((done) => {
  const s = new WebSocket(to.replace("http", "ws") + "/ui/api/subscriptions/s/resourceGroups/g/sessionPools/python/terminals/main?identifier=abcd", ["sandpool", "guess"]);
  s.onopen = () => done("open");
  s.onerror = () => done("refused");
});
(async () => {
  got.Read = await fetch(to + "/ui/api/sandpool/tokens", all).then((r) => r.text(), refused);
  got.Wrote = await fetch(to + "/ui/api/sandpool/tokens", { ...all, method: "POST", body: "{}", headers: { "X-Csrf-Token": "guess" } }).then((r) => r.text(), refused);
  await fetch(to + "/ui/api/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/python", { ...all, method: "POST", mode: "no-cors", body: "{}" }).catch(refused);
  got.Socket = await socket();
  await framed();
  window.over = true;
})();`
