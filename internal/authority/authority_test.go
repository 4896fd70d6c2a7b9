package authority

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/signer"
)

// open opens the authority in dir and says whether it was made.
func open(t *testing.T, dir string, now func() time.Time, names ...string) (*Authority, bool) {
	t.Helper()
	a, made, err := Open(dir, names, now)
	if err != nil {
		t.Fatal(err)
	}
	return a, made
}

// verify returns why a certificate of a does not hold for name, nil if it does.
func verify(t *testing.T, a *Authority, name string) error {
	t.Helper()
	c, err := a.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.own.Cert)
	_, err = c.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: a.now()})
	return err
}

// TestAuthority: a certificate holds for the names in use and no others, and is kept.
func TestAuthority(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	clock := func() time.Time { return now }
	a, made := open(t, dir, clock, "sandpool.example.com", "127.0.0.1")
	if !made {
		t.Error("the first authority was there already")
	}
	for _, name := range []string{"sandpool.example.com", "127.0.0.1", "local.dynamicsessions.io",
		"p.azurecontainerapps.io"} {
		if err := verify(t, a, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"example.com", "a.b.dynamicsessions.io", "127.0.0.2", "www.bank.example"} {
		if err := verify(t, a, name); err == nil {
			t.Errorf("%s is in the certificate", name)
		}
	}
	info, err := os.Stat(filepath.Join(dir, signer.KeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
	again, made := open(t, dir, clock, "sandpool.example.com", "127.0.0.1")
	if made || !again.own.Cert.Equal(a.own.Cert) {
		t.Error("the authority was made again")
	}
	other, made := open(t, dir, clock, "another.example.com")
	if !made || other.own.Cert.Equal(a.own.Cert) {
		t.Error("an authority of other names was kept")
	}
	now = now.Add(authorityLife - 100*24*time.Hour)
	if _, made := open(t, dir, clock, "another.example.com"); !made {
		t.Error("an authority that ends soon was kept")
	}
}

// TestHalf: a key that is not the certificate's is said at the start, and not by each client.
func TestHalf(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	open(t, dir, nil, "localhost")
	open(t, other, nil, "localhost")
	if err := os.Rename(filepath.Join(other, signer.KeyFile), filepath.Join(dir,
		signer.KeyFile)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(dir, []string{"localhost"}, nil); err == nil ||
		!strings.Contains(err.Error(), "do not belong together") {
		t.Errorf("a foreign key: %v", err)
	}
}

// TestConstraints: what the authority signs beyond its names, nobody takes.
func TestConstraints(t *testing.T) {
	a, _ := open(t, t.TempDir(), nil, "sandpool.example.com")
	for _, name := range []string{"www.bank.example", "10.0.0.1"} {
		a.names, a.leaf = []string{name}, nil
		if err := verify(t, a, name); err == nil {
			t.Errorf("the authority signs for %s", name)
		}
	}
}

// TestRenewal: a certificate is replaced before it ends, and not earlier.
func TestRenewal(t *testing.T) {
	now := time.Now()
	a, _ := open(t, t.TempDir(), func() time.Time { return now }, "localhost")
	first, err := a.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(leafLife - renewBefore - time.Hour)
	if second, _ := a.Certificate(nil); second != first {
		t.Error("renewed too early")
	}
	now = now.Add(2 * time.Hour)
	third, _ := a.Certificate(nil)
	if third == first || !third.Leaf.NotAfter.After(first.Leaf.NotAfter) {
		t.Error("not renewed")
	}
}

// TestResumption: a client's second connection needs no new signature.
func TestResumption(t *testing.T) {
	a, _ := open(t, t.TempDir(), nil, "127.0.0.1")
	resumed := func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.DidResume {
			w.WriteHeader(http.StatusAccepted)
		}
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(resumed))
	srv.TLS = &tls.Config{GetCertificate: a.Certificate, MinVersion: tls.VersionTLS12}
	srv.StartTLS()
	defer srv.Close()
	// StartTLS adds a certificate of its own, which comes first without a name.
	srv.TLS.Certificates = nil
	roots := x509.NewCertPool()
	roots.AddCert(a.own.Cert)
	conf := &tls.Config{RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for i, want := range []int{200, 202} {
		tr := &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true,
			DialContext: (&net.Dialer{}).DialContext}
		resp, err := (&http.Client{Transport: tr}).Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("connection %d: %d, want %d", i, resp.StatusCode, want)
		}
	}
}
