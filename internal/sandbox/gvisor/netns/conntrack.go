package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// forgetConnections removes what the kernel remembers of the connections of s: in the gateway, and
// on the host, where they are those of the gateway's address.
func (g *gate) forgetConnections(s *share) error {
	for _, f := range g.table.families() {
		if f != g.table.six || s.IPv6 {
			if err := g.forgetFamily(s, f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *gate) forgetFamily(s *share, f *family) error {
	flows, err := g.links.ConntrackTableList(netlink.ConntrackTable, netlink.InetFamily(f.proto))
	if err != nil {
		return fmt.Errorf("list the connections of %q: %w", s.ID, err)
	}
	own, found := s.own(f.gateway()), false
	for _, flow := range flows {
		src, dst := addrOf(flow.Forward.SrcIP), addrOf(flow.Forward.DstIP)
		if src != own {
			continue
		}
		found = true
		if !dst.IsValid() || dst == f.gateway() {
			continue
		}
		if err := g.host.forget(f, flow.Forward.Protocol, netip.AddrPortFrom(g.up.own(f),
			flow.Reverse.DstPort), netip.AddrPortFrom(dst, flow.Forward.DstPort)); err != nil {
			return fmt.Errorf("forget a connection of %q: %w", s.ID, err)
		}
	}
	if !found {
		return nil
	}
	filter := &netlink.ConntrackFilter{}
	if err := filter.AddIP(netlink.ConntrackOrigSrcIP, own.AsSlice()); err != nil {
		return err
	}
	if _, err := g.links.ConntrackDeleteFilters(netlink.ConntrackTable,
		netlink.InetFamily(f.proto), filter); err != nil {
		return fmt.Errorf("forget the connections of %q: %w", s.ID, err)
	}
	return nil
}

// addrOf is not valid if ip is none.
func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// forget removes one connection of the host's, if it is there. The library can do that only with
// a list of all connections, of which a host may have many.
func (h *host) forget(f *family, proto uint8, src, dst netip.AddrPort) error {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
	r.Sockets = map[int]*nl.SocketHandle{}
	r.AddData(&nl.Nfgenmsg{NfgenFamily: f.proto, Version: nl.NFNETLINK_V0})
	tuple := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_ORIG, nil)
	ip := tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
	fromType, toType := nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
	if f.size != 4 {
		fromType, toType = nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	}
	ip.AddRtAttr(fromType, src.Addr().AsSlice())
	ip.AddRtAttr(toType, dst.Addr().AsSlice())
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
