// Package web_test uses the dashboard of a real server in a real browser.
package web_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/server"
	"github.com/sandpool/sandpool/test/real"
)

// patience is how long a browser may take for all that a test does in it; it only ends a hang. On a
// machine with sixty others at work the longest test takes three minutes.
const patience = 10 * time.Minute

// world is a server with a pool, and a browser.
type world struct {
	*client.Client
	srv *server.Server
	url string

	mu     sync.Mutex   // guards the fields below
	asked  []string     // the addresses that pages have asked
	errors []string     // what the browser has complained of
	log    bytes.Buffer // what the browser's processes have printed, and what went wrong with it
}

// Write keeps what a browser prints, for a test that it fails.
func (w *world) Write(data []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(data)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	srv := real.Start(t)
	return &world{Client: srv.Client, srv: srv.Server, url: srv.URL()}
}

// TestMain lets the engine start this program again for its sandboxes.
func TestMain(m *testing.M) {
	server.HandOver()
	os.Exit(m.Run())
}

// browser opens a browser, which is closed at the end of the test.
func (w *world) browser(t *testing.T) context.Context {
	t.Helper()
	// The kernel ends the browser with the thread that started it, and the server ends threads.
	// This one stays until the test is done.
	runtime.LockOSThread()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox,
		chromedp.DisableGPU,
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-background-networking",
			true),
		chromedp.WindowSize(1200, 900), chromedp.UserDataDir(t.TempDir()),
		chromedp.WSURLReadTimeout(patience), chromedp.CombinedOutput(w))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	ctx, closeAll := chromedp.NewExecAllocator(ctx, options...)
	ctx, closeTab := chromedp.NewContext(ctx, chromedp.WithErrorf(func(format string, args ...any) {
		fmt.Fprintf(w, format+"\n", args...)
	}))
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil && t.Context().Err() == nil {
			t.Log(err)
		}
		closeTab()
		closeAll()
		cancel()
	})
	chromedp.ListenTarget(ctx, func(event any) {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			w.asked = append(w.asked, e.Request.URL)
		case *cdpruntime.EventExceptionThrown:
			w.errors = append(w.errors, e.ExceptionDetails.Error())
		case *cdplog.EventEntryAdded:
			w.errors = append(w.errors, string(e.Entry.Level)+": "+e.Entry.Text+" "+e.Entry.URL)
		case *page.EventJavascriptDialogOpening:
			w.errors = append(w.errors, "a dialog: "+e.Message)
		}
	})
	w.do(t, ctx, network.Enable(), cdplog.Enable())
	return ctx
}

// do acts in the browser, and fails the test with what stands on the page if that does not work.
func (w *world) do(t *testing.T, ctx context.Context, actions ...chromedp.Action) {
	t.Helper()
	if err := chromedp.Run(ctx, actions...); err != nil {
		var text string
		_ = chromedp.Run(ctx, chromedp.Evaluate("document.body.innerText", &text))
		w.mu.Lock()
		defer w.mu.Unlock()
		t.Fatalf("%v; the page:\n%s\nthe browser:\n%s", err, text, w.log.Bytes())
	}
}

// shot keeps a picture of the page for whoever wants to look: in the folder that the variable
// names.
func (w *world) shot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("SANDPOOL_TEST_PICTURES")
	if dir == "" {
		return
	}
	// The window gets as high as the page: frames are not drawn beyond it.
	var picture []byte
	var wide, high int64
	w.do(t, ctx, chromedp.Evaluate("document.documentElement.clientWidth", &wide),
		chromedp.Evaluate("document.documentElement.scrollHeight", &high))
	w.do(t, ctx, chromedp.EmulateViewport(wide, max(high, 600)),
		chromedp.CaptureScreenshot(&picture), chromedp.EmulateViewport(wide, 900))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
		t.Error(err)
	}
}

// awaits waits until a script's value is true, whichever page is there by then, and that page is
// whole: the nodes of one that still loads do not stay.
func awaits(script string) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			var is bool
			err := chromedp.Evaluate("document.readyState === 'complete' && Boolean("+script+")",
				&is).Do(ctx)
			if is && err == nil {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s: %w, %v", script, ctx.Err(), err)
			case <-tick.C:
			}
		}
	})
}

func (w *world) signIn(t *testing.T, ctx context.Context, token string) {
	t.Helper()
	w.do(t, ctx, chromedp.Navigate(w.url+"/ui/"), chromedp.SendKeys("#token", token, chromedp.ByID),
		chromedp.Submit("#token", chromedp.ByID), awaits("location.pathname === '/ui/'"))
}

// TestDashboard is a first visit: sign in, make a pool, run cells, files, end the session, sign
// out.
func TestDashboard(t *testing.T) {
	w := newWorld(t)
	ctx := w.browser(t)
	w.signIn(t, ctx, w.srv.AdminToken())
	w.do(t, ctx, chromedp.Click("a[href='/ui/new']"), awaits("location.pathname === '/ui/new'"),
		chromedp.SendKeys("#name", "look", chromedp.ByID),
		chromedp.SetValue("#ready", "1", chromedp.ByID),
		chromedp.Evaluate("document.getElementById('new-pool').dispatchEvent(new Event('input'))",
			nil),
		awaits("document.getElementById('command').textContent.startsWith('sandpool pool create "+
			"look ')"),
		awaits("document.getElementById('az').textContent.includes(' --location local ')"))
	w.shot(t, ctx, "new-pool")
	w.do(t, ctx, chromedp.Submit("#name", chromedp.ByID),
		awaits("location.pathname === '/ui/pools/look'"))
	if _, err := w.WaitReady(t.Context(), "look", nil); err != nil {
		t.Fatal(err)
	}
	w.do(t, ctx, awaits(
		"document.querySelector('[data-field=provisioningState]').textContent === 'Succeeded'"))
	w.shot(t, ctx, "pool")
	w.do(t, ctx, chromedp.Click("a[href='/ui/pools/look/play']"), chromedp.WaitVisible(".cell"))
	code := `import sys, matplotlib.pyplot as plt
plt.plot([1, 4, 9]); plt.show()
print('\x1b[31mred\x1b[0m <b>not bold</b>')
from IPython.display import HTML, display
display(HTML("<script>parent.postMessage('pwned', '*'); alert(1)</script><table><tr><td>cell of a table</td></tr></table><img src=x onerror=alert(2)>"))
open('/mnt/data/<img src=x onerror=alert(3)>.txt', 'w').write('x')
print('on stderr', file=sys.stderr)
6 * 7`
	w.do(t, ctx, chromedp.SetValue(".cell textarea", code), chromedp.Click(".cell button"),
		awaits("document.querySelector('.cell [role=status]')?.textContent === 'Succeeded'"),
		awaits("document.querySelectorAll('#files li').length === 1"),
		awaits("document.querySelector('.output iframe').offsetHeight < 250"))
	var got struct{ Red, Stderr, Value, Picture, Link string }
	w.do(t, ctx, chromedp.Evaluate(`({
		Red: document.querySelector('.output .a31').textContent,
		Stderr: document.querySelector('.output pre.stderr').textContent,
		Value: document.querySelector('.output pre.value').textContent,
		Picture: document.querySelector('.output img').src.slice(0, 22),
		Link: document.querySelector('#files a').textContent})`, &got))
	if got.Red != "red" || got.Stderr != "on stderr\n" || got.Value != "42" ||
		got.Picture != "data:image/png;base64," ||
		got.Link != "<img src=x onerror=alert(3)>.txt" {
		t.Errorf("the cell shows %+v", got)
	}
	w.shot(t, ctx, "playground")
	// A stream comes as it is printed, and an interrupt ends it.
	w.do(t, ctx, chromedp.Click("#add"), chromedp.SetValue(".cell:last-child textarea",
		"import time\nfor i in range(1000):\n  print('line', i); time.sleep(0.2)"),
		chromedp.Click(".cell:last-child button"),
		awaits("document.querySelector('.cell:last-child .output').textContent.includes('line 2')"),
		chromedp.Click("#interrupt"),
		awaits("['Failed', 'Canceled'].includes(document.querySelector('.cell:last-child "+
			"[role=status]').textContent)"))
	w.usesContexts(t, ctx)
	w.looksOn(t, ctx)
	w.do(t, ctx, chromedp.Click("#restart"),
		awaits("document.getElementById('timing').textContent.includes('has ended')"),
		chromedp.Navigate(w.url+"/ui/access"),
		awaits("document.body.textContent.includes('admin')"))
	w.shot(t, ctx, "access")
	w.do(t, ctx, chromedp.Click("header form button"),
		awaits("location.pathname === '/ui/sign-in'"),
		chromedp.Navigate(w.url+"/ui/pools/look"), awaits("location.pathname === '/ui/sign-in'"))
	w.check(t)
}

// usesContexts runs cells in another language, and begins the first one anew.
func (w *world) usesContexts(t *testing.T, ctx context.Context) {
	t.Helper()
	cell := func(code, want string) chromedp.Tasks {
		return chromedp.Tasks{chromedp.SetValue(".cell:last-child textarea", code),
			chromedp.Click(".cell:last-child button"),
			// The next one would run beside it, and both write into the same place.
			awaits("document.querySelector('.cell:last-child [role=status]').textContent !== " +
				"'running'"),
			awaits("document.querySelector('.cell:last-child .output').textContent.includes('" +
				want + "')")}
	}
	w.do(t, ctx, awaits("!document.getElementById('more-contexts').hidden"),
		chromedp.SetValue("#kernel", "shell", chromedp.ByID), chromedp.Click("#make-context"),
		awaits("document.getElementById('context').value === 'shell'"),
		cell("n=6; echo the shell says $((n*7))", "the shell says 42"),
		chromedp.SetValue("#context", "", chromedp.ByID), cell("1 + len('abc')", "4"),
		cell("kept = 'is kept'", ""), cell("kept", "is kept"), chromedp.Click("#restart-context"),
		awaits("document.getElementById('timing').textContent.includes('is fresh')"),
		cell("kept", "NameError"))
}

// looksOn shares the playground, looks at it in a browser that has not signed in, and at the pages
// of the session and of its pool.
func (w *world) looksOn(t *testing.T, ctx context.Context) {
	t.Helper()
	var link string
	w.do(t, ctx, chromedp.Click("#share"), awaits("!document.getElementById('shared-link').hidden"),
		chromedp.Value("#link", &link, chromedp.ByID))
	w.shot(t, ctx, "share")
	other := w.browser(t)
	w.do(t, other, chromedp.Navigate(link),
		awaits("document.querySelector('.output pre.value')?.textContent === '42'"),
		awaits("document.querySelectorAll('.cell').length === 2"),
		awaits("document.querySelector('.output iframe').offsetHeight < 250"),
		awaits("document.getElementById('state').textContent === 'The session runs.'"))
	w.shot(t, other, "shared")
	var buttons int
	w.do(t, other, chromedp.Evaluate("document.querySelectorAll('button, input').length", &buttons),
		chromedp.Navigate(w.url+"/ui/"), awaits("location.pathname === '/ui/sign-in'"))
	if buttons != 0 {
		t.Errorf("who looks on has %d things to press", buttons)
	}
	w.do(t, ctx, chromedp.Navigate(w.url+"/ui/pools/look"),
		awaits("document.querySelectorAll('[data-chart] svg').length === 4"),
		awaits(
			"document.querySelector('[data-chart=claims] .legend').textContent.includes('ready')"),
		chromedp.Click("[data-window=day]"),
		awaits(
			"document.querySelector('[data-window=day]').getAttribute('aria-pressed') === 'true'"))
	w.shot(t, ctx, "pool-used")
	var answered string
	w.do(t, ctx, chromedp.Click("tbody th a"),
		awaits("document.querySelectorAll('#runs tr').length >= 2"),
		awaits("document.querySelectorAll('#files li').length === 1"),
		awaits("document.getElementById('callers').textContent.startsWith('token:')"),
		chromedp.Text("#runs tr:last-child", &answered))
	if !strings.Contains(answered, "ok") {
		t.Errorf("the first execution of the session: %q", answered)
	}
	w.shot(t, ctx, "session")
	w.do(t, ctx, chromedp.Click("a.button[href*=play]"),
		awaits("location.pathname === '/ui/pools/look/play'"),
		chromedp.WaitVisible(".cell"),
		// What the page asks of the session has come: the end of that is next.
		awaits("!document.getElementById('more-contexts').hidden"),
		awaits("document.querySelectorAll('#files li').length === 1"))
}

// check fails the test if a page has asked somebody else, or the browser has complained.
func (w *world) check(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, url := range w.asked {
		if !strings.HasPrefix(url, w.url+"/ui/") && !strings.HasPrefix(url, "data:") &&
			url != "about:blank" {
			t.Errorf("a page asks %s", url)
		}
	}
	for _, text := range w.errors {
		// The frame's policy forbids what the hostile HTML tries, and who asks while a session ends
		// is told that it is gone.
		if !strings.Contains(text, "Content Security Policy") &&
			!strings.Contains(text, "410 (Gone)") {
			t.Errorf("the browser says: %s", text)
		}
	}
}

// TestTenants: a page shows what the token may see, and no more.
func TestTenants(t *testing.T) {
	w := newWorld(t)
	none := 0
	for _, name := range []string{"anns", "bobs"} {
		if _, err := w.PutPool(t.Context(), name, api.SessionPool{Location: "local",
			Properties: &api.SessionPoolProperties{
				ContainerType: "PythonLTS", ScaleConfiguration: &api.ScaleConfiguration{
					ReadySessionInstances: &none}}}); err != nil {
			t.Fatal(err)
		}
	}
	token, err := w.CreateToken(t.Context(), api.TokenRequest{Name: "ann", Role: "pool-contributor",
		Pool: w.PoolID("anns").String()})
	if err != nil {
		t.Fatal(err)
	}
	ctx := w.browser(t)
	w.signIn(t, ctx, token.Text)
	var mine, theirs, tokens string
	w.do(t, ctx,
		chromedp.Navigate(w.url+"/ui/pools/anns"), chromedp.Text("main", &mine),
		chromedp.Navigate(w.url+"/ui/pools/bobs"), chromedp.Text("main", &theirs),
		chromedp.Navigate(w.url+"/ui/access"), chromedp.Text("main", &tokens))
	if !strings.Contains(mine, "Sandboxes") {
		t.Errorf("the own pool's page: %s", mine)
	}
	for page, text := range map[string]string{"another's pool": theirs, "tokens": tokens} {
		if !strings.Contains(text, "did not work") || strings.Contains(text, "Sandboxes") {
			t.Errorf("the page of %s: %s", page, text)
		}
	}
	if err := w.RevokeToken(t.Context(), token.ID); err != nil {
		t.Fatal(err)
	}
	w.do(t, ctx, chromedp.Navigate(w.url+"/ui/pools/anns"),
		awaits("location.pathname === '/ui/sign-in'"))
}
