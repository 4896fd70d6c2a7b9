package egress

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
)

// The most that a policy may hold: each entry about addresses is a rule that new connections pass.
const maxEntries = 256

// The bounds of a sandbox's connections and bandwidth.
const (
	DefaultConnections = 512
	maxConnections     = 16384
	minBandwidth       = 64 << 10
)

// Policy is what a sandbox may reach. The zero value allows nothing.
type Policy struct {
	enabled bool
	allow   []Entry
	deny    []Entry

	credentials []Credential
	// Inspect says that a connection to the ports 80 and 443 is looked into, for the name that it
	// asks for; see package front. It is set if there are credentials, too.
	Inspect bool
	// Proxy says that the gateway's proxy of HTTP is all that is reached, by names alone.
	Proxy bool
	// Connections bounds those that are open at the same time.
	Connections int
	// Bandwidth bounds each direction, in bytes a second; zero means that it is not bounded.
	Bandwidth int64
}

// Parse returns the policy that n describes. Errors are of class Invalid, and say which entry is
// wrong by target, the path of n's lists.
func Parse(n sandpool.Network, target string) (Policy, error) {
	p := Policy{
		enabled:     n.Enabled(),
		Connections: n.Connections,
		Bandwidth:   n.Bandwidth,
		Inspect:     n.Inspect || len(n.Credentials) > 0,
		Proxy:       n.Proxied(),
	}
	wrong := func(field, format string, args ...any) error {
		return sandpool.Errorf(sandpool.Invalid, "InvalidEgress", target+field,
			"%s%s %s", target, field, fmt.Sprintf(format, args...))
	}
	switch {
	case n.Status != "" && n.Status != sandpool.EgressDisabled &&
		n.Status != sandpool.EgressEnabled:
		return p, wrong("", "has the status %q; use %s or %s.", n.Status, sandpool.EgressDisabled,
			sandpool.EgressEnabled)
	case len(n.Allow)+len(n.Deny) > maxEntries:
		return p, wrong("", "has %d entries; use at most %d.", len(n.Allow)+len(n.Deny), maxEntries)
	case n.Connections < 0 || n.Connections > maxConnections:
		return p, wrong(".connections", "is %d; use 1 to %d, or 0 for the default of %d.",
			n.Connections, maxConnections, DefaultConnections)
	case n.Bandwidth < 0 || n.Bandwidth != 0 && n.Bandwidth < minBandwidth:
		return p, wrong(".bandwidth", "is %d bytes a second; use at least %d, or 0 for no bound.",
			n.Bandwidth, minBandwidth)
	}
	if p.enabled && p.Connections == 0 {
		p.Connections = DefaultConnections
	}
	for _, l := range []struct {
		name     string
		in       []string
		out      *[]Entry
		protocol Protocol
	}{{".allow", n.Allow, &p.allow, TCP}, {".deny", n.Deny, &p.deny, Both}} {
		for i, text := range l.in {
			e, err := parseEntry(text, fmt.Sprintf("%s%s[%d]", target, l.name, i), l.protocol)
			if err != nil {
				return Policy{}, err
			}
			*l.out = append(*l.out, e)
		}
	}
	if n.Proxy {
		for i, e := range p.allow {
			if e.Name == "" || e.Protocol != TCP {
				return Policy{}, wrong(fmt.Sprintf(".allow[%d]", i), "is %.80q, which a proxy cannot "+
					"reach: with proxy use host names and TCP alone.", e.Text)
			}
		}
	}
	if err := p.parseCredentials(n.Credentials, target+".credentials"); err != nil {
		return Policy{}, err
	}
	return p, nil
}

// Enabled reports whether there is a network at all.
func (p Policy) Enabled() bool { return p.enabled }

// Public reports whether every public address is allowed that is not denied.
func (p Policy) Public() bool { return p.enabled && len(p.allow) == 0 }

// Denied and Allowed return the entries about addresses.
func (p Policy) Denied() []Entry { return prefixes(p.deny) }

// Allowed returns the entries about addresses that are allowed; see Denied.
func (p Policy) Allowed() []Entry { return prefixes(p.allow) }

func prefixes(list []Entry) (found []Entry) {
	for _, e := range list {
		if e.Name == "" {
			found = append(found, e)
		}
	}
	return found
}

// Key is the same for policies that allow the same. What is added to requests is not part of it.
func (p Policy) Key() string {
	form := func(list []Entry) string {
		var lines []string
		for _, e := range list {
			lines = append(lines, fmt.Sprintf("%s %t %v %d-%d %s", e.Name, e.Below, e.Prefix,
				e.Low, e.High, e.Protocol))
		}
		slices.Sort(lines)
		return strings.Join(slices.Compact(lines), "\n")
	}
	sum := sha256.Sum256(fmt.Appendf(
		nil,
		"%t %t %t %d %d\n%s\n\n%s",
		p.enabled,
		p.Inspect,
		p.Proxy,
		p.Connections,
		p.Bandwidth,
		form(p.allow),
		form(p.deny),
	))
	return hex.EncodeToString(sum[:8])
}

// Verdict says whether a destination is allowed, and why, in a sentence for people.
type Verdict struct {
	Allowed bool
	Reason  string
}

func yes(format string, args ...any) Verdict { return Verdict{true, fmt.Sprintf(format, args...)} }
func no(format string, args ...any) Verdict  { return Verdict{false, fmt.Sprintf(format, args...)} }

// Name says whether the resolver answers a name, which must be one that ParseName has returned.
func (p Policy) Name(name string) Verdict {
	if !p.enabled {
		return no("The pool has no network (%s).", sandpool.EgressDisabled)
	}
	for _, e := range p.deny {
		if e.matchesName(name) && e.High == 0 {
			return no("The entry %q of the deny list matches.", e.Text)
		}
	}
	if p.Public() {
		return yes("The policy has no allow list, so every public name is allowed.")
	}
	for _, e := range p.allow {
		if e.matchesName(name) {
			return yes("The entry %q of the allow list matches.", e.Text)
		}
	}
	return no("No entry of the allow list matches the name.")
}

// Grants returns what the addresses of an allowed name may be used for. A port of zero means all.
func (p Policy) Grants(name string) (list []Grant) {
	for _, e := range p.allow {
		if !e.matchesName(name) {
			continue
		}
		for _, proto := range []Protocol{TCP, UDP} {
			if e.Protocol == Both || e.Protocol == proto {
				list = append(list, Grant{Protocol: proto, Port: e.Low})
			}
		}
	}
	return list
}

// Grant is a use of an address.
type Grant struct {
	Protocol Protocol
	Port     uint16
}

// matches reports whether a grant is good for a port.
func (g Grant) matches(p Protocol, port uint16) bool {
	return g.Protocol == p && (g.Port == 0 || g.Port == port)
}

// namePorts are those of DNS and of DNS over TLS. They are closed unless an entry about addresses
// names them, so that names go through the resolver.
func namePorts() []uint16 { return []uint16{53, 853} }

// NamePorts are the ports at which other resolvers would answer.
func NamePorts() []uint16 { return namePorts() }

// Address says whether a packet to an address may leave, for all that is known from the address.
func (p Policy) Address(g *Ground, a netip.Addr, proto Protocol, port uint16) Verdict {
	a = a.Unmap()
	switch {
	case !p.enabled:
		return no("The pool has no network (%s).", sandpool.EgressDisabled)
	case !a.Is4() && !g.IPv6():
		return no("Sandboxes have no IPv6; the server's setting network.ipv6 gives it to them.")
	case g.isClosed(a):
		return no(
			"%s is not on the public network. No policy opens it; the server's setting network.private may.",
			a,
		)
	}
	for _, e := range p.deny {
		if e.Name == "" && e.Prefix.Contains(a) && e.matchesPort(proto, port) {
			return no("The entry %q of the deny list matches.", e.Text)
		}
	}
	for _, e := range p.allow {
		if e.Name != "" || !e.Prefix.Contains(a) || !e.matchesPort(proto, port) {
			continue
		}
		if slices.Contains(namePorts(), port) && !e.NamesPort() {
			continue
		}
		if g.isOpen(a) && !g.Names(e.Prefix) {
			continue
		}
		return yes("The entry %q of the allow list matches.", e.Text)
	}
	switch {
	case slices.Contains(namePorts(), port):
		return no(
			"Port %d is for names, which only the pool's own resolver answers. An entry with the address and this port opens it.",
			port,
		)
	case g.isOpen(a):
		return no("%s is private; a policy must name it.", a)
	case p.Public():
		return yes("The policy has no allow list, so every public address is allowed.")
	}
	return no("No entry of the allow list matches the address.")
}

// Destination says what would become of a connection to a host, which is a name or an address.
// addresses are what the name resolves to, if the caller knows.
func (p Policy) Destination(g *Ground, host string, addresses []netip.Addr, proto Protocol,
	port uint16) Verdict {
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		if p.Proxy {
			return no("The pool's proxy takes host names alone, and no addresses.")
		}
		return p.Address(g, a, proto, port)
	}
	name, err := ParseName(host)
	if err != nil {
		return no("%q is no host: %v.", host, err)
	}
	v := p.Name(name)
	if !v.Allowed {
		return v
	}
	if p.Proxy && proto != TCP {
		return no("The pool's proxy takes TCP alone.")
	}
	if p.Proxy && g.Upstream() {
		return p.Beyond(name, port)
	}
	granted := p.Public() || slices.ContainsFunc(p.Grants(name), func(t Grant) bool {
		return t.matches(proto, port)
	})
	told := slices.DeleteFunc(slices.Clone(addresses), g.isClosed)
	if len(addresses) > len(told) && len(told) == 0 {
		return no("The name resolves to %s, which is not on the public network.", addresses[0])
	}
	plain := len(told) > 0 // the addresses are allowed whatever their names are
	for _, a := range told {
		switch direct := p.Address(g, a, proto, port); {
		case direct.Allowed:
		case p.Public() || p.isDenied(a, proto, port):
			return direct
		default:
			plain = false
		}
	}
	if !granted && !plain {
		return no("The allow list has the name, and no entry for port %d of %s.", port, proto)
	}
	return v
}

func (p Policy) isDenied(a netip.Addr, proto Protocol, port uint16) bool {
	return slices.ContainsFunc(p.deny, func(e Entry) bool {
		return e.Name == "" && e.Prefix.Contains(a) && e.matchesPort(proto, port)
	})
}

// Inspected says whether a connection to an address may be used for a name, which was found in its
// first bytes; empty if none was.
func (p Policy) Inspected(g *Ground, name string, to netip.AddrPort) Verdict {
	a := to.Addr().Unmap()
	if !p.enabled || g.isClosed(a) {
		return p.Address(g, a, TCP, to.Port())
	}
	plain, err := ParseName(name)
	known := name != "" && err == nil
	if v, denied := p.forbids(plain, to.Port()); known && denied {
		return v
	}
	direct := p.Address(g, a, TCP, to.Port())
	if direct.Allowed || p.Public() || p.isDenied(a, TCP, to.Port()) {
		return direct
	}
	if !known {
		return no(
			"No entry of the allow list matches the address, and the connection names no host.",
		)
	}
	if v := p.Named(plain, to.Port()); !v.Allowed {
		return v
	}
	return yes("The allow list has the name.")
}

// Named says whether a connection to a port of a name may be made, by what is known of the name.
func (p Policy) Named(name string, port uint16) Verdict {
	v := p.Name(name)
	if v.Allowed {
		if denied, is := p.forbids(name, port); is {
			return denied
		}
	}
	if v.Allowed && !p.Public() && !slices.ContainsFunc(p.Grants(name), func(t Grant) bool {
		return t.matches(TCP, port)
	}) {
		return no("The allow list has the name, and no entry for port %d of %s.", port, TCP)
	}
	return v
}

// Beyond says whether a proxy above the server's own may be asked for a port of a name. It resolves
// the name itself, so nothing is known of the address; the policy must therefore name the host, and
// names that mean a network's own machines are closed.
func (p Policy) Beyond(name string, port uint16) Verdict {
	plain, err := ParseName(name)
	switch {
	case err != nil:
		return no("%.80q is no host name: %v.", name, err)
	case p.Public():
		return no("The server reaches hosts by a proxy of its own, so allow must name them.")
	case isLocalName(plain):
		return no("%s is in a domain of private networks, which no proxy is asked for.", plain)
	}
	return p.Named(plain, port)
}

// isLocalName reports whether a name has no meaning on the public network: it is in one of the
// domains for private networks (RFC 6761, 6762, 8375, 9476, and ICANN's .internal).
func isLocalName(name string) bool {
	return slices.ContainsFunc([]string{".localhost", ".local", ".internal", ".home.arpa", ".lan",
		".intranet", ".corp", ".private", ".alt"}, func(domain string) bool {
		return strings.HasSuffix(name, domain)
	})
}

// Looks reports whether the name of a connection to an address makes a difference.
func (p Policy) Looks(g *Ground, to netip.AddrPort) bool {
	named := len(p.credentials) > 0 ||
		slices.ContainsFunc(p.deny, func(e Entry) bool { return e.Name != "" })
	return named || !p.Inspected(g, "", to).Allowed
}

// forbids reports whether the deny list has a port of the name, and by which entry.
func (p Policy) forbids(name string, port uint16) (Verdict, bool) {
	for _, e := range p.deny {
		if e.matchesName(name) && e.matchesPort(TCP, port) {
			return no("The entry %q of the deny list matches.", e.Text), true
		}
	}
	return Verdict{}, false
}
