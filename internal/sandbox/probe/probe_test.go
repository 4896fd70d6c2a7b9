package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sandpool/sandpool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// to dials one address whatever the port.
func to(addr string) Dial {
	return func(ctx context.Context, _ int) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

func TestHTTP(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/headers":
			if r.Host != "app.example" || strings.Join(r.Header["X-Probe"], ",") != "1,2" {
				w.WriteHeader(http.StatusTeapot)
			}
		case "/moved":
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound)
		case "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		case "/large":
			for range 100 {
				fmt.Fprint(w, strings.Repeat("x", 1<<16))
			}
		case "/slow":
			<-r.Context().Done()
		}
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	headers := []sandpool.Header{{Name: "X-Probe", Value: "1"}, {Name: "X-Probe", Value: "2"},
		{Name: "Host", Value: "app.example"}}
	for _, c := range []struct {
		probe sandpool.HTTPProbe
		err   string
	}{
		{sandpool.HTTPProbe{}, ""},
		{sandpool.HTTPProbe{Path: "/x?y=z"}, ""},
		{sandpool.HTTPProbe{Path: "/headers", Headers: headers}, ""},
		{sandpool.HTTPProbe{Path: "/headers", Headers: headers[:2], Host: "app.example"}, ""},
		{sandpool.HTTPProbe{Path: "/headers"}, "418"},
		{sandpool.HTTPProbe{Path: "/moved"}, ""}, // answered, and not followed
		{sandpool.HTTPProbe{Path: "/broken"}, "500"},
		{sandpool.HTTPProbe{Path: "/large"}, ""},
		{sandpool.HTTPProbe{Path: "/slow"}, "no answer within"},
		{sandpool.HTTPProbe{TLS: true}, ""},
		{sandpool.HTTPProbe{Path: "/broken", TLS: true}, "500"},
	} {
		addr := plain.Listener.Addr().String()
		if c.probe.TLS {
			addr = secure.Listener.Addr().String()
		}
		c.probe.Port = 80
		patience := time.Minute
		if c.probe.Path == "/slow" {
			patience = 100 * time.Millisecond
		}
		a := New(sandpool.Probe{HTTP: c.probe, Timeout: patience}, to(addr), nil)
		for range 2 { // the connection is kept
			err := a.Once(t.Context())
			if c.err == "" && err != nil || c.err != "" &&
				(err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%+v: %v, want %q", c.probe, err, c.err)
			}
		}
		a.Close()
	}
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	greet := make(chan string, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			switch how := <-greet; how {
			case "close":
				_ = conn.Close()
			default:
				_, _ = conn.Write([]byte(how))
				_, _ = conn.Read(make([]byte, 1)) // until the probe hangs up
				_ = conn.Close()
			}
		}
	}()
	a := New(sandpool.Probe{TCP: sandpool.TCPProbe{Port: 1}}, to(l.Addr().String()), nil)
	defer a.Close()
	for how, pass := range map[string]bool{"": true, "220 hello": true, "close": false} {
		greet <- how
		if err := a.Once(t.Context()); (err == nil) != pass {
			t.Errorf("a server that says %q: %v", how, err)
		}
	}
	_ = l.Close()
	if err := a.Once(t.Context()); err == nil {
		t.Error("a port that nobody listens on passes")
	}
}

func TestExec(t *testing.T) {
	p := sandpool.Probe{Exec: []string{"/check", "-x"}, Timeout: time.Minute}
	if err := New(p, nil, nil).Once(t.Context()); err == nil {
		t.Error("without a way to run programs it passes")
	}
	fails := errors.New("it exited with 1")
	for _, want := range []error{nil, fails} {
		got := New(p, nil, func(_ context.Context, args []string) error {
			if strings.Join(args, " ") != "/check -x" {
				t.Errorf("args %q", args)
			}
			return want
		}).Once(t.Context())
		if got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	p.Timeout = 50 * time.Millisecond
	err := New(p, nil, func(ctx context.Context, _ []string) error {
		<-ctx.Done()
		return ctx.Err()
	}).Once(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no answer within") {
		t.Errorf("a program that hangs: %v", err)
	}
	if err := New(sandpool.Probe{}, nil, nil).Once(t.Context()); err == nil {
		t.Error("a probe without a way passes")
	}
}
