package arm

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// BaseURL is how the caller of r reaches this server, without a trailing slash, for links in
// answers. Clients send their tokens where links lead, and the header Host is whatever the
// request's sender wrote, so it is repeated only if something else says the same: it is
// the address that the connection came to, localhost on this machine, or the name that TLS was
// asked for. Otherwise links lead to the address that the connection came to.
func BaseURL(r *http.Request) string {
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || isOwn(r, local.String()) {
		return scheme + r.Host
	}
	return scheme + local.String()
}

// isOwn reports whether the Host of r names this server, which the connection reached at local.
func isOwn(r *http.Request, local string) bool {
	name, port := r.Host, "80"
	if r.TLS != nil {
		port = "443"
	}
	if host, p, err := net.SplitHostPort(r.Host); err == nil {
		name, port = host, p
	}
	name = strings.ToLower(strings.Trim(name, "[]"))
	if r.TLS != nil && r.TLS.ServerName != "" {
		return name == strings.ToLower(r.TLS.ServerName) // at whatever port leads here
	}
	at, err := netip.ParseAddrPort(local)
	if err != nil || port != strconv.Itoa(int(at.Port())) {
		return false // another server of this machine's, perhaps
	}
	ip := at.Addr().Unmap()
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.Unmap() == ip
	}
	return ip.IsLoopback() && (name == "localhost" || strings.HasSuffix(name, ".localhost"))
}
