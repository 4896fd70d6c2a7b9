package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// withPool makes a pool, waits until it is full, calls fn with its name, and
// deletes it with everything that fn left in it.
func (b *bench) withPool(ctx context.Context, part string, ready, most int,
	fn func(pool string) error) (err error) {
	pool := b.prefix + "-" + part
	b.opts.Progress("making pool "+part, fmt.Sprintf("%d ready", ready))
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
		defer cancel()
		b.opts.Progress("deleting pool "+part, "")
		if _, derr := b.client.DeletePool(clean, pool); derr != nil {
			err = errors.Join(err, fmt.Errorf("delete pool %q: %w", pool, derr))
		}
	}()
	if _, err := b.client.PutPool(ctx, pool, api.SessionPool{Location: "local",
		Properties: &api.SessionPoolProperties{
			ContainerType:      string(sandpool.PythonLTS),
			PoolManagementType: "Dynamic",
			ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
				ReadySessionInstances: &ready},
		}}); err != nil {
		return fmt.Errorf("make pool %q: %w", pool, err)
	}
	if _, err := b.client.WaitReady(ctx, pool, func(s api.PoolStatus) {
		b.opts.Progress("filling pool "+part, fmt.Sprintf("%d/%d ready", s.Ready, ready))
	}); err != nil {
		return err
	}
	return fn(pool)
}

// settled waits until the pool is full and no sandbox is starting or stopping.
func (b *bench) settled(ctx context.Context, pool string) error {
	_, err := b.client.WaitReady(ctx, pool, nil)
	return err
}

// idle watches the pool's sandboxes of one state while nobody uses them.
func (b *bench) idle(ctx context.Context, pool, state string) error {
	b.opts.Progress("watching idle sandboxes", b.opts.Idle.String())
	before, err := b.client.PoolStatus(ctx, pool)
	if err != nil {
		return err
	}
	begin := time.Now()
	timer := time.NewTimer(b.opts.Idle)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := b.client.PoolStatus(ctx, pool)
	if err != nil {
		return err
	}
	memory, cpu := usage(before, after, state, time.Since(begin))
	label := map[string]string{"ready": "ready", "claimed": "used"}[state]
	b.add(memory.measure("memory per "+label, "MB",
		"what the host charges to one sandbox, as the server's status shows it"))
	b.add(cpu.measure("idle CPU per "+label, "% of a core",
		fmt.Sprintf("CPU time of one sandbox over %s without requests", b.opts.Idle)))
	return nil
}

// usage compares two looks at a pool. A sandbox that only one of them has, or that
// could not be measured, counts as an error.
func usage(before, after api.PoolStatus, state string, between time.Duration) (memory, cpu series) {
	seconds := map[string]float64{}
	for _, s := range before.Sandboxes {
		if s.CPUSeconds != nil && s.State == state {
			seconds[s.ID] = *s.CPUSeconds
		}
	}
	for _, s := range after.Sandboxes {
		if s.State != state {
			continue
		}
		if s.MemoryBytes == nil {
			memory.errors++
		} else {
			memory.value(float64(*s.MemoryBytes) / (1 << 20))
		}
		if was, ok := seconds[s.ID]; ok && s.CPUSeconds != nil {
			cpu.value(100 * (*s.CPUSeconds - was) / between.Seconds())
		} else {
			cpu.errors++
		}
	}
	return memory, cpu
}
