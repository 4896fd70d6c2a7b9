package netns

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
)

// refusals hears of the packets that the gateway refuses, by nfnetlink_log: the kernel's own copies
// of their first bytes.
type refusals struct {
	conn  *netlink.Conn
	ended chan struct{}
}

// Of linux/netfilter/nfnetlink_log.h.
const (
	nflogPacket     = unix.NFNL_SUBSYS_ULOG << 8
	nflogConfig     = unix.NFNL_SUBSYS_ULOG<<8 | 1
	nflogCfgCommand = 1
	nflogCfgMode    = 2
	nflogBind       = 1
	nflogCopyPacket = 2
	nflogPayload    = 9
	snapLength      = 64
)

func listenRefusals(ns *os.File) (*refusals, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(ns.Fd())})
	if err != nil {
		return nil, err
	}
	mode := append(binary.BigEndian.AppendUint32(nil, snapLength), nflogCopyPacket, 0)
	for _, a := range []netlink.Attribute{{Type: nflogCfgCommand, Data: []byte{nflogBind}},
		{Type: nflogCfgMode, Data: mode}} {
		data, err := netlink.MarshalAttributes([]netlink.Attribute{a})
		if err != nil {
			return nil, err
		}
		head := []byte{unix.AF_UNSPEC, 0, 0, logGroup} // struct nfgenmsg
		_, err = conn.Execute(netlink.Message{
			Header: netlink.Header{Type: nflogConfig, Flags: netlink.Request | netlink.Acknowledge},
			Data:   append(head, data...),
		})
		if err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	return &refusals{conn, make(chan struct{})}, nil
}

func (r *refusals) close() error {
	close(r.ended)
	return r.conn.Close()
}

// read tells of each packet until close is called.
func (r *refusals) read(tell func(packet []byte)) {
	for {
		list, err := r.conn.Receive()
		if err != nil {
			select {
			case <-r.ended:
				return
			// The kernel had more to say than there was room for.
			case <-time.After(100 * time.Millisecond):
				continue
			}
		}
		for _, m := range list {
			if m.Header.Type != nflogPacket || len(m.Data) < 4 {
				continue
			}
			attributes, err := netlink.NewAttributeDecoder(m.Data[4:])
			if err != nil {
				continue
			}
			for attributes.Next() {
				if attributes.Type() == nflogPayload {
					tell(attributes.Bytes())
				}
			}
		}
	}
}

// refusedPacket writes a packet into the log of the sandbox that sent it.
func (g *gate) refusedPacket(packet []byte) {
	var f *family
	var proto byte
	var head int
	switch {
	case len(packet) >= 20 && packet[0]>>4 == 4:
		f, proto, head = family4(), packet[9], int(packet[0]&15)*4
	case len(packet) >= 40 && packet[0]>>4 == 6:
		f, proto, head = family6(), packet[6], 40
	default:
		return
	}
	from, _ := netip.AddrFromSlice(packet[f.src : f.src+f.size])
	to, _ := netip.AddrFromSlice(packet[f.src+f.size : f.src+2*f.size])
	r := sandpool.Refusal{Time: time.Now(), Host: to.String(), Protocol: strconv.Itoa(int(proto))}
	switch proto {
	case unix.IPPROTO_TCP:
		r.Protocol = "tcp"
	case unix.IPPROTO_UDP:
		r.Protocol = "udp"
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		r.Protocol = "icmp"
	}
	if (r.Protocol == "tcp" || r.Protocol == "udp") && len(packet) >= head+4 {
		r.Port = binary.BigEndian.Uint16(packet[head+offsetPort:])
	}
	if l := g.logOf(four(from)); l != nil { // the filter has counted it
		l.Add(r)
	}
}
