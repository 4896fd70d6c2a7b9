package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
)

// TestSessions follows one session through every call about it.
func TestSessions(t *testing.T) {
	w := newWorld(t, Options{})
	const view = `{"identifier":"abcd","etag":"sbabcd","createdAt":"2026-05-04T03:02:01.0000000Z","lastAccessedAt":"2026-05-04T03:03:01.0000000Z",` +
		`"expireAt":"2026-05-04T03:08:01.0000000Z","expiresAt":"2026-05-04T03:08:01.0000000Z"}`
	for _, tt := range []struct {
		name, method, path string
		status             int
		want               string // a part of the body
	}{
		{"looking creates none", "GET", "session?identifier=abcd", 400,
			`"code":"SessionWithIdentifierNotFound"`},
		{"nor does getSession", "POST", ".management/getSession?identifier=abcd", 400,
			`"code":"SessionWithIdentifierNotFound"`},
		{"nor does stopSession", "POST", ".management/stopSession?identifier=abcd", 400,
			`"code":"SessionWithIdentifierNotFound"`},
		{"nor does DELETE", "DELETE", "session?identifier=abcd", 400,
			`"code":"SessionWithIdentifierNotFound"`},
		{"listing files does", "GET", "files?identifier=abcd", 200, `{"value":[],"nextLink":null}`},
		{"session", "GET", "session?identifier=abcd&api-version=2025-10-02-preview", 200, view},
		{"getSession", "POST", ".management/getSession?identifier=abcd", 200, view},
		{"getSession by GET", "GET", ".management/getSession?identifier=abcd", 200, view},
		{"detail", "GET", ".management/session?identifier=abcd", 200, `"sandbox":"sbabcd"`},
		{"no detail of another", "GET", ".management/session?identifier=other", 400,
			`"code":"SessionWithIdentifierNotFound"`},
		{"stopSession", "POST", ".management/stopSession?identifier=abcd", 200,
			"Session abcd in session pool python stopped."},
		{"it is gone", "GET", "session?identifier=abcd", 400,
			`"code":"SessionWithIdentifierNotFound"`},
		{"a new one", "POST", "executions?identifier=abcd", 200, `"identifier":"abcd"`},
		{"DELETE", "DELETE", "session?identifier=abcd", 204, ""},
		{"it is gone too", "GET", "session?identifier=abcd", 400,
			`"code":"SessionWithIdentifierNotFound"`},
		{"no identifier", "DELETE", "session", 400, `"target":"identifier"`},
	} {
		got := w.do(tt.method, tt.path, `{"code":"1"}`)
		if got.status != tt.status || !strings.Contains(got.body, tt.want) {
			t.Errorf("%s: %d %s, want %d with %s", tt.name, got.status, got.body, tt.status,
				tt.want)
		}
	}
}

func TestListSessions(t *testing.T) {
	w := newWorld(t, Options{})
	// pages follows the links from path on and returns the identifiers on each page.
	pages := func(path, key string) (all [][]string) {
		for path != "" {
			got := w.raw("GET", path, "")
			m := got.json(t)
			list, _ := m[key].([]any)
			var page []string
			for _, s := range list {
				page = append(page, s.(map[string]any)["identifier"].(string))
			}
			all = append(all, page)
			link, _ := m["nextLink"].(string)
			if link != "" && !strings.HasPrefix(link, w.url) {
				t.Fatalf("the link %q does not lead to %s", link, w.url)
			}
			path = strings.TrimPrefix(link, w.url)
		}
		return all
	}
	want := [][]string{{"session-a", "session-b"}, {"session-c", "session-d"}, {"session-e"}}
	if diff := cmp.Diff(want, pages(endpoint+
		"/listSessions?skip=0&limit=2&api-version=2025-10-02-preview", "sessions")); diff != "" {
		t.Errorf("listSessions (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, pages(endpoint+"/.management/listSessions?limit=2", "value")); diff !=
		"" {
		t.Errorf(".management/listSessions (-want +got):\n%s", diff)
	}
	if got := w.do("POST", ".management/listSessions?skip=3", ""); got.status != 200 ||
		!strings.Contains(got.body, `"count":2`) {
		t.Errorf("skip=3: %d %s", got.status, got.body)
	}
	for _, query := range []string{"skip=-1", "skip=x", "limit=0", "limit=301", "skip=1&skip=2"} {
		if got := w.do("GET", "listSessions?"+query, ""); got.status != 400 {
			t.Errorf("%s: %d %s", query, got.status, got.body)
		}
	}
	behind := newWorld(t, Options{PublicURL: "https://pools.example.com/"})
	if got := behind.do("GET", "listSessions?limit=1", ""); !strings.Contains(got.body,
		`"nextLink":"https://pools.example.com`+endpoint+`/listSessions?limit=1\u0026skip=1"`) {
		t.Errorf("with a public URL: %s", got.body)
	}
}

// TestMetadata checks that asking takes no session for longer than the question,
// and only once.
func TestMetadata(t *testing.T) {
	w := newWorld(t, Options{})
	w.served(func(rw http.ResponseWriter, r *http.Request) {
		answer := "[]"
		if r.URL.Path == "/metadata" {
			answer = `{"runtime":"python","version":"3.13.5","kernel":"ipython","kernelVersion":"9.1.0","packages":[{"name":"numpy","version":"2.3.1"}]}`
		}
		_, _ = io.WriteString(rw, answer)
	})
	w.claimed = func() { // the pool has a sandbox now, and lets it be looked at
		id := sandpool.PoolID{Subscription: sandpool.DefaultSubscription,
			ResourceGroup: sandpool.DefaultResourceGroup, Name: "python"}
		if err := w.within.Alive(t.Context(), sandpool.Sandbox{ID: "box", Pool: id},
			newLease(w, "box").Dial); err != nil {
			t.Error(err)
		}
	}
	const want = `{"runtimes":[{"name":"python","version":"3.13.5"}],"preInstalledPackages":[{"name":"numpy","version":"2.3.1"}],`
	for range 3 {
		if got := w.do("GET", "metadata?api-version=2025-10-02-preview", ""); got.status != 200 ||
			!strings.HasPrefix(got.body, want) {
			t.Fatalf("answer %d %s", got.status, got.body)
		}
	}
	if acquired, released := w.counts(); acquired != 1 || released != 1 || len(w.sessions) != 0 {
		t.Errorf("acquired %d leases, released %d, left %d sessions", acquired, released,
			len(w.sessions))
	}
}
