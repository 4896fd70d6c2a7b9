package egress

import (
	"net/netip"
	"slices"
)

// Special returns the ranges that are not the public network. Sources: the IANA IPv4 and IPv6
// Special-Purpose Address Registries (RFC 6890), the IANA IPv6 Address Space registry, of which
// 2000::/3 alone is public, and for 168.63.129.16 and 100.100.100.200, public addresses at which
// Azure and Alibaba Cloud serve metadata to their machines, their documentation.
func Special() []netip.Prefix {
	return prefixesOf(
		"0.0.0.0/8",        // this network
		"10.0.0.0/8",       // private
		"100.64.0.0/10",    // shared, behind carriers' NAT; 100.100.100.200 among it
		"127.0.0.0/8",      // loopback
		"168.63.129.16/32", // Azure's host
		"169.254.0.0/16",   // link-local; 169.254.169.254 among it
		"172.16.0.0/12",    // private
		"192.0.0.0/24",     // protocol assignments; 192.0.0.192 is Oracle's metadata
		"192.0.2.0/24",     // documentation
		"192.31.196.0/24",  // AS112
		"192.52.193.0/24",  // AMT
		"192.88.99.0/24",   // 6to4 relays
		"192.168.0.0/16",   // private
		"192.175.48.0/24",  // AS112
		"198.18.0.0/15",    // benchmarks; our own sandboxes among it
		"198.51.100.0/24",  // documentation
		"203.0.113.0/24",   // documentation
		"224.0.0.0/4",      // multicast
		"240.0.0.0/4",      // reserved, and the broadcast address

		"::/3",              // unspecified, loopback, mapped (::ffff:0:0/96), translated, discard
		"2001::/23",         // protocol assignments: Teredo (2001::/32), ORCHID, benchmarks
		"2001:db8::/32",     // documentation
		"2002::/16",         // 6to4
		"2620:4f:8000::/48", // AS112
		"3fff::/20",         // documentation
		"4000::/2",          // not assigned; segment routing (5f00::/16)
		"8000::/1",          // private (fc00::/7), link-local, site-local, multicast
	)
}

// Fixed returns the special ranges that no setting opens: those with no meaning beyond one link,
// those in which an IPv4 address is hidden, which could be any, and the metadata services that
// clouds have at private IPv6 addresses (their documentation).
func Fixed() []netip.Prefix {
	return prefixesOf(
		"::/8", // among it ::/96, ::ffff:0:0/96, 64:ff9b::/96 and 64:ff9b:1::/48 (RFC 6052, 8215)
		"2001::/32",
		"2002::/16",
		"fe80::/10",
		"ff00::/8",
		"fd00:ec2::/32",          // Amazon
		"fd20:ce::/64",           // Google
		"fd00:c1::a9fe:a9fe/128", // Oracle
		"fd00:42::42/128",        // Scaleway
	)
}

func prefixesOf(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// Range is an inclusive range of addresses.
type Range struct{ First, Last netip.Addr }

// contains reports whether a is in r.
func (r Range) contains(a netip.Addr) bool {
	return r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0
}

// RangeOf returns the addresses of a prefix.
func RangeOf(p netip.Prefix) Range {
	p = p.Masked()
	last := p.Addr().AsSlice()
	for bit := p.Bits(); bit < p.Addr().BitLen(); bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(last)
	return Range{p.Addr(), a}
}

// Without returns the ranges of list without the addresses of open.
func Without(list, open []netip.Prefix) []Range {
	var ranges []Range
	for _, p := range list {
		ranges = append(ranges, RangeOf(p))
	}
	for _, p := range open {
		hole := RangeOf(p)
		var next []Range
		for _, r := range ranges {
			if r.Last.Compare(hole.First) < 0 || hole.Last.Compare(r.First) < 0 {
				next = append(next, r)
				continue
			}
			if r.First.Compare(hole.First) < 0 {
				next = append(next, Range{r.First, hole.First.Prev()})
			}
			if hole.Last.Compare(r.Last) < 0 {
				next = append(next, Range{hole.Last.Next(), r.Last})
			}
		}
		ranges = next
	}
	return ranges
}

// Ground is what lies beneath every policy.
type Ground struct {
	closed []Range
	open   []netip.Prefix
	ipv6   bool
	above  bool
}

// NewGround returns the ground with the special ranges closed, but for open. It has no IPv6.
func NewGround(open []netip.Prefix) *Ground {
	closed := Without(Special(), open)
	for _, p := range Fixed() {
		closed = add(closed, RangeOf(p))
	}
	return &Ground{closed: closed, open: open}
}

// WithIPv6 returns the same ground with IPv6, or without.
func (g *Ground) WithIPv6(on bool) *Ground { return &Ground{g.closed, g.open, on, g.above} }

// WithUpstream returns the same ground with a proxy above the server's own, or without.
func (g *Ground) WithUpstream(on bool) *Ground { return &Ground{g.closed, g.open, g.ipv6, on} }

// Upstream reports whether the pools' proxies reach hosts by a proxy above.
func (g *Ground) Upstream() bool { return g.above }

// IPv6 reports whether there is any.
func (g *Ground) IPv6() bool { return g.ipv6 }

// add returns list, which does not overlap, with r and without overlaps.
func add(list []Range, r Range) (out []Range) {
	for _, o := range list {
		if o.Last.Compare(r.First) < 0 || r.Last.Compare(o.First) < 0 {
			out = append(out, o)
			continue
		}
		r.First = slices.MinFunc([]netip.Addr{r.First, o.First}, netip.Addr.Compare)
		r.Last = slices.MaxFunc([]netip.Addr{r.Last, o.Last}, netip.Addr.Compare)
	}
	return append(out, r)
}

// Closed are the ranges of both families that no policy opens. They do not overlap.
func (g *Ground) Closed() []Range { return g.closed }

// Open are those special ranges that a policy may name.
func (g *Ground) Open() []netip.Prefix { return g.open }

// isClosed reports whether no policy may reach a.
func (g *Ground) isClosed(a netip.Addr) bool {
	if !a.Is4() && !g.ipv6 {
		return true
	}
	for _, r := range g.closed {
		if r.contains(a) {
			return true
		}
	}
	return false
}

// isOpen reports whether a policy must name a to reach it.
func (g *Ground) isOpen(a netip.Addr) bool {
	for _, p := range g.open {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Names reports whether an entry with the prefix p names special ranges, rather than happens to
// include some.
func (g *Ground) Names(p netip.Prefix) bool {
	for _, o := range g.open {
		if o.Bits() <= p.Bits() && o.Contains(p.Addr()) {
			return true
		}
	}
	return false
}
