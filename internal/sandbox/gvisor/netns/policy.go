package netns

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/egress"
)

// direction is how a policy bounds the bandwidth of one way.
type direction struct {
	way   *nftables.Set // the map that leads packets there
	chain string
	set   string // of how much each sandbox has used
	who   expr.Any
}

// directions are those that a policy bounds.
func (t *table) directions(p egress.Policy) []direction {
	if !p.Enabled() || p.Bandwidth == 0 {
		return nil
	}
	return []direction{
		{t.up, "up-" + p.Key(), "used-up-" + p.Key(), sender()},
		{t.down, "down-" + p.Key(), "used-down-" + p.Key(), receiver()},
	}
}

// leastBurst lets through what a link hands over at once.
const leastBurst = 256 << 10

// addBandwidth adds the chains that drop what is over the bandwidth of a policy.
func (t *table) addBandwidth(p egress.Policy) (sets []*nftables.Set, err error) {
	for _, d := range t.directions(p) {
		c := t.conn.AddChain(t.chain(d.chain))
		used := t.set(d.set, nftables.TypeIFName)
		used.Dynamic, used.Size = true, maxSandboxes
		err = errors.Join(err, t.conn.AddSet(used, nil))
		sets = append(sets, used)
		burst := uint32(min(max(p.Bandwidth/2, leastBurst), math.MaxUint32))
		t.rule(c, d.who, update(used, unix.NFT_DYNSET_OP_UPDATE,
			&expr.Limit{Type: expr.LimitTypePktBytes, Rate: uint64(p.Bandwidth),
				Unit: expr.LimitTimeSecond, Burst: burst, Over: true}), drop())
	}
	return sets, err
}

// addPolicy adds the chain of a policy, unless it is there, and returns its name.
func (t *table) addPolicy(p egress.Policy) (string, error) {
	name := "policy-" + p.Key()
	if _, ok := t.pass[name]; ok {
		return name, nil
	}
	var errs []error
	c := t.conn.AddChain(t.chain(name))
	counted := t.set("count-"+p.Key(), nftables.TypeIFName)
	counted.Dynamic, counted.Size = true, maxSandboxes
	errs = append(errs, t.conn.AddSet(counted, nil))
	used, err := t.addBandwidth(p)
	errs = append(errs, err)
	t.pass[name] = append(used, counted)
	if !p.Enabled() || p.Proxy { // what the proxy connects to is the gateway's own
		t.rule(c, goTo(chainRefuse))
		return name, errors.Join(errs...)
	}
	t.rule(c, state(expr.CtStateBitNEW), sender(),
		update(counted, unix.NFT_DYNSET_OP_ADD, &expr.Connlimit{Count: uint32(p.Connections),
			Flags: expr.NFT_CONNLIMIT_F_INV}), goTo(chainRefuse))
	if t.six != nil {
		six := t.conn.AddChain(t.chain(name + t.six.suffix))
		t.rule(c, t.six.is(), goTo(six.Name))
		t.addresses(six, t.six, p)
	}
	t.addresses(c, t.four, p)
	return name, errors.Join(errs...)
}

// addresses adds what a policy says of the addresses of a family, to a chain that only packets of
// that family come to.
func (t *table) addresses(c *nftables.Chain, f *family, p egress.Policy) {
	entries := func(list []egress.Entry, next string, which func(egress.Entry) bool) {
		for _, e := range list {
			if f.has(e.Prefix.Addr()) && which(e) {
				t.entry(c, f, e, next)
			}
		}
	}
	all := func(egress.Entry) bool { return true }
	if p.Inspect { // what comes here on these ports was begun before it was looked into
		for _, n := range inspectedPorts() {
			t.rule(c, isProto(unix.IPPROTO_TCP), isPort(n), goTo(chainRefuse))
		}
	}
	entries(p.Denied(), chainRefuse, all)
	entries(p.Allowed(), chainPass, func(e egress.Entry) bool { return t.ground.Names(e.Prefix) })
	t.rule(c, f.flow(true), in(f.named), goTo(chainPass))
	t.rule(c, f.flow(false), in(f.namedAny), goTo(chainPass))
	t.rule(c, f.destination(reg0), in(f.open), goTo(chainRefuse))
	entries(p.Allowed(), chainPass, egress.Entry.NamesPort)
	for _, n := range egress.NamePorts() {
		t.rule(c, isPort(n), goTo(chainRefuse))
	}
	entries(p.Allowed(), chainPass, all)
	if p.Public() {
		for _, n := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			t.rule(c, isProto(n), goTo(chainPass))
		}
	}
	t.rule(c, goTo(chainRefuse))
}

// entry adds the rules of an entry about addresses.
func (t *table) entry(c *nftables.Chain, f *family, e egress.Entry, next string) {
	for _, p := range []struct {
		is     egress.Protocol
		number byte
	}{{egress.TCP, unix.IPPROTO_TCP}, {egress.UDP, unix.IPPROTO_UDP}} {
		if e.Protocol != egress.Both && e.Protocol != p.is {
			continue
		}
		rule := join(isProto(p.number), f.within(e.Prefix))
		if e.High != 0 {
			rule = join(rule, portBetween(e.Low, e.High))
		}
		t.rule(c, rule, goTo(next))
	}
}

// dropPolicy removes the chain of a policy that no sandbox has.
func (t *table) dropPolicy(p egress.Policy) {
	name := "policy-" + p.Key()
	chains := []string{name}
	if p.Enabled() && !p.Proxy && t.six != nil {
		chains = append(chains, name+t.six.suffix)
	}
	for _, d := range t.directions(p) {
		chains = append(chains, d.chain)
	}
	for _, c := range chains {
		t.conn.FlushChain(t.chain(c))
		t.conn.DelChain(t.chain(c))
	}
	for _, s := range t.pass[name] {
		t.conn.DelSet(s)
	}
	delete(t.pass, name)
}

// disown forgets the chain of a policy that no sandbox has: the next one with it adds it again.
func (t *table) disown(p egress.Policy) { delete(t.pass, "policy-"+p.Key()) }

// named is an address that a sandbox may reach because a name that its policy allows has it.
type named struct {
	sandbox, addr netip.Addr
	grant         egress.Grant
	until         time.Time
}

// place is the set and the key of n.
func (t *table) place(n named) (*nftables.Set, []byte) {
	p, f := byte(unix.IPPROTO_TCP), t.four
	if n.grant.Protocol == egress.UDP {
		p = unix.IPPROTO_UDP
	}
	if !f.has(n.addr) {
		f = t.six
	}
	if n.grant.Port == 0 {
		return f.namedAny, keyOf(n.sandbox, n.addr, p)
	}
	return f.named, keyOf(n.sandbox, n.addr, p, n.grant.Port)
}

func (t *table) addNamed(n named) error {
	left := time.Until(n.until)
	if left < time.Second {
		return nil
	}
	s, key := t.place(n)
	return t.add(s, []nftables.SetElement{{Key: key, Timeout: left}})
}

// renew puts elements in place of those that are there, whose time cannot be changed otherwise by
// kernels before 6.12: in one transaction, so that there is no moment without, unless one of
// them has run out meanwhile.
func (t *table) renew(list, had []named) error {
	add := func() (errs []error) {
		for _, n := range list {
			errs = append(errs, t.addNamed(n))
		}
		return errs
	}
	const what = "open the addresses of a name"
	for _, n := range had {
		s, key := t.place(n)
		if err := t.conn.SetDeleteElements(s, []nftables.SetElement{{Key: key}}); err != nil {
			return err
		}
	}
	errs := add()
	err := t.commit(what, errs...)
	if err == nil || len(had) == 0 {
		return err
	}
	return t.commit(what, add()...)
}

// forget removes one element, which may be gone.
func (t *table) forget(n named) {
	s, key := t.place(n)
	if err := t.conn.SetDeleteElements(s, []nftables.SetElement{{Key: key}}); err == nil {
		_ = t.conn.Flush()
	}
}

// namedOf reads a key of one of the family's two sets.
func (f *family) namedOf(key []byte, left time.Duration) (n named, ok bool) {
	rest := int(2 * f.size)
	if len(key) < rest+4 || left <= 0 {
		return named{}, false
	}
	n.sandbox, _ = netip.AddrFromSlice(key[:f.size])
	n.addr, _ = netip.AddrFromSlice(key[f.size:rest])
	if n.grant.Protocol = egress.TCP; key[rest] == unix.IPPROTO_UDP {
		n.grant.Protocol = egress.UDP
	}
	if len(key) >= rest+8 {
		n.grant.Port = binary.BigEndian.Uint16(key[rest+4:])
	}
	n.until = time.Now().Add(left)
	return n, true
}
