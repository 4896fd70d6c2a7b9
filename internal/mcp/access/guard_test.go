package access

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestGuard checks who is let in by the name that a request gives the server, and by its origin.
func TestGuard(t *testing.T) {
	g := Guard{
		Hosts:    []string{"pools.example.com"},
		Suffixes: []string{"p.example.com"},
		Origins:  []string{"https://app.example.com"},
	}
	loopback, public := &net.TCPAddr{
		IP: net.IPv4(127, 0, 0, 1),
	}, &net.TCPAddr{
		IP: net.IPv4(10, 1, 2, 3),
	}
	for name, tt := range map[string]struct {
		local        net.Addr
		host, origin string
		sni          string
		ok           bool
	}{
		"loopback":     {loopback, "127.0.0.1:8720", "", "", true},
		"localhost":    {loopback, "LOCALHOST:8720", "", "", true},
		"IPv6":         {loopback, "[::1]:8720", "", "", true},
		"another name": {loopback, "evil.example.com", "", "", false},
		"another name and its origin": {loopback, "evil.example.com", "http://evil.example.com",
			"", false},
		"a name that begins so":     {loopback, "localhost.evil.example.com", "", "", false},
		"an address that begins so": {loopback, "127.0.0.1.evil.example.com", "", "", false},
		"the server's own":          {loopback, "pools.example.com", "", "", true},
		"a pool's own":              {loopback, "python.p.example.com:443", "", "", true},
		"one that ends so":          {loopback, "evilp.example.com", "", "", false},
		"verified by TLS": {loopback, "local.example.net", "", "local.example.net",
			true},
		"verified for another": {loopback, "evil.example.com", "", "local.example.net",
			false},
		"any on a public address": {public, "sandpool.lan:8720", "", "", true},
		"its own page": {loopback, "127.0.0.1:8720", "http://127.0.0.1:8720", "",
			true},
		"a page of another port": {loopback, "127.0.0.1:8720", "http://127.0.0.1:3000", "",
			false},
		"a page of another site": {public, "sandpool.lan", "https://evil.example.com", "",
			false},
		"a page that is let in": {public, "sandpool.lan", "https://APP.example.com", "",
			true},
		"a page without a name": {public, "sandpool.lan", "null", "", false},
		"a page whose name begins so": {public, "sandpool.lan",
			"https://app.example.com.evil.example.com", "", false},
		"a page whose name is no URL": {public, "sandpool.lan", "sandpool.lan", "", false},
		"an extension of a browser": {public, "sandpool.lan", "chrome-extension://abc", "",
			false},
		"an empty one, which none sends": {public, "", "http://", "", false},
	} {
		ctx := context.WithValue(t.Context(), http.LocalAddrContextKey, tt.local)
		r := httptest.NewRequestWithContext(ctx, "POST", "http://x/mcp", nil)
		r.Host = tt.host
		if tt.origin != "" {
			r.Header.Set("Origin", tt.origin)
		}
		if tt.sni != "" {
			r.TLS = &tls.ConnectionState{ServerName: tt.sni}
		}
		if err := g.Check(r); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), "POST", "http://x/mcp", nil)
	r.Header["Origin"] = []string{"https://app.example.com", "https://evil.example.com"}
	if g.Check(r) == nil {
		t.Error("two origins are let in")
	}
}
