package authority

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letsencrypt/challtestsrv"
	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
)

// freePort is one at which nobody listens, by TCP and by UDP: a server of DNS needs both.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.ListenPacket("udp", l.Addr().String())
		l.Close()
		if err == nil {
			c.Close()
			return l.Addr().(*net.TCPAddr).Port
		}
	}
	t.Fatal("no port is free by TCP and by UDP")
	return 0
}

// pebble is an authority of ACME, with the DNS by which it finds all hosts on this machine.
type pebble struct {
	*httptest.Server
	caFile string
	roots  *x509.CertPool
}

// newPebble starts one whose certificates live for a time; zero is Pebble's 90 days.
func newPebble(t *testing.T, httpPort, tlsPort int, life time.Duration) *pebble {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	quiet := log.New(io.Discard, "", 0)
	names := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	dns, err := challtestsrv.New(challtestsrv.Config{DNSAddrs: []string{names}, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	dns.SetDefaultDNSIPv4("127.0.0.1")
	dns.SetDefaultDNSIPv6("")
	go dns.Run()
	t.Cleanup(dns.Shutdown)
	kept := db.NewMemoryStore()
	signs := ca.New(quiet, kept, "", "ecdsa", 0, 1, map[string]ca.Profile{
		"default": {ValidityPeriod: uint64(life.Seconds())}})
	front := wfe.New(quiet, kept, va.New(quiet, httpPort, tlsPort, true, names, kept), signs,
		[]string{"pebble.example"}, true, false, 0, 0)
	p := &pebble{Server: httptest.NewTLSServer(front.Handler()), roots: x509.NewCertPool(),
		caFile: filepath.Join(t.TempDir(), "directory.pem")}
	t.Cleanup(func() { p.Close() })
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
	if err := os.WriteFile(p.caFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	p.roots.AddCert(signs.GetRootCert(0).Cert)
	return p
}

// back has it answer again at its address after Close.
func (p *pebble) back(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", p.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	again := httptest.NewUnstartedServer(p.Config.Handler)
	again.Listener.Close()
	again.Listener = l
	again.StartTLS()
	p.Server = again
}

// secured serves over l with certificates by ACME, until the function that it returns is called.
func secured(t *testing.T, l net.Listener, dir string, a ACME) (stop func()) {
	t.Helper()
	i, err := OpenACME(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)), dir, a)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, l, i)
}

func serve(t *testing.T, l net.Listener, i *Issued) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- i.Run(ctx) }()
	srv := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") })}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(tls.NewListener(l, i.TLS())) }()
	return func() {
		cancel()
		_ = srv.Close()
		<-served //nolint:errcheck // it was closed
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	}
}

// ask gets the page of a host at addr, whose certificate must be of the authority.
func (p *pebble) ask(t *testing.T, addr, host string) (*x509.Certificate, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conf := &tls.Config{RootCAs: p.roots, ServerName: host}
	if host == "" { // as one who asks by address: no name is sent, and none compared
		conf.InsecureSkipVerify = true
	}
	conn, err := (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// TestACME: an authority that others have written gives certificates by both challenges. They
// outlive the server, are for the hosts that are configured alone, and need the authority no more.
func TestACME(t *testing.T) {
	for _, challenge := range []string{"tls-alpn-01", "http-01"} {
		t.Run(challenge, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			addr := l.Addr().String()
			plain, tlsPort := freePort(t), l.Addr().(*net.TCPAddr).Port
			listen := ""
			if challenge == "http-01" {
				// the other challenge, which is tried first, leads nowhere
				tlsPort, listen = freePort(t), fmt.Sprintf("127.0.0.1:%d", plain)
			}
			p := newPebble(t, plain, tlsPort, 0)
			a := ACME{Directory: p.URL + "/dir", Email: "ops@example.com", CAFile: p.caFile,
				Hosts: []string{"pools.example.com", "api.example.com"}, HTTPListen: listen}
			dir := t.TempDir()
			stop := secured(t, l, dir, a)
			first := map[string]string{}
			for _, host := range a.Hosts {
				cert, err := p.ask(t, addr, host)
				if err != nil {
					t.Fatalf("%s: %v", host, err)
				}
				first[host] = cert.SerialNumber.String()
			}
			if cert, err := p.ask(t, addr, ""); err != nil ||
				cert.VerifyHostname("pools.example.com") != nil {
				t.Errorf("a caller that names no host: %v", err)
			}
			if _, err := p.ask(t, addr, "elsewhere.example.com"); err == nil {
				t.Error("there is a certificate for a host that is not configured")
			}
			if listen != "" {
				client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
					return http.ErrUseLastResponse
				}}
				r, err := http.NewRequest("GET", "http://"+a.HTTPListen+"/x", nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Host = "pools.example.com"
				resp, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if to := resp.Header.Get("Location"); to != "https://pools.example.com/x" {
					t.Errorf("a request without TLS is led to %q", to)
				}
			}
			stop()
			files, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				if info, err := f.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
					t.Errorf("others can read %s: %v, %v", f.Name(), info.Mode(), err)
				}
			}

			p.Close()
			if l, err = net.Listen("tcp", addr); err != nil {
				t.Fatal(err)
			}
			stop = secured(t, l, dir, a)
			defer stop()
			for host, serial := range first {
				cert, err := p.ask(t, addr, host)
				if err != nil || cert.SerialNumber.String() != serial {
					t.Errorf("%s after a restart, while the authority is down: %v", host, err)
				}
			}
		})
	}
}

// TestACMEProblems: what is wrong with settings is named.
func TestACMEProblems(t *testing.T) {
	good := ACME{Directory: "https://ca.example.com/dir", Hosts: []string{"a.example.com"}}
	for want, change := range map[string]func(*ACME){
		"":          func(*ACME) {},
		"directory": func(a *ACME) { a.Directory = "http://ca.example.com/dir" },
		"hosts":     func(a *ACME) { a.Hosts = nil },
		"hosts 2":   func(a *ACME) { a.Hosts = []string{"*.example.com"} },
		"hosts 3":   func(a *ACME) { a.Hosts = []string{"192.0.2.1"} },
		"hosts 5":   func(a *ACME) { a.Hosts = []string{"b\u00fccher.example.com"} },
		"hosts 4":   func(a *ACME) { a.Hosts = []string{"A.example.com:443"} },
	} {
		a := good
		change(&a)
		found := a.Problems()
		want, _, _ := strings.Cut(want, " ")
		if (len(found) == 0) != (want == "") || want != "" && found[0][0] != want {
			t.Errorf("%+v: %v, want %q", a, found, want)
		}
	}
	if found := (ACME{Hosts: []string{"*"}}).Problems(); len(found) != 0 {
		t.Errorf("without a directory: %v", found)
	}
}
