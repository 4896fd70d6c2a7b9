package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/egress"
	"github.com/sandpool/sandpool/internal/egress/front"
)

// frontPort is where the gateway's Front listens. Nothing but what is led there gets in.
const frontPort = 3129

// inspectedPorts are those whose connections are led to it.
func inspectedPorts() []uint16 { return []uint16{80, 443} }

// statusDNAT is a connection's bit in ct status that its destination was changed (IPS_DST_NAT).
const statusDNAT = 1 << 5

// inspectRules lead connections of inspected sandboxes to the Front.
func (t *table) inspectRules() {
	accepted := nftables.ChainPolicyAccept
	c := t.conn.AddChain(&nftables.Chain{Name: "lead", Table: t.table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
		Policy: &accepted})
	for _, p := range inspectedPorts() {
		t.rule(
			c,
			from(linkPrefix),
			source(reg0),
			in(t.inspect),
			isProto(unix.IPPROTO_TCP),
			isPort(p),
			&expr.Immediate{Register: reg0, Data: Gateway().AsSlice()},
			&expr.Immediate{Register: reg1, Data: binary.BigEndian.AppendUint16(nil, frontPort)},
			&expr.NAT{
				Type:        expr.NATTypeDestNAT,
				Family:      unix.NFPROTO_IPV4,
				RegAddrMin:  reg0,
				RegProtoMin: reg1,
				Specified:   true,
			},
		)
	}
}

// toFront matches what inspectRules have led.
func toFront() []expr.Any {
	gateway := Gateway().As4()
	return join(
		from(linkPrefix),
		destination(reg0),
		equal(reg0, gateway[:]...),
		isProto(unix.IPPROTO_TCP),
		isPort(frontPort),
		ctStatus(statusDNAT),
	)
}

var _ front.Host = (*gate)(nil)

// listenFront opens the Front's socket in the gateway.
func (g *gate) listenFront() (l net.Listener, err error) {
	err = within(g.ns, func() error {
		var err error
		l, err = net.Listen("tcp4", netip.AddrPortFrom(Gateway(), frontPort).String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen for inspected connections: %w", err)
	}
	return l, nil
}

// Addresses implements front.Host.
func (g *gate) Addresses(name string) ([]netip.Addr, error) { return g.resolver.Addresses(name) }

// Original implements front.Host.
func (g *gate) Original(conn net.Conn) (to netip.AddrPort, ok bool) {
	c, isTCP := conn.(*net.TCPConn)
	if !isTCP {
		return to, false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return to, false
	}
	// The kernel writes a sockaddr_in (linux/netfilter_ipv4.h); this call is the one that gives as
	// many
	// bytes.
	const originalDestination = 80
	var got *unix.IPv6Mreq
	err = errors.Join(err, raw.Control(func(fd uintptr) {
		got, err = unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, originalDestination)
	}), err)
	if err != nil || got == nil {
		return to, false
	}
	b := got.Multiaddr
	to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4]))
	return to, to.Addr() != Gateway()
}

// Dial implements front.Host. Only the making of the socket needs a thread in the gateway's
// namespace.
func (g *gate) Dial(to netip.AddrPort, limit time.Duration) (net.Conn, error) {
	if g.Own(to.Addr()) {
		return nil, fmt.Errorf("%s is the host's own", to.Addr())
	}
	fd := -1
	err := within(g.ns, func() (err error) {
		fd, err = unix.Socket(
			unix.AF_INET,
			unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC,
			0,
		)
		return err
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "outside") // registered before the connection is begun
	defer f.Close()
	_ = f.SetWriteDeadline(time.Now().Add(limit))
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	begun := false
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		if !begun {
			begun = true
			failed = unix.Connect(
				int(fd),
				&unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()},
			)
			return !errors.Is(failed, unix.EINPROGRESS)
		}
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if n, err := unix.Poll(poll, 0); err != nil || n == 0 {
			return false
		}
		failed = nil
		if code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil ||
			code != 0 {
			failed = errors.Join(err, unix.Errno(code))
		}
		return true
	})
	if err := errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", to, err)
	}
	return net.FileConn(f)
}

// recheck ends inspected connections that the policy of a sandbox does not allow any more. The
// caller
// does not hold mu.
func (n *Net) recheck(addr netip.Addr) {
	n.mu.Lock()
	g := n.gate
	n.mu.Unlock()
	if g != nil && g.front != nil {
		g.front.Recheck(addr)
	}
}

// inspected are the elements of a policy in the set of sandboxes that are inspected.
func inspected(p egress.Policy, addr netip.Addr) []nftables.SetElement {
	if !p.Enabled() || !p.Inspect {
		return nil
	}
	return []nftables.SetElement{{Key: keyOf(addr)}}
}
