package netns

import (
	"errors"
	"math"

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
		{t.up, "up-" + p.Key(), "used-up-" + p.Key(), source(reg0)},
		{t.down, "down-" + p.Key(), "used-down-" + p.Key(), destination(reg0)},
	}
}

// leastBurst lets through what a link hands over at once.
const leastBurst = 256 << 10

// addBandwidth adds the chains that drop what is over the bandwidth of a policy.
func (t *table) addBandwidth(p egress.Policy) (sets []*nftables.Set, err error) {
	for _, d := range t.directions(p) {
		c := t.conn.AddChain(t.chain(d.chain))
		used := t.set(d.set, nftables.TypeIPAddr)
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
	counted := t.set("count-"+p.Key(), nftables.TypeIPAddr)
	counted.Dynamic, counted.Size = true, maxSandboxes
	errs = append(errs, t.conn.AddSet(counted, nil))
	used, err := t.addBandwidth(p)
	errs = append(errs, err)
	t.pass[name] = append(used, counted)
	if !p.Enabled() {
		t.rule(c, goTo(chainRefuse))
		return name, errors.Join(errs...)
	}
	t.rule(c, state(expr.CtStateBitNEW), source(reg0),
		update(counted, unix.NFT_DYNSET_OP_ADD, &expr.Connlimit{Count: uint32(p.Connections),
			Flags: expr.NFT_CONNLIMIT_F_INV}), goTo(chainRefuse))
	if p.Inspect { // what comes here on these ports was begun before it was looked into
		for _, n := range inspectedPorts() {
			t.rule(c, isProto(unix.IPPROTO_TCP), isPort(n), goTo(chainRefuse))
		}
	}
	for _, e := range p.Denied() {
		t.entry(c, e, chainRefuse)
	}
	for _, e := range p.Allowed() {
		if t.ground.Names(e.Prefix) {
			t.entry(c, e, chainPass)
		}
	}
	t.rule(c, source(reg0), destination(reg1), proto(reg2), port(reg3), in(t.named),
		goTo(chainPass))
	t.rule(c, source(reg0), destination(reg1), proto(reg2), in(t.namedAny), goTo(chainPass))
	t.rule(c, destination(reg0), in(t.open), goTo(chainRefuse))
	for _, e := range p.Allowed() {
		if e.NamesPort() {
			t.entry(c, e, chainPass)
		}
	}
	for _, n := range egress.NamePorts() {
		t.rule(c, isPort(n), goTo(chainRefuse))
	}
	for _, e := range p.Allowed() {
		t.entry(c, e, chainPass)
	}
	if p.Public() {
		for _, n := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			t.rule(c, isProto(n), goTo(chainPass))
		}
	}
	t.rule(c, goTo(chainRefuse))
	return name, errors.Join(errs...)
}

// entry adds the rules of an entry about addresses.
func (t *table) entry(c *nftables.Chain, e egress.Entry, next string) {
	for _, p := range []struct {
		is     egress.Protocol
		number byte
	}{{egress.TCP, unix.IPPROTO_TCP}, {egress.UDP, unix.IPPROTO_UDP}} {
		if e.Protocol != egress.Both && e.Protocol != p.is {
			continue
		}
		rule := join(isProto(p.number), inPrefix(e.Prefix))
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
