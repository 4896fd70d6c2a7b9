package arm

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
)

func TestNormalPath(t *testing.T) {
	for in, want := range map[string]string{
		"/": "/",
		"/SUBSCRIPTIONS/S1/resourcegroups/RG/PROVIDERS/microsoft.app/SESSIONPOOLS/Pool":                      "/subscriptions/S1/resourceGroups/RG/providers/Microsoft.App/sessionPools/Pool",
		"/subscriptions/s/resourceGroups/g/sessionpools/p//Files/A%2FB/Content/":                             "/subscriptions/s/resourceGroups/g/sessionPools/p/Files/A%2FB/Content",
		"/subscriptions/s/providers/microsoft.app/sessionpools":                                              "/subscriptions/s/providers/Microsoft.App/sessionPools",
		"/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/p/FetchMcpServerCredentials": "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/p/fetchMCPServerCredentials",
		// Names that are spelled like fixed words keep their case.
		"/subscriptions/PROVIDERS/resourceGroups/SESSIONPOOLS/providers/Microsoft.App/sessionPools/STATUS": "/subscriptions/PROVIDERS/resourceGroups/SESSIONPOOLS/providers/Microsoft.App/sessionPools/STATUS",
		"/subscriptions/s/resourceGroups/g/sessionPools/p/Status":                                          "/subscriptions/s/resourceGroups/g/sessionPools/p/Status",
		"/%73ubscriptions/s/resourceGroups/g/sessionPools/p":                                               "/subscriptions/s/resourceGroups/g/sessionPools/p",
		"/HEALTHZ": "/HEALTHZ",
		"/a...b":   "/a...b",
	} {
		if got, err := normalPath(in); err != nil || got != want {
			t.Errorf("normalPath(%q)\n got %q, %v\nwant %q", in, got, err, want)
		}
	}
	for _, in := range []string{"/a/../b", "/a/./b", "/%2e%2E/b", "/a/.%2e", "relative",
		"/subscriptions/s/resourceGroups/g/sessionPools/p/files/..", "/%zz"} {
		if got, err := normalPath(in); err == nil {
			t.Errorf("normalPath(%q) = %q, want an error", in, got)
		} else if sandpool.ClassOf(err) != sandpool.Invalid {
			t.Errorf("normalPath(%q): class %v", in, sandpool.ClassOf(err))
		}
	}
}

// testMux routes like the two planes and tells what it saw.
func testMux() http.Handler {
	rs := &Responder{Log: slog.New(slog.DiscardHandler)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+EndpointPath+"/files/{name}/content", func(w http.ResponseWriter,
		r *http.Request) {
		w.Header().Set("Saw", r.PathValue("pool")+"|"+r.PathValue("name"))
	})
	mux.Handle("/", rs.NotFound())
	return rs.Normalise(mux)
}

func TestMuxNeverRedirectsAndKeepsEscapes(t *testing.T) {
	for target, want := range map[string]string{
		"/subscriptions/s/resourceGroups/g/sessionPools/p/files/a%2Fb/content?x=1":  "p|a/b",
		"//subscriptions/s/resourcegroups/g//sessionpools/p//files/a%20b/content//": "p|a b",
		"/subscriptions/s/resourceGroups/g/sessionPools/p/files/%2e%2fx/content":    "p|./x",
		"/subscriptions/s/resourceGroups/g/sessionPools/p/files/100%25/content":     "p|100%",
	} {
		rec := httptest.NewRecorder()
		testMux().ServeHTTP(rec, httptest.NewRequest("POST", target, nil))
		if rec.Code != 200 || rec.Header().Get("Saw") != want {
			t.Errorf("%s: status %d, saw %q, want %q", target, rec.Code, rec.Header().Get("Saw"),
				want)
		}
	}
}

func FuzzNormalise(f *testing.F) {
	for _, s := range []string{"/", "//a//b/",
		"/subscriptions/S/resourcegroups/g/SessionPools/p/x%2Fy", "/a/%2e%2e/b", "/%", "/a/..",
		"/é/%ff", "/subscriptions/s/providers"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || u.Host != "" || u.Path == "" {
			return
		}
		r := &http.Request{Method: "POST", RequestURI: path, URL: u, Header: http.Header{},
			Body: http.NoBody}
		rec := httptest.NewRecorder()
		testMux().ServeHTTP(rec, r)
		if rec.Code/100 == 3 {
			t.Fatalf("%q is redirected to %q", path, rec.Header().Get("Location"))
		}
		once, err := normalPath(u.EscapedPath())
		if err != nil {
			return
		}
		if twice, err := normalPath(once); err != nil || twice != once {
			t.Fatalf("%q becomes %q and then %q (%v)", path, once, twice, err)
		}
		plain, _ := url.PathUnescape(u.EscapedPath())
		got, err := url.PathUnescape(once)
		if err != nil {
			t.Fatalf("%q becomes %q, which has no plain form: %v", path, once, err)
		}
		if !strings.EqualFold(strings.ReplaceAll(got, "/", ""), strings.ReplaceAll(plain, "/",
			"")) {
			t.Fatalf("%q becomes %q: more than slashes and case changed", path, once)
		}
	})
}

func TestCheckPoolID(t *testing.T) {
	ok := sandpool.PoolID{Subscription: sandpool.DefaultSubscription, ResourceGroup: "default",
		Name: "python"}
	for _, name := range []string{"abc", "my-pool-1", strings.Repeat("a", 63), "Python"} {
		id := ok
		id.Name = name
		if err := CheckPoolID(id); err != nil {
			t.Errorf("name %q: %v", name, err)
		}
	}
	for _, name := range []string{"", "ab", strings.Repeat("a", 64), "1abc", "-abc", "abc-", "a_b",
		"a/b", "a b", "äbc", "abc\n", "a.b"} {
		id := ok
		id.Name = name
		if err := CheckPoolID(id); sandpool.ClassOf(err) != sandpool.Invalid || err == nil {
			t.Errorf("name %q: %v", name, err)
		}
	}
	longest := sandpool.PoolID{Subscription: strings.Repeat("s", 64),
		ResourceGroup: strings.Repeat("g", 90), Name: "abc"}
	if err := CheckPoolID(longest); err != nil {
		t.Error(err)
	}
	for _, bad := range []sandpool.PoolID{
		{Subscription: strings.Repeat("s", 65), ResourceGroup: "g", Name: "abc"},
		{Subscription: "", ResourceGroup: "g", Name: "abc"}, {Subscription: "a/b",
			ResourceGroup: "g", Name: "abc"},
		{Subscription: "s", ResourceGroup: "g/", Name: "abc"}, {Subscription: "s",
			ResourceGroup: "g.", Name: "abc"},
		{Subscription: "s", ResourceGroup: "a\x00b", Name: "abc"}, {Subscription: "s",
			ResourceGroup: strings.Repeat("g", 91), Name: "abc"},
	} {
		if err := CheckPoolID(bad); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

func TestParseResourceID(t *testing.T) {
	want := sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "python"}
	for _, s := range []string{want.String(), strings.ToUpper(want.String()), EndpointOf(want),
		EndpointOf(want) + "/"} {
		if id, err := ParseResourceID(s); err != nil || id.Key() != want.Key() {
			t.Errorf("ParseResourceID(%q) = %+v, %v", s, id, err)
		}
	}
	for _, s := range []string{"", "python", EndpointOf(want) + "/x",
		"/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/python", "/a/b/../c"} {
		if id, err := ParseResourceID(s); err == nil {
			t.Errorf("ParseResourceID(%q) = %+v", s, id)
		}
	}
}
