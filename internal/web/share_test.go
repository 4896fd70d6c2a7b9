package web_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/web"
)

// shareOf makes a link to a session and returns its path.
func (s *site) shareOf(word string) string {
	s.Helper()
	var got struct{ Path, Until string }
	text := s.want(s.ask("POST", "/ui/pools/x/share", "identifier=abcd", "X-Csrf-Token", word),
		http.StatusOK)
	if err := json.Unmarshal([]byte(text), &got); err != nil || !strings.HasPrefix(got.Path,
		"/ui/shared/") {
		s.Fatalf("the link is %s: %v", text, err)
	}
	return got.Path
}

// stranger asks without a cookie.
func (s *site) stranger(method, path, body string) *http.Response {
	own := s.cookie
	s.cookie = nil
	defer func() { s.cookie = own }()
	return s.ask(method, path, body)
}

// TestShare: who has a link sees the cells, as text, and can do nothing.
func TestShare(t *testing.T) {
	s := newSite(t)
	word := s.signIn()
	s.want(s.ask("POST", "/ui/pools/x/share", "identifier=abcd", "X-Csrf-Token", "wrong"),
		http.StatusForbidden)
	path := s.shareOf(word)
	s.want(s.ask("PUT", path, `[{"code":"`+strings.ReplaceAll(hostile, `"`, `\"`)+`"}]`,
		"X-Csrf-Token", word), http.StatusNoContent)
	s.want(s.ask("PUT", path, `[]`), http.StatusForbidden)
	s.want(s.ask("PUT", path, `no JSON`, "X-Csrf-Token", word), http.StatusGone)
	s.want(s.ask("PUT", path, `"`+strings.Repeat("x", 3<<20)+`"`, "X-Csrf-Token", word),
		http.StatusRequestEntityTooLarge)

	page := s.want(s.stranger("GET", path, ""), http.StatusOK)
	if strings.Contains(page, "<script>") || strings.Contains(page, "csrf") {
		t.Errorf("the page of a link: %s", page)
	}
	res := s.stranger("GET", path+"/board", "")
	board := s.want(res, http.StatusOK)
	if !strings.Contains(board, "alert(1)") || strings.Contains(board, "<script>") ||
		res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("the cells as %s: %s", res.Header.Get("Content-Type"), board)
	}
	s.want(s.stranger("PUT", path, `[]`), http.StatusForbidden)
	s.want(s.stranger("GET", "/ui/api/echo", ""), http.StatusUnauthorized)
	s.want(s.stranger("GET", "/ui/", ""), http.StatusSeeOther)
	s.want(s.stranger("GET", "/ui/shared/guess", ""), http.StatusGone)

	// Another who has signed in does not write what this one shares.
	own := s.cookie
	s.cookie = nil
	other := s.signIn()
	s.want(s.ask("PUT", path, `[]`, "X-Csrf-Token", other), http.StatusGone)
	s.cookie = own
}

// TestShareEnds: by time, and with its owner's visit.
func TestShareEnds(t *testing.T) {
	s := newSite(t)
	path := s.shareOf(s.signIn())
	s.now = s.now.Add(59 * time.Minute)
	s.want(s.stranger("GET", path, ""), http.StatusOK)
	s.now = s.now.Add(2 * time.Minute)
	s.want(s.stranger("GET", path, ""), http.StatusGone)

	word := s.signIn()
	path = s.shareOf(word)
	s.want(s.ask("POST", "/ui/sign-out", "csrf="+word), http.StatusSeeOther)
	s.want(s.stranger("GET", path, ""), http.StatusGone)
	s.want(s.stranger("GET", path+"/board", ""), http.StatusGone)

	word = s.signIn()
	first := s.shareOf(word)
	s.now = s.now.Add(time.Second)
	for range 100 { // there is a bound, and the oldest makes room
		path = s.shareOf(word)
	}
	s.want(s.stranger("GET", first, ""), http.StatusGone)
	s.want(s.stranger("GET", path, ""), http.StatusOK)
}

// TestShareAtRest: who looks on keeps no session alive, whatever they ask for: to list its files is
// to use it.
func TestShareAtRest(t *testing.T) {
	s := newSite(t)
	listed := 0
	var err error
	s.web, err = web.New(slog.New(slog.DiscardHandler), web.Options{
		Now: func() time.Time { return s.now },
		API: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/files") {
				listed++
			}
			fakeAPI(w, r)
		})})
	if err != nil {
		t.Fatal(err)
	}
	word := s.signIn()
	path := s.shareOf(word)
	look := func() {
		for range 3 {
			s.want(s.stranger("GET", path+"/board?version=none", ""), http.StatusOK)
		}
	}
	look()
	if listed != 1 {
		t.Errorf("for those who look on the files were listed %d times", listed)
	}
	s.want(s.ask("PUT", path, `[]`, "X-Csrf-Token", word), http.StatusNoContent)
	if look(); listed != 2 {
		t.Errorf("after a change the files were listed %d times", listed)
	}
}
