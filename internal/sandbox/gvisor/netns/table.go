package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

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

	four *family
	six  *family // nil without IPv6

	// By the name of a sandbox's link.
	policy, marks, live, refused, up, down, inspect, proxy *nftables.Set

	pass map[string][]*nftables.Set // by the chain of a policy, the sets that go with it
}

// newTable describes the table; rebuild makes it.
func newTable(conn *nftables.Conn, ground *egress.Ground) *table {
	t := &table{conn: conn, ground: ground, four: family4(),
		table: &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet},
		pass:  map[string][]*nftables.Set{}}
	if ground.IPv6() {
		t.six = family6()
	}
	link := nftables.TypeIFName
	t.policy = t.set("policy", link)
	t.policy.IsMap, t.policy.DataType = true, nftables.TypeVerdict
	t.marks = t.set("marks", link)
	t.marks.IsMap, t.marks.DataType = true, nftables.TypeMark
	t.live = t.set("live", nftables.MustConcatSetType(link, nftables.TypeMark))
	t.live.Concatenation = true
	t.up, t.down = t.set("up", link), t.set("down", link)
	for _, m := range []*nftables.Set{t.up, t.down} {
		m.IsMap, m.DataType = true, nftables.TypeVerdict
	}
	t.inspect, t.proxy = t.set("inspect", link), t.set("proxy", link)
	t.refused = t.set("refused", link)
	t.refused.Dynamic, t.refused.Size = true, maxSandboxes
	for _, f := range t.families() {
		t.describe(f)
	}
	return t
}

// families are those that sandboxes have.
func (t *table) families() []*family {
	if t.six != nil {
		return []*family{t.four, t.six}
	}
	return []*family{t.four}
}

// describe names the sets of a family.
func (t *table) describe(f *family) {
	addr := nftables.TypeIPAddr
	if f.size != 4 {
		addr = nftables.TypeIP6Addr
	}
	pair := nftables.MustConcatSetType(addr, addr, nftables.TypeInetProto)
	triple := nftables.MustConcatSetType(addr, addr, nftables.TypeInetProto,
		nftables.TypeInetService)
	f.named, f.namedAny = t.set("named"+f.suffix, triple), t.set("named-any"+f.suffix, pair)
	for _, s := range []*nftables.Set{f.named, f.namedAny} {
		s.Concatenation, s.HasTimeout, s.Size = true, true, maxNamed
	}
	f.special, f.open = t.set("special"+f.suffix, addr), t.set("open"+f.suffix, addr)
	f.special.Interval, f.open.Interval = true, true
	f.host = t.set("host"+f.suffix, addr)
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
	for _, s := range []*nftables.Set{t.policy, t.marks, t.live, t.refused, t.up, t.down,
		t.inspect, t.proxy} {
		errs = append(errs, t.conn.AddSet(s, nil))
	}
	for _, f := range t.families() {
		for _, s := range []struct {
			set  *nftables.Set
			with []nftables.SetElement
		}{{f.named, nil}, {f.namedAny, nil}, {f.special, f.intervals(t.ground.Closed())},
			{f.open, f.intervals(ranges(t.ground.Open()))}, {f.host, f.addresses(host)}} {
			errs = append(errs, t.conn.AddSet(s.set, nil), t.add(s.set, s.with))
		}
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

// intervals are the elements of the family's ranges, each its beginning and what lies behind its
// end.
func (f *family) intervals(list []egress.Range) (out []nftables.SetElement) {
	for _, r := range list {
		if !f.has(r.First) {
			continue
		}
		out = append(out, nftables.SetElement{Key: r.First.AsSlice()})
		if next := r.Last.Next(); next.IsValid() {
			out = append(out, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
		}
	}
	return out
}

// addresses are the elements of the family's addresses.
func (f *family) addresses(list []netip.Addr) (out []nftables.SetElement) {
	for _, a := range list {
		if f.has(a) {
			out = append(out, nftables.SetElement{Key: a.AsSlice()})
		}
	}
	return out
}

// Chains of the table.
const (
	chainJudge  = "judge"  // a packet of a sandbox to the outside; those of IPv6 go on in judge6
	chainPass   = "pass"   // a new connection that its policy allows
	chainRefuse = "refuse" // counts, tells, and says no
)

// base adds a chain that the kernel calls.
func (t *table) base(name string, kind nftables.ChainType, hook *nftables.ChainHook,
	priority *nftables.ChainPriority, policy nftables.ChainPolicy) *nftables.Chain {
	return t.conn.AddChain(&nftables.Chain{Name: name, Table: t.table, Type: kind,
		Hooknum: hook, Priority: priority, Policy: &policy})
}

const (
	established = expr.CtStateBitESTABLISHED
	related     = expr.CtStateBitRELATED
	invalid     = expr.CtStateBitINVALID
)

// outside matches, with from or to, the uplink.
const outside = uplinkName + "\x00"

// rules adds the chains that are the same for all sandboxes.
func (t *table) rules() {
	for _, name := range []string{chainJudge, chainPass, chainRefuse} {
		t.conn.AddChain(t.chain(name))
	}
	t.early()
	t.ownPackets()
	t.inspectRules()
	mark := &expr.Ct{Key: expr.CtKeyMARK, Register: reg4}
	forward := t.base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward,
		nftables.ChainPriorityFilter, nftables.ChainPolicyDrop)
	t.rule(forward, from(outside), to(linkPrefix), receiver(), verdictOf(t.down))
	t.rule(forward, from(outside), to(linkPrefix), state(established|related), receiver(), mark,
		in(t.live), accept())
	t.rule(forward, from(linkPrefix), to(outside), goTo(chainJudge))
	t.rule(forward, from(linkPrefix), goTo(chainRefuse))

	judge := t.chain(chainJudge)
	t.rule(judge, state(invalid), drop())
	t.rule(judge, sender(), verdictOf(t.up))
	addresses := func(c *nftables.Chain, f *family) {
		for _, s := range []*nftables.Set{f.host, f.special} {
			t.rule(c, f.destination(reg0), in(s), goTo(chainRefuse))
		}
		t.rule(c, state(established), sender(), mark, in(t.live), accept())
		t.rule(c, sender(), verdictOf(t.policy))
		t.rule(c, goTo(chainRefuse))
	}
	if t.six != nil {
		six := t.conn.AddChain(t.chain(chainJudge + t.six.suffix))
		t.rule(judge, t.six.is(), goTo(six.Name))
		addresses(six, t.six)
	}
	addresses(judge, t.four)

	t.rule(t.chain(chainPass), sender(), &expr.Lookup{SourceRegister: reg0, SetName: t.marks.Name,
		SetID: t.marks.ID, IsDestRegSet: true, DestRegister: reg4},
		&expr.Ct{Key: expr.CtKeyMARK, Register: reg4, SourceRegister: true}, accept())

	refuse := t.chain(chainRefuse)
	t.note(refuse)
	t.rule(refuse, isProto(unix.IPPROTO_TCP), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
	t.rule(refuse, isProto(unix.IPPROTO_UDP), &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH,
		Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH})
	t.rule(refuse, drop())
}

// note counts a packet against its sandbox, and tells of it.
func (t *table) note(c *nftables.Chain) {
	t.rule(c, sender(), update(t.refused, unix.NFT_DYNSET_OP_UPDATE, &expr.Counter{}))
	t.rule(c, &expr.Limit{Type: expr.LimitTypePkts, Rate: 100, Unit: expr.LimitTimeSecond,
		Burst: 200},
		&expr.Log{Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_SNAPLEN, Group: logGroup,
			Snaplen: 64})
}

// early drops what no rule after it needs to know of. Fragments are whole again here.
func (t *table) early() {
	early := t.base("early", nftables.ChainTypeFilter, nftables.ChainHookPrerouting,
		nftables.ChainPriorityRaw, nftables.ChainPolicyAccept)
	if six := t.six; six == nil {
		t.rule(early, from(linkPrefix), &expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg0},
			differs(reg0, unix.NFPROTO_IPV4), drop())
	} else { // what every system says to its neighbours, of which there are none
		t.rule(early, from(linkPrefix), six.is(), isProto(unix.IPPROTO_ICMPV6),
			six.within(multicast6()), drop())
	}
	// A sandbox sends from its own address alone: the way back to that must be the link it came by.
	t.rule(early, from(linkPrefix), &expr.Fib{Register: reg0, FlagSADDR: true, FlagIIF: true,
		FlagPRESENT: true, ResultOIF: true}, equal(reg0, 0), drop())
	if six := t.six; six != nil { // extension headers, behind which TCP would be found all the same
		odd := t.conn.AddChain(t.chain("odd"))
		t.note(odd)
		t.rule(odd, drop())
		t.rule(early, from(linkPrefix), six.is(), nextHeader(reg0), differs(reg0, unix.IPPROTO_TCP),
			differs(reg0, unix.IPPROTO_UDP), differs(reg0, unix.IPPROTO_ICMPV6), goTo(odd.Name))
	}
}

// ownPackets are the rules for what the gateway itself gets and sends.
func (t *table) ownPackets() {
	input := t.base("input", nftables.ChainTypeFilter, nftables.ChainHookInput,
		nftables.ChainPriorityFilter, nftables.ChainPolicyDrop)
	t.rule(input, from(linkPrefix), sender(), verdictOf(t.up))
	// Who has a proxy reaches that and nothing else, no resolver either.
	t.rule(input, from(linkPrefix), t.four.is(), t.four.destination(reg0),
		equal(reg0, Gateway().AsSlice()...), isProto(unix.IPPROTO_TCP), isPort(ProxyPort), sender(),
		in(t.proxy), accept())
	t.rule(input, from(linkPrefix), sender(), in(t.proxy), goTo(chainRefuse))
	for _, f := range t.families() {
		t.rule(input, f.toFront(), accept())
	}
	for _, p := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		t.rule(input, from(linkPrefix), t.four.is(), t.four.destination(reg0),
			equal(reg0, Gateway().AsSlice()...), isProto(p), isPort(53), accept())
	}
	t.rule(input, from(linkPrefix), goTo(chainRefuse))

	// What the Front connects to for sandboxes answers to the gateway itself.
	t.rule(input, from(outside), isProto(unix.IPPROTO_TCP), state(established), accept())
	for _, p := range []byte{unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6} { // "too big", among others
		t.rule(input, from(outside), isProto(p), state(related), accept())
	}
	output := t.base("output", nftables.ChainTypeFilter, nftables.ChainHookOutput,
		nftables.ChainPriorityFilter, nftables.ChainPolicyAccept)
	t.rule(output, to(linkPrefix), receiver(), verdictOf(t.down))
	for _, f := range t.families() {
		for _, s := range []*nftables.Set{f.host, f.special} {
			t.rule(output, to(outside), f.is(), f.destination(reg0), in(s), drop())
		}
	}
}

func (t *table) chain(name string) *nftables.Chain {
	return &nftables.Chain{Name: name, Table: t.table}
}

func (t *table) rule(c *nftables.Chain, parts ...any) {
	t.conn.AddRule(&nftables.Rule{Table: t.table, Chain: c, Exprs: join(parts...)})
}

// nat makes the sandboxes' packets come from the gateway's own address. It is not part of rebuild
// because that address belongs to the uplink.
func (t *table) nat(up uplink) {
	c := t.base("nat", nftables.ChainTypeNAT, nftables.ChainHookPostrouting,
		nftables.ChainPriorityNATSource, nftables.ChainPolicyAccept)
	for _, f := range t.families() {
		t.rule(c, to(outside), f.is(),
			&expr.Immediate{Register: reg0, Data: up.own(f).AsSlice()},
			&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(f.proto), RegAddrMin: reg0,
				Random: true})
	}
}

// keyOf lines up the parts of a key, each padded to four bytes.
func keyOf(parts ...any) (key []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case netip.Addr:
			key = append(key, p.AsSlice()...)
		case *share: // by the name of its link
			key = append(key, p.link()...)
			key = append(key, make([]byte, unix.IFNAMSIZ-len(p.link()))...)
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
		t.add(t.marks, []nftables.SetElement{{Key: keyOf(s), Val: keyOf(mark)}}),
		t.add(t.live, []nftables.SetElement{{Key: keyOf(s, mark)}}),
		t.add(t.policy, []nftables.SetElement{{Key: keyOf(s),
			VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}}),
	}
	errs = append(errs, t.add(t.inspect, inspected(s)), t.add(t.proxy, proxied(s)))
	for _, d := range t.directions(s.policy) {
		errs = append(errs, t.add(d.way, []nftables.SetElement{{Key: keyOf(s),
			VerdictData: &expr.Verdict{Kind: expr.VerdictJump, Chain: d.chain}}}))
	}
	return errors.Join(errs...)
}

// removeShare takes it away again.
func (t *table) removeShare(s *share) error {
	var errs []error
	if list := inspected(s); len(list) > 0 {
		errs = append(errs, t.conn.SetDeleteElements(t.inspect, list))
	}
	if list := proxied(s); len(list) > 0 {
		errs = append(errs, t.conn.SetDeleteElements(t.proxy, list))
	}
	for _, d := range t.directions(s.policy) {
		errs = append(errs, t.conn.SetDeleteElements(d.way,
			[]nftables.SetElement{{Key: keyOf(s)}}))
	}
	return errors.Join(append(errs,
		t.conn.SetDeleteElements(t.policy, []nftables.SetElement{{Key: keyOf(s)}}),
		t.conn.SetDeleteElements(t.live, []nftables.SetElement{{Key: keyOf(s, s.mark())}}),
		t.conn.SetDeleteElements(t.marks, []nftables.SetElement{{Key: keyOf(s)}}))...)
}

// dropCounters removes what the dynamic sets hold of a sandbox, which may be nothing.
func (t *table) dropCounters(s *share) {
	for _, set := range append(t.pass["policy-"+s.policy.Key()], t.refused) {
		if err := t.conn.SetDeleteElements(set,
			[]nftables.SetElement{{Key: keyOf(s)}}); err == nil {
			_ = t.conn.Flush()
		}
	}
}

// refusals returns how many packets of each sandbox were refused, by the name of its link.
func (t *table) refusals() (map[string]uint64, error) {
	list, err := t.conn.GetSetElements(t.refused)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	counts := map[string]uint64{}
	for _, e := range list {
		if e.Counter != nil {
			counts[strings.TrimRight(string(e.Key), "\x00")] = e.Counter.Packets
		}
	}
	return counts, nil
}
