// Package signer is a certificate authority of this program's own: its certificate and its key, how
// they are made and kept, and how they sign. What one may sign for, for how long, and who trusts it
// is for its users to say: package authority (clients of the server), package peer (servers among
// themselves), package ca (sandboxes).
package signer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
)

// The files of a Signer in its directory.
const (
	CertFile = "ca.pem"
	KeyFile  = "ca-key.pem"
)

// The kinds of PEM block.
const (
	certBlock = "CERTIFICATE"
	keyBlock  = "EC PRIVATE KEY"
)

// Signer is an authority.
type Signer struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New makes an authority with a new key from t. Its number is random, and tells its name from that
// of another one. It signs certificates of hosts alone, and no other authority's.
func New(t x509.Certificate) (*Signer, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial()
	t.Subject.CommonName += " " + t.SerialNumber.Text(36)[:8]
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	raw, err := x509.CreateCertificate(rand.Reader, &t, &t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(raw)
	return &Signer{Cert: cert, key: key}, err
}

// NewKey makes a key for a certificate.
func NewKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// serial is random, of 120 bits (RFC 5280, section 4.1.2.2, allows 159).
func serial() *big.Int {
	var b [15]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return new(big.Int).SetBytes(b[:])
}

// errApart is that of a certificate and a key of two authorities.
var errApart = errors.New("the certificate and the key do not belong together")

// Parse reads what Text has returned.
func Parse(text []byte) (*Signer, error) {
	s := &Signer{}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var err error
		switch block.Type {
		case certBlock:
			s.Cert, err = x509.ParseCertificate(block.Bytes)
		case keyBlock:
			s.key, err = x509.ParseECPrivateKey(block.Bytes)
		}
		if err != nil {
			return nil, err
		}
	}
	switch {
	case s.Cert == nil || s.key == nil:
		return nil, errors.New("there is no certificate with its key in PEM")
	case !s.key.PublicKey.Equal(s.Cert.PublicKey):
		return nil, errApart
	}
	return s, nil
}

// PEM is the certificate, for others to trust.
func (s *Signer) PEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: s.Cert.Raw}))
}

// keyPEM is the key.
func (s *Signer) keyPEM() (string, error) {
	der, err := x509.MarshalECPrivateKey(s.key)
	return string(pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der})), err
}

// Text is the certificate and the key in PEM. It is as secret as the key.
func (s *Signer) Text() (string, error) {
	key, err := s.keyPEM()
	return s.PEM() + key, err
}

// Load reads the authority in dir. If there is none, also because a Save has not come to its end,
// the error is fs.ErrNotExist.
func Load(dir string) (*Signer, error) {
	var text []byte
	for _, name := range []string{KeyFile, CertFile} {
		path := filepath.Join(dir, name)
		part, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if block, _ := pem.Decode(part); block == nil {
			return nil, fmt.Errorf("%q holds no PEM; remove it, and a new authority is made", path)
		}
		text = append(append(text, part...), '\n')
	}
	s, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%q and %q: %w; remove both, and a new authority is made",
			filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile), err)
	}
	return s, nil
}

// Save writes the authority into dir, which it makes, the certificate for those whom mode lets read
// it. The certificate comes first: Load takes one without a key for none.
func (s *Signer) Save(dir string, mode fs.FileMode) error {
	key, err := s.keyPEM()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := write(filepath.Join(dir, CertFile), s.PEM(), mode); err != nil {
		return err
	}
	return write(filepath.Join(dir, KeyFile), key, 0o600)
}

func write(path, text string, mode fs.FileMode) error {
	if err := os.WriteFile(path+".new", []byte(text), mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Sign makes a certificate for key from t, with a random number, for digital signatures. It comes
// with the authority's own.
func (s *Signer) Sign(t x509.Certificate, key *ecdsa.PrivateKey) (*tls.Certificate, error) {
	t.SerialNumber, t.KeyUsage = serial(), x509.KeyUsageDigitalSignature
	raw, err := x509.CreateCertificate(rand.Reader, &t, s.Cert, &key.PublicKey, s.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{raw, s.Cert.Raw}, PrivateKey: key,
		Leaf: leaf}, nil
}
