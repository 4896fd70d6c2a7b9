package netns

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"

	"github.com/sandpool/sandpool/internal/sandbox"
)

// The check of a host names each thing that it lacks with what mends it, says nothing of a host
// that has all, and leaves nothing.
func TestCheck(t *testing.T) {
	newWorld(t, side6())
	dir := t.TempDir()
	before := remains(t, dir)
	lacks := func(ipv6 bool) (names []string) {
		t.Helper()
		for _, r := range Check(dir, ipv6) {
			if !r.OK {
				names = append(names, strings.TrimPrefix(r.Name, "network: "))
			}
			if r.Detail == "" || !r.OK && r.Fix == "" {
				t.Errorf("%s says %+v", r.Name, r)
			}
		}
		return names
	}
	want := func(what string, ipv6 bool, names ...string) {
		t.Helper()
		if got := lacks(ipv6); !slices.Equal(got, names) {
			t.Errorf("%s: the host lacks %q, want %q", what, got, names)
		}
	}
	want("all is there", true)
	for path, name := range map[string]string{forwarding: "forwarding", forwarding6: "IPv6"} {
		must(t, os.WriteFile(path, []byte("0"), 0))
		want(path+" is off", true, name)
		if err := Ready(true); err == nil || !strings.Contains(err.Error(), "sysctl net.ip") {
			t.Errorf("%s is off: sandboxes can have a network: %v", path, err)
		}
		must(t, os.WriteFile(path, []byte("1"), 0))
	}
	conn, err := nftables.New()
	must(t, err)
	drop := nftables.ChainPolicyDrop
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4,
		nftables.TableFamilyINet, nftables.TableFamilyIPv6} {
		theirs := conn.AddTable(&nftables.Table{Name: "theirs", Family: family})
		conn.AddChain(&nftables.Chain{Name: "FORWARD", Table: theirs,
			Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
			Priority: nftables.ChainPriorityFilter, Policy: &drop})
		must(t, conn.Flush())
		want("a chain drops", true, "firewall")
		if family == nftables.TableFamilyIPv6 {
			want("a chain drops IPv6, which nobody has", false)
		}
		i := slices.IndexFunc(Check(dir, true), func(r sandbox.Requirement) bool {
			return strings.Contains(r.Detail, "theirs FORWARD")
		})
		if i < 0 {
			t.Error("the chain that drops is not named")
		}
		conn.DelTable(theirs)
		must(t, conn.Flush())
	}
	want("all is there again", true)
	if after := remains(t, dir); !slices.Equal(before, after) {
		t.Errorf("the host has\n%q\nand had\n%q", after, before)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}
