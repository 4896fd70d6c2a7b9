package web_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/web"
)

// patience only ends a hang.
const patience = time.Minute

const hostile = `<script>alert(1)</script>"'`

// fakeAPI answers the token "good" as the API does, with hostile text wherever there is some.
func fakeAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.Header.Get("Authorization") != "Bearer good" {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":{"code":"Unauthorized","message":"no"}}`)
		return
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/page.html"):
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Set-Cookie", "sandpool-ui=mine")
		w.Header().Set("Service-Worker-Allowed", "/")
		fmt.Fprint(w, hostile)
	case strings.HasSuffix(r.URL.Path, "/moved"):
		http.Redirect(w, r, "https://evil.example/", http.StatusFound)
	case strings.HasSuffix(r.URL.Path, "/echo"):
		fmt.Fprintf(w, "%s %s cookie=%q csrf=%q", r.Method, r.RequestURI, r.Header.Get("Cookie"),
			r.Header.Get("X-Csrf-Token"))
	case strings.HasSuffix(r.URL.Path, "/audit/verification"):
		fmt.Fprint(w, `{"records":2,"first":1,"last":2,"head":"abc"}`)
	case strings.HasSuffix(r.URL.Path, "/audit") && r.URL.Query().Get("after") != "0":
		fmt.Fprint(w, `{"value":[],"next":2}`)
	case strings.HasSuffix(r.URL.Path, "/audit"):
		fmt.Fprintf(w, `{"value":[{"seq":1,"time":"2001-09-09T01:46:00Z","name":"=1+1","outcome":`+
			`"done","action":"PUT","on":"/first"},{"seq":2,"time":"2001-09-09T01:46:40Z","name":`+
			`%[1]q,"on":%[1]q,"message":%[1]q,"outcome":"refused","action":"GET","before":{"a":`+
			`%[1]q}}],"next":2}`, hostile)
	case strings.HasSuffix(r.URL.Path, "/usage/records"):
		fmt.Fprintf(w, `{"value":[{"number":1,"pool":"/x/p","principal":"=1+1","sandbox":"s",`+
			`"identifierHash":"ab","began":"2001-09-08T01:00:00Z","until":"2001-09-08T02:00:00Z",`+
			`"sessionSeconds":3600}]}`)
	case strings.HasSuffix(r.URL.Path, "/usage") && r.URL.Query().Get("step") != "":
		fmt.Fprint(w, `{"value":[{"time":"2001-09-08T01:00:00Z","sessions":2,`+
			`"sessionSeconds":7200},{"time":"2001-09-08T03:00:00Z","sessions":1,`+
			`"sessionSeconds":3600,"executions":7}]}`)
	case strings.HasSuffix(r.URL.Path, "/usage"):
		fmt.Fprintf(w, `{"value":[{"pool":"/small","sessions":1,"sessionSeconds":1},`+
			`{"principal":%q,"sessions":3,"sessionSeconds":10800,"memoryByteSeconds":3865470566400}]}`,
			hostile)
	case strings.HasSuffix(r.URL.Path, "/sessionPools"):
		fmt.Fprintf(w,
			`{"value":[{"id":"/x/%[1]s","name":%[2]q,"properties":{"containerType":%[2]q}}]}`, "a",
			hostile)
	default:
		fmt.Fprintf(w, `{"name":%[1]q,"problem":%[1]q,"properties":{"containerType":%[1]q}}`,
			hostile)
	}
}

// site is a dashboard with a clock, and a browser's worth of state.
type site struct {
	told []string // of who has signed in, and who was refused
	*testing.T
	web    *web.Web
	now    time.Time
	tls    bool
	cookie *http.Cookie
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{T: t, now: time.Unix(1e9, 0)}
	s.useAPI(http.HandlerFunc(fakeAPI))
	return s
}

// useAPI makes the dashboard one of another API.
func (s *site) useAPI(api http.Handler) {
	s.Helper()
	var err error
	s.web, err = web.New(slog.New(slog.DiscardHandler), web.Options{API: api,
		Now: func() time.Time { return s.now }})
	if err != nil {
		s.Fatal(err)
	}
}

// ask makes a request as a browser does; headers come in pairs.
func (s *site) ask(method, path, body string, headers ...string) *http.Response {
	s.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if s.tls {
		r.TLS = &tls.ConnectionState{}
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if s.cookie != nil {
		r.AddCookie(s.cookie)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.web.ServeHTTP(w, r)
	res := w.Result()
	for _, c := range res.Cookies() {
		s.cookie = c
		if c.MaxAge < 0 {
			s.cookie = nil
		}
	}
	return res
}

func (s *site) want(res *http.Response, status int) string {
	s.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.Fatal(err)
	}
	if res.StatusCode != status {
		s.Errorf("status %d, want %d: %s", res.StatusCode, status, b)
	}
	return string(b)
}

// signIn signs in and returns the word against forged requests.
func (s *site) signIn() string {
	s.Helper()
	s.want(s.ask("POST", "/ui/sign-in", "token=good"), http.StatusSeeOther)
	page := s.want(s.ask("GET", "/ui/", ""), http.StatusOK)
	found := regexp.MustCompile(`name="csrf" content="(\w+)"`).FindStringSubmatch(page)
	if found == nil {
		s.Fatalf("the page has no word against forged requests: %s", page)
	}
	return found[1]
}

func TestSignIn(t *testing.T) {
	s := newSite(t)
	res := s.ask("GET", "/ui/pools/x?a=b", "")
	s.want(res, http.StatusSeeOther)
	if to := res.Header.Get("Location"); to != "/ui/sign-in?to=%2Fui%2Fpools%2Fx%3Fa%3Db" {
		t.Errorf("one who has not signed in is led to %q", to)
	}
	s.want(s.ask("GET", "/ui/api/echo", ""), http.StatusUnauthorized)
	s.want(s.ask("POST", "/ui/sign-in", "token=bad"), http.StatusUnauthorized)
	if s.cookie != nil {
		t.Fatalf("a bad token gets the cookie %v", s.cookie)
	}
	word := s.signIn()
	if c := s.cookie; !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/ui/" ||
		c.Secure {
		t.Errorf("the cookie is %v", c)
	}
	first := s.cookie
	s.want(s.ask("POST", "/ui/sign-in", "token=good"), http.StatusSeeOther)
	if s.cookie.Value == first.Value {
		t.Error("a second sign-in keeps the cookie of the first")
	}
	later := s.cookie
	s.cookie = first
	s.want(s.ask("GET", "/ui/", ""), http.StatusSeeOther) // the first has ended with the second
	s.cookie = later
	s.want(s.ask("POST", "/ui/sign-out", "csrf="+word), http.StatusForbidden)
	s.want(s.ask("POST", "/ui/sign-out", "csrf="+s.signIn()), http.StatusSeeOther)
	s.want(s.ask("GET", "/ui/", ""), http.StatusSeeOther)

	s.tls = true
	s.signIn()
	if c := s.cookie; !c.Secure || !strings.HasPrefix(c.Name, "__Secure-") {
		t.Errorf("the cookie over TLS is %v", c)
	}
}

// TestFixation: a cookie that somebody else has set in the browser signs nobody in, neither before
// its victim signs in nor after, and beside the true one neither counts.
func TestFixation(t *testing.T) {
	s := newSite(t)
	planted := &http.Cookie{Name: "sandpool-ui", Value: "PLANTED"}
	s.cookie = planted
	s.want(s.ask("GET", "/ui/", ""), http.StatusSeeOther)
	s.signIn()
	mine := s.cookie
	if mine.Value == planted.Value {
		t.Fatal("the sign-in keeps the cookie that it finds")
	}
	s.cookie = planted
	s.want(s.ask("GET", "/ui/", ""), http.StatusSeeOther)
	one, other := mine.Name+"="+mine.Value, planted.Name+"="+planted.Value
	for _, both := range []string{one + "; " + other, other + "; " + one} {
		s.cookie = nil
		s.want(s.ask("GET", "/ui/", "", "Cookie", both), http.StatusSeeOther)
	}
	s.cookie = mine
	s.want(s.ask("GET", "/ui/", ""), http.StatusOK)
}

// TestTimeOut: a visit ends without use, and in any case.
func TestTimeOut(t *testing.T) {
	s := newSite(t)
	s.signIn()
	for range 23 {
		s.now = s.now.Add(29 * time.Minute)
		s.want(s.ask("GET", "/ui/", ""), http.StatusOK)
	}
	for range 2 {
		s.now = s.now.Add(29 * time.Minute)
		s.ask("GET", "/ui/", "")
	}
	s.want(s.ask("GET", "/ui/", ""), http.StatusSeeOther)
	s.signIn()
	s.now = s.now.Add(31 * time.Minute)
	s.want(s.ask("GET", "/ui/", ""), http.StatusSeeOther)
}

func TestLink(t *testing.T) {
	s := newSite(t)
	link := s.web.SignInLink("good")
	s.want(s.ask("GET", link, ""), http.StatusSeeOther)
	s.want(s.ask("GET", "/ui/", ""), http.StatusOK)
	s.cookie = nil
	if page := s.want(s.ask("GET", link, ""), http.StatusOK); s.cookie != nil ||
		!strings.Contains(page, "has been used") {
		t.Errorf("a link works twice: %s", page)
	}
	late := s.web.SignInLink("good")
	s.now = s.now.Add(11 * time.Minute)
	if s.want(s.ask("GET", late, ""), http.StatusOK); s.cookie != nil {
		t.Error("a link works after its time")
	}
}

// TestForgedRequests: requests that a hostile page has a browser make.
func TestForgedRequests(t *testing.T) {
	s := newSite(t)
	word := s.signIn()
	// same-site: another port of the host
	for _, from := range []string{"cross-site", "same-site"} {
		s.want(s.ask("POST", "/ui/new", "csrf="+word, "Sec-Fetch-Site", from), http.StatusForbidden)
		s.want(s.ask("POST", "/ui/sign-in", "token=good", "Sec-Fetch-Site", from),
			http.StatusForbidden)
		s.want(s.ask("GET", "/ui/api/echo", "", "Sec-Fetch-Site", from, "X-Csrf-Token", word),
			http.StatusForbidden)
	}
	s.want(s.ask("POST", "/ui/new", "csrf="+word, "Origin", "http://example.com:81"),
		http.StatusForbidden)
	for _, path := range []string{"/ui/new", "/ui/pools/x", "/ui/pools/x/delete",
		"/ui/pools/x/end"} {
		s.want(s.ask("POST", path, "csrf=wrong&name=xyz"), http.StatusForbidden)
		s.want(s.ask("POST", path, ""), http.StatusForbidden)
	}
	// also a page of a container with this origin
	for _, method := range []string{"GET", "POST", "DELETE"} {
		s.want(s.ask(method, "/ui/api/echo", "", "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode",
			"cors"), http.StatusForbidden)
		s.want(s.ask(method, "/ui/api/echo", "", "X-Csrf-Token", "wrong"), http.StatusForbidden)
	}
	own := s.cookie.String()
	s.want(s.ask("GET", "/ui/", "", "Cookie", s.cookie.Name+"=other"), http.StatusSeeOther)
	if got := s.want(s.ask("POST", "/ui/api/a%2Fb/echo?x=%2F", "", "X-Csrf-Token", word),
		http.StatusOK); got != `POST /a%2Fb/echo?x=%2F cookie="" csrf=""` {
		t.Errorf("the API gets %s (cookie %s)", got, own)
	}
}

// TestDoorsAnswers: what comes through the door is no page, and sets nothing in the browser.
func TestDoorsAnswers(t *testing.T) {
	s := newSite(t)
	s.signIn()
	cookie := *s.cookie
	res := s.ask("GET", "/ui/api/page.html", "", "Sec-Fetch-Mode", "navigate")
	s.want(res, http.StatusOK)
	for name, want := range map[string]string{"Content-Disposition": "attachment",
		"X-Content-Type-Options": "nosniff",
		"Set-Cookie":             "", "Service-Worker-Allowed": "",
		"Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'"} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if s.cookie.Value != cookie.Value {
		t.Error("the cookie was replaced")
	}
	if res := s.ask("GET", "/ui/api/moved", "", "Sec-Fetch-Mode", "navigate"); res.Header.Get(
		"Location") != "" {
		t.Error("the door leads elsewhere")
	}
}

// TestPages: every page carries the policy, and hostile text is text.
func TestPages(t *testing.T) {
	s := newSite(t)
	s.signIn()
	for _, path := range []string{"/ui/", "/ui/new", "/ui/pools/x", "/ui/pools/x/play?session=" +
		url.QueryEscape(hostile),
		"/ui/pools/x/sessions/" + url.PathEscape(hostile), "/ui/access?token=" + url.QueryEscape(hostile) + "&session=" +
			url.QueryEscape(hostile),
		"/ui/audit?who=" + url.QueryEscape(hostile), "/ui/usage?who=" + url.QueryEscape(hostile) +
			"&from=" + url.QueryEscape(hostile), "/ui/system", "/ui/sign-in?to=" + url.QueryEscape(hostile), "/ui/nothing",
		"/ui/static/app.js"} {
		res := s.ask("GET", path, "")
		page, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if got := res.Header.Get("Cross-Origin-Opener-Policy"); got != "same-origin" {
			t.Errorf("%s: a page that opens it can reach it: %q", path, got)
		}
		csp := res.Header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") ||
			!strings.HasPrefix(csp, "default-src 'none'") {
			t.Errorf("%s: the policy is %q", path, csp)
		}
		if strings.Contains(string(page), "<script>") ||
			regexp.MustCompile(`\son\w+=|\sstyle=`).Match(page) && strings.HasSuffix(path, "/") {
			t.Errorf("%s holds a script or a style: %s", path, page)
		}
	}
	if res := s.ask("GET", "/ui/frame", ""); !strings.Contains(
		res.Header.Get("Content-Security-Policy"), "sandbox allow-scripts") {
		t.Error("the frame has an origin")
	}
}

// TestAudit: the newest record is first, and a file for spreadsheets holds no formula.
func TestAudit(t *testing.T) {
	s := newSite(t)
	s.signIn()
	page := s.want(s.ask("GET", "/ui/audit?since=all&verify=1", ""), 200)
	if first, last := strings.Index(page, "/first"), strings.Index(page, "alert"); first < last ||
		last < 0 || !strings.Contains(page, "2 records are whole, 1 to 2") {
		t.Errorf("the page: %s", page)
	}
	res := s.ask("GET", "/ui/audit.csv?since=all", "")
	file := s.want(res, 200)
	if !strings.HasPrefix(file, "seq,time,who,") || !strings.Contains(file, ",'=1+1,") ||
		!strings.HasPrefix(res.Header.Get("Content-Type"), "text/csv") ||
		!strings.Contains(res.Header.Get("Content-Disposition"), "attachment") {
		t.Errorf("the file: %v %s", res.Header, file)
	}
	if to := newSite(t).ask("GET", "/ui/audit.csv", "").Header.Get("Location"); !strings.HasPrefix(to,
		"/ui/sign-in") {
		t.Errorf("without a sign-in it leads to %q", to)
	}
}

// TestUsage: the greatest is first, the chart has a bar for each step with something in it, and a
// file holds no formula.
func TestUsage(t *testing.T) {
	s := newSite(t)
	s.signIn()
	page := s.want(s.ask("GET", "/ui/usage?since=24h&measure=sessions", ""), 200)
	if small, great := strings.Index(page, "/small"), strings.Index(page, "alert"); great < 0 ||
		small < great || strings.Count(page, `<rect class="used"`) != 2 ||
		!strings.Contains(page, "2001-09-08 01:00 UTC: 2 h, sessions: 2") ||
		!strings.Contains(page, "1.000 GiB h") {
		t.Errorf("the page: %s", page)
	}
	if page := s.want(s.ask("GET", "/ui/usage?since=24h&measure=executions", ""), 200); !strings.
		Contains(page, "2001-09-08 03:00 UTC: 7, sessions: 1") {
		t.Errorf("another measure: %s", page)
	}
	for query, want := range map[string][2]string{"by=pool": {"time,pool,principal,", ",/small,"},
		"records=1": {"number,pool,sandbox,", ",'=1+1,"}} {
		res := s.ask("GET", "/ui/usage.csv?"+query, "")
		file := s.want(res, 200)
		if !strings.HasPrefix(file, want[0]) || !strings.Contains(file, want[1]) ||
			!strings.HasPrefix(res.Header.Get("Content-Type"), "text/csv") ||
			!strings.Contains(res.Header.Get("Content-Disposition"), "attachment") {
			t.Errorf("the file of %s: %v %s", query, res.Header, file)
		}
	}
	if to := newSite(t).ask("GET", "/ui/usage.csv", "").Header.Get("Location"); !strings.HasPrefix(to,
		"/ui/sign-in") {
		t.Errorf("without a sign-in it leads to %q", to)
	}
}

func TestOpenRedirect(t *testing.T) {
	for _, to := range []string{"https://evil.example/", "//evil.example/ui/", "/\\evil.example",
		"\\\\evil", "javascript:alert(1)", "/other", "",
		"/ui/\r\nSet-Cookie: a=b", "http:/ui/", "/ui/../x"} {
		s := newSite(t)
		res := s.ask("POST", "/ui/sign-in", url.Values{"token": {"good"}, "to": {to}}.Encode())
		if got := res.Header.Get("Location"); got != "/ui/" {
			t.Errorf("after the sign-in %q leads to %q", to, got)
		}
	}
	s := newSite(t)
	if got := s.ask("POST", "/ui/sign-in", "token=good&to=/ui/pools/x%3Fa=b").Header.Get(
		"Location"); got != "/ui/pools/x?a=b" {
		t.Errorf("the sign-in leads to %q, not to the page that was asked for", got)
	}
}
