package netns

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/egress"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/kernfile"
)

func errNoForwarding() error {
	return sandpool.Errorf(sandpool.Unsupported, "NetworkStatusNotSupported",
		"sessionNetworkConfiguration.status",
		"This host passes no packets on, so that sandboxes can have no network. Its administrator can set the sysctl net.ipv4.ip_forward=1.")
}

// Ready is nil if sandboxes can have a network, as far as can be told without making one.
func Ready() error {
	if v, err := kernfile.Text(forwarding); err != nil || strings.TrimSpace(v) != "1" {
		return errNoForwarding()
	}
	return nil
}

// Check says what the host has of what sandboxes with a network need. It makes a namespace, a pair
// of links and a table in it, and takes them away. A host that lacks it runs sandboxes without a
// network all the same.
func Check(dir string) []sandbox.Requirement {
	var found []sandbox.Requirement
	add := func(name string, err error, detail, fix string) {
		r := sandbox.Requirement{Name: name, OK: err == nil, Detail: detail}
		if err != nil {
			r.Detail, r.Fix = err.Error(), fix
		}
		found = append(found, r)
	}
	add("network: forwarding", Ready(), "net.ipv4.ip_forward is 1",
		"Set it with: sysctl -w net.ipv4.ip_forward=1. Without it pools cannot have EgressEnabled.")
	links, rules := try(dir)
	add("network: links", links, "namespaces and veth",
		"Use a kernel with CONFIG_NET_NS and CONFIG_VETH (modprobe veth).")
	add("network: nftables", rules, "nftables, conntrack and NAT",
		"Use a kernel with nf_tables, nft_ct, nft_nat, nft_fib_inet, nft_reject_inet, nft_connlimit and nft_log (Linux 5.10 or later).")
	drops, err := foreignDrops()
	switch {
	case err != nil:
		add("network: firewall", err, "", "Find out why nftables cannot be listed.")
	case len(drops) > 0:
		add("network: firewall",
			fmt.Errorf("the chain %s drops what is forwarded unless a rule of its own allows it",
				strings.Join(drops, ", ")), "",
			"Allow links whose names begin with sp there. With Docker: "+
				"iptables -I DOCKER-USER -i sp+ -j ACCEPT; iptables -I DOCKER-USER -o sp+ "+
				"-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT.")
	default:
		add("network: firewall", nil, "no chain drops what is forwarded", "")
	}
	return found
}

// foreignDrops are the host's chains through which nothing is forwarded by default.
func foreignDrops() (names []string, err error) {
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
			c.Table.Family != nftables.TableFamilyIPv6 &&
			c.Table.Family != nftables.TableFamilyBridge {
			names = append(names, c.Table.Name+" "+c.Name)
		}
	}
	return names, nil
}

// try makes what a gateway is made of.
func try(dir string) (links, rules error) {
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
	t := newTable(conn, egress.NewGround(nil))
	if err := t.rebuild([]*share{s}, nil, nil); err != nil {
		return links, err
	}
	t.nat(s.Addr)
	return links, t.commit("translate addresses")
}
