package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/bench"
)

// What crowd asks for: on a machine of 24 GB, more than it has memory for.
const (
	crowdPools  = 3   // tenants, each with a pool
	crowdReady  = 100 // ready sandboxes of each
	crowdMost   = 133 // sessions of each
	crowdCallee = "was-there-before"
	crowdHogs   = 12 // sessions that compute, of the first tenant
)

// crowd measures what a session that was there before notices when all sessions of several tenants
// begin at once and import pandas, and when one tenant's sessions compute for as long as they may.
func crowd(ctx context.Context, bin, dir, images string, progress func(step, detail string)) (
	_ []bench.Measure, notes []string, err error) {
	at := filepath.Join(dir, "crowd")
	if err := os.Mkdir(at, 0o755); err != nil {
		return nil, nil, err
	}
	p, err := startServer(ctx, bin, at, images)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = first(err, p.stop()) }()
	for n := range crowdPools {
		ready, most := crowdReady, crowdMost
		if _, err := p.client.PutPool(ctx, tenant(n), api.SessionPool{Location: "local",
			Properties: &api.SessionPoolProperties{ContainerType: "PythonLTS",
				ScaleConfiguration: &api.ScaleConfiguration{ReadySessionInstances: &ready,
					MaxConcurrentSessions: &most}}}); err != nil {
			return nil, nil, err
		}
	}
	c := &crowdOf{Client: p.client, ctx: ctx, ends: map[string]int{}}
	for n := range crowdPools {
		progress("filling a machine", tenant(n))
		if err := c.fill(tenant(n)); err != nil {
			return nil, nil, err
		}
	}
	rows := []bench.Measure{}
	for _, part := range []struct {
		name, how string
		do        func()
	}{
		{"alone", "nothing else is asked", func() { wait(ctx, 10*time.Second) }},
		{"beside imports", fmt.Sprintf("%d sessions of %d tenants begin at once and import pandas",
			crowdPools*crowdReady, crowdPools), c.importAll},
		{"beside computing", fmt.Sprintf("%d sessions of one tenant compute for ten seconds",
			crowdHogs), c.computeAll},
	} {
		progress("1+1 "+part.name, part.how)
		took := c.watch(part.do)
		rows = append(rows, bench.Summarise("round trip, "+part.name, "ms",
			"1+1 in a session that was there before; "+part.how, took))
	}
	rows = append(rows, bench.Summarise("import pandas, served", "ms",
		"from the common start to each answer", c.served))
	for what, n := range c.ends {
		notes = append(notes, fmt.Sprintf("%d times: %s", n, what))
	}
	return rows, notes, c.err
}

func tenant(n int) string { return fmt.Sprintf("tenant-%d", n) }

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// crowdOf is the callers, and what they met.
type crowdOf struct {
	*client.Client
	ctx context.Context

	mu     sync.Mutex // guards what follows
	served []float64  // ms
	ends   map[string]int
	err    error
}

// fill waits until as many sandboxes of a pool are ready as the machine has room for.
func (c *crowdOf) fill(pool string) error {
	for {
		s, err := c.PoolStatus(c.ctx, pool)
		if err != nil {
			return err
		}
		if s.Ready >= crowdReady || s.Ready > 0 && s.Notice != "" && s.Starting == 0 {
			return nil
		}
		wait(c.ctx, time.Second)
	}
}

// all has n callers ask at once, and waits for them.
func (c *crowdOf) all(n int, do func(n int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

func (c *crowdOf) importAll() {
	began := time.Now()
	c.all(crowdPools*crowdReady, func(n int) {
		_, err := c.Execute(c.ctx, tenant(n%crowdPools), fmt.Sprintf("import-%d", n),
			client.Run{Code: "import pandas\nsum(i * i for i in range(500_000))",
				Timeout: 3 * time.Minute})
		c.mu.Lock()
		defer c.mu.Unlock()
		var e *sandpool.Error
		switch {
		case err == nil:
			c.served = append(c.served, float64(time.Since(began))/float64(time.Millisecond))
		case errors.As(err, &e):
			_, why, found := strings.Cut(e.Message, ": ") // before it is the identifier
			if !found {
				why = e.Message
			}
			c.ends[fmt.Sprintf("%s: %s", e.Code, why)]++
		default:
			c.ends[err.Error()]++
		}
	})
}

func (c *crowdOf) computeAll() {
	c.all(crowdHogs, func(n int) {
		_, err := c.Execute(c.ctx, tenant(0), fmt.Sprintf("import-%d", n*crowdPools),
			client.Run{Code: "import time\nend = time.monotonic() + 10\n" +
				"while time.monotonic() < end: pass", Timeout: 3 * time.Minute})
		if err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.ends["computing: "+err.Error()]++
		}
	})
}

// watch runs 1+1 in the session that was there before while do runs, and returns what the calls
// took, in ms.
func (c *crowdOf) watch(do func()) (took []float64) {
	done := make(chan struct{})
	go func() { do(); close(done) }()
	for {
		began := time.Now()
		if _, err := c.Execute(c.ctx, tenant(1), crowdCallee, client.Run{Code: "1+1",
			Timeout: time.Minute}); err != nil {
			c.err = first(c.err, err)
		}
		took = append(took, float64(time.Since(began))/float64(time.Millisecond))
		select {
		case <-done:
			return took
		case <-time.After(10 * time.Millisecond):
		}
	}
}
