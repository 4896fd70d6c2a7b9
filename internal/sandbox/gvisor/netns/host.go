package netns

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/egress"
)

// host is what the gateway has on the host: one link, and a table of nftables.
type host struct {
	log    *slog.Logger
	name   string // of the link and of the table
	ground *egress.Ground
	links  *netlink.Handle
	conn   *nftables.Conn
	stop   chan struct{} // closed to end the watch
	done   chan struct{} // closed when it has ended
}

// uplink is the pair of links between the gateway and the host.
type uplink struct {
	near, far   netip.Addr // of the gateway and of the host
	near6, far6 netip.Addr
	mtu         int
}

// own is the gateway's address in a family.
func (u uplink) own(f *family) netip.Addr {
	if f.size == 4 {
		return u.near
	}
	return u.near6
}

// withIPv6 adds the addresses of IPv6: the name makes them the host's own.
func (u uplink) withIPv6(name string) uplink {
	sum, far := sha256.Sum256([]byte(name)), prefix6().Addr().As16()
	far[7] = 1 // sandboxes have subnet 0
	copy(far[8:], sum[:8])
	far[15] &^= 1
	u.far6 = netip.AddrFrom16(far)
	u.near6 = u.far6.Next()
	return u
}

// hostName comes from the directory, so that engines beside each other do not meet.
func hostName(path string) string {
	sum := sha256.Sum256([]byte(path))
	return fmt.Sprintf("sp%x", sum[:5])
}

// The settings without which the host passes nothing on.
const (
	forwarding  = "/proc/sys/net/ipv4/ip_forward"
	forwarding6 = "/proc/sys/net/ipv6/conf/all/forwarding"
)

func openHost(log *slog.Logger, path string, ground *egress.Ground) (*host, error) {
	if err := Ready(ground.IPv6()); err != nil {
		return nil, err
	}
	h := &host{log: log, name: hostName(path), ground: ground}
	var err error
	if h.links, err = netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER); err != nil {
		return nil, err
	}
	if h.conn, err = nftables.New(nftables.AsLasting()); err != nil {
		h.links.Close()
		return nil, fmt.Errorf("nftables: %w", err)
	}
	return h, nil
}

func (h *host) close() error {
	if h.stop != nil {
		close(h.stop)
		<-h.done
	}
	h.links.Close()
	return h.conn.CloseLasting()
}

// connect makes the uplink.
func (h *host) connect(ns *os.File) (uplink, error) {
	up, err := h.freeUplink()
	if err != nil {
		return uplink{}, err
	}
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: h.name, MTU: up.mtu, TxQLen: -1}, PeerName: uplinkName,
		PeerMTU: uint32(up.mtu), PeerNamespace: netlink.NsFd(ns.Fd()),
	}
	if old, err := h.links.LinkByName(h.name); err == nil { // of a gateway that is no more
		_ = h.links.LinkDel(old)
	}
	if err := h.links.LinkAdd(pair); err != nil {
		return uplink{}, fmt.Errorf("make the uplink: %w", err)
	}
	if err := h.links.AddrAdd(pair,
		&netlink.Addr{IPNet: ipNet(netip.PrefixFrom(up.far, 31))}); err != nil {
		return uplink{}, fmt.Errorf("give the uplink its address: %w", err)
	}
	return up, nil
}

// connected returns the uplink that there is.
func (h *host) connected() (uplink, error) {
	link, err := h.links.LinkByName(h.name)
	if err != nil {
		return uplink{}, fmt.Errorf("find the host's end of the uplink: %w", err)
	}
	list, err := h.links.AddrList(link, unix.AF_INET)
	if err != nil || len(list) != 1 {
		return uplink{}, errors.Join(fmt.Errorf("the host's end of the uplink has %d addresses",
			len(list)), err)
	}
	far, _ := netip.AddrFromSlice(list[0].IP.To4())
	return uplink{near: far.Next(), far: far}.withIPv6(h.name), nil
}

// Uplinks have link-local addresses (RFC 3927) of a part that no metadata service is in.
const uplinkHigh, uplinkLow, uplinkThird, uplinkThirds = 169, 254, 64, 64

// freeUplink finds a pair of addresses that the host does not use.
func (h *host) freeUplink() (uplink, error) {
	taken, err := localAddresses()
	if err != nil {
		return uplink{}, err
	}
	mtu, err := h.pathMTU()
	if err != nil {
		return uplink{}, err
	}
	sum := sha256.Sum256([]byte(h.name))
	start := binary.BigEndian.Uint16(sum[:])
	const pairs = uplinkThirds * 128
	for i := range uint16(pairs) {
		n := (start + i) % pairs
		far := netip.AddrFrom4([4]byte{uplinkHigh, uplinkLow, uplinkThird + byte(n/128),
			byte(n%128) * 2})
		if !slices.Contains(taken, far) && !slices.Contains(taken, far.Next()) {
			return uplink{near: far.Next(), far: far, mtu: mtu}.withIPv6(h.name), nil
		}
	}
	return uplink{}, errors.New("the host uses all addresses for uplinks")
}

const usualMTU = 1500

// pathMTU is that of the link to the outside.
func (h *host) pathMTU() (int, error) {
	family := unix.AF_INET
	if h.ground.IPv6() {
		family = unix.AF_UNSPEC
	}
	routes, err := h.links.RouteList(nil, family)
	if err != nil {
		return 0, fmt.Errorf("list the host's routes: %w", err)
	}
	mtu := usualMTU
	for _, r := range routes {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if link, err := h.links.LinkByIndex(r.LinkIndex); err == nil && link.Attrs().MTU >= 1280 {
			mtu = min(mtu, link.Attrs().MTU)
		}
	}
	return mtu, nil
}

// localAddresses are the host's own.
func localAddresses() ([]netip.Addr, error) {
	list, err := netlink.AddrList(nil, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	var found []netip.Addr
	for _, a := range list {
		if ip := addrOf(a.IP); ip.IsValid() && !slices.Contains(found, ip) {
			found = append(found, ip)
		}
	}
	return found, nil
}

// open lets the gateway's packets out: rules first, then the link. hardware is that of the other
// end.
func (h *host) open(up uplink, hardware net.HardwareAddr) error {
	if err := h.writeTable(up); err != nil {
		return err
	}
	link, err := h.links.LinkByName(h.name)
	if err != nil {
		return fmt.Errorf("find the host's end of the uplink: %w", err)
	}
	at := "ipv6/conf/" + h.name + "/"
	if !h.ground.IPv6() {
		err := apply([]setting{{at + "disable_ipv6", "1"}})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("keep IPv6 off the uplink: %w", err)
		}
	} else if err := apply(append(quiet6(at), setting{at + "disable_ipv6", "0"})); err != nil {
		return fmt.Errorf("prepare the uplink for IPv6: %w", err)
	}
	if err := h.links.LinkSetUp(link); err != nil {
		return fmt.Errorf("set the host's end of the uplink up: %w", err)
	}
	if !h.ground.IPv6() {
		return nil
	}
	if err := h.links.AddrReplace(link, addr6(up.far6, 127)); err != nil {
		return fmt.Errorf("give the uplink its address of IPv6: %w", err)
	}
	if err := h.links.NeighSet(neighbour(link, up.near6, hardware)); err != nil {
		return fmt.Errorf("tell the host of the gateway: %w", err)
	}
	return nil
}

// writeTable replaces the host's table, one in each family. It drops and translates what comes from
// the gateway, and has no opinion of anything else.
func (h *host) writeTable(up uplink) error {
	h.drop()
	errs := []error{h.writeFamily(up, family4())}
	if h.ground.IPv6() {
		errs = append(errs, h.writeFamily(up, family6()))
	}
	if err := errors.Join(append(errs, h.conn.Flush())...); err != nil {
		return fmt.Errorf("write the host's rules: %w", err)
	}
	return nil
}

// drop adds to the batch that the tables go, if they are there.
func (h *host) drop() { dropTables(h.conn, h.name) }

func dropTables(conn *nftables.Conn, name string) {
	for _, f := range tableFamilies() {
		t := &nftables.Table{Name: name, Family: f}
		conn.AddTable(t)
		conn.DelTable(t)
	}
}

func tableFamilies() []nftables.TableFamily {
	return []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6}
}

func (h *host) writeFamily(up uplink, f *family) error {
	t := &nftables.Table{Name: h.name, Family: nftables.TableFamily(f.proto)}
	h.conn.AddTable(t)
	accepted := nftables.ChainPolicyAccept
	base := func(name string, kind nftables.ChainType, hook *nftables.ChainHook,
		priority *nftables.ChainPriority) *nftables.Chain {
		return h.conn.AddChain(&nftables.Chain{Name: name, Table: t, Type: kind, Hooknum: hook,
			Priority: priority, Policy: &accepted})
	}
	rule := func(c *nftables.Chain, parts ...any) {
		h.conn.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: join(parts...)})
	}
	ours, own := h.name+"\x00", up.own(f).AsSlice()
	special := &nftables.Set{Table: t, ID: setID("special" + f.suffix), Name: "special",
		KeyType: nftables.TypeIPAddr, Interval: true}
	if f.size != 4 {
		special.KeyType = nftables.TypeIP6Addr
	}
	if err := h.conn.AddSet(special, f.intervals(h.ground.Closed())); err != nil {
		return err
	}
	before := base("before", nftables.ChainTypeFilter, nftables.ChainHookPrerouting,
		nftables.ChainPriorityRaw)
	rule(before, from(ours), f.source(reg0), differs(reg0, own...), drop())
	input := base("input", nftables.ChainTypeFilter, nftables.ChainHookInput,
		nftables.ChainPriorityFilter)
	rule(input, from(ours), drop())
	forward := base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward,
		nftables.ChainPriorityFilter)
	rule(forward, from(ours), f.destination(reg0), in(special), drop())
	rule(forward, to(ours), state(expr.CtStateBitNEW|expr.CtStateBitINVALID), drop())
	nat := base("nat", nftables.ChainTypeNAT, nftables.ChainHookPostrouting,
		nftables.ChainPriorityNATSource)
	rule(nat, f.source(reg0), equal(reg0, own...), &expr.Masq{Random: true})
	return nil
}

// How often the host's table is looked for.
const tableCheck = 5 * time.Second

// watch returns what keeps the gateway's idea of the host's addresses, and the host's table, until
// the host is closed.
func (h *host) watch(up uplink, setAddresses func([]netip.Addr) error) (start func(), err error) {
	changes := make(chan netlink.AddrUpdate, 64)
	end := make(chan struct{})
	if err := netlink.AddrSubscribe(changes, end); err != nil {
		return nil, fmt.Errorf("watch the host's addresses: %w", err)
	}
	h.stop, h.done = make(chan struct{}), make(chan struct{})
	return func() {
		defer close(h.done)
		defer close(end)
		look := time.NewTicker(tableCheck)
		defer look.Stop()
		for {
			select {
			case <-h.stop:
				return
			case _, ok := <-changes:
				if !ok {
					changes = nil
				}
			case <-look.C:
				h.keepTable(up)
			}
			list, err := localAddresses()
			if err == nil {
				err = setAddresses(list)
			}
			if err != nil {
				h.log.Error("the host's new addresses are not closed to sandboxes", "error", err)
			}
		}
	}, nil
}

// keepTable puts the host's table back if somebody has removed it.
func (h *host) keepTable(up uplink) {
	missing := false
	for _, f := range tableFamilies() {
		t, err := h.conn.ListTableOfFamily(h.name, f)
		missing = missing || (err != nil || t == nil) &&
			(f == nftables.TableFamilyIPv4 || h.ground.IPv6())
	}
	if !missing {
		return
	}
	err := h.writeTable(up)
	h.log.Warn("somebody has removed the host's rules for sandboxes; they are written again",
		"table", h.name, "error", err)
}

// removeHost takes away the link and the table of the gateway of an engine.
func removeHost(dir string) error {
	name := hostName(dir)
	if link, err := netlink.LinkByName(name); err == nil {
		if err := netlink.LinkDel(link); err != nil {
			return fmt.Errorf("remove the uplink: %w", err)
		}
	}
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	dropTables(conn, name)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("remove the host's rules: %w", err)
	}
	return nil
}
