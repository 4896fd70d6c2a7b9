// Package ca is the certificate authority under which a server ends the TLS of hosts that its pools
// have credentials for. Sandboxes of those pools trust it, and nobody else does: it is made once,
// is of this server alone, and its key never leaves the server's data directory. Only hosts that
// a policy names with a credential get a certificate.
package ca

import (
	"container/list"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/sandpool/sandpool/internal/signer"
)

const (
	life = 20 * 365 * 24 * time.Hour // snapshots hold the certificate
	// leafLife is short, because a certificate is made when it is needed.
	leafLife = 7 * 24 * time.Hour
	backdate = time.Hour // for sandboxes whose clocks are behind
	most     = 1024      // certificates that are kept
)

// Authority makes certificates for hosts. It is for use by many goroutines.
type Authority struct {
	own  *signer.Signer
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
	var err error
	a.own, err = signer.Load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = a.create(dir)
	}
	if err == nil {
		a.leaf, err = signer.NewKey()
	}
	if err != nil {
		return nil, fmt.Errorf("the authority that sandboxes trust: %w", err)
	}
	return a, nil
}

// PEM is the authority's certificate, for sandboxes to trust.
func (a *Authority) PEM() string { return a.own.PEM() }

func (a *Authority) create(dir string) (err error) {
	a.own, err = signer.New(x509.Certificate{
		Subject:   pkix.Name{CommonName: "sandpool egress authority"},
		NotBefore: a.now().Add(-backdate), NotAfter: a.now().Add(life),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign})
	if err != nil {
		return err
	}
	return a.own.Save(dir, 0o600)
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
	t := x509.Certificate{DNSNames: []string{host},
		NotBefore: a.now().Add(-backdate), NotAfter: a.now().Add(leafLife),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if len(host) <= 64 { // the bound of a common name (RFC 5280, appendix A.1)
		t.Subject.CommonName = host
	}
	c, err := a.own.Sign(t, a.leaf)
	if err != nil {
		return nil, fmt.Errorf("sign for %q: %w", host, err)
	}
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
