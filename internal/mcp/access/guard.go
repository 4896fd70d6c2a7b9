// Package access says who may come to the MCP endpoint of a pool: it checks the names and the
// origins that requests give (Guard), and verifies the keys of pools (Keys).
package access

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/loopback"
)

// Guard holds off pages that a browser has been made to load from this server under another name
// (DNS rebinding), and pages of other origins.
type Guard struct {
	// Hosts are the names of the server, and names that end in a dot and one of the Suffixes are
	// its pools' own or those of its locations. All are without ports.
	// They matter where the server listens on loopback, which has no name of its own.
	Hosts    []string
	Suffixes []string
	// Origins are those whose pages may use the server; "*" is every one.
	Origins []string
}

// Check returns an error of class Denied for a request that names another host than the server's,
// or comes from a page that may not use it.
func (g Guard) Check(r *http.Request) error {
	if !g.knows(r) {
		return sandpool.Errorf(sandpool.Denied, "HostNotAllowed", "Host",
			"The request names a host that is not this server's. Use the address that the server "+
				"shows, "+
				"or set public_url to the name that it is reached by.")
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 || len(origins) == 1 && g.allows(origins[0], r) {
		return nil
	}
	return sandpool.Errorf(sandpool.Denied, "OriginNotAllowed", "Origin",
		"Pages of this origin may not use the MCP endpoint. An administrator can allow them with the "+
			"setting cors.origins.")
}

// knows reports whether the Host of r may be this server's. On other addresses than loopback any
// may: a page that is loaded from there under another name has no credential, which no browser
// adds.
func (g Guard) knows(r *http.Request) bool {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil || !loopback.Is(local.String()) {
		return true
	}
	host := hostname(r.Host)
	switch {
	case loopback.Is(host),
		slices.ContainsFunc(g.Hosts, func(h string) bool { return strings.EqualFold(h, host) }):
		return true
	case slices.ContainsFunc(g.Suffixes, func(s string) bool {
		return strings.HasSuffix(strings.ToLower(host), "."+strings.ToLower(s))
	}):
		return true
	}
	// A certificate that the caller has verified is for the name that it has asked for.
	return r.TLS != nil && r.TLS.ServerName != "" && strings.EqualFold(r.TLS.ServerName, host)
}

// allows reports whether pages of an origin may use the server: its own, and those configured.
func (g Guard) allows(origin string, r *http.Request) bool {
	if slices.ContainsFunc(
		g.Origins,
		func(o string) bool { return o == "*" || strings.EqualFold(o, origin) },
	) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// hostname is a host without its port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.Trim(host, "[]"), ".")
}
