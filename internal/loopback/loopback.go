// Package loopback tells whether a host is this machine. Several places trust such a host with what
// others on a network must not see or ask, so there is one answer for all of them.
package loopback

import (
	"net"
	"net/netip"
	"strings"
)

// Is reports whether a host, with a port or without, can only be this machine: localhost, or an
// address of loopback. Any other name may lead anywhere.
func Is(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}
