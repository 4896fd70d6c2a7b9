package network

import (
	"context"
	"errors"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/egress"
)

// fakeHost knows a few names, and notes which it was asked for.
type fakeHost struct {
	lacks error
	names map[string]string
	asked []string
}

func (h *fakeHost) Ready() error { return h.lacks }

func (h *fakeHost) Ground() *egress.Ground {
	return egress.NewGround([]netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")})
}

func (h *fakeHost) Lookup(_ context.Context, name string) ([]netip.Addr, error) {
	h.asked = append(h.asked, name)
	a, ok := h.names[name]
	if !ok {
		return nil, errors.New("there is no such name")
	}
	return []netip.Addr{netip.MustParseAddr(a)}, nil
}

// What a request says becomes what sandboxes may reach, or problems that name their fields.
func TestParse(t *testing.T) {
	most, negative, yes, no := int64(7), int64(-1), true, false
	ready, poor := &fakeHost{}, &fakeHost{lacks: errors.New("no forwarding")}
	for _, test := range []struct {
		name      string
		host      Host
		status    string
		egress    *api.Egress
		bandwidth int64
		want      sandpool.Network
		targets   string // of the problems
	}{
		{"nothing", ready, "", nil, 0, sandpool.Network{Status: sandpool.EgressDisabled}, ""},
		{"disabled", nil, "egressdisabled", nil, 0,
			sandpool.Network{Status: sandpool.EgressDisabled}, ""},
		{"enabled in any case", ready, "EGRESSenabled", nil, 0,
			sandpool.Network{Status: sandpool.EgressEnabled}, ""},
		{"a policy", ready, "EgressEnabled", &api.Egress{Allow: []string{"a.example.com"},
			Deny: []string{"192.0.2.1"}, MaxConnections: &most}, 1 << 20,
			sandpool.Network{Status: sandpool.EgressEnabled, Allow: []string{"a.example.com"},
				Deny: []string{"192.0.2.1"}, Connections: 7, Bandwidth: 1 << 20}, ""},
		{"a policy while it is off", ready, "EgressDisabled",
			&api.Egress{Allow: []string{"a.example.com"}}, 0,
			sandpool.Network{Status: sandpool.EgressDisabled, Allow: []string{"a.example.com"}},
			""},
		{"inspection", ready, "EgressEnabled", &api.Egress{Inspect: &yes}, 0, sandpool.Network{Status: sandpool.EgressEnabled, Inspect: true}, ""},
		{"a proxy", ready, "EgressEnabled", &api.Egress{Proxy: &yes}, 0, sandpool.Network{Status: sandpool.EgressEnabled, Proxy: true}, ""},
		{"a proxy for addresses", ready, "EgressEnabled", &api.Egress{Proxy: &yes, Allow: []string{"a.example.com", "192.0.2.1"}}, 0,
			sandpool.Network{Status: sandpool.EgressEnabled, Proxy: true, Allow: []string{"a.example.com", "192.0.2.1"}}, egressTarget + ".allow[1]"},
		{"no inspection", ready, "EgressEnabled", &api.Egress{Inspect: &no}, 0, sandpool.Network{Status: sandpool.EgressEnabled}, ""},
		{"another status", ready, "Open", nil, 0, sandpool.Network{Status: sandpool.EgressDisabled},
			statusTarget},
		{"a server without networks", nil, "EgressEnabled", nil,
			0, sandpool.Network{Status: sandpool.EgressDisabled}, statusTarget},
		{"a host that lacks something", poor, "EgressEnabled",
			nil, 0, sandpool.Network{Status: sandpool.EgressEnabled}, statusTarget},
		{"a wrong entry", ready, "EgressEnabled",
			&api.Egress{Allow: []string{"a.example.com", "http://b"}}, 0,
			sandpool.Network{Status: sandpool.EgressEnabled,
				Allow: []string{"a.example.com", "http://b"}}, egressTarget + ".allow[1]"},
		{"too few connections", ready, "EgressEnabled", &api.Egress{MaxConnections: &negative}, 0,
			sandpool.Network{Status: sandpool.EgressEnabled, Connections: -1},
			egressTarget + ".connections"},
		{"two problems", nil, "EgressEnabled", &api.Egress{Deny: []string{"*"}}, 0,
			sandpool.Network{Status: sandpool.EgressDisabled, Deny: []string{"*"}},
			statusTarget + " " + egressTarget + ".deny[0]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, problems := Parse(test.host, &api.SessionNetworkConfiguration{Status: test.status},
				test.egress, test.bandwidth)
			var targets []string
			for _, p := range problems {
				targets = append(targets, p.Target)
			}
			if !got.Equal(test.want) || strings.Join(targets, " ") != test.targets {
				t.Errorf("%+v, problems at %q; want %+v, %q", got, targets, test.want, test.targets)
			}
		})
	}
}

// What is shown can be sent back.
func TestEgress(t *testing.T) {
	if e := Egress(sandpool.Network{Status: sandpool.EgressEnabled}, ""); e != nil {
		t.Errorf("no policy is shown as %+v", e)
	}
	is := sandpool.Network{Status: sandpool.EgressEnabled, Allow: []string{"a.example.com"},
		Deny: []string{"192.0.2.1"}, Connections: 9, Bandwidth: 1 << 20, Inspect: true}
	back, problems := Parse(&fakeHost{}, &api.SessionNetworkConfiguration{Status: "EgressEnabled"},
		Egress(is, "1Mi"), is.Bandwidth)
	if len(problems) > 0 || !back.Equal(is) {
		t.Errorf("%+v comes back as %+v, %v", is, back, problems)
	}
}

// A proxy is shown, comes back, and takes names alone.
func TestProxy(t *testing.T) {
	is := sandpool.Network{Status: sandpool.EgressEnabled, Proxy: true,
		Allow: []string{"*.example.com:443"}}
	back, problems := Parse(&fakeHost{}, &api.SessionNetworkConfiguration{Status: "EgressEnabled"},
		Egress(is, ""), 0)
	if len(problems) > 0 || !back.Equal(is) || back.SameRules(sandpool.Network{Status: is.Status,
		Allow: is.Allow}) {
		t.Errorf("%+v comes back as %+v, %v", is, back, problems)
	}
	host := &fakeHost{names: map[string]string{"a.example.com": "93.184.216.34"}}
	for to, want := range map[string]bool{"a.example.com:443": true, "93.184.216.34:443": false,
		"a.example.com:80": false} {
		r := httptest.NewRequest("GET", "/?"+api.DestinationParameter+"="+to, nil)
		got, err := Show(host, is, "", r)
		if err != nil || got.Test.Allowed != want || got.Test.Reason == "" {
			t.Errorf("%s: %+v, %v", to, got.Test, err)
		}
	}
}

// A test of a destination says what would happen, and asks for no name that the policy has not.
func TestShow(t *testing.T) {
	n := sandpool.Network{Status: sandpool.EgressEnabled, Allow: []string{"*.example.com:443",
		"10.20.0.0/24", "198.41.0.4:53/udp", "93.184.216.34:8080"}}
	host := &fakeHost{names: map[string]string{"a.example.com": "93.184.216.34",
		"inner.example.com": "10.1.1.1"}}
	for _, test := range []struct {
		to, protocol string
		allowed      bool
		reason       string // is part of it
	}{
		{"a.example.com:443", "", true, "*.example.com:443"},
		{"A.EXAMPLE.COM:443", "TCP", true, "*.example.com:443"},
		{"a.example.com:80", "tcp", false, "no entry for port 80"},
		{"a.example.com:8080", "", true, ""},
		{"a.example.com:443", "udp", false, "no entry for port 443"},
		{"example.com:443", "", false, "No entry"},
		{"evil.example.org:443", "", false, "No entry"},
		{"inner.example.com:443", "", false, "not on the public network"},
		{"missing.example.com:443", "", false, "cannot be resolved"},
		{"10.20.0.7:5432", "", true, "10.20.0.0/24"},
		{"10.20.1.7:5432", "", false, "a policy must name it"},
		{"169.254.169.254:80", "", false, "No policy opens it"},
		{"[::1]:80", "", false, "no IPv6"},
		{"198.41.0.4:53", "udp", true, "198.41.0.4:53/udp"},
		{"0x7f.1:80", "", false, "is no host"},
	} {
		v := url.Values{api.DestinationParameter: {test.to}, api.ProtocolParameter: {test.protocol}}
		out, err := Show(host, n, "", httptest.NewRequest("GET", "/egress?"+v.Encode(), nil))
		if err != nil || out.Test == nil || out.Test.Allowed != test.allowed ||
			!strings.Contains(out.Test.Reason, test.reason) {
			t.Errorf("%s %s: %+v, %v", test.to, test.protocol, out.Test, err)
		}
	}
	if slices.Contains(host.asked, "evil.example.org") ||
		slices.Contains(host.asked, "example.com") {
		t.Errorf("names were looked up that the policy has not: %q", host.asked)
	}
	for _, wrong := range []string{"a.example.com", ":80", "a.example.com:0", "a.example.com:65536",
		"a.example.com:http"} {
		v := url.Values{api.DestinationParameter: {wrong}}
		if _, err := Show(host, n, "", httptest.NewRequest("GET", "/egress?"+v.Encode(),
			nil)); sandpool.ClassOf(err) != sandpool.Invalid {
			t.Errorf("%s: %v", wrong, err)
		}
	}
	v := url.Values{api.DestinationParameter: {"a.example.com:443"},
		api.ProtocolParameter: {"icmp"}}
	if _, err := Show(host, n, "", httptest.NewRequest("GET", "/egress?"+v.Encode(),
		nil)); sandpool.ClassOf(err) != sandpool.Invalid {
		t.Errorf("another protocol: %v", err)
	}
	out, err := Show(nil, sandpool.Network{Status: sandpool.EgressDisabled},
		"", httptest.NewRequest("GET", "/egress?destination=a.example.com:443", nil))
	if err != nil || out.Test.Allowed || out.MaxConnections != nil {
		t.Errorf("without a network: %+v, %v", out, err)
	}
}

func TestRefusals(t *testing.T) {
	if Refusals(nil) != nil {
		t.Error("no network is shown as one without refusals")
	}
	at := time.Date(2026, 5, 1, 12, 0, 0, 5, time.FixedZone("", 3600))
	got := Refusals(&sandpool.Refusals{Packets: 2, Names: 1, Recent: []sandpool.Refusal{
		{Time: at, Host: "192.0.2.1", Port: 80, Protocol: "tcp", Count: 2}}})
	want := &api.Refusals{Packets: 2, Names: 1, Recent: []api.Refusal{
		{Time: "2026-05-01T11:00:00.000000005Z", Host: "192.0.2.1", Port: 80,
			Protocol: "tcp", Count: 2}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := Refusals(&sandpool.Refusals{}); got.Recent == nil {
		t.Error("an empty list is shown as null")
	}
}
