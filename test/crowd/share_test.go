package crowd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/pool/share"
	"github.com/sandpool/sandpool/internal/server"
)

// weightOf returns the weight of a sandbox's cgroup, as version 2 counts it.
func weightOf(t *testing.T, id string) int {
	t.Helper()
	for file, standard := range map[string]int{"cpu/sandpool/*/" + id + "/cpu.shares": 1024,
		"sandpool/*/" + id + "/cpu.weight": share.Standard} {
		found, err := filepath.Glob(filepath.Join("/sys/fs/cgroup", file))
		if err != nil {
			t.Error(err)
		}
		if len(found) > 0 {
			text, err := os.ReadFile(found[0])
			n, err2 := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil || err2 != nil {
				t.Error(err, err2)
			}
			return (n*share.Standard + standard - 1) / standard
		}
	}
	t.Errorf("sandbox %s has no cgroup with a weight", id)
	return 0
}

// hogs are sessions that compute until they are deleted.
type hogs struct {
	*crowd
	names []string
	pool  string
	wait  sync.WaitGroup
}

func (c *crowd) compute(pool string, n int) *hogs {
	h := &hogs{crowd: c, pool: pool}
	for i := range n {
		name := fmt.Sprint("hog-", i)
		h.names = append(h.names, name)
		h.wait.Go(func() { // its answer is that it was deleted
			_, _ = c.Execute(c.Context(), pool, name,
				client.Run{Code: "while True: pass", Timeout: 3 * time.Minute})
		})
	}
	return h
}

func (h *hogs) end() {
	for _, name := range h.names {
		if err := h.DeleteSession(h.Context(), h.pool, name); err != nil {
			h.Error(err)
		}
	}
	h.wait.Wait()
}

// sessions returns the sandboxes of a pool that serve somebody.
func (c *crowd) sessions(pool string) map[string]float64 {
	c.Helper()
	s, err := c.PoolStatus(c.Context(), pool)
	if err != nil {
		c.Error(err)
	}
	seconds := map[string]float64{}
	for _, b := range s.Sandboxes {
		if b.State == string(sandpool.Claimed) && b.CPUSeconds != nil {
			seconds[b.ID] = *b.CPUSeconds
		}
	}
	return seconds
}

// TestComputingTenants: while sessions of two tenants compute, the one that was there before keeps
// a great weight. Each tenant has as much as the other, however many sessions it has, and each
// session goes on.
func TestComputingTenants(t *testing.T) {
	c := &crowd{T: t, Client: serve(t, func(cfg *server.Config) {})}
	many := 2 * min(runtime.NumCPU(), 4)
	for n := range 2 {
		most, ready := many+4, 1
		if _, err := c.PutPool(t.Context(), poolName(n), api.SessionPool{Location: "local",
			Properties: &api.SessionPoolProperties{ContainerType: string(sandpool.PythonLTS),
				ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
					ReadySessionInstances: &ready}}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.run(0, "1+1"); err != nil {
		t.Fatal(err)
	}
	calm := c.watch(func() { <-time.After(2 * time.Second) })
	large, small := c.compute(poolName(0), many), c.compute(poolName(1), 1)
	busy := c.watch(func() { c.settled(many) })
	t.Logf("1+1 took %v at the median and %v at p99 while %d sessions computed (%d calls), alone "+
		"%v and %v (%d)", at(busy, 50), at(busy, 99), many+1, len(busy), at(calm, 50), at(calm, 99),
		len(calm))
	before := c.sessions(poolName(0))
	for deadline := time.Now().Add(time.Minute); ; { // nobody starves
		moved := 0
		for id, seconds := range c.sessions(poolName(0)) {
			if seconds > before[id] {
				moved++
			}
		}
		if _, err := c.run(0, "1+1"); err != nil {
			t.Fatal(err)
		}
		if moved == many+1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("of %d sessions %d have gone on", many+1, moved)
		}
	}
	large.end()
	small.end()
}

// settled waits until the weights are what they are to be.
func (c *crowd) settled(many int) {
	for deadline := time.Now().Add(time.Minute); ; <-time.After(100 * time.Millisecond) {
		light, sum, most := 0, 0, 0
		for id := range c.sessions(poolName(0)) {
			if w := weightOf(c.T, id); w == share.Light {
				light++
			} else {
				sum, most = sum+w, max(most, w)
			}
		}
		small := 0
		for id := range c.sessions(poolName(1)) {
			small = weightOf(c.T, id)
		}
		if light == 1 && small == share.Standard && most < share.Standard &&
			sum <= 2*share.Standard && sum >= share.Standard/2 {
			return
		}
		if time.Now().After(deadline) {
			c.Errorf("%d sandboxes are light, the %d that compute have %d together and %d at "+
				"most, the other tenant's has %d", light, many, sum, most, small)
			return
		}
	}
}
