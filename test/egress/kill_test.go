package egress_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
	"github.com/sandpool/sandpool/test/leaks"
)

const (
	// How many sessions and kills the short form has. SANDPOOL_TEST_SOAK says how many sessions the
	// long one has, during which the server is killed all the time.
	shortSessions, shortKills = 30, 6
	users                     = 4 // sessions at the same time
)

// forbidden is what no policy of the test ever allows, by address and by name.
var forbidden = []string{elsewhere, metadata, private, hostAddr, worldAddr, "other.example.org",
	"inner.example.com", "[" + elsewhere6 + "]", "[" + metadata6 + "]", "[" + private6 + "]",
	"[" + hostAddr6 + "]", "[" + worldAddr6 + "]"}

// killed is a server that is killed again and again, with users whose sessions have a network.
type killed struct {
	t           *testing.T
	data, bin   string
	addr, token string
	pools       func(name string) string // their endpoints
	log         *os.File
	cmd         *exec.Cmd
	served      atomic.Int64 // sessions that reached what they may
	tried       atomic.Int64 // times that somebody tried what is forbidden
	hammered    atomic.Int64 // sessions that had tried it from their first moment on
	changed     atomic.Int64 // times that a policy was another one
}

// Sessions with a network, made and ended while the server is killed at random moments, while
// sandboxes die, while their policy changes, and while somebody reloads the host's own rules, never
// reach more than their policy allows, from the first moment of their first process on, which tries
// all the time; and afterwards the host has what it had before.
func TestKilled(t *testing.T) {
	newWorld(t)
	k := newKilled(t)
	foreign := foreignRules(t)
	hub := ocitest.NewHub(t)
	image := pushApp(t, hub, "1000:1000")[0]
	before, had := hostState(t), must1(leaks.Count(k.data))(t)
	k.start()
	c := k.client()
	for _, start := range []string{"boot", "snapshot"} {
		p := container(image, start, "EgressEnabled",
			&api.Egress{Allow: []string{"*.example.com:80"}})
		_, err := c.PutPool(t.Context(), start, hammering(p, forbidden...))
		must(t, err)
		_, err = c.WaitReady(t.Context(), start, nil)
		must(t, err)
	}
	n, most := shortSessions, shortKills
	if s := os.Getenv("SANDPOOL_TEST_SOAK"); s != "" {
		n = must1(strconv.Atoi(s))(t)
		most = n
	}
	next, done := make(chan int), make(chan struct{})
	var all sync.WaitGroup
	for range users {
		all.Go(func() {
			for i := range next {
				k.session(c, []string{"boot", "snapshot"}[i%2], fmt.Sprintf("session-%d", i))
			}
		})
	}
	go func() {
		defer close(done)
		for i := range n {
			next <- i
		}
		close(next)
		all.Wait()
	}()
	ctx, stop := context.WithCancel(t.Context())
	var changes sync.WaitGroup
	changes.Go(func() { k.change(ctx, c) })
	kills := 0
	for over := false; (!over || kills < shortKills) && kills < most; kills++ {
		k.kill(kills, foreign)
		select {
		case <-done:
			over = true
		default:
		}
	}
	<-done
	stop()
	changes.Wait()
	k.stop()
	t.Logf("%d sessions, %d of them served, %d tries of what is forbidden, %d sessions that had "+
		"tried it all the time, %d changes of policies, %d kills", n, k.served.Load(),
		k.tried.Load(), k.hammered.Load(), k.changed.Load(), kills)
	if k.hammered.Load() == 0 || k.changed.Load() == 0 {
		t.Error("no session has said what it had reached, or no policy has changed")
	}
	if k.served.Load() < int64(n)/2 {
		t.Errorf("only %d of %d sessions were served, with %d kills", k.served.Load(), n, kills)
	}
	for _, line := range must1(leaks.Count(k.data))(t).Diff(had) {
		t.Errorf("left behind: %s", line)
	}
	if after := hostState(t); !slices.Equal(before, after) {
		t.Errorf("the host has\n%s\nand had\n%s", strings.Join(after, "\n"),
			strings.Join(before, "\n"))
	}
}

// must1 ends the test if there is an error.
func must1[V any](v V, err error) func(*testing.T) V {
	return func(t *testing.T) V { t.Helper(); must(t, err); return v }
}

func newKilled(t *testing.T) *killed {
	t.Helper()
	dir := t.TempDir()
	k := &killed{t: t, data: filepath.Join(dir, "data"), bin: filepath.Join(dir, "bin")}
	for _, name := range []string{"sandpool", "sandpool-agent"} {
		build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(k.bin, name),
			"../../cmd/"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	k.addr = l.Addr().String()
	must(t, l.Close())
	must(t, os.WriteFile(filepath.Join(dir, "config.yaml"),
		[]byte("network:\n  ipv6: true\n  resolvers: ["+resolver+"]\n"), 0o600))
	k.log, err = os.Create(filepath.Join(dir, "log"))
	must(t, err)
	t.Cleanup(func() {
		if k.cmd != nil {
			k.stop()
		}
		if text, err := os.ReadFile(k.log.Name()); t.Failed() && err == nil {
			t.Logf("the server's log:\n%s", text[max(0, len(text)-16<<10):])
		}
	})
	return k
}

func (k *killed) start() {
	k.t.Helper()
	k.cmd = exec.Command(filepath.Join(k.bin, "sandpool"), "serve", "--data-dir",
		k.data, "--listen", k.addr,
		"--config", filepath.Join(filepath.Dir(k.data), "config.yaml"))
	k.cmd.Env = append(os.Environ(), "SANDPOOL_ON_EXIT=stop", "HOME="+k.bin)
	k.cmd.Stdout, k.cmd.Stderr = k.log, k.log
	must(k.t, k.cmd.Start())
	c, err := client.New(client.Config{Endpoint: "http://" + k.addr, Token: "none"})
	must(k.t, err)
	defer c.CloseIdle()
	must(k.t, c.WaitHealthy(k.t.Context()))
}

func (k *killed) stop() {
	k.t.Helper()
	must(k.t, k.cmd.Process.Signal(syscall.SIGTERM))
	if err := k.cmd.Wait(); err != nil {
		k.t.Errorf("the server ends with %v", err)
	}
	k.cmd = nil
}

func (k *killed) client() *client.Client {
	k.t.Helper()
	token, err := os.ReadFile(filepath.Join(k.data, "admin-token"))
	must(k.t, err)
	k.token = strings.TrimSpace(string(token))
	c, err := client.New(client.Config{Endpoint: "http://" + k.addr, Token: k.token})
	must(k.t, err)
	k.t.Cleanup(c.CloseIdle)
	k.pools = c.PoolEndpoint
	return c
}

// wait waits, unless the test ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// change gives the pools another policy again and again, which allows nothing that is forbidden.
func (k *killed) change(ctx context.Context, c *client.Client) {
	for i := 0; ctx.Err() == nil; i++ {
		e := &api.Egress{Allow: []string{"*.example.com:80", apiHost + ":80"}[:1+i%2]}
		_, err := c.PatchPool(ctx, []string{"boot", "snapshot"}[i/2%2], api.SessionPool{
			Properties: &api.SessionPoolProperties{Sandpool: &api.SandpoolSettings{Egress: e}}})
		if err == nil {
			k.changed.Add(1)
		}
		wait(ctx, rand.N(400*time.Millisecond))
	}
}

// kill kills the server at a random moment, and with it a sandbox or the host's rules now and then.
func (k *killed) kill(i int, foreign func()) {
	k.t.Helper()
	wait(k.t.Context(), 300*time.Millisecond+rand.N(2*time.Second))
	must(k.t, k.cmd.Process.Kill())
	_ = k.cmd.Wait()
	switch i % 3 {
	case 1:
		foreign()
	case 2:
		if found, err := leaks.Count(k.data); err == nil && len(found.Sandboxes) > 0 {
			_ = unix.Kill(found.Sandboxes[rand.IntN(len(found.Sandboxes))], unix.SIGKILL)
		}
	}
	k.start()
}

// session is one user: what the pool allows is tried until it is reached, and what it does not is
// never reached, whatever happens to the server.
func (k *killed) session(c *client.Client, pool, session string) {
	ctx, cancel := context.WithTimeout(k.t.Context(), time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		got, err := k.ask(ctx, pool, session, "/get", "url", "http://index.example.com/hello")
		if err == nil && got == "hello "+hostAddr {
			k.served.Add(1)
			break
		}
		wait(ctx, 100*time.Millisecond)
	}
	for _, to := range forbidden {
		if got, err := k.ask(ctx, pool, session, "/tcp", "to", to+":80"); err == nil {
			if k.tried.Add(1); got != "false" {
				k.t.Errorf("%s: %s is reached: %s", session, to, got)
			}
		}
	}
	if got, err := k.ask(ctx, pool, session, "/hammered", "", ""); err == nil {
		if k.hammered.Add(1); !strings.HasSuffix(got, "[]") {
			k.t.Errorf("%s: since it began it has reached %s", session, got)
		}
	}
	for ctx.Err() == nil {
		err := c.DeleteSession(ctx, pool, session)
		if err == nil || sandpool.ClassOf(err) == sandpool.NotFound {
			return
		}
		wait(ctx, 100*time.Millisecond)
	}
}

func (k *killed) ask(ctx context.Context, pool, session, path string,
	query ...string) (string, error) {
	values := url.Values{"identifier": {session}, query[0]: {query[1]}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet,
		k.pools(pool)+path+"?"+values.Encode(), nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("Authorization", "Bearer "+k.token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
	}
	return string(text), err
}

// foreignRules gives the host rules of somebody else's, and returns what reloads them: as nft -f
// does with a file that begins with "flush ruleset".
func foreignRules(t *testing.T) (reload func()) {
	t.Helper()
	write := func(flush bool) {
		conn, err := nftables.New()
		must(t, err)
		if flush {
			conn.FlushRuleset()
		}
		table := conn.AddTable(&nftables.Table{Name: "theirs", Family: nftables.TableFamilyINet})
		accept := nftables.ChainPolicyAccept
		conn.AddChain(&nftables.Chain{Name: "input", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
			Policy: &accept})
		must(t, conn.Flush())
	}
	write(false)
	t.Cleanup(func() {
		conn, err := nftables.New()
		must(t, err)
		conn.DelTable(&nftables.Table{Name: "theirs", Family: nftables.TableFamilyINet})
		must(t, conn.Flush())
	})
	return func() { write(true) }
}

// hostState lists what sessions with a network could leave on the host: links, addresses, routes,
// neighbours, tables with their chains and sets, and connections that are tracked for the gateway.
func hostState(t *testing.T) (found []string) {
	t.Helper()
	links, err := netlink.LinkList()
	must(t, err)
	for _, l := range links {
		found = append(found, "link "+l.Attrs().Name)
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		addrs, err := netlink.AddrList(nil, family)
		must(t, err)
		for _, a := range addrs {
			if family == unix.AF_INET6 && a.IP.IsLinkLocalUnicast() {
				continue // the kernel's own
			}
			found = append(found, "address "+a.IPNet.String())
		}
		routes, err := netlink.RouteListFiltered(family,
			&netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		must(t, err)
		for _, r := range routes {
			// The kernel's own come and go.
			own := family == unix.AF_INET6 && r.Dst != nil && r.Dst.IP.IsLinkLocalUnicast()
			if !own && r.Type == unix.RTN_UNICAST {
				found = append(found, "route "+r.String())
			}
		}
		neighbours, err := netlink.NeighList(0, family)
		must(t, err)
		for _, e := range neighbours {
			if e.State == netlink.NUD_PERMANENT {
				found = append(found, "neighbour "+e.String())
			}
		}
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.InetFamily(family))
		must(t, err)
		for _, f := range flows {
			if src, _ := netip.AddrFromSlice(f.Forward.SrcIP); src.Unmap().IsLinkLocalUnicast() ||
				ours6().Contains(src) {
				found = append(found, "connection "+f.String())
			}
		}
	}
	conn, err := nftables.New()
	must(t, err)
	tables, err := conn.ListTables()
	must(t, err)
	for _, table := range tables {
		sets, err := conn.GetSets(table)
		must(t, err)
		found = append(found, fmt.Sprintf("table %s with %d sets", table.Name, len(sets)))
	}
	chains, err := conn.ListChains()
	must(t, err)
	for _, chain := range chains {
		found = append(found, "chain "+chain.Table.Name+" "+chain.Name)
	}
	return found
}

// ours6 is what the engine's addresses of IPv6 are in.
func ours6() netip.Prefix { return netip.MustParsePrefix("fd5b:1d9e:5ec4::/48") }
