package netns

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sandpool/sandpool"
)

// Without a policy a sandbox reaches what is public, and nothing else.
func TestPublic(t *testing.T) { both(t, tryPublic) }

func tryPublic(t *testing.T, w *world) {
	w.listen(namespace(t), 81) // the neighbour's port is another one
	n := w.open(t, t.TempDir())
	b, neighbour := w.join(n, "a", enabled()), w.join(n, "b", enabled())
	w.listen(neighbour.ns, 80)
	hostNS, err := openOwn()
	must(t, err)
	defer hostNS.Close()
	w.listen(hostNS, 80)

	got := b.reach("tcp", netip.AddrPortFrom(w.public, 80))
	if seen, err := netip.ParseAddrPort(strings.TrimSpace(got)); err != nil ||
		seen.Addr() != w.host {
		t.Errorf("a public server sees the address %q, want %s", got, w.host)
	}
	if !b.udp(w.public, 443) {
		t.Error("a public server does not answer by UDP")
	}
	for name, to := range map[string]netip.Addr{
		"the host": w.host, "the host's loopback": netip.MustParseAddr("127.0.0.1"),
		"the host's uplink":    n.gate.up.far,
		"the gateway's uplink": n.gate.up.near, "the gateway": Gateway(),
		"a private network": w.private, "the host's network": w.router,
		"metadata": w.metadata, "Azure's host": w.azure, "a neighbour": w.own(neighbour.link),
		"the gateway's own":       w.family().gateway(),
		"the host's uplink, IPv6": n.gate.up.far6, "the gateway's uplink, IPv6": n.gate.up.near6,
		"multicast": netip.MustParseAddr("224.0.0.1"), "broadcast": netip.MustParseAddr(
			"255.255.255.255"), "nothing": netip.MustParseAddr("0.0.0.0"),
	} {
		if to.IsLoopback() || to.IsUnspecified() {
			continue // those are the sandbox itself
		}
		if b.tcp(to, 80) || b.udp(to, 80) {
			t.Errorf("%s (%s) is reached", name, to)
		}
	}
	for _, port := range []uint16{53, 853} {
		if b.tcp(w.public, port) || b.udp(w.public, port) || b.tcp(w.resolver, port) ||
			b.udp(w.resolver, port) {
			t.Errorf("port %d of a foreign resolver is reached", port)
		}
	}
	w.set("example.com", record{ttl: 60, addrs: []netip.Addr{w.public}})
	if got, _ := b.resolve("example.com"); !slices.Equal(got, []netip.Addr{w.public}) {
		t.Errorf("example.com is %v", got)
	}
	until(t, func() bool {
		r, err := n.Refusals(t.Context(), "a")
		must(t, err)
		return r.Packets > 0 && len(r.Recent) > 0
	})
}

// A policy of names opens the addresses that the names have, on their ports, for who has asked.
func TestNames(t *testing.T) { both(t, tryNames) }

func tryNames(t *testing.T, w *world) {
	n := w.open(t, t.TempDir())
	w.set("api.example.com", record{ttl: 1, addrs: []netip.Addr{w.public}})
	w.set("cdn.example.com", record{ttl: 300, alias: "edge.example.net."})
	w.set("edge.example.net", record{ttl: 300, addrs: []netip.Addr{w.other}})
	w.set("evil.example.org", record{ttl: 300, addrs: []netip.Addr{w.other}})
	w.set("inner.example.com", record{ttl: 300, addrs: []netip.Addr{w.private}})
	w.set("alias.example.com", record{ttl: 300, alias: "inner.example.com."})
	w.set("meta.example.com", record{ttl: 300, addrs: []netip.Addr{w.metadata}})
	w.set("host.example.com", record{ttl: 300, addrs: []netip.Addr{w.host}})
	w.set("both.example.com", record{ttl: 300, addrs: []netip.Addr{w.private, w.public}})
	policy := enabled("*.example.com:80", "api.example.com:443/udp")
	b, neighbour := w.join(n, "a", policy), w.join(n, "b", policy)

	if b.tcp(w.public, 80) {
		t.Error("an address is reached before its name was asked for")
	}
	if got, _ := b.resolve("API.example.com"); !slices.Equal(got, []netip.Addr{w.public}) {
		t.Fatalf("api.example.com is %v", got)
	}
	for _, try := range []struct {
		what string
		got  bool
		want bool
	}{
		{"its port", b.tcp(w.public, 80), true}, {"its UDP port", b.udp(w.public, 443), true},
		{"another port", b.tcp(w.public, 443), false},
		{"another UDP port", b.udp(w.public, 80), false},
		{"a neighbour that has not asked", neighbour.tcp(w.public, 80), false},
		{"another address", b.tcp(w.other, 80), false},
	} {
		if try.got != try.want {
			t.Errorf("%s: reached is %v", try.what, try.got)
		}
	}
	if got, _ := b.resolve("cdn.example.com"); !slices.Equal(got, []netip.Addr{w.other}) ||
		!b.tcp(w.other, 80) {
		t.Errorf("an alias is %v, or not reached", got)
	}
	before := len(w.questions())
	for name, want := range map[string]dnsmessage.RCode{
		"example.com": dnsmessage.RCodeNameError, "evil.example.org": dnsmessage.RCodeNameError,
		"notexample.com":               dnsmessage.RCodeNameError,
		"example.com.evil.example.org": dnsmessage.RCodeNameError,
		"edge.example.net":             dnsmessage.RCodeNameError,
		"secret-data.evil.example.org": dnsmessage.RCodeNameError,
		"localhost":                    dnsmessage.RCodeNameError,
	} {
		if got, code := b.resolve(name); len(got) > 0 || code != want {
			t.Errorf("%s is answered with %v, %v", name, got, code)
		}
	}
	for _, typ := range []dnsmessage.Type{dnsmessage.TypeALL, 251, 252} {
		if _, code := b.ask("tcp", "api.example.com", typ); code != dnsmessage.RCodeRefused {
			t.Errorf("a question of type %v is answered with %v", typ, code)
		}
	}
	for _, typ := range []dnsmessage.Type{w.absent(), dnsmessage.TypeTXT,
		dnsmessage.TypeNS, dnsmessage.TypePTR} {
		if got, code := b.ask("tcp", "api.example.com", typ); code != dnsmessage.RCodeSuccess ||
			len(got) > 0 {
			t.Errorf("a question of type %v is answered with %v, %v", typ, got, code)
		}
	}
	if after := w.questions()[before:]; len(after) > 0 {
		t.Errorf("names that no policy has were asked for upstream: %q", after)
	}
	for _, name := range []string{"inner.example.com", "alias.example.com", "meta.example.com",
		"host.example.com"} {
		if got, _ := b.resolve(name); len(got) > 0 {
			t.Errorf("%s is answered with %v", name, got)
		}
	}
	if got, _ := b.resolve("both.example.com"); !slices.Equal(got, []netip.Addr{w.public}) {
		t.Errorf("a name with a private and a public address is %v", got)
	}
	if b.tcp(w.private, 80) || b.tcp(w.metadata, 80) || b.tcp(w.host, 80) {
		t.Error("an address off the public network is reached by a name")
	}
}

// absent is a type of question that has no answer, because sandboxes lack the family.
func (w *world) absent() dnsmessage.Type {
	if w.ipv6() {
		return dnsmessage.TypeHINFO
	}
	return dnsmessage.TypeAAAA
}

// around is a prefix with a in it, as an entry with ports has it.
func (w *world) around(a netip.Addr, bits int) string {
	if a.Is6() {
		return "[" + netip.PrefixFrom(a, bits).Masked().String() + "]"
	}
	return netip.PrefixFrom(a, bits).Masked().String()
}

// Addresses, prefixes and ports are matched as they are written, and what is denied goes before.
func TestPrefixes(t *testing.T) { both(t, tryPrefixes) }

func tryPrefixes(t *testing.T, w *world) {
	n := w.open(t, t.TempDir(), netip.MustParsePrefix("10.1.0.0/16"),
		netip.MustParsePrefix("fd12:3456:789a::/48"))
	for _, test := range []struct {
		name    string
		network sandpool.Network
		want    map[string]bool
	}{
		{"one address and port", enabled(at(w.public, 80)),
			map[string]bool{"p80": true, "p443": false, "o80": false}},
		{"a range of ports", enabled(w.around(w.public, 24) + ":400-500"),
			map[string]bool{"p80": false, "p443": true, "o80": false}},
		{"all ports", enabled(strings.Trim(w.around(w.other, 8), "[]")), map[string]bool{"o80": true, "o443": true, "o53": false,
			"o853": false, "p80": false}},
		{"a resolver's port", enabled(at(w.other, 853)), map[string]bool{"o853": true, "o80": false}},
		{"denied", sandpool.Network{Status: sandpool.EgressEnabled,
			Deny: []string{strings.Trim(w.around(w.other, 24), "[]"), at(w.public, 443)}},
			map[string]bool{"p80": true, "p443": false, "o80": false}},
		{"denied and allowed", sandpool.Network{Status: sandpool.EgressEnabled,
			Allow: []string{w.other.String()}, Deny: []string{at(w.other, 443)}},
			map[string]bool{"o80": true, "o443": false}},
		{"everything does not name what is private", enabled("0.0.0.0/0", "::/0"),
			map[string]bool{"p80": true, "r80": false, "m80": false}},
		{"a private address by name", enabled("10.1.2.0/24:80", "[fd12:3456:789a::/64]:80"),
			map[string]bool{"r80": true, "r443": false, "p80": false}},
		{"nothing named is private", enabled(), map[string]bool{"r80": false, "p80": true}},
		{"metadata cannot be named", enabled(w.metadata.String()), map[string]bool{"m80": false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := w.join(n, "box", test.network)
			defer b.stop()
			for key, want := range test.want {
				to := map[byte]netip.Addr{'p': w.public, 'o': w.other, 'r': w.private,
					'm': w.metadata}[key[0]]
				port := map[string]uint16{"80": 80, "443": 443, "53": 53, "853": 853}[key[1:]]
				if got := b.tcp(to, port); got != want {
					t.Errorf("%s:%d: reached is %v", to, port, got)
				}
				policy := n.shares["box"].policy
				if v := policy.Address(n.ground, to, "tcp", port); v.Allowed != want {
					t.Errorf("%s:%d: the decision is %+v", to, port, v)
				}
			}
		})
	}
}
