package oci

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sandpool/sandpool/internal/loopback"
)

// A guard decides what one pull may connect to. Whoever names an image chooses the first host,
// and that host chooses others, by redirects and as its token service. So:
//
//   - Addresses of the link itself are never dialled: clouds answer there with the machine's
//     own secrets. Nor are multicast and unspecified ones.
//   - The registry may be anywhere else, on a private network or on this machine as well; an
//     operator who does not want that says which registries are allowed.
//   - Other hosts may be on private networks and on this machine only if the registry itself is:
//     a public registry cannot send the server to its neighbours.
//   - TLS is left out only for hosts that the operator lists, and on the loopback interface.
//
// Addresses are judged as they are dialled, after names were resolved, so a name that changes its
// mind changes nothing.
type guard struct {
	registry string   // host and port that was asked for
	plain    []string // hosts that may be asked without TLS

	inside  atomic.Bool // the registry has a private address
	proxies sync.Map    // host:port of proxies, which the operator chose
	next    *http.Transport
}

// newGuard returns a round tripper for a pull from the registry host. It belongs to one
// pull: connections and what is known of the registry are not shared with others.
func newGuard(registry string, plain []string, roots *x509.CertPool) *guard {
	g := &guard{registry: registry, plain: plain}
	g.next = &http.Transport{
		Proxy:                  g.proxy,
		DialContext:            g.dial,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        30 * time.Second,
		ForceAttemptHTTP2:      true,
		// Layers are compressed already, and a digest is of the bytes that are sent.
		DisableCompression: true,
	}
	return g
}

// blocked is a connection that the guard does not let pass.
type blocked struct{ why string }

func (b blocked) Error() string { return b.why }

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	switch r.URL.Scheme {
	case "https":
	case "http":
		if !g.mayBePlain(r.URL.Host) {
			return nil, blocked{fmt.Sprintf(
				"%s would be asked without TLS, which registries.plain_http does not allow",
				r.URL.Host)}
		}
	default:
		return nil, blocked{fmt.Sprintf("a redirect leads to a URL of the scheme %q",
			printable(r.URL.Scheme, 20))}
	}
	return g.next.RoundTrip(r)
}

func (g *guard) mayBePlain(host string) bool {
	return slices.Contains(g.plain, host) || loopback.Is(host)
}

// proxy is the proxy that the environment names for r. What it connects to is its own matter,
// but for addresses that are never right.
func (g *guard) proxy(r *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(r)
	if err != nil || u == nil {
		return nil, err
	}
	if addr, err := netip.ParseAddr(r.URL.Hostname()); err == nil {
		if err := g.judge(r.URL.Host, addr); err != nil {
			return nil, err
		}
	}
	g.proxies.Store(u.Hostname(), true)
	return u, nil
}

// dial connects to host:port, if its address may be connected to.
func (g *guard) dial(ctx context.Context, network, hostPort string) (net.Conn, error) {
	d := net.Dialer{
		Timeout: 10 * time.Second,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return g.judge(hostPort, to.Addr())
		},
	}
	return d.DialContext(ctx, network, hostPort)
}

// judge says why addr, to which host leads, must not be connected to, or nil.
func (g *guard) judge(host string, addr netip.Addr) error {
	bare, _, err := net.SplitHostPort(host)
	if err != nil {
		bare = host
	}
	if _, ok := g.proxies.Load(bare); ok {
		return nil
	}
	own := strings.EqualFold(bare, (&url.URL{Host: g.registry}).Hostname())
	switch reach(addr) {
	case nowhere:
		return blocked{fmt.Sprintf("%s leads to %s, where no registry is", bare, addr)}
	case inside:
		if own {
			g.inside.Store(true)
		} else if !g.inside.Load() {
			return blocked{fmt.Sprintf(
				"%s sends to %s, which leads to %s inside the server's network", g.registry,
				bare, addr)}
		}
	}
	return nil
}

// close gives the connections back.
func (g *guard) close() { g.next.CloseIdleConnections() }

// A place is where an address is, from a server's point of view.
type place int

const (
	outside place = iota
	inside        // this machine and private networks
	nowhere       // the link itself, groups, and what is no address of a host
)

var (
	// awsMetadata is the metadata service of AWS, which has an address in a private range.
	awsMetadata = netip.MustParseAddr("fd00:ec2::254")
	// alibabaMetadata is that of Alibaba's cloud, among the shared ones.
	alibabaMetadata = netip.MustParseAddr("100.100.100.200")
	// shared are addresses of carriers' private networks, RFC 6598.
	shared = netip.MustParsePrefix("100.64.0.0/10")
	// translated are IPv4 addresses written as IPv6 ones, RFC 6052.
	translated = netip.MustParsePrefix("64:ff9b::/96")
)

// reach classifies an address.
func reach(addr netip.Addr) place {
	addr = addr.Unmap().WithZone("")
	if translated.Contains(addr) {
		b := addr.As16()
		addr = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case !addr.IsValid(), addr.IsUnspecified(), addr.IsMulticast(), addr.IsLinkLocalUnicast(),
		addr == awsMetadata, addr == alibabaMetadata,
		addr.Is4() && (addr.As4()[0] == 0 || addr.As4()[0] >= 240):
		return nowhere
	case addr.IsLoopback(), addr.IsPrivate(), shared.Contains(addr):
		return inside
	}
	return outside
}
