// Package authority is the private certificate authority of a server that was given no certificate
// of its own. It is made once, kept in two files, and may sign for the names in use and for no
// others: whoever trusts it trusts it for those alone. Certificates live for 90 days and are
// renewed by themselves, without a restart.
package authority

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
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	// leafLife is below the 398 days that clients of today take at most.
	leafLife = 90 * 24 * time.Hour
	// renewBefore is how long before its end a certificate is replaced.
	renewBefore = 30 * 24 * time.Hour
	// backdate is for clients whose clocks are behind.
	backdate = time.Hour
)

// CertFile is the name of the authority's certificate below its directory. Clients are to trust it.
const CertFile = "ca.pem"

const keyFile = "ca-key.pem"

// AzureSuffixes are the domains of Azure that some clients insist on; every name directly below
// them is in a certificate.
func AzureSuffixes() []string { return []string{"dynamicsessions.io", "azurecontainerapps.io"} }

// Authority signs the certificates of one server.
type Authority struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	names []string
	now   func() time.Time

	mu   sync.Mutex // guards leaf
	leaf *tls.Certificate
}

// Open returns the authority in dir for the names given, which are host names and addresses. One
// is made if there is none, or if the one that is there may not sign for them or ends within a
// year; whether it was made is the second result. now is the clock; nil means time.Now.
func Open(dir string, names []string, now func() time.Time) (*Authority, bool, error) {
	if len(names) == 0 {
		return nil, false, errors.New("authority: there is no name to sign for")
	}
	if now == nil {
		now = time.Now
	}
	a := &Authority{names: names, now: now}
	err := a.load(dir)
	switch {
	case err == nil && a.covers() && a.cert.NotAfter.Sub(now()) > 365*24*time.Hour:
		return a, false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, false, fmt.Errorf("authority: %w", err)
	}
	if err := a.create(dir); err != nil {
		return nil, false, fmt.Errorf("authority: %w", err)
	}
	return a, true, nil
}

func (a *Authority) load(dir string) error {
	var blocks [2]*pem.Block
	for i, name := range []string{CertFile, keyFile} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if blocks[i], _ = pem.Decode(text); blocks[i] == nil {
			return fmt.Errorf("%q holds no PEM; remove it and a new authority is made",
				filepath.Join(dir, name))
		}
	}
	var err error
	if a.cert, err = x509.ParseCertificate(blocks[0].Bytes); err != nil {
		return err
	}
	if a.key, err = x509.ParseECPrivateKey(blocks[1].Bytes); err != nil {
		return err
	}
	if !a.key.PublicKey.Equal(a.cert.PublicKey) { // the server ended between writing the two
		return fmt.Errorf(
			"%q and %q do not belong together; remove both and a new authority is made",
			filepath.Join(dir, CertFile), filepath.Join(dir, keyFile))
	}
	return nil
}

// permitted are the domains and addresses that the authority may sign for.
func (a *Authority) permitted() (domains []string, ranges []*net.IPNet) {
	for _, n := range a.names {
		if ip := net.ParseIP(n); ip != nil {
			bits := 8 * len(ip.To16())
			if four := ip.To4(); four != nil {
				ip, bits = four, 32
			}
			ranges = append(ranges, &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)})
			continue
		}
		domains = append(domains, strings.TrimPrefix(n, "*."))
	}
	domains = append(domains, AzureSuffixes()...)
	slices.Sort(domains)
	return slices.Compact(domains), ranges
}

// covers reports whether the authority may sign for every name.
func (a *Authority) covers() bool {
	domains, ranges := a.permitted()
	for _, d := range domains {
		if !slices.Contains(a.cert.PermittedDNSDomains, d) {
			return false
		}
	}
	for _, r := range ranges {
		if !slices.ContainsFunc(a.cert.PermittedIPRanges, func(have *net.IPNet) bool {
			return have.String() == r.String()
		}) {
			return false
		}
	}
	return true
}

func serial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
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
	domains, ranges := a.permitted()
	now := a.now()
	t := &x509.Certificate{SerialNumber: number,
		Subject:   pkix.Name{CommonName: "sandpool private authority " + number.Text(36)[:8]},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(authorityLife), IsCA: true,
		BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: domains, PermittedIPRanges: ranges}
	if len(ranges) == 0 { // no range at all would permit every address
		_, four, _ := net.ParseCIDR("0.0.0.0/0")
		_, six, _ := net.ParseCIDR("::/0")
		t.ExcludedIPRanges = []*net.IPNet{four, six}
	}
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
	if err := write(filepath.Join(dir, keyFile), "EC PRIVATE KEY", der, 0o600); err != nil {
		return err
	}
	return write(filepath.Join(dir, CertFile), "CERTIFICATE", raw, 0o644)
}

func write(path, kind string, der []byte, mode fs.FileMode) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(path+".new", text, mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Certificate returns the server's certificate, a new one if that from before ends soon. It fits
// tls.Config.GetCertificate.
func (a *Authority) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.leaf != nil && a.leaf.Leaf.NotAfter.Sub(a.now()) > renewBefore {
		return a.leaf, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	number, err := serial()
	if err != nil {
		return nil, err
	}
	now := a.now()
	t := &x509.Certificate{SerialNumber: number, Subject: pkix.Name{CommonName: "sandpool"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(leafLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, n := range a.names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
			continue
		}
		t.DNSNames = append(t.DNSNames, n)
	}
	for _, s := range AzureSuffixes() {
		t.DNSNames = append(t.DNSNames, "*."+s)
	}
	raw, err := x509.CreateCertificate(rand.Reader, t, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, err
	}
	a.leaf = &tls.Certificate{Certificate: [][]byte{raw, a.cert.Raw}, PrivateKey: key, Leaf: leaf}
	return a.leaf, nil
}
