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

	"github.com/sandpool/sandpool/internal/egress/front"
)

// frontPort is where the gateway's Front listens. Nothing but what is led there gets in.
const frontPort = 3129

// ProxyPort is where its proxy listens at Gateway, for sandboxes whose policy says so.
const ProxyPort = 3128

// inspectedPorts are those whose connections are led to it.
func inspectedPorts() []uint16 { return []uint16{80, 443} }

// statusDNAT is a connection's bit in ct status that its destination was changed (IPS_DST_NAT).
const statusDNAT = 1 << 5

// inspectRules lead connections of inspected sandboxes to the Front.
func (t *table) inspectRules() {
	c := t.base("lead", nftables.ChainTypeNAT, nftables.ChainHookPrerouting,
		nftables.ChainPriorityNATDest, nftables.ChainPolicyAccept)
	for _, f := range t.families() {
		behind := unix.NFT_REG32_00 + f.size/4
		for _, p := range inspectedPorts() {
			t.rule(c, from(linkPrefix), f.is(), sender(), in(t.inspect),
				isProto(unix.IPPROTO_TCP), isPort(p),
				&expr.Immediate{Register: reg0, Data: f.gateway().AsSlice()},
				&expr.Immediate{Register: behind,
					Data: binary.BigEndian.AppendUint16(nil, frontPort)},
				&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.proto), RegAddrMin: reg0,
					RegProtoMin: behind, Specified: true})
		}
	}
}

// toFront matches what inspectRules have led.
func (f *family) toFront() []expr.Any {
	return join(from(linkPrefix), f.is(), f.destination(reg0),
		equal(reg0, f.gateway().AsSlice()...), isProto(unix.IPPROTO_TCP), isPort(frontPort),
		ctStatus(statusDNAT))
}

// gateway is Gateway in the family.
func (f *family) gateway() netip.Addr {
	if f.size == 4 {
		return Gateway()
	}
	return Gateway6()
}

var _ front.Host = (*gate)(nil)

// listenFront opens the Front's socket in the gateway. With IPv6 it is one of both families, at all
// addresses; the rules let nobody to it but who was led there.
func (g *gate) listenFront() (l net.Listener, err error) {
	network, at := "tcp4", netip.AddrPortFrom(Gateway(), frontPort)
	if g.table.six != nil {
		network, at = "tcp", netip.AddrPortFrom(netip.IPv6Unspecified(), frontPort)
	}
	err = within(g.ns, func() error {
		l, err = net.Listen(network, at.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen for inspected connections: %w", err)
	}
	return led{l}, nil
}

// listenProxy opens the socket of the gateway's proxy.
func (g *gate) listenProxy() (l net.Listener, err error) {
	at := netip.AddrPortFrom(Gateway(), ProxyPort)
	err = within(g.ns, func() error {
		l, err = net.Listen("tcp4", at.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen for proxied connections: %w", err)
	}
	return led{l}, nil
}

// led is a listener whose connections come from a sandbox's address of IPv4, by which it is known,
// whatever the family.
type led struct{ net.Listener }

type ledConn struct {
	*net.TCPConn
	sandbox net.TCPAddr
}

// Accept implements net.Listener.
func (l led) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn, peer := c.(*net.TCPConn), c.RemoteAddr().(*net.TCPAddr).AddrPort()
	is := netip.AddrPortFrom(four(peer.Addr().Unmap()), peer.Port())
	return &ledConn{conn, *net.TCPAddrFromAddrPort(is)}, nil
}

// RemoteAddr implements net.Conn.
func (c *ledConn) RemoteAddr() net.Addr { return &c.sandbox }

// Addresses implements front.Host.
func (g *gate) Addresses(name string) ([]netip.Addr, error) { return g.resolver.Addresses(name) }

// Original implements front.Host.
func (g *gate) Original(conn net.Conn) (to netip.AddrPort, ok bool) {
	c, isLed := conn.(*ledConn)
	if !isLed {
		return to, false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return to, false
	}
	// The kernel writes a sockaddr_in or a sockaddr_in6 (linux/netfilter_ipv4.h, netfilter_ipv6.h).
	// Of the calls that there are, these give as many bytes.
	const originalDestination = 80
	local := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	var failed error
	err = raw.Control(func(fd uintptr) {
		if local.Is4() {
			got, err := unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, originalDestination)
			if failed = err; err == nil {
				b := got.Multiaddr
				to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])),
					binary.BigEndian.Uint16(b[2:4]))
			}
			return
		}
		got, err := unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_IPV6, originalDestination)
		if failed = err; err == nil {
			port := binary.NativeEndian.AppendUint16(nil, got.Addr.Port)
			to = netip.AddrPortFrom(netip.AddrFrom16(got.Addr.Addr),
				binary.BigEndian.Uint16(port))
		}
	})
	return to, err == nil && failed == nil && to.Addr() != local
}

// Dial implements front.Host. Only the making of the socket needs a thread in the gateway's
// namespace.
func (g *gate) Dial(to netip.AddrPort, limit time.Duration) (net.Conn, error) {
	if g.Own(to.Addr()) {
		return nil, fmt.Errorf("%s is the host's own", to.Addr())
	}
	fd, family := -1, unix.AF_INET
	var at unix.Sockaddr = &unix.SockaddrInet4{Port: int(to.Port())}
	if to.Addr().Is4() {
		at.(*unix.SockaddrInet4).Addr = to.Addr().As4()
	} else {
		family = unix.AF_INET6
		at = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	err := within(g.ns, func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
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
			failed = unix.Connect(int(fd), at)
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

// inspected are the elements of a sandbox in the set of those that are inspected.
func inspected(s *share) []nftables.SetElement {
	if !s.policy.Enabled() || !s.policy.Inspect || s.policy.Proxy {
		return nil
	}
	return []nftables.SetElement{{Key: keyOf(s)}}
}

// proxied are the elements of a sandbox in the set of those that have a proxy.
func proxied(s *share) []nftables.SetElement {
	if !s.policy.Proxy {
		return nil
	}
	return []nftables.SetElement{{Key: keyOf(s)}}
}
