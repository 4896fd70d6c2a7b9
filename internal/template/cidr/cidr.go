// Package cidr is what templates compute with ranges of addresses.
package cidr

import (
	"errors"
	"math/big"
	"net/netip"
)

// errRange is the error of a text that is no range.
var errRange = errors.New("has an argument that is no range of addresses, such as 10.0.0.0/16")

func parse(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Zone() != "" || p.Addr().Is4In6() {
		return p, errRange
	}
	return p, nil
}

func number(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }

// address is the address of a number, of the family of like.
func address(n *big.Int, like netip.Addr) (netip.Addr, bool) {
	if n.Sign() < 0 || n.BitLen() > like.BitLen() {
		return like, false
	}
	a, ok := netip.AddrFromSlice(n.FillBytes(make([]byte, like.BitLen()/8)))
	return a, ok
}

// size is how many addresses p has.
func size(p netip.Prefix) *big.Int {
	return new(big.Int).Lsh(big.NewInt(1), uint(p.Addr().BitLen()-p.Bits()))
}

// Parse describes a range. IPv6 knows no broadcasts. A range of one or two addresses has no
// address apart for the network.
func Parse(text string) (map[string]any, error) {
	p, err := parse(text)
	if err != nil {
		return nil, err
	}
	p = p.Masked()
	bits := p.Addr().BitLen()
	last, _ := address(new(big.Int).Add(number(p.Addr()), new(big.Int).Sub(size(p),
		big.NewInt(1))), p.Addr())
	mask := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(bits)), size(p))
	netmask, _ := address(mask, p.Addr())
	first, final := p.Addr(), last
	out := map[string]any{"network": p.Addr().String(), "netmask": netmask.String(),
		"cidr": int64(p.Bits())}
	if p.Addr().Is4() {
		out["broadcast"] = last.String()
		if p.Bits() < bits-1 {
			first, final = first.Next(), final.Prev()
		}
	}
	out["firstUsable"], out["lastUsable"] = first.String(), final.String()
	return out, nil
}

// Subnet is a part of a range by its own length and its number.
func Subnet(text string, bits, index int64) (string, error) {
	p, err := parse(text)
	switch {
	case err != nil:
		return "", err
	case bits < int64(p.Bits()) || bits > int64(p.Addr().BitLen()):
		return "", errors.New("wants a part that is larger than the range, or no range")
	}
	part := netip.PrefixFrom(p.Masked().Addr(), int(bits))
	at := new(big.Int).Mul(size(part), big.NewInt(index))
	if index < 0 || at.Cmp(size(p)) >= 0 {
		return "", errors.New("wants a part that the range does not have")
	}
	a, _ := address(at.Add(at, number(part.Addr())), p.Addr())
	return netip.PrefixFrom(a, int(bits)).String(), nil
}

// Host is an address of a range by its number, beginning after the network's own.
func Host(text string, index int64) (string, error) {
	p, err := parse(text)
	if err != nil {
		return "", err
	}
	p = p.Masked()
	at := big.NewInt(index)
	least, most := int64(0), new(big.Int).Sub(size(p), big.NewInt(1))
	if p.Addr().Is4() && p.Bits() < 31 {
		least, most = 1, most.Sub(most, big.NewInt(1))
	} else if p.Addr().Is6() && p.Bits() < 128 {
		least = 1
	}
	at.Add(at, big.NewInt(least))
	if index < 0 || at.Cmp(most) > 0 {
		return "", errors.New("wants an address that the range does not have")
	}
	a, _ := address(at.Add(at, number(p.Addr())), p.Addr())
	return a.String(), nil
}
