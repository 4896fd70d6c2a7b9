package arm

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestBaseURL: links lead where the request came to, whatever its Host says.
func TestBaseURL(t *testing.T) {
	for _, c := range []struct{ local, host, sni, want string }{
		{"127.0.0.1:8720", "127.0.0.1:8720", "", "http://127.0.0.1:8720"},
		{"127.0.0.1:8720", "localhost:8720", "", "http://localhost:8720"},
		{"127.0.0.1:8720", "pools.LOCALHOST:8720", "", "http://pools.LOCALHOST:8720"},
		{"127.0.0.1:8720", "evil.example:8720", "", "http://127.0.0.1:8720"},
		{"127.0.0.1:8720", "127.0.0.1:1", "", "http://127.0.0.1:8720"},
		{"127.0.0.1:8720", "localhost", "", "http://127.0.0.1:8720"},
		{"127.0.0.1:80", "localhost", "", "http://localhost"},
		{"10.0.0.5:8720", "localhost:8720", "", "http://10.0.0.5:8720"},
		{"10.0.0.5:8720", "10.0.0.6:8720", "", "http://10.0.0.5:8720"},
		{"10.0.0.5:8720", "a@10.0.0.5:8720", "", "http://10.0.0.5:8720"},
		{"10.0.0.5:8720", "", "", "http://10.0.0.5:8720"},
		{"[::ffff:10.0.0.5]:8720", "10.0.0.5:8720", "", "http://10.0.0.5:8720"},
		{"[::1]:8720", "[::1]:8720", "", "http://[::1]:8720"},
		{"[2001:db8::1]:8720", "[2001:DB8:0::1]:8720", "", "http://[2001:DB8:0::1]:8720"},
		{"10.0.0.5:8720", "pools.example.com", "pools.example.com", "https://pools.example.com"},
		{"10.0.0.5:8720", "Pools.example.com:9443", "pools.example.com",
			"https://Pools.example.com:9443"},
		{"10.0.0.5:8720", "evil.example", "pools.example.com", "https://10.0.0.5:8720"},
		{"10.0.0.5:443", "10.0.0.5", "-", "https://10.0.0.5"},
		{"10.0.0.5:443", "evil.example", "-", "https://10.0.0.5:443"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = c.host
		if c.sni != "" {
			r.TLS = &tls.ConnectionState{}
			if c.sni != "-" {
				r.TLS.ServerName = c.sni
			}
		}
		addr, err := net.ResolveTCPAddr("tcp", c.local)
		if err != nil {
			t.Fatal(err)
		}
		if got := BaseURL(r.WithContext(context.WithValue(t.Context(), http.LocalAddrContextKey,
			net.Addr(addr)))); got != c.want {
			t.Errorf("a request to %s (%s) at %s: %s, want %s", c.host, c.sni, c.local, got, c.want)
		}
	}
}
