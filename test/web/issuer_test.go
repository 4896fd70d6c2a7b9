package web_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/oidc"
	"github.com/sandpool/sandpool/internal/server"
	"github.com/sandpool/sandpool/test/real"
)

const (
	clientID     = "sandpool-ui"
	clientSecret = "s3cret"
)

// company is a certified OpenID Connect server, whose pages ask for a name and a password. What
// gives tokens out can be down.
type company struct {
	*httptest.Server
	mu   sync.Mutex // guards down
	down bool
}

func newCompany(t *testing.T) *company {
	t.Helper()
	c := &company{}
	var provider http.Handler
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		down := c.down
		c.mu.Unlock()
		if down && r.URL.Path == "/oauth/token" {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		provider.ServeHTTP(w, r)
	}))
	t.Cleanup(c.Close)
	provider = exampleop.SetupServer(c.URL, storage.NewStorage(storage.NewUserStore(c.URL)), nil,
		false)
	return c
}

func (c *company) goes(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

// settings are those of the company: the person id1 has a role in the pool anns.
func (c *company) settings(t *testing.T) oidc.Settings {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(clientSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	return oidc.Settings{Issuer: c.URL, SignIn: &oidc.SignInSettings{Name: "company",
		Title: "the company", ClientID: clientID, ClientSecretFile: secret},
		Rules: []oidc.Rule{{Claims: map[string]string{"sub": "id1"}, Role: "pool-contributor",
			Scope: "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/" +
				"default/providers/Microsoft.App/sessionPools/anns"}}}
}

// TestCompany: people sign in with their company's issuer, see what is theirs and sign out; one
// without a role learns what gives them one, and nobody signs in by another's answer.
func TestCompany(t *testing.T) {
	c := newCompany(t)
	srv := real.Start(t, func(cfg *server.Config) { cfg.Issuers = []oidc.Settings{c.settings(t)} })
	w := &world{Client: srv.Client, srv: srv.Server, url: srv.URL()}
	storage.RegisterClients(storage.WebClient(clientID, clientSecret,
		w.url+"/ui/sign-in/company"))
	none := 0
	for _, name := range []string{"anns", "bobs"} {
		if _, err := w.PutPool(t.Context(), name, api.SessionPool{Location: "local",
			Properties: &api.SessionPoolProperties{ContainerType: "PythonLTS",
				ScaleConfiguration: &api.ScaleConfiguration{
					ReadySessionInstances: &none}}}); err != nil {
			t.Fatal(err)
		}
	}
	ctx := w.browser(t)
	var own, other string
	w.do(t, ctx, chromedp.Navigate(w.url+"/ui/pools/anns"),
		awaits("location.pathname === '/ui/sign-in'"))
	w.shot(t, ctx, "sign-in-company")
	w.comesBack(t, ctx, c, "test-user@127.0.0.1", "location.pathname === '/ui/pools/anns'")
	w.do(t, ctx, chromedp.Text("main", &own), chromedp.Navigate(w.url+"/ui/pools/bobs"),
		chromedp.Text("main", &other))
	if !strings.Contains(own, "Sandboxes") || !strings.Contains(other, "did not work") {
		t.Errorf("they see\n%s\nand\n%s", own, other)
	}
	w.hasStrictCookie(t, ctx)
	w.do(t, ctx, chromedp.Click("header form button"),
		awaits("location.pathname === '/ui/sign-in'"), chromedp.Navigate(w.url+"/ui/pools/anns"),
		awaits("location.pathname === '/ui/sign-in'"))
	w.comesBack(t, ctx, c, "test-user2", "document.body.textContent.includes('no role here')")
	w.shot(t, ctx, "no-role")
	w.do(t, ctx, chromedp.Text("main", &own), chromedp.Navigate(w.url+"/ui/"),
		awaits("location.pathname === '/ui/sign-in'"))
	if !strings.Contains(own, "oidc:"+c.URL+"#id2") || !strings.Contains(own, `{sub: "id2"}`) {
		t.Errorf("one without a role reads\n%s", own)
	}
	w.lured(t, ctx, c)
	c.goes(true)
	w.do(t, ctx, chromedp.Navigate(w.url+"/ui/sign-in"))
	w.comesBack(t, ctx, c, "test-user@127.0.0.1",
		"document.body.textContent.includes('cannot be reached')")
	w.shot(t, ctx, "issuer-down")
	c.goes(false)
	w.comesBack(t, ctx, c, "test-user@127.0.0.1", "location.pathname === '/ui/'")
}

// comesBack signs in at the company's pages and waits for a page here.
func (w *world) comesBack(t *testing.T, ctx context.Context, c *company, user, until string) {
	t.Helper()
	w.do(t, ctx, chromedp.Click(".entries a"), chromedp.WaitVisible("#username", chromedp.ByID),
		chromedp.SendKeys("#username", user, chromedp.ByID),
		chromedp.SendKeys("#password", "verysecure", chromedp.ByID),
		chromedp.Click("button[type=submit]"), awaits("location.origin !== '"+c.URL+"' && "+until))
}

// hasStrictCookie looks at what the browser keeps of a sign-in.
func (w *world) hasStrictCookie(t *testing.T, ctx context.Context) {
	t.Helper()
	w.do(t, ctx, chromedp.ActionFunc(func(ctx context.Context) error {
		all, err := network.GetCookies().WithURLs([]string{w.url + "/ui/"}).Do(ctx)
		if err != nil {
			return err
		}
		if len(all) != 1 || all[0].Name != "sandpool-ui" || !all[0].HTTPOnly ||
			all[0].SameSite != network.CookieSameSiteStrict || all[0].Path != "/ui/" ||
			!all[0].Session {
			t.Errorf("the browser keeps %+v", all)
		}
		return nil
	}))
}

// lured leads the browser to an answer that a stranger has got from the issuer in their own name,
// and to pages that would have it sign in by themselves.
func (w *world) lured(t *testing.T, ctx context.Context, c *company) {
	t.Helper()
	answer := w.answerOf(t, c)
	var page string
	w.do(t, ctx, chromedp.Navigate(answer), chromedp.Text("main", &page))
	if !strings.Contains(page, "not begun in this browser") {
		t.Errorf("by a stranger's answer the browser gets\n%s", page)
	}
	w.do(t, ctx, chromedp.Navigate(w.url+"/ui/"), awaits("location.pathname === '/ui/sign-in'"))
	evil := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		_, _ = rw.Write([]byte(`<script>location = "` + w.url +
			`/ui/sign-in/with/company?to=https://evil.example/"</script>`))
	}))
	t.Cleanup(evil.Close)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(evil.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	w.do(t, ctx, chromedp.Navigate("http://localhost:"+port),
		awaits("location.pathname === '/ui/sign-in'"))
}

// answerOf signs a stranger in at the company's pages, and returns the answer that brings them back
// here, which they do not follow.
func (w *world) answerOf(t *testing.T, c *company) string {
	t.Helper()
	stranger := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	var to string
	follow := func(res *http.Response, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
		u, err := res.Location()
		if err != nil {
			t.Fatalf("status %d: %v", res.StatusCode, err)
		}
		to = u.String()
	}
	get := func(address string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			return nil, err
		}
		return stranger.Do(req)
	}
	follow(get(w.url + "/ui/sign-in/with/company"))
	follow(get(to)) // the issuer's, which leads to its form
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{"id": {u.Query().Get("authRequestID")}, "username": {"test-user@127.0.0.1"},
		"password": {"verysecure"}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.URL+"/login/username",
		strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	follow(stranger.Do(req))
	follow(get(to))
	if !strings.HasPrefix(to, w.url+"/ui/sign-in/company?") || !strings.Contains(to, "code=") {
		t.Fatalf("the stranger is sent to %s", to)
	}
	return to
}
