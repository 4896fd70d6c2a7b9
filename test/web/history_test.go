package web_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
)

// TestHistory: the page of a session shows what it ran, as text, also after the session's end, to
// those who may run code in it; not to who owns the pool, nor to another tenant.
func TestHistory(t *testing.T) {
	w := newWorld(t)
	one, on := 1, true
	if _, err := w.PutPool(t.Context(), "kept", api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{ContainerType: "PythonLTS",
			Sandpool: &api.SandpoolSettings{History: &api.HistorySettings{Enabled: &on}},
			ScaleConfiguration: &api.ScaleConfiguration{
				ReadySessionInstances: &one}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WaitReady(t.Context(), "kept", nil); err != nil {
		t.Fatal(err)
	}
	code := "print('<script>alert(1)</script><img src=x onerror=alert(2)>')  # <b>bold</b>\n6*7"
	if _, err := w.Execute(t.Context(), "kept", "ann-1", client.Run{Code: code}); err != nil {
		t.Fatal(err)
	}
	ctx := w.browser(t)
	w.signIn(t, ctx, w.srv.AdminToken())
	var shown struct {
		Code, Out, Value string
		Elements         int
	}
	page := w.url + "/ui/pools/kept/sessions/ann-1"
	read := chromedp.Evaluate(`({ Code: document.querySelector('.past .code').textContent,
		Out: document.querySelector('.past pre:nth-of-type(2)').textContent,
		Value: document.querySelector('.past .value').textContent,
		Elements: document.querySelectorAll('.past script, .past img, .past pre b').length })`, &shown)
	w.do(t, ctx, chromedp.Navigate(page), awaits("document.querySelectorAll('.past').length === 1"),
		awaits("document.querySelectorAll('#files').length === 1"), read)
	if shown.Code != code || shown.Value != "42" || shown.Elements != 0 ||
		shown.Out != "<script>alert(1)</script><img src=x onerror=alert(2)>\n" {
		t.Errorf("the history shows %+v", shown)
	}
	w.shot(t, ctx, "history")
	if err := w.DeleteSession(t.Context(), "kept", "ann-1"); err != nil {
		t.Fatal(err)
	}
	w.do(t, ctx, chromedp.Navigate(w.url+"/ui/pools/kept"),
		chromedp.SendKeys("#find", "ann-1\r", chromedp.ByID),
		awaits("location.pathname.endsWith('/sessions/ann-1')"),
		awaits("document.querySelectorAll('.past').length === 1"), read)
	if shown.Code != code {
		t.Errorf("after the session's end: %+v", shown)
	}
	w.shot(t, ctx, "history-over")
	w.check(t)
	for name, scope := range map[string]string{"pool-contributor": "", "reader": "",
		"session-executor": "/identifiers/bob-*"} {
		made, err := w.CreateToken(t.Context(), api.TokenRequest{Name: name, Role: name,
			Scope: w.PoolID("kept").String() + scope})
		if err != nil {
			t.Fatal(err)
		}
		var text string
		other := w.browser(t)
		w.signIn(t, other, made.Text)
		w.do(t, other, chromedp.Navigate(page), chromedp.Text("main", &text))
		if !strings.Contains(text, "did not work") || strings.Contains(text, "bold") {
			t.Errorf("%s sees %s", name, text)
		}
	}
	w.do(t, ctx, chromedp.Click("#forget", chromedp.ByID),
		awaits("document.getElementById('past').textContent.startsWith('Nothing')"))
	if h, err := w.SessionHistory(t.Context(), "kept", "ann-1", 0); err != nil || len(h.Value) != 0 {
		t.Errorf("after it was forgotten: %+v, %v", h, err)
	}
}
