package web_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/web"
)

// TestPoolsByPages: of many pools the dashboard asks for one page and the state of those on it, and
// leads to the next page and to names.
func TestPoolsByPages(t *testing.T) {
	s := newSite(t)
	var lists, others int
	s.useAPI(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch {
		case !strings.HasSuffix(r.URL.Path, "/sessionPools"):
			others++
			fakeAPI(w, r)
			return
		case q.Get("search") == "later":
			fmt.Fprintf(w, `{"value":[],"nextLink":"https://x.example%s?%%24skipToken=on"}`,
				r.URL.Path)
			return
		case q.Get("search") == "none":
			fmt.Fprint(w, `{"value":[]}`)
			return
		}
		lists++
		next := fmt.Sprintf(`,"nextLink":"https://x.example%s?%%24skipToken=two"`, r.URL.Path)
		if q.Get("$skipToken") == "two" {
			next = ""
		}
		fmt.Fprintf(w, `{"value":[{"name":"%sone%s","properties":{}}]%s}`, q.Get("search"),
			q.Get("$skipToken"), next)
	}))
	s.signIn()
	lists, others = 0, 0
	page := s.want(s.ask("GET", "/ui/", ""), http.StatusOK)
	if lists != 1 || !strings.Contains(page, `href="?after=two&amp;search="`) {
		t.Errorf("%d lists; the first page: %s", lists, page)
	}
	page = s.want(s.ask("GET", "/ui/?after=two&search=py", ""), http.StatusOK)
	if !strings.Contains(page, "pyonetwo") || strings.Contains(page, "More pools") ||
		!strings.Contains(page, `value="py"`) {
		t.Errorf("the last page: %s", page)
	}
	page = s.want(s.ask("GET", "/ui/?search=none", ""), http.StatusOK)
	if !strings.Contains(page, "No pool's name has “none” in it") {
		t.Errorf("a search for nothing: %s", page)
	}
	page = s.want(s.ask("GET", "/ui/?search=later", ""), http.StatusOK)
	if !strings.Contains(page, `<a href="?after=on&amp;search=later" rel="next">Search on`) {
		t.Errorf("a search that is to go on: %s", page)
	}
	if others != 2 {
		t.Errorf("%d questions for the pools of two pages with one each", others)
	}
}

// TestLocationOfNewPools: what the page shows to type has the location of the server.
func TestLocationOfNewPools(t *testing.T) {
	s := newSite(t)
	for want, location := range map[string]func() string{"local": nil,
		"East &#34;US&#34;": func() string { return `East "US"` }} {
		var err error
		if s.web, err = web.New(slog.New(slog.DiscardHandler), web.Options{
			API: http.HandlerFunc(fakeAPI), Location: location,
			Now: func() time.Time { return s.now }}); err != nil {
			t.Fatal(err)
		}
		s.signIn()
		page, err := io.ReadAll(s.ask("GET", "/ui/new", "").Body)
		if err != nil || !strings.Contains(string(page), `data-location="`+want+`"`) {
			t.Errorf("the page has not %s: %v", want, err)
		}
	}
}
