package egress

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool"
)

// Protocol is what an entry is about: one of the protocols, or both.
type Protocol string

// The protocols. Nothing else leaves a sandbox.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	Both Protocol = ""
)

// Entry is one line of a policy. Either Name is set or Prefix is valid.
type Entry struct {
	// Text is what its author wrote.
	Text string
	// Name is a host name in lower case, without a dot at the end. With Below the entry is about
	// the names below it and not about the name itself.
	Name  string
	Below bool
	// Prefix holds the addresses that the entry is about.
	Prefix netip.Prefix
	// Ports are from Low to High; zero for both means all.
	Low, High uint16
	Protocol  Protocol
}

// matchesName reports whether the entry is about name, compared label by label.
func (e Entry) matchesName(name string) bool {
	if e.Name == "" {
		return false
	}
	if !e.Below {
		return name == e.Name
	}
	return strings.HasSuffix(name, "."+e.Name)
}

// matchesPort reports whether the entry is about a port of a protocol.
func (e Entry) matchesPort(p Protocol, port uint16) bool {
	return (e.Protocol == Both || e.Protocol == p) &&
		(e.High == 0 || e.Low <= port && port <= e.High)
}

// parseEntry reads a name, "*." and a name, an address or a prefix, each with ":PORT" or
// ":LOW-HIGH" behind it, and then "/tcp" or "/udp". IPv6 with a port is in brackets. protocol is
// what an entry without one means.
func parseEntry(text, target string, protocol Protocol) (Entry, error) {
	wrong := func(format string, args ...any) (Entry, error) {
		return Entry{}, sandpool.Errorf(sandpool.Invalid, "InvalidEgressEntry", target,
			"%s is %.80q: %s", target, text, fmt.Sprintf(format, args...))
	}
	e := Entry{Text: text, Protocol: protocol}
	rest := strings.TrimSpace(text)
	for _, p := range []Protocol{TCP, UDP} {
		if before, found := strings.CutSuffix(rest, "/"+string(p)); found {
			rest, e.Protocol = before, p
			break
		}
	}
	if strings.Contains(rest, "://") {
		return wrong("leave out the scheme and the path; use a name such as example.com:443.")
	}
	host, ports, hasPorts := cutPorts(rest)
	if hasPorts {
		var err error
		if e.Low, e.High, err = parsePorts(ports); err != nil {
			return wrong("%v", err)
		}
	}
	if prefix, ok := parsePrefix(host); ok {
		if prefix.Addr().Is4In6() {
			return wrong("this is an IPv4 address written as one of IPv6; use %s.",
				prefix.Addr().Unmap())
		}
		if prefix != prefix.Masked() {
			return wrong("the prefix has bits behind its length; use %s.", prefix.Masked())
		}
		e.Prefix = prefix
		return e, nil
	}
	if strings.Contains(host, ":") {
		return wrong(
			"use an IPv6 address or prefix such as 2001:db8::/32, with a port [2001:db8::1]:443.")
	}
	if strings.Contains(host, "/") {
		return wrong("use a prefix such as 192.0.2.0/24, or a name without a path.")
	}
	e.Name, e.Below = strings.CutPrefix(host, "*.")
	name, err := ParseName(e.Name)
	if err != nil {
		return wrong("%v", err)
	}
	if e.Name = name; e.High != e.Low {
		return wrong("a range of ports goes with addresses; give a name one port, or none for all.")
	}
	return e, nil
}

// cutPorts cuts the ports off. An address of IPv6 has colons of its own, and brackets if there are
// ports.
func cutPorts(s string) (host, ports string, found bool) {
	if inside, rest, closed := strings.Cut(s, "]"); closed && strings.HasPrefix(s, "[") &&
		strings.Contains(inside, ":") && (rest == "" || rest[0] == ':') {
		return inside[1:], strings.TrimPrefix(rest, ":"), rest != ""
	}
	if strings.Count(s, ":") > 1 {
		return s, "", false
	}
	return strings.Cut(s, ":")
}

func parsePrefix(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	return p, err == nil
}

func parsePorts(s string) (low, high uint16, err error) {
	first, last, isRange := strings.Cut(s, "-")
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := a, error(nil)
	if isRange {
		b, err2 = strconv.ParseUint(last, 10, 16)
	}
	if err1 != nil || err2 != nil || a == 0 || b < a {
		return 0,
			0, fmt.Errorf("the port is %.20q; use 1 to 65535, or two with a dash between them", s)
	}
	return uint16(a), uint16(b), nil
}

// The bounds of names are those of DNS (RFC 1035, section 2.3.4).
const (
	maxName  = 253
	maxLabel = 63
)

// ParseName returns a host name as policies compare it: in lower case, without a dot at the end.
// Anything that some program could take for an address, such as 0x7f.1, is no name.
func ParseName(s string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	if name == "" || len(name) > maxName {
		return "", fmt.Errorf("use a name of 1 to %d characters, or an address", maxName)
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, labelLetters) != "" {
			return "", fmt.Errorf(
				"the part %.70q is not one of a host name; use letters, digits and dashes, and the xn-- form of others", label)
		}
	}
	last := labels[len(labels)-1]
	switch {
	case last[0] >= '0' && last[0] <= '9':
		return "", fmt.Errorf("this is neither an address, such as 192.0.2.1, nor a name")
	case len(labels) < 2:
		return "", fmt.Errorf("use a name of two parts or more, such as example.com")
	}
	return name, nil
}

const labelLetters = "abcdefghijklmnopqrstuvwxyz0123456789-_"

// NamesPort reports whether the entry has one port, rather than happens to include it.
func (e Entry) NamesPort() bool { return e.High != 0 && e.Low == e.High }
