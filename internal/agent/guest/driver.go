package guest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/kernels"
)

// Bounds of the driver.
const (
	warmPatience = agent.WarmTime
	seedPatience = 20 * time.Second // for one to start and take its seed
)

// Driver runs cells in a kernel and replaces it when it breaks.
type Driver struct {
	log   *slog.Logger
	cfg   Config
	procs *reaper
	alone func() bool // no other driver has a kernel in the sandbox; nil means that none has
	over  atomic.Bool // the driver is to start no more kernels

	waiting atomic.Int64
	slot    chan struct{}     // holds one value while someone uses what follows
	kernel  *kernel           // nil after a failed replacement
	lost    string            // why there was a replacement that no execution has reported yet
	seed    []byte            // nil before Init
	own     map[string]string // environment of this clone, which the first kernel has not yet
	seeded  uint64            // kernels that have had a seed
	cells   uint64            // begun; the number is a cell's id

	mu          sync.Mutex // guards the following three
	running     *kernel    // whose cell may be interrupted
	interrupted bool
	waiters     map[*waiter]struct{}

	info agent.KernelInfo
}

// NewDriver starts a kernel and returns when it is warm.
func NewDriver(log *slog.Logger, procs *reaper, cfg Config) (*Driver, error) {
	d := newDriver(log, procs, cfg)
	if err := d.replace(); err != nil {
		return nil, err
	}
	f, err := d.kernel.call(kernels.Request{Op: kernels.OpWarm}, warmPatience)
	if err != nil {
		_ = d.kernel.destroy()
		return nil, fmt.Errorf("warm up: %w", err)
	}
	d.info = f.Info
	return d, nil
}

// newDriver returns a Driver without a kernel.
func newDriver(log *slog.Logger, procs *reaper, cfg Config) *Driver {
	return &Driver{log: log, cfg: cfg, procs: procs, slot: make(chan struct{}, 1),
		waiters: map[*waiter]struct{}{}}
}

// Close ends the kernel.
func (d *Driver) Close() error {
	d.over.Store(true)
	d.slot <- struct{}{}
	defer d.release()
	if d.kernel == nil {
		return nil
	}
	err := d.kernel.destroy()
	d.kernel = nil
	return err
}

// end is Close of a driver whose cell may run, and others wait: none of them holds it up.
func (d *Driver) end() error {
	d.over.Store(true) // before the cell that runs is ended, after which the next would begin
	d.abort()
	return d.Close()
}

// Seed gives the clone its own randomness and environment, now and for every later kernel. A kernel
// whose environment cannot change is replaced.
func (d *Driver) Seed(ctx context.Context, seed []byte, env map[string]string) error {
	if err := d.take(ctx, 0); err != nil {
		return err
	}
	defer d.release()
	d.seed, d.cfg.Env = seed, with(d.cfg.Env, env)
	if len(env) > 0 && d.cfg.Kernel.Fixed {
		if err := d.kernel.destroy(); err != nil {
			return err
		}
		d.kernel = nil
		return d.replace()
	}
	d.own = env
	defer func() { d.own = nil }()
	return d.seedKernel()
}

// with is an environment with more in it.
func with(env []string, more map[string]string) []string {
	out := slices.Clone(env)
	for _, name := range slices.Sorted(maps.Keys(more)) {
		out = append(out, name+"="+more[name])
	}
	return out
}

// seedKernel gives the kernel a seed that no other has.
func (d *Driver) seedKernel() error {
	d.seeded++
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(append([]byte(nil), d.seed...), d.seeded))
	_, err := d.kernel.call(kernels.Request{Op: kernels.OpInit, Seed: hex.EncodeToString(sum[:]),
		Env: d.own}, cmp.Or(d.cfg.Kernel.Start, seedPatience))
	return err
}

// Info describes the kernel and what is installed beside it.
func (d *Driver) Info() agent.KernelInfo { return d.info }

// Interrupt interrupts the cell that runs.
func (d *Driver) Interrupt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running != nil {
		d.interrupted = true
		d.running.interrupt()
	}
}

// take waits for the slot in the order of arrival, until ctx ends. A slot that is free is
// taken without a look at ctx, which would cost a short cell more than it gains. patience is
// how long a cell that nobody waits for may be in the way; zero is for ever.
func (d *Driver) take(ctx context.Context, patience time.Duration) error {
	select {
	case d.slot <- struct{}{}:
		return nil
	default:
	}
	defer d.waiting.Add(-1)
	if d.waiting.Add(1) > agent.MaxQueue {
		return agent.TooMany()
	}
	defer d.wait(patience)()
	select {
	case d.slot <- struct{}{}:
		return d.check(ctx)
	case <-ctx.Done():
		return left(ctx.Err())
	}
}

// check gives the slot back if ctx has ended: a caller that is gone must not start a cell.
func (d *Driver) check(ctx context.Context) error {
	err := ctx.Err()
	if err != nil {
		d.release()
		err = left(err)
	}
	return err
}

// left is the error of an execution whose caller did not wait for its start.
func left(err error) error { return fmt.Errorf("wait for the kernel: %w", err) }

func (d *Driver) release() { <-d.slot }

func (d *Driver) isAlone() bool { return d.alone == nil || d.alone() }

// Restart replaces the kernel. A cell that runs ends as one does whose kernel ends, and the kernel
// is replaced because of it; otherwise that is done when Restart returns.
func (d *Driver) Restart(ctx context.Context) error {
	if d.abort() {
		return nil
	}
	if err := d.take(ctx, 0); err != nil {
		return err
	}
	defer d.release()
	if d.over.Load() {
		return errOver()
	}
	if d.kernel != nil {
		if err := d.kernel.destroy(); err != nil {
			return err
		}
		d.kernel = nil
	}
	return d.replace()
}

// abort ends the kernel under the cell that runs, and reports whether one does.
func (d *Driver) abort() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running == nil {
		return false
	}
	d.running.kill()
	return true
}

// errOver is the error of an execution whose context was deleted before it began.
func errOver() error {
	return sandpool.Errorf(sandpool.NotFound, "ContextNotFound", "context",
		"The context was deleted. Make it again.")
}

// replace makes a new kernel. It is called under slot.
func (d *Driver) replace() error {
	k, err := startKernel(d.cfg, d.procs, d.isAlone)
	if errors.Is(err, unix.EAGAIN) && !d.isAlone() {
		// Processes that have left their kernel's session take what there is.
		if err = killAll(); err == nil {
			k, err = startKernel(d.cfg, d.procs, d.isAlone)
		}
	}
	if err != nil {
		return err
	}
	d.kernel = k
	if d.seed == nil {
		return nil
	}
	if err := d.seedKernel(); err != nil {
		_ = k.destroy()
		d.kernel = nil
		return err
	}
	return nil
}

// renew replaces a kernel that is over and gives the slot back. The answer to the
// execution that lost the kernel does not wait for it; the next execution does.
func (d *Driver) renew() {
	defer d.release()
	if d.over.Load() {
		return
	}
	if err := d.replace(); err != nil {
		d.log.Error("replace the kernel", "error", err)
	}
}
