package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/gateway/wire"
)

// TestIdentifiers sends identifiers through a real request.
func TestIdentifiers(t *testing.T) {
	w := newWorld(t, Options{})
	long := strings.Repeat("a", 128)
	for _, tt := range []struct{ name, query, want string }{
		{"plain", "identifier=chat-42ab", "chat-42ab"},
		{"any case of the name", "Identifier=chat-42ab", "chat-42ab"},
		{"encoded", "identifier=a%7Cb%26c%23d", "a|b&c#d"},
		{"decoded once", "identifier=a%2541b", "a%41b"},
		{"raw punctuation", "identifier=a|b{c}[d]^e;f", "a|b{c}[d]^e;f"},
		{"plus is a plus", "identifier=a+b+c", "a+b+c"},
		{"encoded plus", "identifier=a%2Bb+c", "a+b+c"},
		{"raw percent", "identifier=100%25-of%", "100%-of%"},
		{"equals sign", "identifier=abc=def", "abc=def"},
		{"longest", "identifier=" + long, long},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := w.do("POST", "executions?api-version=2025-10-02-preview&"+tt.query,
				`{"code":"1"}`)
			if got.status != 200 || got.json(t)["identifier"] != tt.want {
				t.Errorf("answer %d %s, want identifier %q", got.status, got.body, tt.want)
			}
		})
	}
	for _, tt := range []struct{ name, query, code string }{
		{"missing", "", wire.CodeValidation},
		{"empty", "identifier=", wire.CodeValidation},
		{"short", "identifier=abc", "InvalidLengthOfSessionIdentifier"},
		{"long", "identifier=" + long + "a", "InvalidLengthOfSessionIdentifier"},
		{"twice", "identifier=abcd&identifier=abce", wire.CodeValidation},
		{"twice the same", "identifier=abcd&IDENTIFIER=abcd", wire.CodeValidation},
		{"space", "identifier=ab%20cd", wire.CodeValidation},
		{"backslash", "identifier=ab%5Ccd", wire.CodeValidation},
		{"NUL", "identifier=ab%00cd", wire.CodeValidation},
		{"not ASCII", "identifier=ab%C3%A9cd", wire.CodeValidation},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := w.do("POST", "executions?"+tt.query, `{"code":"1"}`)
			e, _ := got.json(t)["error"].(map[string]any)
			if got.status != 400 || e["code"] != tt.code || e["target"] != "identifier" ||
				e["traceId"] == "" || got.header.Get("X-Ms-Error-Code") != tt.code {
				t.Errorf("answer %d %s, want code %s", got.status, got.body, tt.code)
			}
		})
	}
	if got := w.do("POST", "identifier/abce/executions?identifier=abcd",
		`{"code":"1"}`); got.status != 400 {
		t.Errorf("two identifiers: %d %s", got.status, got.body)
	}
}

func FuzzQuery(f *testing.F) {
	f.Add("identifier=a%2541b&api-version=1", "a|b")
	f.Add("&&=&identifier", "x+y z")
	f.Fuzz(func(t *testing.T, raw, value string) {
		q := arm.Query{Raw: raw}
		v, err := q.Get("identifier")
		if n := len(q.Values("identifier")); (err != nil) != (n > 1) || n == 0 && v != "" {
			t.Errorf("%q: %d values, %q, %v", raw, n, v, err)
		}
		if left := (arm.Query{Raw: q.Without("identifier")}).Values("identifier"); left != nil {
			t.Errorf("%q: without left %q", raw, left)
		}
		encoded := strings.ReplaceAll(url.QueryEscape(value), "+", "%20")
		if got := arm.DecodeOnce(encoded); got != value {
			t.Errorf("%q came back as %q", value, got)
		}
		if id, err := sandpool.ParseIdentifier(value); err == nil &&
			!strings.ContainsAny(value, "%&") {
			if got, err := (arm.Query{Raw: "a=b&identifier=" + string(id)}).Get(
				"identifier"); err != nil || got != value {
				t.Errorf("unencoded %q came back as %q, %v", value, got, err)
			}
		}
	})
}

// FuzzAfter: what a caller says that it has seen last is the number of an event, or refused; a
// position in a log is the one that was handed out, or refused.
func FuzzAfter(f *testing.F) {
	for _, s := range []string{"", "0", "17", "-1", "+1", "9223372036854775808", "1.2", "box.5", ".5",
		"box.", "box.-1", " 1", "١"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Last-Event-Id"] = []string{text}
		n, err := (&call{r: r}).after()
		inQuery, errQuery := (&call{r: httptest.NewRequest(http.MethodGet, "/", nil),
			query: arm.Query{Raw: "after=" + url.QueryEscape(text)}}).after()
		if !strings.ContainsAny(text, "+ ") && (n != inQuery || (err == nil) != (errQuery == nil)) {
			t.Errorf("%q is %d, %v in the header and %d, %v in the query", text, n, err, inQuery,
				errQuery)
		}
		if n < 0 || err != nil && (n != 0 || sandpool.ClassOf(err) != sandpool.Invalid) {
			t.Errorf("%q is the event %d, %v", text, n, err)
		}
		var s tape
		if err := s.seek(text); err == nil && text != "" {
			again := tape{sandbox: s.sandbox}
			if err := again.seek(s.cursor(s.at)); err != nil || s.at < 0 || again.at != s.at {
				t.Errorf("%q leads to %d of %q, which leads to %d, %v", text, s.at, s.sandbox,
					again.at, err)
			}
		}
	})
}

func TestPaths(t *testing.T) {
	w := newWorld(t, Options{})
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"POST", endpoint + "//code/execute?identifier=abcd", 200},
		{"POST", endpoint + "/code/execute/?identifier=abcd", 200},
		{"POST", endpoint + "/Code/Execute?identifier=abcd", 200},
		{"POST", strings.ToLower(endpoint) + "/executions?identifier=abcd", 200},
		{"PUT", endpoint + "/executions?identifier=abcd", 405},
		{"PUT", endpoint + "/code/execute?identifier=abcd", 405},
		{"POST", endpoint + "/nothing?identifier=abcd", 404},
		{"GET", endpoint, 404},
		{"GET", endpoint + "/executions/123?identifier=none", 404},
		{"POST", strings.Replace(endpoint, "python", "other", 1) + "/executions?identifier=abcd",
			404},
		{"POST", strings.Replace(endpoint, "python", "P%2F", 1) + "/executions?identifier=abcd",
			400},
		{"HEAD", endpoint + "/.management/stopSession?identifier=abcd", 405},
		{"HEAD", endpoint + "/code/execute?identifier=abcd", 405},
		{"HEAD", endpoint + "/listSessions", 200},
		{"HEAD", endpoint + "/session?identifier=none", 400},
		{"HEAD", endpoint + "/executions/123?identifier=none", 404},
		{"HEAD", endpoint + "/.management/getSession?identifier=none", 400},
	} {
		if got := w.raw(tt.method, tt.path, `{"code":"1"}`); got.status != tt.status {
			t.Errorf("%s %s: %d %s, want %d", tt.method, tt.path, got.status, got.body, tt.status)
		}
	}
}

// TestDenied checks that a caller without the permission learns nothing, not even
// whether a pool or an operation exists.
func TestDenied(t *testing.T) {
	w := newWorld(t, Options{})
	for _, path := range []string{"/executions?identifier=abcd", "/nothing",
		"/session?identifier=abcd", "/listSessions", "/.management/stopSession?identifier=abcd"} {
		for _, pool := range []string{"python", "other"} {
			got := w.raw("POST", strings.Replace(endpoint, "python", pool, 1)+path, `{`,
				"Test-Role", "pool-contributor")
			if got.status != 403 {
				t.Errorf("%s of %s: %d %s", path, pool, got.status, got.body)
			}
		}
	}
	if acquired, _ := w.counts(); acquired != 0 {
		t.Errorf("denied requests acquired %d leases", acquired)
	}
}
