package authority

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
)

// Names are the host names and addresses by which callers reach a server: those of the address
// that it listens on and of its public URL, and more. One that listens on
// all addresses is reached on this machine by loopback, and from others by the machine's name.
func Names(listen, publicURL string, more []string) []string {
	names := slices.Clone(more)
	add := func(n string) {
		if n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	host, _, _ := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); host == "" || ip != nil && (ip.IsUnspecified() || ip.IsLoopback()) {
		for _, n := range []string{"localhost", "127.0.0.1", "::1"} {
			add(n)
		}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if name, err := os.Hostname(); err == nil {
			add(strings.ToLower(name))
		}
	} else {
		add(host)
	}
	if u, err := url.Parse(publicURL); err == nil {
		add(strings.ToLower(u.Hostname()))
	}
	return names
}

// FromFiles is the configuration of a server that was given a certificate and its key.
func FromFiles(cert, key string) (*tls.Config, error) {
	c, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	conf := config()
	conf.Certificates = []tls.Certificate{c}
	return conf, nil
}

// TLS is the configuration of a server whose certificates a signs.
func (a *Authority) TLS() *tls.Config {
	conf := config()
	conf.GetCertificate = a.Certificate
	return conf
}

func config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
}

// Settings say where a server's certificates come from: from files, from the server itself, or from
// an authority elsewhere.
type Settings struct {
	// Cert and Key are files with a certificate chain and its key, in PEM.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// Auto has the server make certificates by itself, signed by a private authority that it makes
	// once and keeps below its data directory. They hold for the names by which callers reach it.
	Auto bool `yaml:"auto"`
	// Names are host names and addresses for Auto beside those that other settings say.
	Names []string `yaml:"names"`
	// ACME has an authority elsewhere give certificates, by themselves.
	ACME ACME `yaml:"acme"`
}

// On reports whether there are to be certificates.
func (s Settings) On() bool { return s.Cert != "" || s.Auto || s.ACME.Directory != "" }

// Problem is a setting that cannot be as it is.
type Problem struct {
	Name  string // of the setting within Settings, with a dot before it; empty means several
	Value any
	Fix   string // what it must be
}

// Problems returns what is wrong with s.
func (s Settings) Problems() (found []Problem) {
	if (s.Cert == "") != (s.Key == "") {
		found = append(found, Problem{"", s.Cert + " and " + s.Key,
			"both cert and key, or neither"})
	}
	if s.Auto && s.Cert != "" {
		found = append(found, Problem{".auto", s.Auto, "auto, or cert and key, and not both"})
	}
	if s.ACME.Directory != "" && (s.Auto || s.Cert != "") {
		found = append(found, Problem{".acme.directory", s.ACME.Directory,
			"acme, or auto, or cert and key"})
	}
	for _, p := range s.ACME.Problems() {
		found = append(found, Problem{".acme." + p[0], fmt.Sprintf("%+v", s.ACME), p[1]})
	}
	return found
}
