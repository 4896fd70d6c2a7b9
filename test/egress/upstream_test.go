package egress_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/server"
)

// On a host without names and without a way out but its proxy, sessions reach what their policy
// names through that proxy, and nothing else.
func TestUpstream(t *testing.T) {
	need.Data(t)
	newWorld(t)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "secure ", r.Host)
	}))
	t.Cleanup(secure.Close)
	above := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			fmt.Fprint(w, "above ", r.Host, r.URL.Path)
			return
		}
		server, err := net.DialTimeout("tcp", secure.Listener.Addr().String(), 10*time.Second)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer server.Close()
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(server, conn); _ = server.(*net.TCPConn).CloseWrite() }()
		_, _ = io.Copy(conn, server)
	}))
	t.Cleanup(above.Close)
	c := newServer(t, func(cfg *server.Config) {
		cfg.Network.Resolvers = []string{"192.0.2.99"} // where nobody answers
		cfg.Network.UpstreamProxy = above.URL
	})
	e := lending()
	e.Credentials = nil
	yes := true
	e.Proxy = &yes
	e.Allow = []string{"index.example.com", "api.example.com:443"}
	_, err := c.PutPool(t.Context(), "shell", shellPool(e))
	must(t, err)
	for command, want := range map[string]string{
		"http://index.example.com/hello":            "above index.example.com:80/hello",
		"-k https://api.example.com/key":            "secure api.example.com",
		"http://api.example.com/hello":              "The pool's policy does not allow this host.",
		"-k https://other.example.org/":             "",
		"http://" + index + "/hello":                "The pool's proxy takes host names alone, and no addresses.",
		"--noproxy '*' http://" + index + "/hello":  "",
		"-m 5 --noproxy '*' http://127.0.0.1:3128/": "",
	} {
		got := prints(t, c, "shell", "shell-1", "curl -s -m 30 "+command+"; true")
		if strings.TrimSpace(got) != want {
			t.Errorf("curl %s: %q, want %q", command, got, want)
		}
	}
	for to, want := range map[string]bool{"api.example.com:443": true, "api.example.com:80": false,
		"other.example.org:443": false} {
		p, err := c.Egress(t.Context(), "shell", to, "tcp")
		if err != nil || p.Test.Allowed != want || p.Test.Reason == "" {
			t.Errorf("%s: %+v, %v", to, p.Test, err)
		}
	}
}
