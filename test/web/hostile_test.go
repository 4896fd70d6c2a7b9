package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/web"
)

// payload is script in the forms that break out of text, of attributes and of scripts. Each would
// leave an element of class pwned, or set a variable.
const payload = `"'><img class=pwned src=x onerror="window.pwned=1"><script>window.pwned=1</script>` +
	`</textarea></title><svg class=pwned onload="window.pwned=1">{{1}}${window.pwned=1}` +
	`javascript:window.pwned=1`

// evil is busy, in whose answers every text that somebody else may have chosen ends with payload.
type evil struct{ busy }

// chosen are the members of answers whose values others choose: names, tags, messages, outputs.
var chosen = map[string]bool{"identifier": true, "name": true, "text": true, "message": true,
	"by": true, "outcome": true, "host": true, "reason": true, "who": true, "on": true,
	"action": true, "from": true, "role": true, "scope": true, "sandbox": true, "problem": true,
	"notice": true, "displayName": true, "kernel": true, "error": true, "image": true,
	"environmentId": true, "etag": true, "protocol": true, "code": true, "stdout": true,
	"stderr": true, "result": true, "context": true, "cut": true}

func (f evil) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	out := httptest.NewRecorder()
	ctx, cancel := context.WithCancel(r.Context())
	cancel() // a log that would go on has an end
	f.busy.ServeHTTP(out, r.WithContext(ctx))
	var poisoned bytes.Buffer
	dec := json.NewDecoder(out.Body)
	for {
		var v any
		if err := dec.Decode(&v); err != nil {
			break
		}
		_ = json.NewEncoder(&poisoned).Encode(poison("", v))
	}
	w.Header().Set("Content-Type", out.Header().Get("Content-Type"))
	w.WriteHeader(out.Code)
	_, _ = io.Copy(w, &poisoned) // a reader that has gone does not matter
}

// poison adds payload to each text of a member that others choose, and tags to whatever has none.
func poison(member string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			v[name] = poison(name, value)
		}
		if v["properties"] != nil {
			v["tags"] = map[string]any{payload: payload}
		}
	case []any:
		for i := range v {
			v[i] = poison(member, v[i])
		}
	case string:
		if chosen[member] && v != "python" && v != "web" {
			return v + payload
		}
	}
	return v
}

// TestStoredScript: whatever names, tags, messages, outputs, files and logs hold is text on every
// page: nothing of it becomes an element, and nothing runs.
func TestStoredScript(t *testing.T) {
	f := newFixture(t)
	f.serve(t, evil{busy{f.now}})
	ctx := f.world.browser(t)
	f.signIn(t, ctx, "good")
	session := url.PathEscape("customer-0001-" + payload)
	asked := url.QueryEscape(payload)
	for _, page := range []struct{ path, ready string }{
		{"/ui/", "document.querySelectorAll('[data-spark] svg').length"},
		{"/ui/new", "document.getElementById('python').textContent"},
		{"/ui/pools/python", "document.querySelectorAll('[data-chart] svg').length === 4 && " +
			"document.querySelector('.events li')"},
		{"/ui/pools/python/sessions/" + session, "document.querySelectorAll('#files li').length"},
		{"/ui/pools/web/sessions/" + session,
			"document.getElementById('logs').textContent.includes('warning')"},
		{"/ui/pools/python/play?session=" + session,
			"document.querySelectorAll('#files li').length && " +
				"!document.getElementById('more-contexts').hidden"},
		{"/ui/access?token=t1&session=" + asked, "document.querySelectorAll('td.no').length"},
		{"/ui/audit?since=all&who=" + asked + "&on=" + asked, "true"},
		{"/ui/system", "document.querySelectorAll('.events li').length"},
		{"/ui/nothing/" + session, "true"}, {"/ui/pools/" + session, "true"},
		{"/ui/sign-in?to=" + asked + "&link=" + asked, "true"},
	} {
		var text string
		var ran, elements bool
		f.do(t, ctx, chromedp.Navigate(f.url+page.path), awaits(page.ready),
			chromedp.Evaluate("window.pwned === 1", &ran),
			chromedp.Evaluate("document.querySelector('.pwned') !== null", &elements),
			chromedp.Evaluate("document.documentElement.textContent", &text))
		if ran || elements {
			t.Errorf("%.60s: the payload runs (%t), or is an element (%t)", page.path, ran,
				elements)
		}
		if strings.HasPrefix(page.path, "/ui/pools/python") &&
			!strings.Contains(text, "class=pwned") {
			t.Errorf("%.60s shows nothing of it", page.path)
		}
	}
	f.withoutPolicy(t)
}

// withoutPolicy fails the test if the policy of a page had to stop something: it is a second line.
func (f *fixture) withoutPolicy(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, text := range f.errors {
		if strings.Contains(text, "Content Security Policy") || strings.Contains(text, "a dialog") {
			t.Errorf("the browser says: %s", text)
		}
	}
	for _, at := range f.asked {
		if !strings.HasPrefix(at, f.url+"/ui/") {
			t.Errorf("a page asks %s", at)
		}
	}
}

// serve puts a dashboard over another API in the place of the fixture's.
func (f *fixture) serve(t *testing.T, over http.Handler) {
	t.Helper()
	site, err := web.New(slog.New(slog.DiscardHandler), web.Options{API: over, Version: "v1",
		May: func(of api.Token, _, session string) ([]web.Ability, error) {
			return []web.Ability{{What: of.Name, Why: session}}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	f.site = site
}
