package authority

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// clock is what a test moves: renew waits until it does.
type clock struct {
	waits chan time.Duration // each time that renew waits, for how long
	fire  chan time.Time

	mu  sync.Mutex // guards now
	now time.Time
}

// on has i go by a clock of its own.
func (c *clock) on(i *Issued) {
	i.now = func() time.Time {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.now
	}
	i.after = func(d time.Duration) <-chan time.Time {
		c.waits <- d
		return c.fire
	}
}

// pass lets time pass, and returns how long renew waits then.
func (c *clock) pass(d time.Duration) time.Duration {
	c.mu.Lock()
	c.now = c.now.Add(d)
	now := c.now
	c.mu.Unlock()
	c.fire <- now
	return <-c.waits
}

// TestACMERenewal: a certificate is renewed before its end while the server serves, and new
// connections see the new one while old ones live on. While the authority is down the one that
// there is serves on, the failure is told with when it is tried again, also over a restart and
// beyond the certificate's end; and all is well again once the authority is.
func TestACMERenewal(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const host = "pools.example.com"
	addr, dir := l.Addr().String(), t.TempDir()
	p := newPebble(t, freePort(t), l.Addr().(*net.TCPAddr).Port, 3*time.Hour)
	a := ACME{Directory: p.URL + "/dir", CAFile: p.caFile, Hosts: []string{host}}
	began := time.Now()
	c := &clock{now: began, waits: make(chan time.Duration), fire: make(chan time.Time)}
	var said bytes.Buffer // written by renew alone, and read while it waits
	var i *Issued
	start := func(l net.Listener) (stop func()) {
		if i, err = OpenACME(t.Context(), slog.New(slog.NewTextHandler(
			io.MultiWriter(&said, t.Output()), nil)), dir, a); err != nil {
			t.Fatal(err)
		}
		c.on(i)
		return serve(t, l, i)
	}
	served := func() string {
		t.Helper()
		cert, err := p.ask(t, addr, host)
		if err != nil {
			t.Fatal(err)
		}
		if told := i.Certificates()[0]; !told.End.Equal(cert.NotAfter) ||
			!told.Start.Equal(cert.NotBefore) {
			t.Errorf("a certificate that ends at %s is told as %+v", cert.NotAfter, told)
		}
		return cert.SerialNumber.String()
	}
	stop := start(l)
	defer func() { stop() }()

	if wait := <-c.waits; wait.Round(time.Minute) != 2*time.Hour {
		t.Errorf("of three hours it waits %s, want two", wait)
	}
	first := served()
	old := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots,
		ServerName: host}}}
	defer old.CloseIdleConnections()
	page := func() *x509.Certificate {
		t.Helper()
		resp, err := old.Get("https://" + addr)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.TLS.PeerCertificates[0]
	}
	page()
	c.pass(time.Hour)
	if served() != first {
		t.Error("a certificate was renewed with two thirds of its life left")
	}
	c.pass(65 * time.Minute)
	second := served()
	if second == first {
		t.Fatal("a certificate was not renewed with less than a third of its life left")
	}
	if page().SerialNumber.String() != first {
		t.Error("a connection did not outlive the renewal")
	}
	if n := i.Certificates()[0].Failures; n != 0 {
		t.Errorf("%d failures were counted, and there was none", n)
	}

	// Pebble goes by the machine's clock, so the second one is due as well.
	p.Close()
	said.Reset()
	wait := c.pass(5 * time.Minute)
	if wait.Round(time.Minute) != 15*time.Minute {
		t.Errorf("after a failure it waits %s", wait)
	}
	again := began.Add(2*time.Hour + 10*time.Minute + wait).UTC().Format(time.RFC3339)
	for _, want := range []string{"level=ERROR", "was not renewed; the one that there is serves on",
		"host=" + host, "again=" + again, "ends=", "connection refused", a.Directory} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, said.String())
		}
	}
	if served() != second || i.Certificates()[0].Failures != 1 {
		t.Errorf("while the authority is down: %+v", i.Certificates())
	}
	stop()
	if l, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	stop = start(l)
	<-c.waits
	if served() != second {
		t.Error("while the authority is down, a restart loses the certificate")
	}
	p.back(t)
	c.pass(10 * time.Minute)
	if served() != second {
		t.Error("the authority was asked before it was time for another attempt")
	}
	c.pass(6 * time.Minute)
	third := served()
	if third == second {
		t.Errorf("the authority is back, and the certificate is not renewed:\n%s", said.String())
	}

	p.Close()
	said.Reset()
	c.pass(time.Hour)
	if served() != third || !strings.Contains(said.String(), "has ended and was not renewed") {
		t.Errorf("beyond the end of a certificate the log says\n%s", said.String())
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 2 {
		t.Errorf("%v are kept, %v; want a certificate and the account's key", files, err)
	}
}

// TestPause: attempts are as frequent as authorities take and as short lives want.
func TestPause(t *testing.T) {
	lives := func(d time.Duration) *tls.Certificate {
		now := time.Now()
		return &tls.Certificate{Leaf: &x509.Certificate{NotBefore: now, NotAfter: now.Add(d)}}
	}
	limited := func(after string) error {
		return &acme.Error{StatusCode: http.StatusTooManyRequests,
			ProblemType: "urn:ietf:params:acme:error:rateLimited",
			Header:      http.Header{"Retry-After": {after}}}
	}
	for name, one := range map[string]struct {
		held *tls.Certificate
		err  error
		want time.Duration
	}{
		"none yet":       {nil, errors.New("no"), 15 * time.Minute},
		"90 days":        {lives(90 * 24 * time.Hour), errors.New("no"), 15 * time.Minute},
		"an hour":        {lives(time.Hour), errors.New("no"), 5 * time.Minute},
		"a minute":       {lives(time.Minute), errors.New("no"), time.Minute},
		"asked to wait":  {nil, limited("7200"), 2 * time.Hour},
		"asked too much": {nil, limited("999999"), 6 * time.Hour},
	} {
		if got := pause(one.held, one.err); got != one.want {
			t.Errorf("%s: %s, want %s", name, got, one.want)
		}
	}
}

// TestACMEUpgrade: what earlier versions kept, by autocert, is served, and its account is used.
func TestACMEUpgrade(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const host = "pools.example.com"
	addr, dir := l.Addr().String(), t.TempDir()
	p := newPebble(t, freePort(t), l.Addr().(*net.TCPAddr).Port, 0)
	earlier := &autocert.Manager{Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(dir),
		Client: &acme.Client{DirectoryURL: p.URL + "/dir", HTTPClient: p.Client()}}
	srv := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(tls.NewListener(l, earlier.TLSConfig())) }()
	first, err := p.ask(t, addr, host)
	_ = srv.Close()
	<-served //nolint:errcheck // it was closed
	if err != nil {
		t.Fatal(err)
	}
	account, err := os.ReadFile(filepath.Join(dir, accountKey))
	if err != nil {
		t.Fatal(err)
	}

	if l, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	defer secured(t, l, dir, ACME{Directory: p.URL + "/dir", CAFile: p.caFile,
		Hosts: []string{host, "api.example.com"}})()
	if cert, err := p.ask(t, addr, host); err != nil ||
		cert.SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Errorf("the certificate of an earlier version is not served: %v", err)
	}
	if _, err := p.ask(t, addr, "api.example.com"); err != nil {
		t.Errorf("with the account of an earlier version: %v", err)
	}
	if now, err := os.ReadFile(filepath.Join(dir, accountKey)); err != nil ||
		!bytes.Equal(now, account) {
		t.Errorf("the account's key was replaced: %v", err)
	}
}
