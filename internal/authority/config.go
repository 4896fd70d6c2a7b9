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
// that it listens on and of its public URL, every name below suffix, and more. One that listens on
// all addresses is reached on this machine by loopback, and from others by the machine's name.
func Names(listen, publicURL, suffix string, more []string) []string {
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
	if suffix != "" {
		add("*." + suffix)
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
