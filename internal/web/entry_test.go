package web_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"log/slog"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/web"
)

// signsIn is a site with an issuer, which gives the token "good" to whoever comes back with what
// they were given to keep. It returns a way to ask as a browser does, with cookies of all names.
func (s *site) signsIn(who func() (web.Visitor, error)) (ask func(path string,
	headers ...string) *http.Response, jar map[string]*http.Cookie) {
	s.Helper()
	var to string
	var err error
	s.web, err = web.New(slog.New(slog.DiscardHandler), web.Options{
		API: http.HandlerFunc(fakeAPI), Public: "https://pools.example.com",
		Now:      func() time.Time { return s.now },
		SignedIn: func(_ *http.Request, who web.Visitor) { s.told = append(s.told, who.Subject) },
		NotSignedIn: func(_ *http.Request, status int, e *sandpool.Error) {
			s.told = append(s.told, fmt.Sprint(status, " ", e.Class))
		},
		Entries: []web.Entry{{Name: "main", Title: hostile,
			Begin: func(_ context.Context, path string) (string, string, error) {
				to = path
				return "https://login.example.com/authorize?state=s", "kept", nil
			},
			Finish: func(_ context.Context, kept string, q url.Values) (web.Visitor, error) {
				if kept != "kept" || q.Get("state") != "s" {
					return web.Visitor{}, sandpool.Errorf(sandpool.Unauthenticated, "", "", "%s",
						hostile)
				}
				v, err := who()
				v.To = to
				return v, err
			}}}})
	if err != nil {
		s.Fatal(err)
	}
	jar = map[string]*http.Cookie{}
	return func(path string, headers ...string) *http.Response {
		s.cookie = nil
		var all []string
		for _, c := range jar {
			all = append(all, c.Name+"="+c.Value)
		}
		res := s.ask("GET", path, "", append(headers, "Cookie", strings.Join(all, "; "))...)
		for _, c := range res.Cookies() {
			jar[c.Name] = c
			if c.MaxAge < 0 {
				delete(jar, c.Name)
			}
		}
		return res
	}, jar
}

const (
	begins = "/ui/sign-in/with/main?to=/ui/pools/x"
	comes  = "/ui/sign-in/main?state=s&code=c"
)

// TestEntry: somebody goes to the issuer's pages and comes back signed in, where they were going,
// until their token ends.
func TestEntry(t *testing.T) {
	s := newSite(t)
	s.tls = true
	ask, jar := s.signsIn(func() (web.Visitor, error) {
		return web.Visitor{Token: "good", Subject: "oidc:x#ann", Ends: s.now.Add(time.Hour)}, nil
	})
	page := s.want(ask("/ui/sign-in?to=/ui/pools/x"), 200)
	if !strings.Contains(page, `href="https://pools.example.com/ui/sign-in/with/main?to=%2fui`) ||
		strings.Contains(page, "<script>alert") {
		t.Errorf("the sign-in page: %s", page)
	}
	res := ask(begins, "Sec-Fetch-Site", "same-origin")
	s.want(res, http.StatusSeeOther)
	if to := res.Header.Get("Location"); to != "https://login.example.com/authorize?state=s" {
		t.Errorf("it leads to %q", to)
	}
	if c := jar["__Host-sandpool-ui-entry"]; c == nil || !c.HttpOnly || !c.Secure || c.Path != "/" ||
		c.Domain != "" || c.SameSite != http.SameSiteLaxMode || c.MaxAge != 600 {
		t.Errorf("the browser keeps %v", c)
	}
	res = ask(comes, "Sec-Fetch-Site", "cross-site")
	page = s.want(res, 200)
	if len(s.told) != 1 || s.told[0] != "oidc:x#ann" {
		t.Errorf("the record has %q", s.told)
	}
	if !strings.Contains(page, `content="0;url=/ui/pools/x"`) ||
		!strings.Contains(res.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("back from the issuer: %v %s", res.Header, page)
	}
	c := jar["__Secure-sandpool-ui"]
	if len(jar) != 1 || c == nil || !c.HttpOnly || !c.Secure || c.Path != "/ui/" ||
		c.SameSite != http.SameSiteStrictMode {
		t.Fatalf("the browser has %v", jar)
	}
	s.want(ask("/ui/"), 200)
	s.now = s.now.Add(29 * time.Minute)
	s.want(ask("/ui/"), 200)
	s.now = s.now.Add(29 * time.Minute)
	s.want(ask("/ui/"), 200)
	s.now = s.now.Add(2 * time.Minute) // used all the time, but the token has ended
	s.want(ask("/ui/"), http.StatusSeeOther)
}

// TestBehindProxy: where a proxy ends TLS the cookie is for TLS alone, as the public address says,
// except for somebody on the server's own machine.
func TestBehindProxy(t *testing.T) {
	s := newSite(t)
	ask, jar := s.signsIn(func() (web.Visitor, error) {
		return web.Visitor{Token: "good", Subject: "oidc:x#ann", Ends: s.now.Add(time.Hour)}, nil
	})
	s.want(ask("http://pools.example.com/ui/sign-in/with/main?to=/ui/"), http.StatusSeeOther)
	s.want(ask("http://pools.example.com"+comes), 200)
	if c := jar["__Secure-sandpool-ui"]; len(jar) != 1 || c == nil || !c.Secure {
		t.Errorf("the browser has %v", jar)
	}
	s.want(ask("http://pools.example.com/ui/"), 200)
	for _, host := range []string{"127.0.0.1:8720", "localhost:8720", "[::1]:8720"} {
		clear(jar)
		s.want(ask("http://"+host+"/ui/sign-in/with/main?to=/ui/"), http.StatusSeeOther)
		s.want(ask("http://"+host+comes), 200)
		if c := jar["sandpool-ui"]; c == nil || c.Secure {
			t.Errorf("at %s the browser has %v", host, jar)
		}
	}
}

// TestLongWay: a path that a cookie has no room for is forgotten, and the sign-in goes on.
func TestLongWay(t *testing.T) {
	s := newSite(t)
	s.tls = true
	ask, _ := s.signsIn(func() (web.Visitor, error) {
		return web.Visitor{Token: "good", Subject: "oidc:x#ann", Ends: s.now.Add(time.Hour)}, nil
	})
	for length, want := range map[int]string{900: "/ui/audit?x=yy", 4000: `/ui/"`} {
		to := "/ui/audit?x=" + strings.Repeat("y", length)
		s.want(ask("/ui/sign-in/with/main?to="+url.QueryEscape(to)), http.StatusSeeOther)
		page := s.want(ask(comes), 200)
		if !strings.Contains(page, `content="0;url=`+want) {
			t.Errorf("to a path of %d bytes: %s", length, page)
		}
	}
}

// TestForgedEntry: nobody signs somebody else's browser in.
func TestForgedEntry(t *testing.T) {
	s := newSite(t)
	ask, jar := s.signsIn(func() (web.Visitor, error) { return web.Visitor{Token: "good"}, nil })
	refused := func(what string, res *http.Response, status int) {
		t.Helper()
		if page := s.want(res, status); strings.Contains(page, "<script>alert") {
			t.Errorf("%s: the page holds a stranger's text: %s", what, page)
		}
		if len(jar) != 0 {
			t.Errorf("%s: the browser has %v", what, jar)
		}
	}
	refused("an answer to nothing", ask(comes), http.StatusUnauthorized)
	if len(s.told) != 1 || !strings.HasPrefix(s.told[0], "401 ") {
		t.Errorf("the record has %q", s.told)
	}
	refused("an unknown issuer", ask("/ui/sign-in/other?state=s"), http.StatusNotFound)
	refused("an unknown issuer's pages", ask("/ui/sign-in/with/other"), http.StatusNotFound)
	for _, from := range []string{"cross-site", "same-site"} {
		res := ask(begins, "Sec-Fetch-Site", from)
		refused("another site's page", res, http.StatusSeeOther)
		if to := res.Header.Get("Location"); !strings.HasPrefix(to, "/ui/sign-in?to=") {
			t.Errorf("another site's page signs in by %q", to)
		}
	}
	// A second cookie of the name, which a neighbour has set, and the true one count as none.
	name := "__Host-sandpool-ui-entry"
	s.want(ask(begins), http.StatusSeeOther)
	delete(jar, name)
	refused("two cookies", s.ask("GET", comes, "", "Cookie", name+"=kept; "+name+"=other"),
		http.StatusUnauthorized)
	// What was kept is used up by the first answer, whatever that is.
	s.want(ask(begins), http.StatusSeeOther)
	refused("a wrong answer", ask("/ui/sign-in/main?state=other"), http.StatusUnauthorized)
	refused("the true one after it", ask(comes), http.StatusUnauthorized)
	for _, to := range []string{"https://evil.example/", "//evil.example/", "/\\evil.example",
		"javascript:alert(1)", "/ui/../x", `/ui/"><script>alert(1)</script>`} {
		s.want(ask("/ui/sign-in/with/main?to="+url.QueryEscape(to)), http.StatusSeeOther)
		if page := s.want(ask(comes), 200); strings.Contains(page, "evil") ||
			strings.Contains(page, "<script>") || strings.Contains(page, "javascript") ||
			!strings.Contains(page, `content="0;url=/ui/`) {
			t.Errorf("%q leads on by %s", to, page)
		}
	}
}

// TestEntryEndsTheOld: who signs in anew is signed out before.
func TestEntryEndsTheOld(t *testing.T) {
	s := newSite(t)
	ask, jar := s.signsIn(func() (web.Visitor, error) { return web.Visitor{Token: "good"}, nil })
	s.signIn()
	old := s.cookie
	jar[old.Name] = old
	s.want(ask(begins), http.StatusSeeOther)
	s.cookie = old
	s.want(s.ask("GET", "/ui/", ""), http.StatusSeeOther)
}

// TestNoRole: somebody without a role learns who they are and what gives them one, and has no
// visit.
func TestNoRole(t *testing.T) {
	s := newSite(t)
	var out web.Visitor
	var failure error
	ask, jar := s.signsIn(func() (web.Visitor, error) { return out, failure })
	for what, v := range map[string]web.Visitor{"sandpool role assign 1": {
		Command: "sandpool role assign 1"}, "setting <code>issuers": {Rule: "- claims: <b>"}} {
		out = v
		out.Subject, out.Name = "oidc:https://login.example.com#ann", hostile
		s.want(ask(begins), http.StatusSeeOther)
		page := s.want(ask(comes), http.StatusForbidden)
		if !strings.Contains(page, out.Subject) || !strings.Contains(page, what) ||
			strings.Contains(page, "<script>alert") || strings.Contains(page, "claims: <b>") {
			t.Errorf("the page: %s", page)
		}
		if len(jar) != 0 {
			t.Errorf("the browser has %v", jar)
		}
	}
	failure = &sandpool.Error{Class: sandpool.Unavailable, Message: "It is down."}
	s.want(ask(begins), http.StatusSeeOther)
	if page := s.want(ask(comes), http.StatusServiceUnavailable); len(jar) != 0 ||
		!strings.Contains(page, "It is down.") || !strings.Contains(page, "Sign in with") {
		t.Errorf("an issuer that is down: %v %s", jar, page)
	}
	// the way in by a token stays
	s.cookie = nil
	s.web.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/ui/sign-in", nil))
	s.tls = false
	s.signIn()
}
