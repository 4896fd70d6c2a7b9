package netns

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A rule is built of pieces, each of which is what one clause of nft(8) compiles to.

// Registers of four bytes; a key of several parts takes several in a row.
const (
	reg0 = unix.NFT_REG32_00
	reg1 = unix.NFT_REG32_01
	reg2 = unix.NFT_REG32_02
	reg3 = unix.NFT_REG32_03
)

// Offsets into the IPv4 header (RFC 791), and into those of TCP and UDP.
const (
	offsetSource      = 12
	offsetDestination = 16
	offsetPort        = 2
)

func source(reg uint32) expr.Any      { return network(reg, offsetSource) }
func destination(reg uint32) expr.Any { return network(reg, offsetDestination) }

func network(reg, offset uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader,
		Offset: offset, Len: 4}
}

func port(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader,
		Offset: offsetPort, Len: 2}
}

func proto(reg uint32) expr.Any { return &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg} }

func equal(reg uint32, data ...byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: data}
}

// from and to match the beginning of a link's name, or the whole of it with a NUL behind it.
func from(name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: reg0},
		equal(reg0, []byte(name)...)}
}

func to(name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg0},
		equal(reg0, []byte(name)...)}
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

// inPrefix matches the destination.
func inPrefix(p netip.Prefix) []expr.Any {
	addr, mask := p.Masked().Addr().As4(), [4]byte{}
	for bit := range p.Bits() {
		mask[bit/8] |= 0x80 >> (bit % 8)
	}
	return []expr.Any{destination(reg0),
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 4, Mask: mask[:],
			Xor: make([]byte, 4)},
		equal(reg0, addr[:]...)}
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
