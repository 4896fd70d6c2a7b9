package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"sync"
	"time"
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
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", err
	}
	t := &x509.Certificate{SerialNumber: serial(),
		Subject:   pkix.Name{CommonName: "sandpool servers"},
		NotBefore: time.Now().Add(-backdate), NotAfter: time.Now().Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign}
	raw, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})), nil
}

func serial() *big.Int {
	var b [15]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return new(big.Int).SetBytes(b[:])
}

// Identity is what a server shows to others, and by which it knows them.
type Identity struct {
	roots *x509.CertPool
	host  string
	ca    tls.Certificate // zero if the certificate was given

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
	if i.ca, err = tls.X509KeyPair([]byte(authority), []byte(authority)); err != nil {
		return nil, fmt.Errorf("peers: the servers' authority in the store: %w", err)
	}
	i.roots.AddCert(i.ca.Leaf)
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
	if i.leaf != nil && (i.ca.Leaf == nil || time.Until(i.leaf.Leaf.NotAfter) > renewBefore) {
		return i.leaf, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{SerialNumber: serial(),
		Subject:   pkix.Name{CommonName: "sandpool server"},
		NotBefore: time.Now().Add(-backdate), NotAfter: time.Now().Add(leafLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if ip := net.ParseIP(i.host); ip != nil {
		t.IPAddresses = []net.IP{ip}
	} else {
		t.DNSNames = []string{i.host}
	}
	raw, err := x509.CreateCertificate(rand.Reader, t, i.ca.Leaf, &key.PublicKey, i.ca.PrivateKey)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, err
	}
	i.leaf = &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: leaf}
	return i.leaf, nil
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
