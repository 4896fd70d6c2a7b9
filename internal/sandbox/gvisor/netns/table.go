package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/egress"
)

// Names in the gateway's namespace.
const (
	tableName  = "sandpool"
	linkPrefix = "sb" // and a number: the gateway's end of a sandbox's pair of links
	uplinkName = "up"
)

// logGroup is where refused packets are told of (nfnetlink_log).
const logGroup = 1

// table is the gateway's nftables. Its batches are not for use at the same time.
type table struct {
	conn   *nftables.Conn
	table  *nftables.Table
	ground *egress.Ground

	policy, marks, live, named, namedAny, special, open, host *nftables.Set
	refused, up, down, inspect                                *nftables.Set

	pass map[string][]*nftables.Set // by the chain of a policy, the sets that go with it
}

// newTable describes the table; rebuild makes it.
func newTable(conn *nftables.Conn, ground *egress.Ground) *table {
	t := &table{conn: conn, ground: ground,
		table: &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet},
		pass:  map[string][]*nftables.Set{}}
	addr := nftables.TypeIPAddr
	pair := nftables.MustConcatSetType(addr, addr, nftables.TypeInetProto)
	triple := nftables.MustConcatSetType(addr, addr, nftables.TypeInetProto,
		nftables.TypeInetService)
	t.policy = t.set("policy", addr)
	t.policy.IsMap, t.policy.DataType = true, nftables.TypeVerdict
	t.marks = t.set("marks", addr)
	t.marks.IsMap, t.marks.DataType = true, nftables.TypeMark
	t.live = t.set("live", nftables.MustConcatSetType(addr, nftables.TypeMark))
	t.live.Concatenation = true
	t.named, t.namedAny = t.set("named", triple), t.set("named-any", pair)
	for _, s := range []*nftables.Set{t.named, t.namedAny} {
		s.Concatenation, s.HasTimeout, s.Size = true, true, maxNamed
	}
	t.special, t.open = t.set("special", addr), t.set("open", addr)
	t.special.Interval, t.open.Interval = true, true
	t.host = t.set("host", addr)
	t.up, t.down = t.set("up", addr), t.set("down", addr)
	for _, m := range []*nftables.Set{t.up, t.down} {
		m.IsMap, m.DataType = true, nftables.TypeVerdict
	}
	t.inspect = t.set("inspect", addr)
	t.refused = t.set("refused", addr)
	t.refused.Dynamic, t.refused.Size = true, maxSandboxes
	return t
}

// maxNamed bounds the addresses of names that all sandboxes have learned.
const maxNamed = 1 << 18

func (t *table) set(name string, key nftables.SetDatatype) *nftables.Set {
	return &nftables.Set{Table: t.table, ID: setID(name), Name: name, KeyType: key}
}

// setID gives sets numbers that need only differ within one transaction. The library's own counter
// is not safe for use by several goroutines.
func setID(name string) (id uint32) {
	for _, b := range []byte(name) {
		id = id*16777619 ^ uint32(b)
	}
	return id | 1<<31
}

// rebuild replaces the table by one with the given sandboxes, in one transaction: at no moment is
// there none, or half of one.
func (t *table) rebuild(shares []*share, host []netip.Addr, keep []named) error {
	t.conn.AddTable(t.table) // so that there is something to delete
	t.conn.DelTable(t.table)
	t.conn.AddTable(t.table)
	clear(t.pass)
	var errs []error
	for _, s := range []struct {
		set  *nftables.Set
		with []nftables.SetElement
	}{{t.policy, nil}, {t.marks, nil}, {t.live, nil}, {t.named, nil}, {t.namedAny, nil},
		{t.refused, nil}, {t.up, nil}, {t.down, nil}, {t.inspect, nil},
		{t.special, intervals(t.ground.Closed())}, {t.open, intervals(ranges(t.ground.Open()))},
		{t.host, addresses(host)}} {
		errs = append(errs, t.conn.AddSet(s.set, nil), t.add(s.set, s.with))
	}
	t.rules()
	for _, s := range shares {
		errs = append(errs, t.addShare(s))
	}
	for _, n := range keep {
		errs = append(errs, t.addNamed(n))
	}
	return t.commit("write the gateway's rules", errs...)
}

// batchBuffer holds a transaction and the kernel's answer to each part of it: some 300 bytes for
// each of a few hundred thousand elements.
const batchBuffer = 64 << 20

// roomy gives a socket buffers for large transactions.
func roomy(conn *netlink.Conn) error {
	return errors.Join(conn.SetReadBuffer(batchBuffer), conn.SetWriteBuffer(batchBuffer))
}

// commit sends the batch.
func (t *table) commit(what string, errs ...error) error {
	if err := errors.Join(append(errs, t.conn.Flush())...); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// batchElements is how many elements go into one message, whose attributes have at most 64 KiB.
const batchElements = 256

func (t *table) add(s *nftables.Set, list []nftables.SetElement) error {
	for len(list) > 0 {
		n := min(len(list), batchElements)
		if err := t.conn.SetAddElements(s, list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func ranges(list []netip.Prefix) (out []egress.Range) {
	for _, p := range list {
		out = append(out, egress.RangeOf(p))
	}
	return out
}

// intervals are the elements of ranges, each its beginning and what lies behind its end.
func intervals(list []egress.Range) (out []nftables.SetElement) {
	for _, r := range list {
		out = append(out, nftables.SetElement{Key: r.First.AsSlice()})
		if next := r.Last.Next(); next.IsValid() && next.Is4() {
			out = append(out, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
		}
	}
	return out
}

func addresses(list []netip.Addr) (out []nftables.SetElement) {
	for _, a := range list {
		out = append(out, nftables.SetElement{Key: a.AsSlice()})
	}
	return out
}

// Chains of the table.
const (
	chainJudge  = "judge"  // a packet of a sandbox to the outside
	chainPass   = "pass"   // a new connection that its policy allows
	chainRefuse = "refuse" // counts, tells, and says no
)

// rules adds the chains that are the same for all sandboxes.
func (t *table) rules() {
	denied := nftables.ChainPolicyDrop
	allowed := nftables.ChainPolicyAccept
	base := func(name string, kind nftables.ChainType, hook *nftables.ChainHook,
		priority *nftables.ChainPriority, policy *nftables.ChainPolicy) *nftables.Chain {
		return t.conn.AddChain(&nftables.Chain{Name: name, Table: t.table, Type: kind,
			Hooknum: hook, Priority: priority, Policy: policy})
	}
	judge, pass, refuse := t.chain(chainJudge), t.chain(chainPass), t.chain(chainRefuse)
	t.conn.AddChain(judge)
	t.conn.AddChain(pass)
	t.conn.AddChain(refuse)
	sandboxes, outside := linkPrefix, uplinkName+"\x00"
	const established, related, fresh, invalid = expr.CtStateBitESTABLISHED, expr.CtStateBitRELATED,
		expr.CtStateBitNEW, expr.CtStateBitINVALID

	early := base("early", nftables.ChainTypeFilter, nftables.ChainHookPrerouting,
		nftables.ChainPriorityRaw, &allowed)
	ipv4 := []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg0},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: []byte{unix.NFPROTO_IPV4}}}
	t.rule(early, from(sandboxes), ipv4, drop())
	// A sandbox sends from its own address alone: the way back to that must be the link it came by.
	t.rule(early, from(sandboxes), &expr.Fib{Register: reg0, FlagSADDR: true, FlagIIF: true,
		FlagPRESENT: true, ResultOIF: true}, equal(reg0, 0), drop())

	input := base("input", nftables.ChainTypeFilter, nftables.ChainHookInput,
		nftables.ChainPriorityFilter, &denied)
	gateway := Gateway().As4()
	t.rule(input, from(sandboxes), source(reg0), verdictOf(t.up))
	t.rule(input, toFront(), accept())
	for _, p := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		t.rule(input, from(sandboxes), destination(reg0), equal(reg0, gateway[:]...), isProto(p),
			isPort(53), accept())
	}
	t.rule(input, from(sandboxes), goTo(chainRefuse))

	// What the Front connects to for sandboxes answers to the gateway itself.
	t.rule(input, from(outside), isProto(unix.IPPROTO_TCP), state(established), accept())
	output := base(
		"output",
		nftables.ChainTypeFilter,
		nftables.ChainHookOutput,
		nftables.ChainPriorityFilter,
		&allowed,
	)
	t.rule(output, to(sandboxes), destination(reg0), verdictOf(t.down))
	for _, s := range []*nftables.Set{t.host, t.special} {
		t.rule(output, to(outside), destination(reg0), in(s), drop())
	}
	t.inspectRules()

	forward := base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward,
		nftables.ChainPriorityFilter, &denied)
	mark := &expr.Ct{Key: expr.CtKeyMARK, Register: reg1}
	t.rule(forward, from(outside), to(sandboxes), destination(reg0), verdictOf(t.down))
	t.rule(forward, from(outside), to(sandboxes), state(established|related), destination(reg0),
		mark, in(t.live), accept())
	t.rule(forward, from(sandboxes), to(outside), goTo(chainJudge))
	t.rule(forward, from(sandboxes), goTo(chainRefuse))

	t.rule(judge, state(invalid), drop())
	t.rule(judge, source(reg0), verdictOf(t.up))
	for _, s := range []*nftables.Set{t.host, t.special} {
		t.rule(judge, destination(reg0), in(s), goTo(chainRefuse))
	}
	t.rule(judge, state(established), source(reg0), mark, in(t.live), accept())
	t.rule(judge, source(reg0), verdictOf(t.policy))
	t.rule(judge, goTo(chainRefuse))

	t.rule(pass, source(reg0), &expr.Lookup{SourceRegister: reg0, SetName: t.marks.Name,
		SetID: t.marks.ID, IsDestRegSet: true, DestRegister: reg1},
		&expr.Ct{Key: expr.CtKeyMARK, Register: reg1, SourceRegister: true}, accept())

	t.rule(refuse, source(reg0), update(t.refused, unix.NFT_DYNSET_OP_UPDATE, &expr.Counter{}))
	t.rule(refuse, &expr.Limit{Type: expr.LimitTypePkts, Rate: 100, Unit: expr.LimitTimeSecond,
		Burst: 200},
		&expr.Log{Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_SNAPLEN, Group: logGroup,
			Snaplen: 64})
	t.rule(refuse, isProto(unix.IPPROTO_TCP), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
	t.rule(refuse, isProto(unix.IPPROTO_UDP), &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH,
		Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH})
	t.rule(refuse, drop())
}

func (t *table) chain(name string) *nftables.Chain {
	return &nftables.Chain{Name: name, Table: t.table}
}

func (t *table) rule(c *nftables.Chain, parts ...any) {
	t.conn.AddRule(&nftables.Rule{Table: t.table, Chain: c, Exprs: join(parts...)})
}

// nat makes the sandboxes' packets come from the gateway's own address. It is not part of rebuild
// because that address belongs to the uplink.
func (t *table) nat(own netip.Addr) {
	accepted := nftables.ChainPolicyAccept
	c := t.conn.AddChain(&nftables.Chain{Name: "nat", Table: t.table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
		Policy: &accepted})
	t.rule(c, to(uplinkName+"\x00"), &expr.Immediate{Register: reg0, Data: own.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg0,
			Random: true})
}

// keyOf lines up the parts of a key, each padded to four bytes.
func keyOf(parts ...any) (key []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case netip.Addr:
			key = append(key, p.AsSlice()...)
		case uint32: // a mark, as the processor has it
			key = append(key, binaryutil.NativeEndian.PutUint32(p)...)
		case byte:
			key = append(key, p, 0, 0, 0)
		case uint16:
			key = append(binary.BigEndian.AppendUint16(key, p), 0, 0)
		}
	}
	return key
}

// addShare adds what a sandbox has in the table, and the chain of its policy.
func (t *table) addShare(s *share) error {
	chain, err := t.addPolicy(s.policy)
	if err != nil {
		return err
	}
	mark := s.mark()
	errs := []error{
		t.add(t.marks, []nftables.SetElement{{Key: keyOf(s.Addr), Val: keyOf(mark)}}),
		t.add(t.live, []nftables.SetElement{{Key: keyOf(s.Addr, mark)}}),
		t.add(t.policy, []nftables.SetElement{{Key: keyOf(s.Addr),
			VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}}),
	}
	errs = append(errs, t.add(t.inspect, inspected(s.policy, s.Addr)))
	for _, d := range t.directions(s.policy) {
		errs = append(errs, t.add(d.way, []nftables.SetElement{{Key: keyOf(s.Addr),
			VerdictData: &expr.Verdict{Kind: expr.VerdictJump, Chain: d.chain}}}))
	}
	return errors.Join(errs...)
}

// removeShare takes it away again.
func (t *table) removeShare(s *share) error {
	var errs []error
	if list := inspected(s.policy, s.Addr); len(list) > 0 {
		errs = append(errs, t.conn.SetDeleteElements(t.inspect, list))
	}
	for _, d := range t.directions(s.policy) {
		errs = append(errs, t.conn.SetDeleteElements(d.way,
			[]nftables.SetElement{{Key: keyOf(s.Addr)}}))
	}
	return errors.Join(append(errs,
		t.conn.SetDeleteElements(t.policy, []nftables.SetElement{{Key: keyOf(s.Addr)}}),
		t.conn.SetDeleteElements(t.live, []nftables.SetElement{{Key: keyOf(s.Addr, s.mark())}}),
		t.conn.SetDeleteElements(t.marks, []nftables.SetElement{{Key: keyOf(s.Addr)}}))...)
}

// named is an address that a sandbox may reach because a name that its policy allows has it.
type named struct {
	sandbox, addr netip.Addr
	grant         egress.Grant
	until         time.Time
}

// place is the set and the key of n.
func (t *table) place(n named) (*nftables.Set, []byte) {
	p := byte(unix.IPPROTO_TCP)
	if n.grant.Protocol == egress.UDP {
		p = unix.IPPROTO_UDP
	}
	if n.grant.Port == 0 {
		return t.namedAny, keyOf(n.sandbox, n.addr, p)
	}
	return t.named, keyOf(n.sandbox, n.addr, p, n.grant.Port)
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

// dropCounters removes what the dynamic sets hold of a sandbox, which may be nothing.
func (t *table) dropCounters(s *share) {
	for _, set := range append(t.pass["policy-"+s.policy.Key()], t.refused) {
		if err := t.conn.SetDeleteElements(set,
			[]nftables.SetElement{{Key: keyOf(s.Addr)}}); err == nil {
			_ = t.conn.Flush()
		}
	}
}

// refusals returns how many packets of each sandbox were refused.
func (t *table) refusals() (map[netip.Addr]uint64, error) {
	list, err := t.conn.GetSetElements(t.refused)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	counts := map[netip.Addr]uint64{}
	for _, e := range list {
		if a, ok := netip.AddrFromSlice(e.Key); ok && e.Counter != nil {
			counts[a] = e.Counter.Packets
		}
	}
	return counts, nil
}

// learnedSets are those that names fill.
func (t *table) learnedSets() []*nftables.Set { return []*nftables.Set{t.named, t.namedAny} }

// namedOf reads a key of one of them.
func namedOf(key []byte, left time.Duration) (n named, ok bool) {
	if len(key) < 12 || left <= 0 {
		return named{}, false
	}
	n.sandbox, _ = netip.AddrFromSlice(key[:4])
	n.addr, _ = netip.AddrFromSlice(key[4:8])
	if n.grant.Protocol = egress.TCP; key[8] == unix.IPPROTO_UDP {
		n.grant.Protocol = egress.UDP
	}
	if len(key) >= 16 {
		n.grant.Port = binary.BigEndian.Uint16(key[12:])
	}
	n.until = time.Now().Add(left)
	return n, true
}
