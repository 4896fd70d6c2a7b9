package web_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/sandpool/sandpool/api"
)

// TestTour walks the way of docs/tour.md, and makes its pictures: with
// SANDPOOL_TEST_PICTURES=docs/tour they are those of the page.
func TestTour(t *testing.T) {
	w := newWorld(t)
	one := 1
	if _, err := w.PutPool(t.Context(), "python", api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{ContainerType: "PythonLTS",
			ScaleConfiguration: &api.ScaleConfiguration{
				ReadySessionInstances: &one}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WaitReady(t.Context(), "python", nil); err != nil {
		t.Fatal(err)
	}
	ctx := w.browser(t)
	w.do(t, ctx, chromedp.Navigate(w.srv.SignInLink()), awaits("location.pathname === '/ui/'"),
		awaits("document.querySelectorAll('[data-spark] svg').length === 3"))
	w.shot(t, ctx, "1-pools")
	w.do(t, ctx, chromedp.Click("tbody th a"), awaits("document.querySelector('a.button')"),
		chromedp.Click("a.button[href*=play]"),
		awaits("location.pathname.endsWith('/play')"), chromedp.WaitVisible(".cell"),
		chromedp.SetValue(".cell textarea", `import matplotlib.pyplot as plt, pandas as pd
table = pd.DataFrame({"x": range(10)}).assign(square=lambda t: t.x ** 2)
table.plot(x="x", y="square"); plt.show()
print("the sum is", table.square.sum())
table.head(3)`), chromedp.Click(".cell button"),
		awaits("document.querySelector('.cell [role=status]')?.textContent === 'Succeeded'"),
		awaits("document.querySelector('.output img')?.complete"))
	w.shot(t, ctx, "2-playground")
	var link string
	w.do(t, ctx, chromedp.Click("#share"),
		awaits("!document.getElementById('shared-link').hidden"),
		chromedp.Value("#link", &link, chromedp.ByID))
	if !strings.HasPrefix(link, w.url+"/ui/shared/") {
		t.Errorf("the link is %q", link)
	}
	other := w.browser(t)
	w.do(t, other, chromedp.Navigate(link), awaits("document.querySelector('.output img')"))
	w.shot(t, other, "3-shared")
	w.do(t, ctx, chromedp.Click("#about"),
		awaits("document.querySelectorAll('#runs tr td').length >= 4"))
	w.shot(t, ctx, "4-session")
	made, err := w.CreateToken(t.Context(), api.TokenRequest{Name: "ci", Role: "session-executor",
		Pool: w.PoolID("python").String()})
	if err != nil {
		t.Fatal(err)
	}
	w.do(t, ctx, chromedp.Navigate(w.url+"/ui/access"), awaits("document.getElementById('token')"),
		chromedp.SetValue("#token", made.ID, chromedp.ByID),
		chromedp.SetValue("#pool", w.PoolID("python").String(), chromedp.ByID),
		chromedp.Submit("#token", chromedp.ByID),
		awaits("document.querySelectorAll('td.ok').length > 4 && "+
			"document.querySelectorAll('td.no').length > 4"))
	w.shot(t, ctx, "5-access")
	w.do(t, ctx, chromedp.Click("a[href='/ui/audit']"),
		awaits("document.querySelectorAll('main tbody tr').length >= 2"))
	w.shot(t, ctx, "6-audit")
	w.do(t, ctx, chromedp.Click("a[href='/ui/system']"),
		awaits("document.body.textContent.includes('gvisor')"))
	w.check(t)
}
