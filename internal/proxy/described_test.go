package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// TestDescribed: what a container answers is the answer, by every method and of every class.
func TestDescribed(t *testing.T) {
	srv, _ := newFront(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.Header().Set("Content-Type", "text/x-own")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, r.Method)
	}))
	client := srv.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}
	for _, method := range []string{"GET", "PUT", "POST", "DELETE", "PATCH"} {
		for _, status := range []int{200, 302, 418, 502} {
			r, err := http.NewRequestWithContext(t.Context(), method, srv.URL+"/a/b?status="+
				strconv.Itoa(status), strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != status || string(body) != method {
				t.Errorf("%s for %d: %d %q, %v", method, status, resp.StatusCode, body, err)
			}
		}
	}
}

// TestTunnelToSilence: a tunnel to a port that accepts nothing in time is an error that says so.
func TestTunnelToSilence(t *testing.T) {
	c := newContainer(t)
	c.ports[6379] = func(context.Context) (net.Conn, error) { return nil, context.DeadlineExceeded }
	p := New(Options{})
	t.Cleanup(p.Close)
	_, resp := openTunnel(t, tunnelFront(t, p, c, Target{Port: 8080, Ports: []int{6379}}), "6379")
	if resp.StatusCode != http.StatusGatewayTimeout {
		t.Error(resp.Status)
	}
}
