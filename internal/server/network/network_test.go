package network

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/egress"
)

// Settings that are right are read, and those that are not are said to be wrong, each by what it
// is.
func TestSettings(t *testing.T) {
	right := Settings{Resolvers: []string{"192.0.2.53", "192.0.2.54:5353", "2001:db8::53"},
		Private: []string{"10.20.0.0/16", "172.16.5.4/32", "fd12:3456:789a::/48"}}
	if problems := right.Validate(); len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	resolvers, private := right.Parsed()
	wantResolvers := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53"),
		netip.MustParseAddrPort("192.0.2.54:5353"), netip.MustParseAddrPort("[2001:db8::53]:53")}
	wantPrivate := []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16"),
		netip.MustParsePrefix("172.16.5.4/32"), netip.MustParsePrefix("fd12:3456:789a::/48")}
	if !slices.Equal(resolvers, wantResolvers) || !slices.Equal(private, wantPrivate) {
		t.Errorf("parsed: %v, %v", resolvers, private)
	}
	for _, wrong := range []Settings{
		{Resolvers: []string{"dns.example.com"}}, {Resolvers: []string{""}},
		{Resolvers: []string{"192.0.2.53:"}},
		{Private: []string{"10.20.0.0"}}, {Private: []string{"10.20.0.1/16"}},
		{Private: []string{"64:ff9b::/96"}}, {Private: []string{"fe80::/64"}},
		{Private: []string{"::ffff:10.0.0.0/104"}}, {Private: []string{"fd00:ec2::254/128"}},
		{Private: []string{"fd00::1/8"}}, {Private: []string{"intranet"}},
	} {
		problems := wrong.Validate()
		if len(problems) != 1 {
			t.Errorf("%+v: %v", wrong, problems)
			continue
		}
		field, value := "network.resolvers", strings.Join(wrong.Resolvers, "")
		if len(wrong.Private) > 0 {
			field, value = "network.private", wrong.Private[0]
		}
		if text := problems[0].Error(); !strings.Contains(text, field) ||
			!strings.Contains(text, `"`+value+`"`) {
			t.Errorf("%+v: %s", wrong, text)
		}
	}
}

// Only what the settings open can be named by a policy.
func TestGround(t *testing.T) {
	closed := Host{}.Ground()
	open := Host{Settings: Settings{Private: []string{"10.20.0.0/16"}}}.Ground()
	for _, test := range []struct {
		prefix       string
		closed, open bool
	}{{"10.20.1.0/24", false, true}, {"10.21.0.0/24", false, false}, {"10.0.0.0/8", false, false}} {
		p := netip.MustParsePrefix(test.prefix)
		for ground, want := range map[*egress.Ground]bool{closed: test.closed, open: test.open} {
			if got := ground.Names(p); got != want {
				t.Errorf("%s can be named: %v", p, got)
			}
		}
	}
}
