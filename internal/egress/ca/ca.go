// Package ca is the certificate authority under which a server ends the TLS of hosts that its pools
// have credentials for. Sandboxes of those pools trust it, and nobody else does: it is made once,
// is of this server alone, and its key never leaves the server's data directory. Only hosts that
// a policy names with a credential get a certificate.
package ca

import (
	"container/list"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	life = 20 * 365 * 24 * time.Hour // snapshots hold the certificate
	// leafLife is short, because a certificate is made when it is needed.
	leafLife = 7 * 24 * time.Hour
	backdate = time.Hour // for sandboxes whose clocks are behind
	most     = 1024      // certificates that are kept
)

const (
	certFile = "ca.pem"
	keyFile  = "ca-key.pem"
)

// Authority makes certificates for hosts. It is for use by many goroutines.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	leaf *ecdsa.PrivateKey // of all certificates, of this process alone
	now  func() time.Time

	mu    sync.Mutex // guards what follows
	known map[string]*list.Element
	order *list.List // of *tls.Certificate, the one used last in front
}

// Open returns the authority in dir, and makes it if there is none. now is the clock; nil means
// time.Now.
func Open(dir string, now func() time.Time) (*Authority, error) {
	if now == nil {
		now = time.Now
	}
	a := &Authority{now: now, known: map[string]*list.Element{}, order: list.New()}
	err := a.load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = a.create(dir)
	}
	if err == nil {
		a.leaf, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, fmt.Errorf("the authority that sandboxes trust: %w", err)
	}
	return a, nil
}

// PEM is the authority's certificate, for sandboxes to trust.
func (a *Authority) PEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

func (a *Authority) load(dir string) error {
	var blocks [2]*pem.Block
	for i, name := range []string{keyFile, certFile} {
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if blocks[i], _ = pem.Decode(text); blocks[i] == nil {
			return fmt.Errorf("%q holds no PEM; remove it, and a new authority is made", path)
		}
	}
	key, err := x509.ParseECPrivateKey(blocks[0].Bytes)
	if err != nil {
		return fmt.Errorf("read %q: %w", filepath.Join(dir, keyFile), err)
	}
	if a.cert, err = x509.ParseCertificate(blocks[1].Bytes); err != nil {
		return fmt.Errorf("read %q: %w", filepath.Join(dir, certFile), err)
	}
	if !key.PublicKey.Equal(a.cert.PublicKey) {
		return fmt.Errorf(
			"%q and %q do not belong together; remove both, and a new authority is made",
			filepath.Join(dir, certFile), filepath.Join(dir, keyFile))
	}
	a.key = key
	return nil
}

func (a *Authority) create(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	number, err := serial()
	if err != nil {
		return err
	}
	t := &x509.Certificate{SerialNumber: number,
		Subject:   pkix.Name{CommonName: "sandpool egress authority " + number.Text(36)[:8]},
		NotBefore: a.now().Add(-backdate), NotAfter: a.now().Add(life), IsCA: true,
		BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	raw, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return err
	}
	if a.cert, err = x509.ParseCertificate(raw); err != nil {
		return err
	}
	a.key = key
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	// The certificate first: load takes a key without one for none, and makes both anew.
	if err := write(filepath.Join(dir, certFile), "CERTIFICATE", raw); err != nil {
		return err
	}
	return write(filepath.Join(dir, keyFile), "EC PRIVATE KEY", der)
}

func write(path, kind string, der []byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func serial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}

// Certificate returns a certificate for a host name, with the key.
func (a *Authority) Certificate(host string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.known[host]; e != nil {
		if c := e.Value.(*tls.Certificate); c.Leaf.NotAfter.Sub(a.now()) > leafLife/2 {
			a.order.MoveToFront(e)
			return c, nil
		}
		a.forget(e)
	}
	number, err := serial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: number, DNSNames: []string{host},
		NotBefore: a.now().Add(-backdate), NotAfter: a.now().Add(leafLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if len(host) <= 64 { // the bound of a common name (RFC 5280, appendix A.1)
		t.Subject.CommonName = host
	}
	raw, err := x509.CreateCertificate(rand.Reader, t, a.cert, &a.leaf.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign for %q: %w", host, err)
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{raw, a.cert.Raw}, PrivateKey: a.leaf, Leaf: leaf}
	a.known[host] = a.order.PushFront(c)
	if a.order.Len() > most {
		a.forget(a.order.Back())
	}
	return c, nil
}

// forget drops a certificate. The caller holds mu.
func (a *Authority) forget(e *list.Element) {
	c := a.order.Remove(e).(*tls.Certificate)
	delete(a.known, c.Leaf.DNSNames[0])
}
