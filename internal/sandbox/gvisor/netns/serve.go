package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sync/errgroup"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/egress"
	"github.com/sandpool/sandpool/internal/egress/front"
)

// serve starts what a gateway needs of this process: the resolver, the watch over the host, and the
// reader of refusals. All of it ends with close.
func (g *gate) serve() error {
	servers := g.net.cfg.Resolvers
	if len(servers) == 0 {
		var err error
		if servers, err = egress.Servers(egress.Hosts); err != nil {
			return err
		}
	}
	udp, tcp, err := g.listen()
	if err != nil {
		return err
	}
	led, err := g.listenFront()
	if err != nil {
		return errors.Join(err, udp.Close(), tcp.Close())
	}
	proxy, err := g.listenProxy()
	if err != nil {
		return errors.Join(err, udp.Close(), tcp.Close(), led.Close())
	}
	refusals, err := listenRefusals(g.ns)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for refusals: %w", err), udp.Close(), tcp.Close(),
			led.Close(), proxy.Close())
	}
	watch, err := g.host.watch(g.up, g.setHost)
	if err != nil {
		return errors.Join(err, udp.Close(), tcp.Close(), led.Close(), proxy.Close(),
			refusals.close())
	}
	g.front = front.New(g, g.net.ground, g.net.cfg.Front)
	g.resolver = egress.NewResolver(g.net.log, g, g.net.ground, servers)
	var group errgroup.Group
	group.Go(func() error { return g.resolver.Serve(udp, tcp) })
	group.Go(func() error { return g.front.Serve(led) })
	group.Go(func() error { return g.front.ServeProxy(proxy) })
	group.Go(func() error { refusals.read(g.refusedPacket); return nil })
	g.stop = append(g.stop, func() error {
		return errors.Join(udp.Close(), led.Close(), proxy.Close(), refusals.close(), group.Wait())
	})
	go watch()
	return nil
}

// listen opens the resolver's sockets in the gateway.
func (g *gate) listen() (udp net.PacketConn, tcp net.Listener, err error) {
	at := netip.AddrPortFrom(Gateway(), 53).String()
	err = within(g.ns, func() error {
		var err error
		if udp, err = net.ListenPacket("udp4", at); err != nil {
			return err
		}
		if tcp, err = net.Listen("tcp4", at); err != nil {
			return errors.Join(err, udp.Close())
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("listen for questions: %w", err)
	}
	return udp, tcp, nil
}

// ownAddresses are the host's, as the gateway knows them.
type ownAddresses struct{ list atomic.Pointer[[]netip.Addr] }

// setHost tells the gateway the addresses of the host, which no sandbox may reach.
func (g *gate) setHost(list []netip.Addr) error {
	if old := g.own.list.Load(); old != nil && slices.Equal(*old, list) {
		return nil
	}
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	t := g.table
	var errs []error
	for _, f := range t.families() {
		t.conn.FlushSet(f.host)
		errs = append(errs, t.add(f.host, f.addresses(list)))
	}
	if err := t.commit("close the host's addresses", errs...); err != nil {
		return err
	}
	g.own.list.Store(&list)
	return nil
}

var _ egress.Host = (*gate)(nil)

// Own implements egress.Host.
func (g *gate) Own(a netip.Addr) bool {
	list := g.own.list.Load()
	return list != nil && slices.Contains(*list, a)
}

// IPv6 implements egress.Host.
func (g *gate) IPv6(sandbox netip.Addr) bool {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	s := g.net.byAddr[sandbox]
	return s != nil && s.IPv6
}

// Policy implements egress.Host.
func (g *gate) Policy(sandbox netip.Addr) (egress.Policy, bool) {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	s := g.net.byAddr[sandbox]
	if s == nil {
		return egress.Policy{}, false
	}
	return s.policy, true
}

// Refused implements egress.Host, and front.Host, whose refusals are connections.
func (g *gate) Refused(sandbox netip.Addr, r sandpool.Refusal) {
	switch l := g.logOf(sandbox); {
	case l == nil:
	case r.Protocol == string(egress.TCP):
		l.AddConnection(r)
	default:
		l.Add(r)
	}
}

// logOf returns the log of a sandbox; nil if there is none.
func (g *gate) logOf(sandbox netip.Addr) *egress.Log {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	if s := g.net.byAddr[sandbox]; s != nil {
		return s.log
	}
	return nil
}

// maxLearned bounds the addresses that names have opened for one sandbox.
const maxLearned = 1024

// Open implements egress.Host.
func (g *gate) Open(sandbox netip.Addr, name string, list []netip.Addr, life time.Duration) error {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	s := g.net.byAddr[sandbox]
	if s == nil || !s.policy.Name(name).Allowed {
		return errors.New("the policy has changed")
	}
	now := time.Now()
	s.tidy(now)
	grants := s.policy.Grants(name)
	if len(s.learned)+len(grants)*len(list) > maxLearned {
		return fmt.Errorf("the sandbox has %d addresses of names open, of at most %d",
			len(s.learned), maxLearned)
	}
	until := now.Add(life)
	var add, had []named
	for _, grant := range grants {
		for _, a := range list {
			old, renewed := s.opened(a, grant, now)
			if renewed && until.Before(old.Add(time.Second)) {
				s.learned[grantOf{name, a, grant}] = until
				continue
			}
			n := named{s.own(a), a, grant, until}
			if add = append(add, n); renewed {
				had = append(had, n)
			}
			s.learned[grantOf{name, a, grant}] = until
		}
	}
	if len(add) == 0 {
		return nil
	}
	return g.table.renew(add, had)
}

// opened returns until when an address is open by any name.
func (s *share) opened(a netip.Addr, grant egress.Grant, now time.Time) (until time.Time, ok bool) {
	for g, t := range s.learned {
		if g.addr == a && g.grant == grant && t.After(now) && t.After(until) {
			until, ok = t, true
		}
	}
	return until, ok
}

// tidy forgets what has run out.
func (s *share) tidy(now time.Time) {
	for g, t := range s.learned {
		if t.Before(now) {
			delete(s.learned, g)
		}
	}
}

// remembered are the addresses of names that the table of an earlier process has open, for the
// sandboxes that there are.
func (g *gate) remembered() (keep []named) {
	for _, f := range g.table.families() {
		for _, set := range []*nftables.Set{f.named, f.namedAny} {
			elements, err := g.table.conn.GetSetElements(set)
			if err != nil {
				continue // there was no table, or none with this family
			}
			for _, e := range elements {
				n, ok := f.namedOf(e.Key, e.Expires)
				if s := g.net.byAddr[four(n.sandbox)]; ok && s != nil {
					s.learned[grantOf{"", n.addr, n.grant}] = n.until
					keep = append(keep, n)
				}
			}
		}
	}
	return keep
}
