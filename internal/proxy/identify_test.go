package proxy

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
)

// Who names a session, and how, and what is refused.
func TestIdentify(t *testing.T) {
	for name, c := range map[string]struct {
		query   string
		header  http.Header
		method  string
		ownHost bool
		want    sandpool.Identifier
		class   sandpool.Class
	}{
		"query":  {query: "chat-42", want: "chat-42"},
		"header": {header: http.Header{IdentifierHeader: {"chat-42"}}, want: "chat-42"},
		"both": {query: "chat-42", header: http.Header{IdentifierHeader: {"chat-42"}},
			want: "chat-42"},
		"two names": {query: "chat-42", header: http.Header{IdentifierHeader: {"chat-43"}},
			class: sandpool.Invalid},
		"two headers": {header: http.Header{IdentifierHeader: {"chat-42", "chat-42"}},
			class: sandpool.Invalid},
		"none": {class: sandpool.Invalid},
		"bad":  {query: "a b c d", class: sandpool.Invalid},
		"cookie": {ownHost: true,
			header: http.Header{"Cookie": {"a=b; sandpool-session=chat%2F42"}}, want: "chat/42"},
		"cookie elsewhere": {header: http.Header{"Cookie": {"sandpool-session=chat-42"}},
			class: sandpool.Invalid},
		"query over cookie": {ownHost: true, query: "chat-43",
			header: http.Header{"Cookie": {"sandpool-session=chat-42"}}, want: "chat-43"},
		"header over cookie": {ownHost: true,
			header: http.Header{"Cookie": {"sandpool-session=chat-42"},
				IdentifierHeader: {"chat-43"}}, want: "chat-43"},
		"two cookies": {ownHost: true,
			header: http.Header{"Cookie": {"sandpool-session=chat-42; sandpool-session=chat-43"}},
			class:  sandpool.Invalid},
		"cookie of TLS": {ownHost: true,
			header: http.Header{"Cookie": {"__Host-sandpool-session=chat-42"}},
			class:  sandpool.Invalid},
		"escape": {ownHost: true,
			header: http.Header{"Cookie": {"sandpool-session=chat%zz"}}, class: sandpool.Invalid},
		"own page": {ownHost: true, method: "POST", want: "chat-42",
			header: http.Header{"Cookie": {"sandpool-session=chat-42"},
				"Sec-Fetch-Site": {"same-origin"}}},
		"typed": {ownHost: true, want: "chat-42",
			header: http.Header{"Cookie": {"sandpool-session=chat-42"},
				"Sec-Fetch-Site": {"none"}}},
		"a link from elsewhere": {ownHost: true, want: "chat-42",
			header: http.Header{"Cookie": {"sandpool-session=chat-42"},
				"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"navigate"},
				"Sec-Fetch-Dest": {"document"}}},
		"a form from elsewhere": {ownHost: true, method: "POST", class: sandpool.Denied,
			header: http.Header{"Cookie": {"sandpool-session=chat-42"},
				"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"navigate"},
				"Sec-Fetch-Dest": {"document"}}},
		"a frame elsewhere": {ownHost: true, class: sandpool.Denied,
			header: http.Header{"Cookie": {"sandpool-session=chat-42"},
				"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"navigate"},
				"Sec-Fetch-Dest": {"iframe"}}},
		"a script elsewhere": {ownHost: true, class: sandpool.Denied,
			header: http.Header{"Cookie": {"sandpool-session=chat-42"},
				"Sec-Fetch-Site": {"cross-site"}, "Sec-Fetch-Mode": {"cors"}}},
		"a page of another pool": {ownHost: true, class: sandpool.Denied,
			header: http.Header{"Cookie": {"sandpool-session=chat-42"},
				"Sec-Fetch-Site": {"same-site"}, "Sec-Fetch-Mode": {"no-cors"}}},
		"another origin, old browser": {ownHost: true, method: "POST", class: sandpool.Denied,
			header: http.Header{"Cookie": {"sandpool-session=chat-42"},
				"Origin": {"http://evil.example"}}},
		"no origin, old browser": {ownHost: true, method: "POST", class: sandpool.Denied,
			header: http.Header{"Cookie": {"sandpool-session=chat-42"}, "Origin": {"null"}}},
		"own origin, old browser": {ownHost: true, method: "POST", want: "chat-42",
			header: http.Header{"Cookie": {"sandpool-session=chat-42"},
				"Origin": {"http://web.pools.example"}}},
		"own WebSocket": {ownHost: true, want: "chat-42",
			header: http.Header{"Cookie": {"sandpool-session=chat-42"},
				"Origin": {"http://web.pools.example"}, "Upgrade": {"websocket"}}},
		"another's WebSocket": {ownHost: true, class: sandpool.Denied,
			header: http.Header{"Cookie": {"sandpool-session=chat-42"},
				"Origin": {"http://other.pools.example"}, "Upgrade": {"websocket"}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "http://web.pools.example/", nil)
			if c.method != "" {
				r.Method = c.method
			}
			for k, v := range c.header {
				r.Header[k] = v
			}
			got, err := Identify(r, c.query, c.ownHost)
			if got != c.want || c.want == "" && (err == nil || sandpool.ClassOf(err) != c.class) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// The cookie is for pages alone, lasts no longer than the browser, and is out of reach of scripts
// and other sites.
func TestRemember(t *testing.T) {
	for name, c := range map[string]struct {
		header http.Header
		method string
		secure bool
		want   string
	}{
		"a page": {header: http.Header{"Sec-Fetch-Mode": {"navigate"}},
			want: "sandpool-session=chat%2F42; Path=/; HttpOnly; SameSite=Strict"},
		"a page, by TLS": {header: http.Header{"Sec-Fetch-Mode": {"navigate"}}, secure: true,
			want: "__Host-sandpool-session=chat%2F42; Path=/; HttpOnly; Secure; SameSite=Strict"},
		"an older browser": {header: http.Header{"Accept": {"text/html,*/*"}},
			want: "sandpool-session=chat%2F42; Path=/; HttpOnly; SameSite=Strict"},
		"a script's request": {header: http.Header{"Sec-Fetch-Mode": {"cors"},
			"Accept": {"text/html"}}},
		"a form":   {header: http.Header{"Sec-Fetch-Mode": {"navigate"}}, method: "POST"},
		"curl":     {header: http.Header{"Accept": {"*/*"}}},
		"a client": {},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "http://web.pools.example/", nil)
			r.Header = c.header
			if c.method != "" {
				r.Method = c.method
			}
			if c.secure {
				r.TLS = &tls.ConnectionState{}
			}
			w := httptest.NewRecorder()
			Remember(w, r, "chat/42")
			if got := w.Header().Get("Set-Cookie"); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// A container neither sees the cookie nor sets it; its own cookies pass.
func TestCookiesOfContainers(t *testing.T) {
	srv, _ := newFront(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, c := range []string{"a=" + r.Header.Get("Cookie"), "sandpool-session=evil",
			" SANDPOOL-Session =evil; Domain=example", "__Host-sandpool-session=evil; Secure",
			"b=2; Path=/"} {
			w.Header().Add("Set-Cookie", c)
		}
	}))
	r, _ := http.NewRequestWithContext(t.Context(), "GET", srv.URL, nil)
	r.Header.Set("Cookie", "x=1;sandpool-session=mine; __Host-sandpool-session=mine")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := strings.Join(resp.Header["Set-Cookie"], " | "); got != "a=x=1 | b=2; Path=/" {
		t.Errorf("%q", got)
	}
}
