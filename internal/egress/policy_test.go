package egress

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
)

func policy(t testing.TB, n sandpool.Network) Policy {
	t.Helper()
	n.Status = sandpool.EgressEnabled
	p, err := Parse(n, "egress")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseNamesTheEntry(t *testing.T) {
	for entry, want := range map[string]string{
		"":                                "name of 1 to 253",
		"*":                               "not one of a host name",
		"*.":                              "name of 1 to 253",
		"localhost":                       "two parts",
		"https://example.com":             "scheme",
		"example.com/path":                "without a path",
		"example.com:0":                   "1 to 65535",
		"example.com:65536":               "1 to 65535",
		"example.com:http":                "1 to 65535",
		"example.com:1-2":                 "range of ports",
		"192.0.2.1:9-1":                   "1 to 65535",
		"192.0.2.1/24":                    "192.0.2.0/24",
		"192.0.2.0/33":                    "prefix such as",
		"1.2.3":                           "neither an address",
		"0x7f.1":                          "neither an address",
		"0177.0.0.1":                      "neither an address",
		"2130706433":                      "neither an address",
		"::ffff:10.0.0.1":                 "use 10.0.0.1",
		"[::ffff:10.0.0.1]:80":            "use 10.0.0.1",
		"::ffff:10.0.0.0/104":             "use 10.0.0.0",
		"2001:db8::1/32":                  "2001:db8::/32",
		"2001:db8::/129":                  "IPv6 address or prefix",
		"2001:db8::1:x":                   "IPv6 address or prefix",
		"fe80::1%eth0":                    "IPv6 address or prefix",
		"[2001:db8::1]:0":                 "1 to 65535",
		"[2001:db8::1]443":                "IPv6 address or prefix",
		"[2001:db8::1]:":                  "1 to 65535",
		"[example.com]:443":               "not one of a host name",
		"[192.0.2.1]:443":                 "not one of a host name",
		"a.*.example.com":                 "not one of a host name",
		"*example.com":                    "not one of a host name",
		"-a.example.com":                  "not one of a host name",
		"a..example.com":                  "not one of a host name",
		"müller.example":                  "xn--",
		"exa mple.com":                    "not one of a host name",
		strings.Repeat("a", 64) + ".com":  "not one of a host name",
		strings.Repeat("a.", 130) + "com": "name of 1 to 253",
	} {
		for _, list := range []string{"allow", "deny"} {
			n := sandpool.Network{Status: sandpool.EgressEnabled,
				Allow: []string{"example.com", entry}}
			if list == "deny" {
				n.Allow, n.Deny = nil, n.Allow
			}
			_, err := Parse(n, "egress")
			var e *sandpool.Error
			if !errors.As(err, &e) || e.Class != sandpool.Invalid || e.Target != "egress."+list+
				"[1]" || !strings.Contains(e.Message, want) {
				t.Errorf("%q in %s: %v, want %q", entry, list, err, want)
			}
		}
	}
	for _, n := range []sandpool.Network{{Connections: -1}, {Connections: 1 << 20}, {Bandwidth: 1},
		{Allow: make([]string, 1000)}} {
		n.Status = sandpool.EgressEnabled
		if _, err := Parse(n, "egress"); sandpool.ClassOf(err) != sandpool.Invalid {
			t.Errorf("%+v: %v", n.Connections, err)
		}
	}
}

func TestNamesByLabel(t *testing.T) {
	p := policy(t, sandpool.Network{Allow: []string{"Example.COM.", "*.wild.example",
		"both.example", "*.both.example"}, Deny: []string{"no.both.example", "*.no.wild.example"}})
	for name, want := range map[string]bool{
		"example.com": true, "a.example.com": false, "notexample.com": false,
		"example.com.evil.org": false, "xample.com": false,
		"wild.example": false, "a.wild.example": true, "a.b.wild.example": true,
		"awild.example": false,
		"both.example":  true, "a.both.example": true, "no.both.example": false,
		"a.no.both.example": true,
		"no.wild.example":   true, "a.no.wild.example": false,
	} {
		if got := p.Name(name); got.Allowed != want || got.Reason == "" {
			t.Errorf("%s: %+v, want %v", name, got, want)
		}
	}
}

func TestDestination(t *testing.T) {
	ground := NewGround([]netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")})
	public := policy(t, sandpool.Network{})
	named := policy(t, sandpool.Network{Allow: []string{"example.com:443", "93.184.216.0/24:80",
		"10.1.2.3", "*.example.org:443/udp"}, Deny: []string{"93.184.216.9"}})
	off, err := Parse(sandpool.Network{Allow: []string{"example.com"}}, "egress")
	if err != nil {
		t.Fatal(err)
	}
	at := func(list ...string) (out []netip.Addr) {
		for _, s := range list {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	for _, test := range []struct {
		policy    Policy
		host      string
		addresses []netip.Addr
		proto     Protocol
		port      uint16
		want      bool
	}{
		{public, "example.com", at("93.184.216.34"), TCP, 443, true},
		{public, "example.com", at("10.0.0.1"), TCP, 443, false},
		{public, "1.1.1.1", nil, UDP, 443, true},
		{public, "1.1.1.1", nil, UDP, 53, false},
		{public, "10.1.2.3", nil, TCP, 80, false},
		{public, "::1", nil, TCP, 80, false},
		{public, "::ffff:10.0.0.1", nil, TCP, 80, false},
		{public, "::ffff:1.1.1.1", nil, TCP, 80, true}, // that is 1.1.1.1
		{public, "64:ff9b::a00:1", nil, TCP, 80, false},
		{public, "2002:a00:1::", nil, TCP, 80, false},
		{public, "fd00:ec2::254", nil, TCP, 80, false},
		{public, "2130706433", nil, TCP, 80, false},
		{public, "0x7f000001", nil, TCP, 80, false},
		{public, "0177.0.0.1", nil, TCP, 80, false},
		{public, "127.1", nil, TCP, 80, false},
		{named, "example.com", at("1.1.1.1"), TCP, 443, true},
		{named, "example.com", at("1.1.1.1"), TCP, 80, false},
		{named, "example.com", at("1.1.1.1"), UDP, 443, false},
		{named, "a.example.org", at("1.1.1.1"), UDP, 443, true},
		{named, "example.com", at("93.184.216.9"), TCP, 443, false},
		{named, "93.184.216.34", nil, TCP, 80, true},
		{named, "93.184.216.9", nil, TCP, 80, false},
		{named, "10.1.2.3", nil, TCP, 80, true},
		{named, "10.1.2.4", nil, TCP, 80, false},
		{named, "evil.org", nil, TCP, 443, false},
		{off, "example.com", nil, TCP, 443, false},
		{off, "1.1.1.1", nil, TCP, 443, false},
	} {
		if v := test.policy.Destination(ground, test.host, test.addresses, test.proto,
			test.port); v.Allowed != test.want || v.Reason == "" {
			t.Errorf("%s %s:%d %v: %+v, want %v", test.proto, test.host, test.port, test.addresses,
				v, test.want)
		}
	}
}

// An entry of IPv6 is an address or a prefix, in brackets if it has a port.
func TestParseIPv6(t *testing.T) {
	for entry, want := range map[string]Entry{
		"2001:db8::1":               {Prefix: netip.MustParsePrefix("2001:db8::1/128")},
		"[2001:db8::1]":             {Prefix: netip.MustParsePrefix("2001:db8::1/128")},
		"2001:DB8::/32":             {Prefix: netip.MustParsePrefix("2001:db8::/32")},
		"::/0":                      {Prefix: netip.MustParsePrefix("::/0")},
		"[2001:db8::1]:443":         {Prefix: netip.MustParsePrefix("2001:db8::1/128"), Low: 443, High: 443},
		"[2001:db8::/32]:80-90/udp": {Prefix: netip.MustParsePrefix("2001:db8::/32"), Low: 80, High: 90, Protocol: UDP},
	} {
		if want.Text = entry; want.Protocol == "" {
			want.Protocol = TCP
		}
		if got, err := parseEntry(entry, "egress", TCP); err != nil || got != want {
			t.Errorf("%s is %+v, %v", entry, got, err)
		}
	}
}

// With IPv6 its addresses are judged as those of IPv4 are.
func TestIPv6(t *testing.T) {
	ground := NewGround([]netip.Prefix{netip.MustParsePrefix("fd12:3456:789a::/48"),
		netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("fd00::/16")})
	public := policy(t, sandpool.Network{})
	named := policy(t, sandpool.Network{Allow: []string{"example.com:443", "[2606:4700::/32]:80",
		"fd12:3456:789a::1", "64:ff9b::/96", "fd00:ec2::254"}, Deny: []string{"2606:4700::9"}})
	at := func(list ...string) (out []netip.Addr) {
		for _, s := range list {
			out = append(out, netip.MustParseAddr(s))
		}
		return out
	}
	for _, test := range []struct {
		policy    Policy
		host      string
		addresses []netip.Addr
		proto     Protocol
		port      uint16
		want      bool
	}{
		{public, "2606:4700::1", nil, TCP, 80, true},
		{public, "[2606:4700::1]", nil, UDP, 443, true},
		{public, "2606:4700::1", nil, UDP, 53, false},
		{public, "2606:4700::1", nil, TCP, 853, false},
		{public, "fd12:3456:789a::1", nil, TCP, 80, false},
		{public, "64:ff9b::a9fe:a9fe", nil, TCP, 80, false},
		{public, "64:ff9b::808:808", nil, TCP, 80, false},
		{public, "2002:808:808::1", nil, TCP, 80, false},
		{public, "fd00:ec2::254", nil, TCP, 80, false},
		{public, "example.com", at("1.1.1.1", "2606:4700::1"), TCP, 443, true},
		{public, "example.com", at("1.1.1.1", "64:ff9b::101:101"), TCP, 443, true},
		{public, "example.com", at("fd00:ec2::254"), TCP, 443, false},
		{named, "2606:4700::1", nil, TCP, 80, true},
		{named, "2606:4700::1", nil, TCP, 443, false},
		{named, "2606:4700::9", nil, TCP, 80, false},
		{named, "2606:4701::1", nil, TCP, 80, false},
		{named, "fd12:3456:789a::1", nil, TCP, 5432, true},
		{named, "fd12:3456:789a::2", nil, TCP, 5432, false},
		{named, "64:ff9b::808:808", nil, TCP, 80, false}, // never, whoever names it
		{named, "fd00:ec2::254", nil, TCP, 80, false},
		{named, "example.com", at("2a00:1450::1"), TCP, 443, true},
		{named, "example.com", at("2606:4700::9"), TCP, 443, false},
	} {
		v := test.policy.Destination(ground.WithIPv6(true), test.host, test.addresses, test.proto,
			test.port)
		if v.Allowed != test.want || v.Reason == "" {
			t.Errorf("%s %s:%d %v: %+v, want %v", test.proto, test.host, test.port, test.addresses,
				v, test.want)
		}
		v = test.policy.Destination(ground, test.host, nil, test.proto, test.port)
		if test.addresses == nil && v.Allowed {
			t.Errorf("%s:%d is allowed without IPv6: %+v", test.host, test.port, v)
		}
	}
}

func TestGround(t *testing.T) {
	g := NewGround([]netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"),
		netip.MustParsePrefix("240.0.0.0/4")})
	for addr, want := range map[string]bool{
		"10.0.255.255": true, "10.1.0.0": false, "10.1.255.255": false, "10.2.0.0": true,
		"255.255.255.255": false, "239.255.255.255": true,
		"9.255.255.255": false, "11.0.0.0": false, "168.63.129.16": true, "168.63.129.17": false,
		"169.254.169.254": true, "100.100.100.200": true,
		"::1": true, "2001:db8::1": true,
	} {
		if got := g.isClosed(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: closed is %v", addr, got)
		}
	}
	six := NewGround([]netip.Prefix{netip.MustParsePrefix("fd00::/8"),
		netip.MustParsePrefix("2001::/16")}).WithIPv6(true)
	for addr, want := range map[string]bool{
		"::": true, "::1": true, "::a00:1": true, "::ffff:8.8.8.8": true, "64:ff9b::808:808": true,
		"64:ff9b:1::1": true, "100::1": true, "1fff:ffff::": true, "2000::": false,
		"2001::1": true, "2001:10::1": false, "2001:db8::1": false, "2002::1": true,
		"2001:4860::1": false, "2003::": false, "2620:4f:8000::1": true, "2620:4f:8001::": false,
		"3fff::1": true, "3fff:1000::": false, "4000::": true, "5f00::1": true,
		"fbff:ffff::1": true, "fc00::1": true, "fd00::1": false, "fdff:ffff::1": false,
		"fd00:ec2::254": true, "fd20:ce::254": true, "fd00:c1::a9fe:a9fe": true,
		"fe00::": true, "fe80::1": true, "fec0::1": true, "ff02::1": true, "ffff::": true,
		"10.0.0.1": true, "8.8.8.8": false,
	} {
		if got := six.isClosed(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: closed is %v", addr, got)
		}
	}
	for i, r := range six.Closed() {
		for _, o := range six.Closed()[:i] {
			if r.contains(o.First) || o.contains(r.First) {
				t.Errorf("%v overlaps %v", r, o)
			}
		}
	}
}

// A key says what is allowed, and not how it is written.
func TestKey(t *testing.T) {
	one := policy(t, sandpool.Network{Allow: []string{"a.example", "b.example:80", "a.example"}})
	same := policy(t, sandpool.Network{Allow: []string{"B.example.:80/tcp", "a.EXAMPLE"},
		Connections: DefaultConnections})
	other := policy(t, sandpool.Network{Allow: []string{"a.example", "b.example:81"}})
	if one.Key() != same.Key() || one.Key() == other.Key() ||
		one.Key() == policy(t, sandpool.Network{}).Key() {
		t.Errorf("the keys are %s, %s, %s", one.Key(), same.Key(), other.Key())
	}
}

func FuzzParseEntry(f *testing.F) {
	for _, s := range []string{"example.com:443", "*.example.com", "192.0.2.0/24:1-2/udp",
		"::1", "[2001:db8::/32]:443", "0x7f.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := parseEntry(s, "egress", TCP)
		if err != nil {
			return
		}
		if (e.Name == "") == !e.Prefix.IsValid() || e.Prefix.IsValid() && e.Prefix.Addr().Is4In6() ||
			e.High < e.Low {
			t.Fatalf("%q is %+v", s, e)
		}
		if e.Name != "" {
			if again, err := ParseName(e.Name); err != nil || again != e.Name {
				t.Fatalf("%q has the name %q, which is %q, %v", s, e.Name, again, err)
			}
		}
	})
}

// A port of a denied name is closed wherever the name of a connection is known.
func TestDeniedPort(t *testing.T) {
	p, err := Parse(sandpool.Network{Status: sandpool.EgressEnabled, Proxy: true,
		Deny: []string{"a.example.com:443"}}, "egress")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddr("93.184.216.34")
	for port, want := range map[uint16]bool{80: true, 443: false} {
		if v := p.Named("a.example.com", port); v.Allowed != want {
			t.Errorf("port %d: %+v", port, v)
		}
		if v := p.Inspected(NewGround(nil), "a.example.com", netip.AddrPortFrom(at,
			port)); v.Allowed != want {
			t.Errorf("inspected, port %d: %+v", port, v)
		}
	}
}
