package gvisor

import (
	"context"
	"net"
	"os"

	"gvisor.dev/gvisor/pkg/urpc"
	"gvisor.dev/gvisor/runsc/boot"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/egress"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/netns"
)

// NetworkReady is nil if sandboxes of this host can have a network, as far as can be told at once;
// otherwise it says what the host lacks.
func NetworkReady(ipv6 bool) error { return netns.Ready(ipv6) }

// checkNetwork refuses a network that cannot be had, before anything is made.
func (e *Engine) checkNetwork(n sandpool.Network) error {
	if _, err := egress.Parse(n, "network"); err != nil {
		return err
	}
	if !n.Enabled() {
		return nil
	}
	return netns.Ready(e.cfg.IPv6)
}

// openNetwork takes over the networks of sandboxes that an earlier process has started.
func (e *Engine) openNetwork() error {
	ids, err := e.remains()
	if err != nil {
		return err
	}
	dirs := map[sandbox.ID]string{}
	for _, id := range ids {
		dirs[id] = e.dir(id)
	}
	e.net, err = netns.Open(e.log, netns.Config{Dir: e.cfg.Root, Resolvers: e.cfg.Resolvers,
		Private: e.cfg.Private, IPv6: e.cfg.IPv6, Front: e.cfg.Front}, dirs)
	return err
}

// setNetwork gives the guest a loopback device and, if the network is enabled, a link to the
// gateway. A snapshot has neither: it serves sandboxes with a network and without.
func (e *Engine) setNetwork(ctx context.Context, b *process, n sandpool.Network,
	restore bool) error {
	args := &boot.CreateLinksAndRoutesArgs{
		LoopbackLinks: []boot.LoopbackLink{boot.DefaultLoopbackLink}, IsRestore: restore}
	if n.Enabled() {
		link, err := e.net.Join(b.id, e.dir(b.id), b.pid, n)
		if err != nil {
			return err
		}
		defer link.Socket.Close()
		addLink(args, link)
	}
	return e.call(ctx, b.id, boot.ContMgrSetNetworkArgs, args, nil)
}

// maxSegment is how much the guest hands over at once; the host cuts it into packets.
const maxSegment = 65536

func addLink(args *boot.CreateLinksAndRoutesArgs, l *netns.Link) {
	const name = "eth0"
	gateway := net.IP(l.Gateway.AsSlice())
	args.FilePayload = urpc.FilePayload{Files: []*os.File{l.Socket}}
	args.FDBasedLinks = []boot.FDBasedLink{{
		Name:      name,
		MTU:       l.MTU,
		Addresses: []boot.IPWithPrefix{{Address: l.Addr.AsSlice(), PrefixLen: 32}},
		Routes: []boot.Route{{Destination: net.IPNet{IP: gateway,
			Mask: net.CIDRMask(32, 32)}}},
		GSOMaxSize:           maxSegment,
		RXChecksumOffload:    true,
		LinkAddress:          l.Hardware,
		Neighbors:            []boot.Neighbor{{IP: gateway, HardwareAddr: l.GatewayHW}},
		NumChannels:          1,
		ProcessorsPerChannel: 1,
		IsPacket:             []bool{true},
		PreConfigured:        true,
	}}
	args.Defaultv4Gateway = boot.DefaultRoute{Name: name, Route: boot.Route{
		Destination: net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
		Gateway:     gateway}}
	if l.Addr6.IsValid() {
		addIPv6(args, l)
	}
}

// addIPv6 adds to the guest's link. Its stack takes addresses and routes from nobody else: gVisor
// listens to no router unless it is told to.
func addIPv6(args *boot.CreateLinksAndRoutesArgs, l *netns.Link) {
	link, gateway := &args.FDBasedLinks[0], net.IP(l.Gateway6.AsSlice())
	link.Addresses = append(link.Addresses, boot.IPWithPrefix{Address: l.Addr6.AsSlice(),
		PrefixLen: 128})
	link.Routes = append(link.Routes, boot.Route{Destination: net.IPNet{IP: gateway,
		Mask: net.CIDRMask(128, 128)}})
	link.Neighbors = append(link.Neighbors, boot.Neighbor{IP: gateway, HardwareAddr: l.GatewayHW})
	args.Defaultv6Gateway = boot.DefaultRoute{Name: link.Name, Route: boot.Route{
		Destination: net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, Gateway: gateway}}
}

// SetNetwork implements sandbox.NetworkSetter.
func (e *Engine) SetNetwork(ctx context.Context, h sandbox.Handle, n sandpool.Network) error {
	if err := checkID(h.ID); err != nil {
		return err
	}
	if err := e.checkNetwork(n); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e.process(h.ID) == nil {
		return sandpool.Errorf(sandpool.Ended, "", "", "The sandbox %s does not run.", h.ID)
	}
	return e.net.Change(h.ID, e.dir(h.ID), n)
}

// Refusals implements sandbox.RefusalReader.
func (e *Engine) Refusals(ctx context.Context, h sandbox.Handle) (sandpool.Refusals, error) {
	return e.net.Refusals(ctx, h.ID)
}
