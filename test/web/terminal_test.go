package web_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"github.com/sandpool/sandpool/api"
)

// shows waits until the open terminal shows a text.
func shows(text string) chromedp.Action {
	return awaits(fmt.Sprintf("document.querySelector('#terminal .xterm-rows')?.innerText"+
		".replaceAll('\u00a0', ' ').includes(%q)", text))
}

// types types a line into the open terminal, as a browser's own keyboard does: a key that a page
// has taken is no character as well.
func types(line string) chromedp.Action {
	enter := func(what input.KeyType) chromedp.Action {
		return input.DispatchKeyEvent(what).WithKey("Enter").WithCode("Enter").
			WithWindowsVirtualKeyCode(13)
	}
	return chromedp.Tasks{input.InsertText(line), enter(input.KeyRawDown), enter(input.KeyUp)}
}

// says waits until the terminal's state has a text.
func says(text string) chromedp.Action {
	return awaits(fmt.Sprintf(
		"document.getElementById('terminal-state').textContent.includes(%q)", text))
}

// TestTerminal: a shell in a session, with a program that draws, left and joined again, on a phone
// in the dark, until the session ends.
func TestTerminal(t *testing.T) {
	w := newWorld(t)
	one := 1
	if _, err := w.PutPool(t.Context(), "shells", api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{ContainerType: "Shell",
			ScaleConfiguration: &api.ScaleConfiguration{
				ReadySessionInstances: &one}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WaitReady(t.Context(), "shells", nil); err != nil {
		t.Fatal(err)
	}
	ctx := w.browser(t)
	w.signIn(t, ctx, w.srv.AdminToken())
	w.do(t, ctx, chromedp.Navigate(w.url+"/ui/pools/shells/play"), chromedp.WaitVisible(".cell"),
		chromedp.Evaluate(`window.sockets = []; window.WebSocket = class extends WebSocket {
			constructor(...rest) { super(...rest); sockets.push(this); } }; undefined`, nil),
		chromedp.Click("#open-terminal"), says("connected"),
		// The shell puts the words together, so that they are its output and not the echo.
		types("printf 'it %s\\n' works"), shows("it works"),
		types("stty size"),
		awaits(`/^\d+ \d\d\d?\s*$/m.test(document.querySelector('.xterm-rows').innerText)`),
		types("top"), shows("COMMAND"))
	w.shot(t, ctx, "terminal-top")
	w.do(t, ctx, input.InsertText("q"))
	w.noViolation(t)
	b := browser{t, ctx, w}
	b.axe(axeScript(t), "terminal")
	// What breaks is made again.
	w.do(t, ctx, chromedp.Evaluate("sockets.at(-1).close()", nil),
		awaits("sockets.length === 2 && sockets[1].readyState === 1"), says("connected"),
		types("printf 'still %s\\n' here"), shows("still here"))
	// The key leaves the terminal, and the shell goes on for who comes again.
	w.do(t, ctx, types("printf 'once %s\\n' more"), shows("once more"),
		chromedp.Evaluate(`document.querySelector('.xterm-helper-textarea').dispatchEvent(
			new KeyboardEvent('keydown', {key: ']', code: 'BracketRight', ctrlKey: true,
				bubbles: true, cancelable: true}))`, nil),
		awaits("document.activeElement.id === 'open-terminal'"),
		chromedp.Click("#open-terminal"), says("the shell goes on"),
		awaits("document.getElementById('terminal').hidden"))
	dark := emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: "dark"}})
	var width int
	w.do(t, ctx, dark, chromedp.EmulateViewport(360, 740), chromedp.Click("#open-terminal"),
		says("connected"), shows("once more"),
		types("clear; stty size"),
		awaits(`/^\d+ [34]\d\s*$/m.test(document.querySelector('.xterm-rows').innerText)`),
		chromedp.Evaluate("document.documentElement.scrollWidth", &width))
	if width > 360 {
		t.Errorf("with a terminal the page is %d pixels wide on a screen of 360", width)
	}
	w.shot(t, ctx, "terminal-phone-dark")
	w.check(t) // before the last step: asking for a session that has ended is an error to a browser
	w.do(t, ctx, chromedp.Click("#restart"), says("the session has ended"),
		awaits("document.getElementById('open-terminal').textContent === 'Open'"))
	sessions, err := w.Sessions(t.Context(), "shells")
	if err != nil || len(sessions) != 0 {
		t.Errorf("after the session's end there are %d sessions, %v", len(sessions), err)
	}
}

// noViolation fails the test if the pages' policy had to forbid something.
func (w *world) noViolation(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.errors {
		t.Errorf("the browser says: %s", text)
	}
}

// TestTerminalOfAnother: whoever has signed in gets through the door to what their token may use,
// and a foreign page gets nowhere.
func TestTerminalOfAnother(t *testing.T) {
	w := newWorld(t)
	none := 0
	for _, name := range []string{"anns", "bobs"} {
		if _, err := w.PutPool(t.Context(), name, api.SessionPool{Location: "local",
			Properties: &api.SessionPoolProperties{
				ContainerType: "Shell", ScaleConfiguration: &api.ScaleConfiguration{
					ReadySessionInstances: &none}}}); err != nil {
			t.Fatal(err)
		}
	}
	token, err := w.CreateToken(t.Context(), api.TokenRequest{Name: "ann", Role: "session-executor",
		Pool: w.PoolID("anns").String()})
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	res, err := client.PostForm(w.url+"/ui/sign-in", url.Values{"token": {token.Text}})
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	found := regexp.MustCompile(`name="csrf" content="(\w+)"`).FindSubmatch(page)
	if err != nil || found == nil {
		t.Fatalf("no word on the page %s, %v", page, err)
	}
	word := string(found[1])
	dial := func(pool, origin string, as *http.Client) (int, string) {
		endpoint, err := url.Parse(w.PoolEndpoint(pool))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, res, err := websocket.Dial(ctx, w.url+"/ui/api"+endpoint.EscapedPath()+
			"/terminals/main?api-version=2025-10-02-preview&identifier=session-1",
			&websocket.DialOptions{HTTPClient: as, HTTPHeader: http.Header{"Origin": {origin}},
				Subprotocols: []string{"sandpool", word}})
		if res == nil {
			t.Fatal(err)
		}
		if err == nil {
			_ = c.CloseNow()
			return res.StatusCode, ""
		}
		text, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(text)
	}
	for name, try := range map[string]struct {
		pool, origin string
		as           *http.Client
		status       int
	}{
		"another tenant's session": {"bobs", w.url, client, http.StatusForbidden},
		"a foreign page":           {"anns", "https://evil.example", client, http.StatusForbidden},
		"no visit":                 {"anns", w.url, http.DefaultClient, http.StatusUnauthorized},
		"the own session":          {"anns", w.url, client, http.StatusSwitchingProtocols},
	} {
		if got, text := dial(try.pool, try.origin, try.as); got != try.status {
			t.Errorf("%s: status %d, want %d: %s", name, got, try.status, text)
		}
	}
	for pool, want := range map[string]int{"anns": 1, "bobs": 0} {
		if list, err := w.Sessions(t.Context(), pool); err != nil || len(list) != want {
			t.Errorf("%s has %d sessions, want %d, %v", pool, len(list), want, err)
		}
	}
}
