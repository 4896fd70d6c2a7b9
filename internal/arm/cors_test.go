package arm

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCORS(t *testing.T) {
	const app = "https://app.example.com"
	for name, c := range map[string]struct {
		origins []string
		method  string
		headers []string
		status  int
		allowed string // Access-Control-Allow-Origin
		says    string
	}{
		"no browser": {[]string{app}, "POST", nil, 401, "", ""},
		"an answer":  {[]string{app}, "POST", []string{"Origin", app}, 401, app, ""},
		"capitals": {[]string{app}, "POST",
			[]string{"Origin", "https://App.Example.com"}, 401, "https://App.Example.com", ""},
		"another origin": {[]string{app}, "POST", []string{"Origin", "https://evil.example"},
			401, "", ""},
		"a longer origin": {[]string{app}, "POST", []string{"Origin", app + ".evil.example"},
			401, "", ""},
		"another scheme": {[]string{app}, "POST",
			[]string{"Origin", "http://app.example.com"}, 401, "", ""},
		"null": {[]string{app}, "POST", []string{"Origin", "null"}, 401, "", ""},
		"every origin": {[]string{"*"}, "GET", []string{"Origin", "https://x.example"},
			401, "https://x.example", ""},
		"off": {nil, "POST", []string{"Origin", app}, 401, "", ""},
		"a preflight": {[]string{"https://x.example", app}, "OPTIONS",
			[]string{"Origin", app, "Access-Control-Request-Method", "PUT",
				"Access-Control-Request-Headers", "authorization, x-ms-y"}, 204, app, ""},
		"a preflight, another": {[]string{app}, "OPTIONS",
			[]string{"Origin", "https://evil.example", "Access-Control-Request-Method", "PUT"}, 403,
			"", "cors.origins"},
		"a preflight, off": {nil, "OPTIONS",
			[]string{"Origin", app, "Access-Control-Request-Method", "PUT"}, 403, "",
			"cors.origins"},
		"OPTIONS, no preflight": {[]string{app}, "OPTIONS", []string{"Origin", app}, 401, app, ""},
		"no origin": {[]string{app}, "OPTIONS",
			[]string{"Access-Control-Request-Method", "PUT"}, 401, "", ""},
		"a header of its own": {[]string{app}, "OPTIONS",
			[]string{"Origin", app, "Access-Control-Request-Method", "PUT",
				"Access-Control-Request-Headers", "x\r\nSet-Cookie: a"}, 204, app, ""},
	} {
		rs := &Responder{Log: slog.New(slog.DiscardHandler)}
		r := httptest.NewRequest(c.method, "/x", nil)
		for i := 0; i+1 < len(c.headers); i += 2 {
			r.Header.Set(c.headers[i], c.headers[i+1])
		}
		rec := httptest.NewRecorder()
		rs.CORS(c.origins, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(401)
		})).ServeHTTP(rec, r)
		h := rec.Header()
		if rec.Code != c.status || h.Get("Access-Control-Allow-Origin") != c.allowed ||
			!strings.Contains(rec.Body.String(), c.says) {
			t.Errorf("%s: %d %v %s", name, rec.Code, h, rec.Body)
		}
		if h.Get("Access-Control-Allow-Credentials") != "" ||
			strings.Contains(h.Get("Access-Control-Allow-Headers"), "\n") {
			t.Errorf("%s: %v", name, h)
		}
		if name == "a preflight" &&
			(h.Get("Access-Control-Allow-Headers") != "authorization, x-ms-y" ||
				!strings.Contains(h.Get("Access-Control-Allow-Methods"), "PUT")) {
			t.Errorf("%s: %v", name, h)
		}
		// Also where there is no origin: else a cache gives a page the answer to a program.
		if varies := strings.Contains(strings.Join(h.Values("Vary"), ","),
			"Origin"); varies != (len(c.origins) > 0) {
			t.Errorf("%s: Vary %q", name, h.Values("Vary"))
		}
	}
}

// TestCORSAsked: a preflight that asks for more than the usual gets it if its origin is allowed,
// and no header that it did not ask for.
func TestCORSAsked(t *testing.T) {
	const (
		app     = "https://app.example.com"
		network = "Access-Control-Allow-Private-Network"
		methods = "Access-Control-Allow-Methods"
		headers = "Access-Control-Allow-Headers"
	)
	for name, c := range map[string]struct {
		origin string
		asked  []string
		answer map[string]string // headers, and what is in them; none if ""
	}{
		"a private network": {app, []string{"Access-Control-Request-Private-Network", "true"},
			map[string]string{network: "true", "Vary": "Access-Control-Request-Private-Network"}},
		"no private network": {app, nil, map[string]string{network: ""}},
		"a private network, another origin": {"https://evil.example",
			[]string{"Access-Control-Request-Private-Network", "true"},
			map[string]string{network: "", methods: ""}},
		"a method of WebDAV": {app, []string{"Access-Control-Request-Method", "PROPFIND"},
			map[string]string{methods: "PUT, PROPFIND"}},
		"a method that is none": {app, []string{"Access-Control-Request-Method", "PUT;x"},
			map[string]string{methods: "PUT"}},
		"rare names": {app, []string{"Access-Control-Request-Headers", "x.a, mcp-protocol-version"},
			map[string]string{headers: "x.a, mcp-protocol-version"}},
		"no headers": {app, nil, map[string]string{headers: ""}},
	} {
		rs := &Responder{Log: slog.New(slog.DiscardHandler)}
		r := httptest.NewRequest("OPTIONS", "/x", nil)
		r.Header.Set("Origin", c.origin)
		r.Header.Set("Access-Control-Request-Method", "PUT")
		for i := 0; i+1 < len(c.asked); i += 2 {
			r.Header.Set(c.asked[i], c.asked[i+1])
		}
		rec := httptest.NewRecorder()
		rs.CORS([]string{app}, http.NotFoundHandler()).ServeHTTP(rec, r)
		for header, want := range c.answer {
			got := strings.Join(rec.Header().Values(header), ", ")
			if (got == "") != (want == "") || !strings.Contains(got, want) ||
				strings.Contains(got, ";") {
				t.Errorf("%s: %s is %q, want %q", name, header, got, want)
			}
		}
	}
}
