package signer

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func newSigner(t *testing.T) *Signer {
	t.Helper()
	s, err := New(x509.Certificate{Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSign: what is signed is good for whoever trusts the authority, also after it was kept as text
// or in files, and for nobody who trusts another one. What is signed signs nothing.
func TestSign(t *testing.T) {
	s, dir := newSigner(t), t.TempDir()
	if err := s.Save(dir, 0o644); err != nil {
		t.Fatal(err)
	}
	loaded, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := s.Text()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	trusted, others := x509.NewCertPool(), x509.NewCertPool()
	trusted.AddCert(s.Cert)
	others.AddCert(newSigner(t).Cert)
	for name, by := range map[string]*Signer{"as made": s, "from files": loaded,
		"from text": parsed} {
		key, err := NewKey()
		if err != nil {
			t.Fatal(err)
		}
		c, err := by.Sign(x509.Certificate{DNSNames: []string{"a.example"},
			NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Minute)}, key)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Leaf.Verify(x509.VerifyOptions{DNSName: "a.example", Roots: trusted})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, err = c.Leaf.Verify(x509.VerifyOptions{DNSName: "a.example", Roots: others})
		if err == nil {
			t.Errorf("%s: good for those who trust another authority", name)
		}
		if c.Leaf.IsCA || !s.Cert.MaxPathLenZero {
			t.Errorf("%s: what is signed may sign", name)
		}
	}
}

// TestLoad: half an authority is none, and one of two halves is refused with both files named.
func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if err := newSigner(t).Save(dir, 0o644); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, KeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key is readable: %v, %v", info.Mode(), err)
	}
	other := t.TempDir()
	if err := newSigner(t).Save(other, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(other, KeyFile), filepath.Join(dir, KeyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(other); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a certificate alone: %v", err)
	}
	if _, err := Load(dir); !errors.Is(err, errApart) {
		t.Errorf("a certificate with another's key: %v", err)
	}
}
