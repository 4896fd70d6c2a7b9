package netns

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A rule is built of pieces, each of which is what one clause of nft(8) compiles to.

// Registers of four bytes; a key of several parts takes several in a row. The name of a link takes
// the four from reg0 on, so that what comes behind it is in reg4.
const (
	reg0 = unix.NFT_REG32_00
	reg1 = unix.NFT_REG32_01
	reg4 = unix.NFT_REG32_04
)

// offsetPort is that of the destination's port in the headers of TCP and UDP.
const offsetPort = 2

// family is what differs between IPv4 and IPv6 (RFC 791, RFC 8200): a header, and the sets of
// addresses in the gateway's table.
type family struct {
	proto  byte   // NFPROTO_IPV4 or NFPROTO_IPV6, which are AF_INET and AF_INET6
	size   uint32 // of an address
	src    uint32 // offset of the source's address in the header
	suffix string // of the names of sets

	named, namedAny, special, open, host *nftables.Set
}

func family4() *family { return &family{proto: unix.NFPROTO_IPV4, size: 4, src: 12} }
func family6() *family { return &family{proto: unix.NFPROTO_IPV6, size: 16, src: 8, suffix: "6"} }

// has reports whether a is of the family.
func (f *family) has(a netip.Addr) bool { return a.BitLen() == int(f.size)*8 }

// is matches the family's packets. A rule that reads addresses needs it, unless only such packets
// come to its chain.
func (f *family) is() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg0}, equal(reg0, f.proto)}
}

func (f *family) source(reg uint32) expr.Any      { return f.header(reg, f.src) }
func (f *family) destination(reg uint32) expr.Any { return f.header(reg, f.src+f.size) }

func (f *family) header(reg, offset uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader,
		Offset: offset, Len: f.size}
}

// flow loads what the sets of named addresses are asked for: both addresses and the protocol, and
// behind them the port.
func (f *family) flow(withPort bool) []expr.Any {
	const first = unix.NFT_REG32_00
	words := f.size / 4
	list := []expr.Any{f.source(first), f.destination(first + words), proto(first + 2*words)}
	if withPort {
		list = append(list, port(first+2*words+1))
	}
	return list
}

// within matches a destination.
func (f *family) within(p netip.Prefix) []expr.Any {
	mask := make([]byte, f.size)
	for bit := range p.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	return []expr.Any{f.destination(reg0),
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: f.size, Mask: mask,
			Xor: make([]byte, f.size)},
		equal(reg0, p.Masked().Addr().AsSlice()...)}
}

// nextHeader is the field of IPv6's header that says what comes behind it: an extension header, if
// there is one.
func nextHeader(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 1}
}

// sender and receiver are the sandbox whose packet it is, by its link, whatever the family.
func sender() expr.Any   { return &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg0} }
func receiver() expr.Any { return &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg0} }

func port(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader,
		Offset: offsetPort, Len: 2}
}

func proto(reg uint32) expr.Any { return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg} }

func equal(reg uint32, data ...byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: data}
}

func differs(reg uint32, data ...byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: data}
}

// from and to match the beginning of a link's name, or the whole of it with a NUL behind it.
func from(name string) []expr.Any {
	return []expr.Any{sender(), equal(reg0, []byte(name)...)}
}

func to(name string) []expr.Any {
	return []expr.Any{receiver(), equal(reg0, []byte(name)...)}
}

func isProto(p byte) []expr.Any { return []expr.Any{proto(reg0), equal(reg0, p)} }

func isPort(n uint16) []expr.Any {
	return []expr.Any{port(reg0), equal(reg0, byte(n>>8), byte(n))}
}

func portBetween(low, high uint16) []expr.Any {
	if low == high {
		return isPort(low)
	}
	return []expr.Any{port(reg0), &expr.Range{Op: expr.CmpOpEq, Register: reg0,
		FromData: []byte{byte(low >> 8), byte(low)}, ToData: []byte{byte(high >> 8), byte(high)}}}
}

// state matches connections in one of the given states.
func state(bits uint32) []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: reg0},
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: make([]byte, 4)}}
}

// ctStatus matches connections with a bit in their status.
func ctStatus(bit uint32) []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeySTATUS, Register: reg0},
		&expr.Bitwise{
			SourceRegister: reg0,
			DestRegister:   reg0,
			Len:            4,
			Mask:           binaryutil.NativeEndian.PutUint32(bit),
			Xor:            make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg0, Data: make([]byte, 4)}}
}

// in matches if the registers from reg0 on are in s.
func in(s *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: reg0, SetName: s.Name, SetID: s.ID}
}

// verdictOf goes where the map s says for the registers from reg0 on.
func verdictOf(s *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: reg0, SetName: s.Name, SetID: s.ID, IsDestRegSet: true,
		DestRegister: 0}
}

func verdict(kind expr.VerdictKind, chain string) expr.Any {
	return &expr.Verdict{Kind: kind, Chain: chain}
}

func accept() expr.Any       { return verdict(expr.VerdictAccept, "") }
func drop() expr.Any         { return verdict(expr.VerdictDrop, "") }
func goTo(c string) expr.Any { return verdict(expr.VerdictGoto, c) }

// join makes a rule of pieces and lists of pieces.
func join(parts ...any) (rule []expr.Any) {
	for _, p := range parts {
		switch p := p.(type) {
		case []expr.Any:
			rule = append(rule, p...)
		case expr.Any:
			rule = append(rule, p)
		}
	}
	return rule
}

// update adds the key in reg0 to s with an expression of its own, and goes on if that matches.
func update(s *nftables.Set, op uint32, e expr.Any) expr.Any {
	return &expr.Dynset{SrcRegKey: reg0, SetName: s.Name, SetID: s.ID, Operation: op,
		Exprs: []expr.Any{e}}
}
