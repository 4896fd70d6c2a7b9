package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/egress"
	"github.com/sandpool/sandpool/internal/egress/front"
)

// gate is the gateway, as long as this process looks after it.
type gate struct {
	net   *Net
	ns    *os.File
	links *netlink.Handle
	table *table
	up    uplink
	host  *host
	own   ownAddresses
	stop  []func() error

	resolver *egress.Resolver
	front    *front.Front
}

// settings of the gateway's namespace: it forwards between its links and takes no part in anything
// else.
func settings(ipv6 bool) []setting {
	list := []setting{
		{"ipv6/conf/all/disable_ipv6", "1"},
		{"ipv6/conf/default/disable_ipv6", "1"},
	}
	if ipv6 { // no address that it was not given, none from routers, and no search for duplicates
		list = nil
		for _, links := range []string{"all", "default"} {
			at := "ipv6/conf/" + links + "/"
			list = append(list, quiet6(at)...)
			list = append(list, setting{at + "accept_redirects", "0"},
				setting{at + "accept_source_route", "-1"}, setting{at + "forwarding", "1"},
				setting{at + "disable_ipv6", "0"})
		}
	}
	return append(list, []setting{
		{"ipv4/conf/all/accept_redirects", "0"},
		{"ipv4/conf/default/accept_redirects", "0"},
		{"ipv4/conf/all/send_redirects", "0"},
		{"ipv4/conf/default/send_redirects", "0"},
		{"ipv4/conf/all/accept_source_route", "0"},
		{"ipv4/conf/default/accept_source_route", "0"},
		{"ipv4/conf/default/arp_ignore", "1"},
		{"ipv4/conf/all/rp_filter", "1"},
		// What was cut off stays cut off: a packet in the middle of a connection begins none.
		{"netfilter/nf_conntrack_tcp_loose", "0"},
		{"netfilter/nf_conntrack_tcp_timeout_established", "86400"},
		{"ipv4/ip_forward", "1"},
	}...)
}

// quiet6 makes a link take no address but what it is given. at is the folder of its settings.
func quiet6(at string) []setting {
	return []setting{{at + "addr_gen_mode", "1"}, {at + "accept_ra", "0"}, {at + "autoconf", "0"},
		{at + "accept_dad", "0"}, {at + "router_solicitations", "0"}}
}

// openGate makes the gateway or takes it over. The caller has n.mu, or is alone.
func openGate(n *Net) (_ *gate, err error) {
	g := &gate{net: n}
	defer func() {
		if err != nil {
			_ = g.close()
		}
	}()
	if g.ns, err = openNamespace(n.path()); err != nil {
		return nil, err
	}
	if g.ns == nil {
		if err = dropNamespace(n.path()); err != nil {
			return nil, err
		}
		if g.ns, err = makeNamespace(n.path()); err != nil {
			return nil, err
		}
	}
	if g.links, err = newHandle(g.ns); err != nil {
		return nil, err
	}
	conn, err := nftables.New(nftables.WithNetNSFd(int(g.ns.Fd())), nftables.AsLasting(),
		nftables.WithSockOptions(roomy))
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	g.stop = append(g.stop, conn.CloseLasting)
	g.table = newTable(conn, n.ground)
	if g.host, err = openHost(n.log, n.path(), n.ground); err != nil {
		return nil, err
	}
	var shares []*share
	for _, s := range n.shares {
		shares = append(shares, s)
	}
	local, err := localAddresses()
	if err != nil {
		return nil, err
	}
	g.own.list.Store(&local)
	if err := g.table.rebuild(shares, local, g.remembered()); err != nil {
		return nil, err
	}
	if err := within(g.ns, func() error { return apply(settings(n.ground.IPv6())) }); err != nil {
		return nil, fmt.Errorf("set up the gateway's namespace: %w", err)
	}
	if err := g.bringUp(); err != nil {
		return nil, err
	}
	if err := g.rejoin(shares); err != nil {
		return nil, err
	}
	return g, g.serve()
}

// newHandle returns a way to ask about links of ns.
func newHandle(ns *os.File) (h *netlink.Handle, err error) {
	err = within(ns, func() error {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
		return err
	})
	return h, err
}

// bringUp joins the gateway to the host, if it is not yet.
func (g *gate) bringUp() error {
	if err := g.loopback(); err != nil {
		return err
	}
	link, err := g.links.LinkByName(uplinkName)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing):
		if g.up, err = g.host.connect(g.ns); err != nil {
			return err
		}
		if link, err = g.links.LinkByName(uplinkName); err != nil {
			return fmt.Errorf("find the uplink: %w", err)
		}
	case err != nil:
		return fmt.Errorf("find the uplink: %w", err)
	default:
		if g.up, err = g.host.connected(); err != nil {
			return err
		}
	}
	g.up.mtu = link.Attrs().MTU
	addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(g.up.near, 31))}
	if err := g.links.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("give the uplink its address: %w", err)
	}
	g.table.nat(g.up)
	if err := g.table.commit("write the gateway's address translation"); err != nil {
		return err
	}
	if err := g.links.LinkSetUp(link); err != nil {
		return fmt.Errorf("set the uplink up: %w", err)
	}
	err = g.links.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: g.up.far.AsSlice(),
		Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0"))})
	if err != nil {
		return fmt.Errorf("route the gateway to the host: %w", err)
	}
	if g.table.six != nil {
		if err := g.bringUp6(link); err != nil {
			return fmt.Errorf("route the gateway to the host by IPv6: %w", err)
		}
	}
	return g.host.open(g.up, link.Attrs().HardwareAddr)
}

// bringUp6 is bringUp for IPv6. Who is at the other end is fixed, and not asked for.
func (g *gate) bringUp6(link netlink.Link) error {
	out, err := g.host.links.LinkByName(g.host.name)
	if err != nil {
		return err
	}
	if err := g.links.AddrReplace(link, addr6(g.up.near6, 127)); err != nil {
		return err
	}
	if err := g.links.NeighSet(neighbour(link, g.up.far6, out.Attrs().HardwareAddr)); err != nil {
		return err
	}
	return g.links.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index,
		Gw: g.up.far6.AsSlice(), Dst: ipNet(netip.MustParsePrefix("::/0"))})
}

// addr6 is an address that is used at once: nobody else can have it.
func addr6(a netip.Addr, bits int) *netlink.Addr {
	return &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, bits)), Flags: unix.IFA_F_NODAD}
}

// neighbour is who has an address, for good.
func neighbour(link netlink.Link, a netip.Addr, hardware net.HardwareAddr) *netlink.Neigh {
	family := unix.AF_INET
	if a.Is6() {
		family = unix.AF_INET6
	}
	return &netlink.Neigh{LinkIndex: link.Attrs().Index, Family: family,
		State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: hardware}
}

// rejoin gives the links of sandboxes that there are what they lack because the gateway had no IPv6
// for a time. A link that is not up is of a sandbox that has ended or whose start was cut short,
// and ends with it.
func (g *gate) rejoin(shares []*share) error {
	if g.table.six == nil {
		return nil
	}
	for _, s := range shares {
		link, err := g.links.LinkByName(s.link())
		if err != nil || !s.IPv6 || link.Attrs().Flags&net.FlagUp == 0 {
			continue
		}
		inside, _ := s.hardware()
		err = g.direct(link, six(s.Addr), inside)
		if err != nil && !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("set up the link of %q: %w", s.ID, err)
		}
	}
	return nil
}

// direct leads to a sandbox's address over its link, and to nobody else there.
func (g *gate) direct(link netlink.Link, a netip.Addr, inside net.HardwareAddr) error {
	if err := g.links.NeighSet(neighbour(link, a, inside)); err != nil {
		return err
	}
	return g.links.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index,
		Scope: netlink.SCOPE_LINK, Dst: ipNet(netip.PrefixFrom(a, a.BitLen()))})
}

// loopback gives the gateway the address that sandboxes know.
func (g *gate) loopback() error {
	lo, err := g.links.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find the gateway's loopback: %w", err)
	}
	if err := g.links.AddrReplace(lo,
		&netlink.Addr{IPNet: ipNet(netip.PrefixFrom(Gateway(), 32))}); err != nil {
		return fmt.Errorf("give the gateway its address: %w", err)
	}
	if g.table.six != nil {
		if err := g.links.AddrReplace(lo, addr6(Gateway6(), 128)); err != nil {
			return fmt.Errorf("give the gateway its address of IPv6: %w", err)
		}
	}
	return g.links.LinkSetUp(lo)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// insideName is what the sandbox's end of its pair is called.
const insideName = "eth0"

// join makes the pair of links of s, whose process is pid, and a socket for it.
func (g *gate) join(s *share, pid int) (_ *Link, err error) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, fmt.Errorf("open the sandbox's network namespace: %w", err)
	}
	defer ns.Close()
	inside, outside := s.hardware()
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: s.link(), HardwareAddr: outside, MTU: g.up.mtu,
			TxQLen: -1, NumTxQueues: 1, NumRxQueues: 1},
		PeerName:         insideName,
		PeerHardwareAddr: inside,
		PeerMTU:          uint32(g.up.mtu),
		PeerNamespace:    netlink.NsFd(ns.Fd()),
	}
	if err := g.links.LinkAdd(pair); err != nil {
		return nil, fmt.Errorf("make the links of %q: %w", s.ID, err)
	}
	var socket *os.File
	if err := within(ns, func() (err error) {
		socket, err = packetSocket()
		return err
	}); err != nil {
		return nil, fmt.Errorf("open the link of %q: %w", s.ID, err)
	}
	if err := g.connect(s, pair, inside); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	link := &Link{Socket: socket, Addr: s.Addr, Gateway: Gateway(), Hardware: inside,
		GatewayHW: outside, MTU: g.up.mtu}
	if s.IPv6 {
		link.Addr6, link.Gateway6 = six(s.Addr), Gateway6()
	}
	return link, nil
}

// connect sets the gateway's end of a pair up. Who is at the other end is fixed: the gateway
// neither asks nor answers by ARP or neighbour discovery.
func (g *gate) connect(s *share, pair *netlink.Veth, inside net.HardwareAddr) error {
	err := g.links.LinkSetARPOff(pair)
	if err == nil {
		err = g.links.LinkSetUp(pair)
	}
	if err == nil {
		err = g.direct(pair, s.Addr, inside)
	}
	if err == nil && s.IPv6 {
		err = g.direct(pair, six(s.Addr), inside)
	}
	if err != nil {
		return fmt.Errorf("set up the link of %q: %w", s.ID, err)
	}
	return nil
}

// socketBuffer is that of a link's socket (gVisor's own choice).
const socketBuffer = 4 << 20

// packetSocket sets the link of the calling thread's namespace up and returns a socket for what
// goes over it.
func packetSocket() (_ *os.File, err error) {
	if err := apply([]setting{{"ipv6/conf/" + insideName + "/disable_ipv6", "1"}}); err != nil &&
		!errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "link")
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	request, err := unix.NewIfreq(insideName)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request); err != nil {
		return nil, err
	}
	index := int(request.Uint32())
	request.SetUint16(unix.IFF_UP | unix.IFF_NOARP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return nil, err
	}
	const everything = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything,
		Ifindex: index}); err != nil {
		return nil, err
	}
	for _, o := range []struct{ level, option, value int }{
		{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.option, o.value); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// lingers is how long the kernel may take to remove the links of a process that has ended.
const lingers = 5 * time.Second

// part ends the connections of s, and waits until its link is gone.
func (g *gate) part(s *share) error {
	if err := g.forgetConnections(s); err != nil {
		return err
	}
	for end := time.Now().Add(lingers); ; time.Sleep(2 * time.Millisecond) {
		link, err := g.links.LinkByName(s.link())
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) {
			return nil
		}
		if err == nil && time.Now().After(end) {
			return g.links.LinkDel(link) // nobody is at its other end
		}
		if err != nil {
			return err
		}
	}
}

// close stops what runs in this process.
func (g *gate) close() error {
	var errs []error
	for _, stop := range g.stop {
		errs = append(errs, stop())
	}
	if g.host != nil {
		errs = append(errs, g.host.close())
	}
	if g.links != nil {
		g.links.Close()
	}
	if g.ns != nil {
		errs = append(errs, g.ns.Close())
	}
	return errors.Join(errs...)
}

// removeGate takes the gateway and all that is of it on the host away.
func removeGate(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.Join(removeHost(path), dropNamespace(path))
}
