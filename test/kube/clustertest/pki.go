package clustertest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority is the cluster's certificate authority.
type authority struct {
	dir  string // where its files are
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// certificate is what one says. Every one holds for servers and clients.
type certificate struct {
	file  string // without its ending
	name  string
	group string
	dns   []string
	ips   []string
}

// certify makes the authority, the key of service accounts, and all certificates.
func certify(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	a := &authority{dir: dir}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	self := template("sandpool test cluster", "")
	self.IsCA, self.BasicConstraintsValid = true, true
	self.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	if a.cert, err = a.sign("ca", self, self, a.key); err != nil {
		return err
	}
	tokens, err := rsa.GenerateKey(rand.Reader, 2048)
	if err == nil {
		err = a.writeKey("sa", tokens)
	}
	if err != nil {
		return err
	}
	for _, c := range []certificate{
		{file: "apiserver", name: "kube-apiserver",
			dns: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"},
			ips: []string{nodeIP, apiService, "127.0.0.1"}},
		{file: admin, name: "admin", group: "system:masters"},
		{file: manager, name: "system:kube-controller-manager"},
		{file: scheduler, name: "system:kube-scheduler"},
		{file: node, name: "system:node:" + Node, group: "system:nodes",
			dns: []string{Node}, ips: []string{nodeIP}},
	} {
		if err := a.issue(c); err != nil {
			return fmt.Errorf("certificate of %s: %w", c.name, err)
		}
	}
	return nil
}

func template(name, group string) *x509.Certificate {
	t := &x509.Certificate{Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour)}
	if group != "" {
		t.Subject.Organization = []string{group}
	}
	return t
}

func (a *authority) issue(c certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := template(c.name, c.group)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	t.DNSNames = c.dns
	for _, ip := range c.ips {
		t.IPAddresses = append(t.IPAddresses, net.ParseIP(ip))
	}
	_, err = a.sign(c.file, t, a.cert, key)
	return err
}

// sign writes a certificate for key and the key itself.
func (a *authority) sign(file string, t, by *x509.Certificate,
	key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, t, by, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	if err := writePEM(filepath.Join(a.dir, file+".crt"), "CERTIFICATE", der); err != nil {
		return nil, err
	}
	if err := a.writeKey(file, key); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (a *authority) writeKey(file string, key crypto.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(filepath.Join(a.dir, file+".key"), "PRIVATE KEY", der)
}

func writePEM(name, kind string, der []byte) error {
	return os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
