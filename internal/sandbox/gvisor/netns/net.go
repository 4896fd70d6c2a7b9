package netns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/egress"
	"github.com/sandpool/sandpool/internal/egress/front"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Config says where the gateway is kept and how it meets the world.
type Config struct {
	// Dir is a directory of the engine's. The gateway's namespace is a file in it.
	Dir string
	// Resolvers answer the questions of the gateway's resolver; without one those of the host's
	// /etc/resolv.conf do.
	Resolvers []netip.AddrPort
	// Private are ranges off the public network that a policy may name.
	Private []netip.Prefix
	// IPv6 gives sandboxes an address of IPv6 as well. Those that have one from an earlier process
	// reach nothing by it while this is off.
	IPv6 bool
	// Front says how requests with credentials meet their servers.
	Front front.Options
}

// Net gives sandboxes their network. It makes nothing in the kernel before the first of them.
type Net struct {
	log    *slog.Logger
	cfg    Config
	ground *egress.Ground

	mu      sync.Mutex // guards what follows, and orders what is done to the gateway
	gate    *gate      // nil while there is none
	shares  map[sandbox.ID]*share
	byAddr  map[netip.Addr]*share
	last    uint16            // the index that was given last
	counts  map[string]uint64 // refused packets, by the name of a sandbox's link
	counted time.Time         // when they were read
	closed  bool
}

// Open takes over what an earlier process has left. dirs are the directories of the sandboxes that
// there are.
func Open(log *slog.Logger, cfg Config, dirs map[sandbox.ID]string) (*Net, error) {
	ground := egress.NewGround(cfg.Private).WithIPv6(cfg.IPv6).
		WithUpstream(cfg.Front.Upstream != nil)
	n := &Net{log: log, cfg: cfg, ground: ground,
		shares: map[sandbox.ID]*share{}, byAddr: map[netip.Addr]*share{}, last: firstIndex}
	for id, dir := range dirs {
		s, err := loadShare(id, dir)
		if err != nil {
			return nil, err
		}
		if s != nil {
			n.shares[id], n.byAddr[s.Addr] = s, s
			n.last = max(n.last, s.index())
		}
	}
	if len(n.shares) == 0 {
		return n, removeGate(n.path())
	}
	if err := n.ensure(); err != nil {
		return nil, err
	}
	return n, nil
}

// path is the file that holds the gateway's namespace.
func (n *Net) path() string { return filepath.Join(n.cfg.Dir, "gateway") }

// Close stops what runs in this process. Without sandboxes the gateway goes; with some it stays for
// the next process.
func (n *Net) Close() error {
	n.mu.Lock()
	g, last := n.gate, len(n.shares) == 0
	if n.closed {
		g = nil
	}
	n.closed, n.gate = true, nil
	n.mu.Unlock()
	if g == nil {
		return nil
	}
	err := g.close() // what it waits for may wait for the lock
	if last {
		err = errors.Join(err, removeGate(n.path()))
	}
	return err
}

// ensure makes the gateway, or takes over the one that there is. The caller holds mu, or is alone.
func (n *Net) ensure() error {
	if n.gate != nil {
		return nil
	}
	if n.closed {
		return errors.New("the engine is closed")
	}
	g, err := openGate(n)
	if err != nil {
		return fmt.Errorf("the gateway of sandboxes with a network: %w", err)
	}
	n.gate = g
	return nil
}

// Link is the network of a sandbox as its kernel gets it.
type Link struct {
	Socket              *os.File // for raw packets, of the sandbox's end
	Addr, Gateway       netip.Addr
	Addr6, Gateway6     netip.Addr // not valid without IPv6
	Hardware, GatewayHW net.HardwareAddr
	MTU                 int
}

// Join gives the sandbox whose process is pid a network that is no more than what want allows.
// Rules come before links, so that it never reaches more. dir is the sandbox's directory. After an
// error Leave takes away what there is.
func (n *Net) Join(id sandbox.ID, dir string, pid int, want sandpool.Network) (*Link, error) {
	s := newShare(id)
	if err := s.setNetwork(want); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.ensure(); err != nil {
		return nil, err
	}
	if err := n.allot(s); err != nil {
		return nil, err
	}
	s.IPv6 = n.cfg.IPv6
	if err := s.save(dir); err != nil {
		return nil, err
	}
	n.shares[id], n.byAddr[s.Addr] = s, s
	if err := n.gate.table.commit("add the sandbox's rules", n.gate.table.addShare(s)); err != nil {
		n.disown(s)
		return nil, err
	}
	return n.gate.join(s, pid)
}

// disown forgets that the table has the chain of a policy, after an error that left it as it was,
// unless another sandbox has the policy. The caller holds mu.
func (n *Net) disown(s *share) {
	for _, other := range n.shares {
		if other.ID != s.ID && other.policy.Key() == s.policy.Key() {
			return
		}
	}
	n.gate.table.disown(s.policy)
}

// allot finds an address for s: the next one, so that a link which lingers after its sandbox does
// not have the name of a new one.
func (n *Net) allot(s *share) error {
	for range maxSandboxes {
		if n.last++; n.last > lastIndex || n.last < firstIndex {
			n.last = firstIndex
		}
		if a := addressOf(n.last); n.byAddr[a] == nil {
			s.Addr = a
			return nil
		}
	}
	return sandpool.Errorf(sandpool.Unavailable, "", "",
		"All %d addresses for sandboxes are taken.", maxSandboxes)
}

// Change makes want what a running sandbox may reach, at once and for open connections too.
func (n *Net) Change(id sandbox.ID, dir string, want sandpool.Network) error {
	addr, err := n.change(id, dir, want)
	if addr.IsValid() {
		n.recheck(addr) // without the lock, which policies are read under
	}
	return err
}

// change is Change but for connections that are inspected. It returns the address of a sandbox
// whose policy is another one now.
func (n *Net) change(id sandbox.ID, dir string, want sandpool.Network) (_ netip.Addr, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.shares[id]
	if old == nil || old.leaving || old.Network.Equal(want) {
		return netip.Addr{}, nil
	}
	s := newShare(id)
	s.Addr, s.IPv6, s.Generation, s.log = old.Addr, old.IPv6, old.Generation+1, old.log
	if err := s.setNetwork(want); err != nil {
		return netip.Addr{}, err
	}
	if old.Network.SameRules(want) && n.gate != nil { // packets are judged as before
		s.Generation, s.learned = old.Generation, old.learned
		if err := s.save(dir); err != nil {
			return netip.Addr{}, err
		}
		n.shares[id], n.byAddr[s.Addr] = s, s
		return s.Addr, nil
	}
	if err := n.ensure(); err != nil {
		return netip.Addr{}, err
	}
	if err := s.save(dir); err != nil {
		return netip.Addr{}, err
	}
	t := n.gate.table
	for g := range old.learned {
		for _, still := range s.policy.Grants(g.name) {
			if s.policy.Name(g.name).Allowed && still == g.grant {
				s.learned[g] = old.learned[g]
			}
		}
	}
	errs := []error{t.removeShare(old), t.addShare(s)}
	if err := t.commit("change the sandbox's rules", errs...); err != nil {
		n.disown(s)
		return netip.Addr{}, err
	}
	n.shares[id], n.byAddr[s.Addr] = s, s
	for g, until := range old.learned {
		if _, kept := s.learned[g]; !kept && !s.has(g.addr, g.grant) {
			t.forget(named{s.own(g.addr), g.addr, g.grant, until})
		}
	}
	t.dropCounters(old)
	n.dropUnused(old.policy)
	return s.Addr, nil
}

// has reports whether some name has opened an address.
func (s *share) has(a netip.Addr, grant egress.Grant) bool {
	for g := range s.learned {
		if g.addr == a && g.grant == grant {
			return true
		}
	}
	return false
}

// dropUnused removes the chain of a policy that was the last of its sandbox. The caller holds mu.
func (n *Net) dropUnused(p egress.Policy) {
	for _, s := range n.shares {
		if s.policy.Key() == p.Key() {
			return
		}
	}
	n.gate.table.dropPolicy(p)
	if err := n.gate.table.commit("remove a policy's rules"); err != nil {
		n.log.Warn("the rules of a policy stay", "error", err)
	}
}

// Leave takes back all that a sandbox has, after its process has ended.
func (n *Net) Leave(id sandbox.ID) error {
	n.mu.Lock()
	s, g := n.shares[id], n.gate
	if s == nil || g == nil {
		n.forgetShare(s)
		n.mu.Unlock()
		return nil
	}
	s.leaving = true
	err := g.table.commit("remove the sandbox's rules", g.table.removeShare(s))
	if err == nil || errors.Is(err, os.ErrNotExist) { // a Join that was cut short has added none
		err = nil
		for l, until := range s.learned {
			g.table.forget(named{s.own(l.addr), l.addr, l.grant, until})
		}
		g.table.dropCounters(s)
	}
	n.mu.Unlock()
	if err != nil {
		return err
	}
	if err := g.part(s); err != nil { // outside the lock, because the kernel takes its time
		return err
	}
	n.mu.Lock()
	n.forgetShare(s)
	if n.gate == g {
		n.dropUnused(s.policy)
	}
	n.mu.Unlock()
	g.front.Recheck(s.Addr)
	return nil
}

// forgetShare frees the address of s, which may be nil. The caller holds mu.
func (n *Net) forgetShare(s *share) {
	if s != nil {
		delete(n.shares, s.ID)
		delete(n.byAddr, s.Addr)
		if n.gate != nil {
			n.gate.resolver.Forget(s.Addr)
		}
	}
}

// Sent returns how many bytes a sandbox has sent until now, what was refused among them. It is zero
// for one that has no network, or none any more.
func (n *Net) Sent(id sandbox.ID) (int64, error) {
	n.mu.Lock()
	s, g := n.shares[id], n.gate
	n.mu.Unlock()
	if s == nil || g == nil {
		return 0, nil
	}
	l, err := g.links.LinkByName(s.link())
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("count what a sandbox has sent: %w", err)
	}
	if a := l.Attrs(); a.Statistics != nil {
		return int64(a.Statistics.RxBytes), nil // what comes in at our end
	}
	return 0, nil
}

// countLife is how old counts may be: whoever asks, asks of all sandboxes.
const countLife = 500 * time.Millisecond

// Refusals says what a sandbox was refused.
func (n *Net) Refusals(_ context.Context, id sandbox.ID) (sandpool.Refusals, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.shares[id]
	if s == nil || n.gate == nil {
		return sandpool.Refusals{}, nil
	}
	if now := time.Now(); now.Sub(n.counted) > countLife { // whoever asks, asks of all sandboxes
		counts, err := n.gate.table.refusals()
		if err != nil {
			return sandpool.Refusals{}, fmt.Errorf("count what sandboxes were refused: %w", err)
		}
		n.counts, n.counted = counts, now
	}
	names, connections, recent := s.log.Read()
	return sandpool.Refusals{Packets: int64(n.counts[s.link()]) + connections, Names: names,
		Recent: recent}, nil
}
