package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/egress"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Addresses in the gateway's namespace. Nobody outside it sees them, so that they are the same for
// all engines of a host; their range is one that nobody uses (RFC 2544).
const (
	netHigh, netLow = 198, 18
	firstIndex      = 16
	lastIndex       = 65534
	maxSandboxes    = lastIndex - firstIndex + 1
)

// Gateway is where sandboxes send what leaves them, and where they ask for names.
func Gateway() netip.Addr { return addressOf(1) }

func addressOf(index uint16) netip.Addr {
	return netip.AddrFrom4([4]byte{netHigh, netLow, byte(index >> 8), byte(index)})
}

// prefix6 is that of the same addresses in IPv6: one of those for private use (RFC 4193), whose
// random part is ours. The number of a sandbox is the end of its address.
func prefix6() netip.Prefix { return netip.MustParsePrefix("fd5b:1d9e:5ec4::/64") }

// six is the address of IPv6 that goes with one of IPv4.
func six(a netip.Addr) netip.Addr {
	to, from := prefix6().Addr().As16(), a.As4()
	to[14], to[15] = from[2], from[3]
	return netip.AddrFrom16(to)
}

// four is its inverse; other addresses are left as they are.
func four(a netip.Addr) netip.Addr {
	if !prefix6().Contains(a) {
		return a
	}
	from := a.As16()
	return addressOf(uint16(from[14])<<8 | uint16(from[15]))
}

// Gateway6 is Gateway in IPv6.
func Gateway6() netip.Addr { return six(Gateway()) }

// multicast6 is what all IPv6 multicast is in (RFC 4291, 2.7).
func multicast6() netip.Prefix { return netip.MustParsePrefix("ff00::/8") }

// shareName is the file in a sandbox's directory that tells of its share.
const shareName = "network.json"

// share is what a sandbox has of the gateway.
type share struct {
	ID   sandbox.ID `json:"-"`
	Addr netip.Addr `json:"address"`
	// IPv6 says that the sandbox has been given the address of IPv6 that goes with Addr.
	IPv6 bool `json:"ipv6,omitzero"`
	// Generation is the number of its policy: connections that an earlier one has accepted are
	// judged anew.
	Generation uint16           `json:"generation"`
	Network    sandpool.Network `json:"network"`

	policy  egress.Policy
	learned map[grantOf]time.Time // what names have opened, and until when
	log     *egress.Log
	leaving bool // it is being taken back
}

// grantOf is one thing that a name has opened for a sandbox.
type grantOf struct {
	name  string
	addr  netip.Addr
	grant egress.Grant
}

// index is the last part of the address, and the number in the link's name.
func (s *share) index() uint16 {
	a := s.Addr.As4()
	return uint16(a[2])<<8 | uint16(a[3])
}

// own is the sandbox's address in the family of to.
func (s *share) own(to netip.Addr) netip.Addr {
	if to.Is4() {
		return s.Addr
	}
	return six(s.Addr)
}

func (s *share) link() string { return fmt.Sprintf("%s%d", linkPrefix, s.index()) }

// mark is that of connections that the present policy has accepted.
func (s *share) mark() uint32 { return uint32(s.index())<<16 | uint32(s.Generation) }

// hardware returns the addresses of the two ends of the pair: locally administered ones.
func (s *share) hardware() (sandbox, gateway net.HardwareAddr) {
	a := s.Addr.As4()
	return net.HardwareAddr{0x02, 0x5a, 0, 1, a[2], a[3]},
		net.HardwareAddr{0x02, 0x5a, 0, 0, a[2], a[3]}
}

// setNetwork makes n the policy.
func (s *share) setNetwork(n sandpool.Network) (err error) {
	s.Network = n
	s.policy, err = egress.Parse(n, "network")
	return err
}

// save writes the share into the sandbox's directory.
func (s *share) save(dir string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	half := filepath.Join(dir, shareName+".half")
	if err := os.WriteFile(half, data, 0o600); err != nil {
		return fmt.Errorf("write down the network of %q: %w", s.ID, err)
	}
	return os.Rename(half, filepath.Join(dir, shareName))
}

// loadShare reads the share of a sandbox; it is nil if the sandbox has none.
func loadShare(id sandbox.ID, dir string) (*share, error) {
	data, err := os.ReadFile(filepath.Join(dir, shareName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := newShare(id)
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("read the network of %q: %w", id, err)
	}
	if !s.Addr.Is4() || s.index() < firstIndex {
		return nil, fmt.Errorf("read the network of %q: its address is %v", id, s.Addr)
	}
	if err := s.setNetwork(s.Network); err != nil {
		s.policy = egress.Policy{} // an older server allowed it; nothing is what is safe
	}
	return s, nil
}

func newShare(id sandbox.ID) *share {
	return &share{ID: id, learned: map[grantOf]time.Time{}, log: egress.NewLog()}
}
