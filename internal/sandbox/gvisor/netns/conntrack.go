package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// forgetConnections removes what the kernel remembers of the connections of s: in the gateway, and
// on the host, where they are those of the gateway's address.
func (g *gate) forgetConnections(s *share) error {
	flows, err := g.links.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		return fmt.Errorf("list the connections of %q: %w", s.ID, err)
	}
	found := false
	for _, f := range flows {
		src, ok := netip.AddrFromSlice(f.Forward.SrcIP.To4())
		if !ok || src != s.Addr {
			continue
		}
		found = true
		dst, ok := netip.AddrFromSlice(f.Forward.DstIP.To4())
		if !ok || dst == Gateway() {
			continue
		}
		if err := g.host.forget(f.Forward.Protocol, netip.AddrPortFrom(g.up.near,
			f.Reverse.DstPort), netip.AddrPortFrom(dst, f.Forward.DstPort)); err != nil {
			return fmt.Errorf("forget a connection of %q: %w", s.ID, err)
		}
	}
	if !found {
		return nil
	}
	filter := &netlink.ConntrackFilter{}
	if err := filter.AddIP(netlink.ConntrackOrigSrcIP, s.Addr.AsSlice()); err != nil {
		return err
	}
	if _, err := g.links.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET,
		filter); err != nil {
		return fmt.Errorf("forget the connections of %q: %w", s.ID, err)
	}
	return nil
}

// forget removes one connection of the host's, if it is there. The library can do that only with
// a list of all connections, of which a host may have many.
func (h *host) forget(proto uint8, src, dst netip.AddrPort) error {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
	r.Sockets = map[int]*nl.SocketHandle{}
	r.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
	tuple := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_ORIG, nil)
	ip := tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
	ip.AddRtAttr(nl.CTA_IP_V4_SRC, src.Addr().AsSlice())
	ip.AddRtAttr(nl.CTA_IP_V4_DST, dst.Addr().AsSlice())
	ports := tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
	ports.AddRtAttr(nl.CTA_PROTO_NUM, []byte{proto})
	ports.AddRtAttr(nl.CTA_PROTO_SRC_PORT, binary.BigEndian.AppendUint16(nil, src.Port()))
	ports.AddRtAttr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, dst.Port()))
	r.AddData(tuple)
	if _, err := r.Execute(unix.NETLINK_NETFILTER, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}
