package ca

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/signer"
)

func open(t *testing.T, dir string, now func() time.Time) *Authority {
	t.Helper()
	a, err := Open(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// A certificate is good for its host alone, for those who trust the authority, also after a
// restart, and is replaced before it ends.
func TestCertificate(t *testing.T) {
	dir, now := filepath.Join(t.TempDir(), "ca"), time.Now()
	clock := func() time.Time { return now }
	first := open(t, dir, clock)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(first.PEM())) {
		t.Fatal("the authority's certificate is not in PEM")
	}
	again := open(t, dir, clock)
	if again.PEM() != first.PEM() {
		t.Error("a restart makes another authority, which sandboxes do not trust")
	}
	c, err := again.Certificate("api.example.com")
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"api.example.com": true, "example.com": false,
		"a.api.example.com": false} {
		_, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: now})
		if (err == nil) != want {
			t.Errorf("for %s: %v", host, err)
		}
	}
	if same, err := again.Certificate("api.example.com"); err != nil || same != c {
		t.Errorf("a certificate is made for each connection: %v", err)
	}
	now = now.Add(leafLife * 3 / 4)
	if next, err := again.Certificate("api.example.com"); err != nil || next == c {
		t.Errorf("a certificate that ends soon is not replaced: %v", err)
	}
}

// The certificates that are kept are bounded, and the files are the owner's alone.
func TestBounds(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir, nil)
	for i := range most + 10 {
		if _, err := a.Certificate(fmt.Sprintf("n%d.example.com", i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.known) != most || a.order.Len() != most {
		t.Errorf("%d and %d certificates are kept", len(a.known), a.order.Len())
	}
	for _, name := range []string{signer.CertFile, signer.KeyFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// Files that do not belong together are named, and not replaced in silence.
func TestBroken(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	open(t, dir, nil)
	open(t, other, nil)
	text, err := os.ReadFile(filepath.Join(other, signer.CertFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []string{string(text), "no certificate"} {
		err := os.WriteFile(filepath.Join(dir, signer.CertFile), []byte(broken), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, nil); err == nil || !strings.Contains(err.Error(), signer.CertFile) {
			t.Errorf("opened, or the error is %v", err)
		}
	}
}
