package netns

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/egress"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/kernfile"
)

// Ready is nil if sandboxes can have a network, as far as can be told without making one.
func Ready(ipv6 bool) error {
	lacks := func(what string) error {
		return sandpool.Errorf(sandpool.Unsupported, "NetworkStatusNotSupported",
			"sessionNetworkConfiguration.status", "%s", what)
	}
	if !isOn(forwarding) {
		return lacks("This host passes no packets on, so that sandboxes can have no network. " +
			"Its administrator can set the sysctl net.ipv4.ip_forward=1.")
	}
	if ipv6 && !isOn(forwarding6) {
		return lacks("This host passes no packets of IPv6 on, and the server's setting " +
			"network.ipv6 is true. Its administrator can set the sysctl " +
			"net.ipv6.conf.all.forwarding=1, or the setting to false.")
	}
	return nil
}

func isOn(path string) bool {
	v, err := kernfile.Text(path)
	return err == nil && strings.TrimSpace(v) == "1"
}

// hasRoute6 is nil if the host knows a way to the public network by IPv6.
func hasRoute6() error {
	list, err := netlink.RouteList(nil, unix.AF_INET6)
	if err != nil {
		return fmt.Errorf("list the host's routes of IPv6: %w", err)
	}
	for _, r := range list {
		if r.Dst == nil || r.Dst.IP.IsUnspecified() {
			return nil
		}
	}
	return errors.New("the host has no default route of IPv6")
}

// Check says what the host has of what sandboxes with a network need. It makes a namespace, a pair
// of links and a table in it, and takes them away. A host that lacks it runs sandboxes without a
// network all the same.
func Check(dir string, ipv6 bool) []sandbox.Requirement {
	var found []sandbox.Requirement
	add := func(name string, err error, detail, fix string) {
		r := sandbox.Requirement{Name: name, OK: err == nil, Detail: detail}
		if err != nil {
			r.Detail, r.Fix = err.Error(), fix
		}
		found = append(found, r)
	}
	add("network: forwarding", Ready(false), "net.ipv4.ip_forward is 1",
		"Set it with: sysctl -w net.ipv4.ip_forward=1. Without it pools cannot have EgressEnabled.")
	if ipv6 {
		err := hasRoute6()
		if !isOn(forwarding6) {
			err = errors.New("the host passes no packets of IPv6 on")
		}
		add("network: IPv6", err, "net.ipv6.conf.all.forwarding is 1, and there is a default route",
			"Set it with: sysctl -w net.ipv6.conf.all.forwarding=1. Where routers announce the "+
				"route, set net.ipv6.conf.LINK.accept_ra=2 before, or it is lost. Without IPv6 "+
				"set network.ipv6 to false.")
	}
	links, rules := try(dir, ipv6)
	add("network: links", links, "namespaces and veth",
		"Use a kernel with CONFIG_NET_NS and CONFIG_VETH (modprobe veth).")
	add("network: nftables", rules, "nftables, conntrack and NAT",
		"Use a kernel with nf_tables, nft_ct, nft_nat, nft_fib_inet, nft_reject_inet, nft_connlimit and nft_log (Linux 5.10 or later).")
	drops, err := foreignDrops(ipv6)
	switch {
	case err != nil:
		add("network: firewall", err, "", "Find out why nftables cannot be listed.")
	case len(drops) > 0:
		add("network: firewall",
			fmt.Errorf("the chain %s drops what is forwarded unless a rule of its own allows it",
				strings.Join(drops, ", ")), "",
			"Allow links whose names begin with sp there. With Docker: "+
				"iptables -I DOCKER-USER -i sp+ -j ACCEPT; iptables -I DOCKER-USER -o sp+ "+
				"-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT; for IPv6 with ip6tables.")
	default:
		add("network: firewall", nil, "no chain drops what is forwarded", "")
	}
	return found
}

// foreignDrops are the host's chains through which nothing is forwarded by default.
func foreignDrops(ipv6 bool) (names []string, err error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, err
	}
	for _, c := range chains {
		if c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward && c.Policy != nil &&
			*c.Policy == nftables.ChainPolicyDrop &&
			(ipv6 || c.Table.Family != nftables.TableFamilyIPv6) &&
			c.Table.Family != nftables.TableFamilyBridge {
			names = append(names, c.Table.Name+" "+c.Name)
		}
	}
	return names, nil
}

// try makes what a gateway is made of.
func try(dir string, ipv6 bool) (links, rules error) {
	path := fmt.Sprintf("%s/check-%d", dir, os.Getpid())
	ns, err := makeNamespace(path)
	if err != nil {
		return errors.Join(err, dropNamespace(path)), errors.New("not tried")
	}
	defer func() { links = errors.Join(links, ns.Close(), dropNamespace(path)) }()
	h, err := newHandle(ns)
	if err != nil {
		return err, errors.New("not tried")
	}
	defer h.Close()
	links = h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: uplinkName, TxQLen: -1},
		PeerName: "peer"})
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		return links, err
	}
	s := newShare("check")
	s.Addr = addressOf(firstIndex)
	if err := s.setNetwork(sandpool.Network{Status: sandpool.EgressEnabled}); err != nil {
		return links, err
	}
	t := newTable(conn, egress.NewGround(nil).WithIPv6(ipv6))
	if err := t.rebuild([]*share{s}, nil, nil); err != nil {
		return links, err
	}
	t.nat(uplink{near: s.Addr, near6: six(s.Addr)})
	return links, t.commit("translate addresses")
}
