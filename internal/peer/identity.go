package peer

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/sandpool/sandpool/internal/signer"
)

const (
	authorityLife = 20 * 365 * 24 * time.Hour
	leafLife      = 30 * 24 * time.Hour
	// renewBefore is how long before its end a certificate is replaced.
	renewBefore = 10 * 24 * time.Hour
	// backdate is for servers whose clocks are behind.
	backdate = time.Hour
)

// NewAuthority makes an authority that signs servers' certificates: its certificate and key, in
// PEM. It is as secret as the key.
func NewAuthority() (string, error) {
	s, err := signer.New(x509.Certificate{Subject: pkix.Name{CommonName: "sandpool servers"},
		NotBefore: time.Now().Add(-backdate), NotAfter: time.Now().Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign})
	if err != nil {
		return "", err
	}
	return s.Text()
}

// Identity is what a server shows to others, and by which it knows them.
type Identity struct {
	roots *x509.CertPool
	host  string
	ca    *signer.Signer // nil if the certificate was given

	mu   sync.Mutex // guards leaf
	leaf *tls.Certificate
}

// Signed is an Identity for the host of address, signed by an authority of NewAuthority.
func Signed(authority, address string) (*Identity, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	i := &Identity{roots: x509.NewCertPool(), host: host}
	if i.ca, err = signer.Parse([]byte(authority)); err != nil {
		return nil, fmt.Errorf("peers: the servers' authority in the store: %w", err)
	}
	i.roots.AddCert(i.ca.Cert)
	_, err = i.certificate()
	return i, err
}

// FromFiles is an Identity of three files in PEM.
func FromFiles(cert, key, ca string) (*Identity, error) {
	leaf, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("peers.cert and peers.key: %w", err)
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("peers.ca: %w", err)
	}
	i := &Identity{roots: x509.NewCertPool(), leaf: &leaf}
	if !i.roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("peers.ca: %q holds no certificate in PEM", ca)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: i.roots,
			Intermediates: chain(leaf), KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			return nil, fmt.Errorf(
				"peers.cert: %q, which must be good for servers and for clients: %w", cert, err)
		}
	}
	return i, nil
}

// chain are the certificates between a leaf and its authority.
func chain(leaf tls.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, raw := range leaf.Certificate[1:] {
		if c, err := x509.ParseCertificate(raw); err == nil {
			pool.AddCert(c)
		}
	}
	return pool
}

// certificate returns this server's certificate, a new one if that from before ends soon.
func (i *Identity) certificate() (*tls.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.leaf != nil && (i.ca == nil || time.Until(i.leaf.Leaf.NotAfter) > renewBefore) {
		return i.leaf, nil
	}
	key, err := signer.NewKey()
	if err != nil {
		return nil, err
	}
	t := x509.Certificate{Subject: pkix.Name{CommonName: "sandpool server"},
		NotBefore: time.Now().Add(-backdate), NotAfter: time.Now().Add(leafLife),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if ip := net.ParseIP(i.host); ip != nil {
		t.IPAddresses = []net.IP{ip}
	} else {
		t.DNSNames = []string{i.host}
	}
	leaf, err := i.ca.Sign(t, key)
	if err != nil {
		return nil, err
	}
	i.leaf = leaf
	return leaf, nil
}

// Server is the configuration of the side that is connected to.
func (i *Identity) Server() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: i.roots,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return i.certificate()
		}}
}

// client is the configuration of the side that connects.
func (i *Identity) client() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: i.roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return i.certificate()
		}}
}

// errNoIdentity is that of a server that other servers cannot reach.
var errNoIdentity = errors.New("peers: an identity is required")
