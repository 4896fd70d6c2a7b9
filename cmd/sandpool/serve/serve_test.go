package serve

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// TestClientConfigurationStaysWithALivingServer: a new server takes the file over from one that
// is gone, and from nobody else.
func TestClientConfigurationStaysWithALivingServer(t *testing.T) {
	live := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
	}))
	defer live.Close()
	dead := httptest.NewServer(nil)
	dead.Close()
	path := filepath.Join(t.TempDir(), "client.yaml")
	t.Setenv("SANDPOOL_CONFIG", path)
	here := client.Config{Endpoint: "http://127.0.0.1:1", Token: "new"}
	for _, tt := range []struct {
		name, content string
		stays         bool
	}{
		{"an empty file", "", false},
		{"the same server", "endpoint: http://127.0.0.1:1\ntoken: old\n", false},
		{"a server that is gone", "endpoint: " + dead.URL + "\ntoken: old\n", false},
		{"a server that answers", "endpoint: " + live.URL + "\ntoken: old\n", true},
		{"another machine", "endpoint: http://192.0.2.1\ntoken: old\n", true},
		{"not a configuration", "endpoint: [\n", true},
	} {
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		a := &console.App{Stderr: &stderr}
		settings := writeClientConfig(t.Context(), a, here, "/data/admin-token")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if stays := string(b) == tt.content && tt.content != ""; stays != tt.stays ||
			(settings != "") != tt.stays {
			t.Errorf("%s: holds %q, settings %q; want that it stays: %t", tt.name, b, settings,
				tt.stays)
		}
		if !strings.Contains(stderr.String(), path) || tt.stays &&
			!strings.Contains(stderr.String(), "export SANDPOOL_ENDPOINT='http://127.0.0.1:1'") {
			t.Errorf("%s: it says %q", tt.name, stderr.String())
		}
	}
}

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{"/a/b-c.d": "/a/b-c.d", "/a b": "'/a b'",
		"it's": `'it'\''s'`, "$x": "'$x'"} {
		if got := shellQuote(in); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestReachable(t *testing.T) {
	for in, want := range map[string]string{
		"http://0.0.0.0:80": "http://127.0.0.1:80", "http://[::]:80": "http://[::1]:80",
		"http://127.0.0.1:80":  "http://127.0.0.1:80",
		"https://pool.example": "https://pool.example",
	} {
		if got := reachable(in); got != want {
			t.Errorf("reachable(%q) = %q, want %q", in, got, want)
		}
	}
}
