package proxy

import (
	"log/slog"
	"net/http"
	"slices"
	"testing"

	"github.com/sandpool/sandpool/internal/arm"
)

// TestCORSOfContainers: where the server lets a page in, an application that does so as well is no
// second word, which browsers refuse; where the server has said nothing, the application's counts.
func TestCORSOfContainers(t *testing.T) {
	c := newContainer(t)
	c.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.Header().Set("Access-Control-Expose-Headers", "X-App")
		w.Header().Set("Vary", "Accept")
	}))
	p := New(Options{})
	t.Cleanup(p.Close)
	respond := &arm.Responder{Log: slog.New(slog.DiscardHandler)}
	const app = "https://app.example.com"
	for name, want := range map[string]struct {
		origins, allowed, credentials []string
	}{
		"by the server":    {[]string{app}, []string{app}, nil},
		"of another place": {[]string{"https://x.example"}, []string{"*"}, []string{"true"}},
		"by nobody else":   {nil, []string{"*"}, []string{"true"}},
	} {
		srv := serveFunc(t, func(w http.ResponseWriter, r *http.Request) (err error) {
			respond.CORS(want.origins, http.HandlerFunc(
				func(w http.ResponseWriter, r *http.Request) {
					err = serve(p, w, r, c, Target{Port: 8080, Path: RawPath(r)})
				})).ServeHTTP(w, r)
			return err
		})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", app)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		h := resp.Header
		if got := h.Values("Access-Control-Allow-Origin"); !slices.Equal(got, want.allowed) {
			t.Errorf("%s: allowed is %q, want %q", name, got, want.allowed)
		}
		got := h.Values("Access-Control-Allow-Credentials")
		if !slices.Equal(got, want.credentials) {
			t.Errorf("%s: credentials are %q, want %q", name, got, want.credentials)
		}
		if !slices.Contains(h.Values("Access-Control-Expose-Headers"), "X-App") ||
			!slices.Contains(h.Values("Vary"), "Accept") {
			t.Errorf("%s: the application's other words are lost: %v", name, h)
		}
	}
}
