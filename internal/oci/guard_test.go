package oci

import (
	"net/netip"
	"testing"
)

// Where an address is decides who may send the server there.
func TestReach(t *testing.T) {
	for text, want := range map[string]place{
		"93.184.216.34": outside, "2606:2800:220:1::1": outside, "::ffff:93.184.216.34": outside,
		"127.0.0.1": inside, "127.9.9.9": inside, "::1": inside, "10.1.2.3": inside, "172.16.0.1": inside, "192.168.1.1": inside,
		"fd00::1": inside, "100.64.0.1": inside, "::ffff:10.0.0.1": inside, "64:ff9b::a00:1": inside,
		"169.254.169.254": nowhere, "fe80::1": nowhere, "fe80::1%eth0": nowhere, "0.0.0.0": nowhere, "::": nowhere, "0.1.2.3": nowhere,
		"224.0.0.1": nowhere, "ff02::1": nowhere, "255.255.255.255": nowhere, "240.0.0.1": nowhere, "fd00:ec2::254": nowhere,
		"::ffff:169.254.169.254": nowhere, "64:ff9b::a9fe:a9fe": nowhere, "100.100.100.200": nowhere,
	} {
		if got := reach(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

// A registry on a public address cannot send a pull inside, one inside can; none
// can send it to where clouds keep secrets.
func TestGuardJudges(t *testing.T) {
	dials := func(pairs ...string) *guard {
		g := newGuard("registry.example:5000", nil, nil)
		for i := 0; i < len(pairs); i += 2 {
			if err := g.judge(pairs[i], netip.MustParseAddr(pairs[i+1])); err != nil {
				t.Errorf("%v: %v", pairs, err)
			}
		}
		return g
	}
	for _, c := range []struct {
		name       string
		g          *guard
		host, addr string
		ok         bool
	}{
		{"public registry to a public host", dials("registry.example:5000", "93.184.216.34"),
			"cdn.example:443", "93.184.216.35", true},
		{"public registry to a private host", dials("registry.example:5000", "93.184.216.34"),
			"cdn.example:443", "10.0.0.1", false},
		{"public registry to this machine", dials("registry.example:5000", "93.184.216.34"),
			"localhost:80", "127.0.0.1", false},
		{"private registry to a private host", dials("registry.example:5000", "10.0.0.2"),
			"auth.example:443", "10.0.0.1", true},
		{"private registry to the metadata service", dials("registry.example:5000", "10.0.0.2"),
			"x.example:80", "169.254.169.254", false},
		{"registry at the metadata service", dials(), "registry.example:5000", "169.254.169.254", false},
		{"registry on this machine by another port", dials(), "registry.example:80", "127.0.0.1", true},
	} {
		if err := c.g.judge(c.host, netip.MustParseAddr(c.addr)); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TLS is left out where the operator says so and on the loopback interface.
func TestGuardPlain(t *testing.T) {
	g := newGuard("x", []string{"plain.example:5000"}, nil)
	for host, want := range map[string]bool{
		"plain.example:5000": true, "plain.example": false, "localhost:5000": true, "localhost": true, "127.0.0.1:80": true, "[::1]:80": true,
		"10.0.0.1:5000": false, "registry.local": false, "localhost.example": false, "127.0.0.1.example": false,
	} {
		if got := g.mayBePlain(host); got != want {
			t.Errorf("%s: %v, want %v", host, got, want)
		}
	}
}
