// Package network is the server's setting of how sandboxes reach others, and what the control plane
// asks about it.
package network

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	control "github.com/sandpool/sandpool/internal/control/network"
	"github.com/sandpool/sandpool/internal/egress"
	"github.com/sandpool/sandpool/internal/egress/ca"
	"github.com/sandpool/sandpool/internal/egress/front"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor"
)

// Settings are how sandboxes with EgressEnabled reach others.
type Settings struct {
	// Resolvers answer for the names that policies allow: addresses, with ":PORT" behind them if
	// that is not 53. None means those of /etc/resolv.conf.
	Resolvers []string `yaml:"resolvers"`
	// Private are prefixes off the public network that a pool's policy may name. None means
	// that sandboxes reach public addresses alone.
	Private []string `yaml:"private"`
	// IPv6 gives sandboxes that are started from now on an address of IPv6 as well. The host must
	// have IPv6 and pass it on.
	IPv6 bool `yaml:"ipv6"`
	// Authorities is a file of certificates in PEM, by which the servers are verified, besides the
	// system's, that get credentials.
	Authorities string `yaml:"authorities"`
	// UpstreamProxy is a proxy of HTTP through which the proxies of pools reach hosts, as
	// "http://[USER:PASSWORD@]HOST:PORT"; empty means that they reach them directly.
	UpstreamProxy string `yaml:"upstream_proxy"`
}

// upstream is the parsed UpstreamProxy; nil if there is none.
func (n Settings) upstream() (*front.Upstream, error) {
	if n.UpstreamProxy == "" {
		return nil, nil
	}
	u, err := front.ParseUpstream(n.UpstreamProxy)
	if err != nil {
		return nil, fmt.Errorf("configuration: network.upstream_proxy %w", err)
	}
	return u, nil
}

// Roots are what the servers are verified by that get credentials; nil means the system's.
func (n Settings) Roots() (*x509.CertPool, error) {
	if n.Authorities == "" {
		return nil, nil
	}
	wrong := func(err error) error {
		return fmt.Errorf("configuration: network.authorities is %q: %w", n.Authorities, err)
	}
	text, err := os.ReadFile(n.Authorities)
	if err != nil {
		return nil, wrong(err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, wrong(err)
	}
	if !roots.AppendCertsFromPEM(text) {
		return nil, wrong(errors.New("it holds no certificate in PEM"))
	}
	return roots, nil
}

// Front says how requests with credentials meet their servers, and returns in PEM the authority
// that sandboxes are to trust for it. It is kept in dir.
func (n Settings) Front(dir string) (o front.Options, pem string, err error) {
	if o.Roots, err = n.Roots(); err != nil {
		return o, "", err
	}
	authority, err := ca.Open(dir, nil)
	if err != nil {
		return o, "", err
	}
	o.Authority = authority
	if o.Upstream, err = n.upstream(); err != nil {
		return o, "", err
	}
	return o, authority.PEM(), nil
}

// Parsed returns the settings of n, which is valid.
func (n Settings) Parsed() (resolvers []netip.AddrPort, private []netip.Prefix) {
	for _, s := range n.Resolvers {
		if at, err := parseResolver(s); err == nil {
			resolvers = append(resolvers, at)
		}
	}
	for _, s := range n.Private {
		if p, err := netip.ParsePrefix(s); err == nil {
			private = append(private, p)
		}
	}
	return resolvers, private
}

func parseResolver(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	return netip.ParseAddrPort(s)
}

// Validate reports every setting that is wrong.
func (n Settings) Validate() (problems []error) {
	for _, s := range n.Resolvers {
		if _, err := parseResolver(s); err != nil {
			problems = append(problems, fmt.Errorf(
				"configuration: network.resolvers has %q; use addresses such as 192.0.2.53 or 192.0.2.53:5353", s))
		}
	}
	for _, s := range n.Private {
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil || p != p.Masked():
			problems = append(problems, fmt.Errorf("configuration: network.private has %q; "+
				"use prefixes such as 10.20.0.0/16 or fd12:3456:789a::/48", s))
		case slices.ContainsFunc(egress.Fixed(), func(f netip.Prefix) bool {
			return f.Bits() <= p.Bits() && f.Contains(p.Addr())
		}):
			problems = append(problems, fmt.Errorf("configuration: network.private has %q, "+
				"a range that is never opened; remove it", s))
		}
	}
	if _, err := n.Roots(); err != nil {
		problems = append(problems, err)
	}
	if _, err := n.upstream(); err != nil {
		problems = append(problems, err)
	}
	return problems
}

// Host answers for the engine with the settings.
type Host struct {
	Settings Settings
	// Elsewhere says that sandboxes are not on this machine; their engine says itself what of
	// networks it has.
	Elsewhere bool
}

var _ control.Host = Host{}

// Ready implements control.Host.
func (n Host) Ready() error {
	if n.Elsewhere {
		return nil
	}
	return gvisor.NetworkReady(n.Settings.IPv6)
}

// Ground implements control.Host.
func (n Host) Ground() *egress.Ground {
	_, private := n.Settings.Parsed()
	return egress.NewGround(private).WithIPv6(n.Settings.IPv6).
		WithUpstream(n.Settings.UpstreamProxy != "")
}

// Lookup implements control.Host.
func (n Host) Lookup(_ context.Context, name string) ([]netip.Addr, error) {
	servers, _ := n.Settings.Parsed()
	return egress.Lookup(servers, name, n.Ground())
}
