package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/bench"
)

// What the loud tenant of neighbour asks, and what each tenant may.
const (
	allowed  = 60  // requests a second
	asked    = 600 // requests a second of the loud one
	quietGap = time.Second / 15
	block    = 25 // turns of one kind in a row
)

// neighbour measures what a tenant notices of another one that asks for many times what it may: 1+1
// in a live session of its own, by turns while the other asks and while it does not.
func neighbour(ctx context.Context, bin, dir, images string, n int,
	progress func(step, detail string)) (_ []bench.Measure, err error) {
	at := filepath.Join(dir, "neighbour")
	if err := os.Mkdir(at, 0o755); err != nil {
		return nil, err
	}
	p, err := startServer(ctx, bin, at, images,
		fmt.Sprintf("SANDPOOL_LIMITS_CALLER_REQUESTS_PER_SECOND=%d", allowed),
		"SANDPOOL_LIMITS_CALLER_CONCURRENT=4")
	if err != nil {
		return nil, err
	}
	defer func() { err = first(err, p.stop()) }()
	if err := openToll(ctx, p.client); err != nil {
		return nil, err
	}
	quiet, err := tenantOf(ctx, p.client, "quiet")
	if err != nil {
		return nil, err
	}
	loud, err := tenantOf(ctx, p.client, "loud")
	if err != nil {
		return nil, err
	}
	var on atomic.Bool
	var refused atomic.Int64
	noisy, stop := context.WithCancel(ctx)
	defer stop()
	var callers sync.WaitGroup
	defer callers.Wait()
	defer stop()
	for range 4 {
		callers.Go(func() { shout(noisy, loud, &on, &refused) })
	}
	took := map[bool][]float64{}
	pace := time.NewTicker(quietGap)
	defer pace.Stop()
	for i := range 2 * n {
		progress("a tenant beside a loud one", fmt.Sprintf("%d/%d", i+1, 2*n))
		is := i/block%2 == 1
		on.Store(is)
		select {
		case <-pace.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		begin := time.Now()
		if _, err := quiet.Execute(ctx, tollPool, "quiet", client.Run{Code: "1+1",
			Timeout: time.Minute}); err != nil {
			return nil, fmt.Errorf("1+1 of the quiet tenant: %w", err)
		}
		if i%block > 0 { // the first of a block is between the two
			took[is] = append(took[is], float64(time.Since(begin))/float64(time.Millisecond))
		}
	}
	if refused.Load() == 0 {
		return nil, errors.New("the loud tenant was never refused")
	}
	how := fmt.Sprintf("1+1 of a tenant, 15 a second; the other asks %d a second and may %d",
		asked, allowed)
	return []bench.Measure{bench.Summarise("a tenant beside an idle one", "ms", how, took[false]),
		bench.Summarise("a tenant beside one far beyond its limit", "ms", how, took[true])}, nil
}

// tenantOf is the client of somebody with sessions whose identifiers begin with a name.
func tenantOf(ctx context.Context, c *client.Client, name string) (*client.Client, error) {
	scope := c.PoolID(tollPool).Scope().Session(sandpool.Identifier(name))
	scope.Prefix = true
	made, err := c.CreateToken(ctx, api.TokenRequest{Name: name, Role: "session-executor",
		Scope: scope.String()})
	if err != nil {
		return nil, err
	}
	tenant, err := client.New(client.Config{Endpoint: c.Endpoint(), Token: made.Text})
	if err != nil {
		return nil, err
	}
	_, err = tenant.Execute(ctx, tollPool, name, client.Run{Code: "1+1", Timeout: time.Minute})
	return tenant, err
}

// shout asks a quarter of what the loud tenant asks, while it is on.
func shout(ctx context.Context, c *client.Client, on *atomic.Bool, refused *atomic.Int64) {
	pace := time.NewTicker(4 * time.Second / asked)
	defer pace.Stop()
	for {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return
		}
		if !on.Load() {
			continue
		}
		_, err := c.Execute(ctx, tollPool, "loud", client.Run{Code: "1+1", Timeout: time.Minute})
		if sandpool.ClassOf(err) == sandpool.Unavailable {
			refused.Add(1)
		}
	}
}
