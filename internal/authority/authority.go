// Package authority is the private certificate authority of a server that was given no certificate
// of its own. It is made once, kept in two files, and may sign for the names in use and for no
// others: whoever trusts it trusts it for those alone. Certificates live for 90 days and are
// renewed by themselves, without a restart.
package authority

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool/internal/signer"
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
const CertFile = signer.CertFile

// AzureSuffixes are the domains of Azure that some clients insist on; every name directly below
// them is in a certificate.
func AzureSuffixes() []string { return []string{"dynamicsessions.io", "azurecontainerapps.io"} }

// Authority signs the certificates of one server.
type Authority struct {
	own   *signer.Signer
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
	var err error
	a.own, err = signer.Load(dir)
	switch {
	case err == nil && a.covers() && a.own.Cert.NotAfter.Sub(now()) > 365*24*time.Hour:
		return a, false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, false, fmt.Errorf("authority: %w", err)
	}
	if err := a.create(dir); err != nil {
		return nil, false, fmt.Errorf("authority: %w", err)
	}
	return a, true, nil
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
		if !slices.Contains(a.own.Cert.PermittedDNSDomains, d) {
			return false
		}
	}
	for _, r := range ranges {
		if !slices.ContainsFunc(a.own.Cert.PermittedIPRanges, func(have *net.IPNet) bool {
			return have.String() == r.String()
		}) {
			return false
		}
	}
	return true
}

func (a *Authority) create(dir string) error {
	domains, ranges := a.permitted()
	now := a.now()
	t := x509.Certificate{Subject: pkix.Name{CommonName: "sandpool private authority"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(authorityLife),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: domains, PermittedIPRanges: ranges}
	if len(ranges) == 0 { // no range at all would permit every address
		_, four, _ := net.ParseCIDR("0.0.0.0/0")
		_, six, _ := net.ParseCIDR("::/0")
		t.ExcludedIPRanges = []*net.IPNet{four, six}
	}
	var err error
	if a.own, err = signer.New(t); err != nil {
		return err
	}
	return a.own.Save(dir, 0o644) // for whoever is to trust it
}

// Certificate returns the server's certificate, a new one if that from before ends soon. It fits
// tls.Config.GetCertificate.
func (a *Authority) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.leaf != nil && a.leaf.Leaf.NotAfter.Sub(a.now()) > renewBefore {
		return a.leaf, nil
	}
	key, err := signer.NewKey()
	if err != nil {
		return nil, err
	}
	now := a.now()
	t := x509.Certificate{Subject: pkix.Name{CommonName: "sandpool"},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(leafLife),
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
	leaf, err := a.own.Sign(t, key)
	if err != nil {
		return nil, err
	}
	a.leaf = leaf
	return leaf, nil
}
