package entry_test

import (
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/oidc"
	"github.com/sandpool/sandpool/internal/server/entry"
)

// TestCheck: an issuer is never told to send a browser, with a code in its address, where others
// can read that, or where this server is not.
func TestCheck(t *testing.T) {
	with := []oidc.Settings{{}, {SignIn: &oidc.SignInSettings{Name: "main", ClientID: "x"}}}
	for what, try := range map[string]struct {
		server entry.Server
		want   string
	}{
		"loopback":         {entry.Server{Dashboard: true, Listen: "127.0.0.1:8720"}, ""},
		"https":            {entry.Server{Dashboard: true, PublicURL: "https://p.example.com"}, ""},
		"loopback by name": {entry.Server{Dashboard: true, PublicURL: "http://localhost:1"}, ""},
		"TLS of its own":   {entry.Server{Dashboard: true, Listen: "192.0.2.1:443", TLS: true}, ""},
		"http":             {entry.Server{Dashboard: true, PublicURL: "http://p.example.com"}, "public_url"},
		"every address": {entry.Server{Dashboard: true, Listen: "0.0.0.0:8720", TLS: true},
			"public_url"},
		"every address by nothing": {entry.Server{Dashboard: true, Listen: ":8720", TLS: true},
			"public_url"},
		"an address in clear": {entry.Server{Dashboard: true, Listen: "192.0.2.1:80"}, "public_url"},
		"no dashboard":        {entry.Server{Listen: "127.0.0.1:8720"}, "dashboard"},
	} {
		err := entry.Check(with, try.server)
		if (err == nil) != (try.want == "") || err != nil &&
			!strings.Contains(err.Error(), "configuration: "+try.want) {
			t.Errorf("%s: %v, want %q", what, err, try.want)
		}
		if err := entry.Check(with[:1], try.server); err != nil {
			t.Errorf("%s, and nobody signs in: %v", what, err)
		}
	}
}
