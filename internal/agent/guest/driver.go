package guest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// Bounds of the driver.
const (
	maxQueue     = 128              // executions that wait for their turn
	warmPatience = 2 * time.Minute  // for an interpreter to import everything
	seedPatience = 20 * time.Second // for a kernel to take its seed
)

// Driver runs cells in a kernel and replaces it when it breaks.
type Driver struct {
	log *slog.Logger
	cfg Config

	waiting atomic.Int64
	slot    chan struct{} // holds one value while someone uses what follows
	nursery *nursery
	kernel  *kernel // nil after a failed replacement
	lost    bool    // a replacement that no execution has reported yet
	seed    []byte  // nil before Init
	forks   uint64

	mu          sync.Mutex
	running     *kernel // whose cell may be interrupted
	interrupted bool

	meta atomic.Pointer[agent.Metadata]
}

// NewDriver starts an interpreter and a kernel and returns when both are warm.
func NewDriver(ctx context.Context, log *slog.Logger, cfg Config) (*Driver, error) {
	d := &Driver{log: log, cfg: cfg, slot: make(chan struct{}, 1)}
	if err := d.replace(ctx); err != nil {
		return nil, err
	}
	if err := d.kernel.call(map[string]any{"op": "warm"}, warmPatience); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	return d, nil
}

// Close ends the kernel and the interpreter.
func (d *Driver) Close() error {
	d.slot <- struct{}{}
	defer func() { <-d.slot }()
	var err error
	if d.kernel != nil {
		_, err = d.kernel.destroy(d.cfg.User, 0)
		d.kernel = nil
	}
	if d.nursery != nil {
		d.nursery.close()
	}
	return err
}

// Seed gives the clone its own randomness, now and for every later kernel.
func (d *Driver) Seed(ctx context.Context, seed []byte) error {
	if err := d.take(ctx); err != nil {
		return err
	}
	defer d.release()
	d.seed = seed
	return d.seedKernel()
}

func (d *Driver) seedKernel() error {
	d.forks++
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(append([]byte(nil), d.seed...), d.forks))
	return d.kernel.call(map[string]any{"op": "init", "seed": hex.EncodeToString(sum[:])}, seedPatience)
}

// Metadata describes the interpreter.
func (d *Driver) Metadata() agent.Metadata { return *d.meta.Load() }

// Interrupt interrupts the cell that runs.
func (d *Driver) Interrupt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running != nil {
		d.interrupted = true
		d.running.interrupt()
	}
}

// take waits for the slot in the order of arrival, until ctx ends.
func (d *Driver) take(ctx context.Context) error {
	if d.waiting.Add(1) > maxQueue {
		d.waiting.Add(-1)
		return &sandpool.Error{Class: sandpool.Unavailable, Code: "TooManyExecutions", RetryAfter: time.Second,
			Message: fmt.Sprintf("%d executions of this session wait already. Wait for some of them.", maxQueue)}
	}
	defer d.waiting.Add(-1)
	select {
	case d.slot <- struct{}{}:
		// Both may have been possible; a caller that is gone must not start a cell.
		if err := ctx.Err(); err != nil {
			<-d.slot
			return fmt.Errorf("wait for the kernel: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the kernel: %w", ctx.Err())
	}
}

func (d *Driver) release() { <-d.slot }

// replace makes a new kernel, and a new nursery if there is none. It is called under slot.
func (d *Driver) replace(ctx context.Context) error {
	if d.nursery != nil {
		select {
		case <-d.nursery.gone:
			d.nursery = nil
		default:
		}
	}
	if d.nursery == nil {
		if err := d.hatch(ctx); err != nil {
			return err
		}
	}
	k, err := startKernel(d.nursery, d.cfg.User)
	if err != nil {
		d.nursery.close()
		return err
	}
	d.kernel = k
	if d.seed == nil {
		return nil
	}
	if err := d.seedKernel(); err != nil {
		_, _ = k.destroy(d.cfg.User, 0)
		d.kernel = nil
		return err
	}
	return nil
}

// hatch starts an interpreter and waits until it is warm.
func (d *Driver) hatch(ctx context.Context) error {
	n, err := startNursery(d.cfg)
	if err != nil {
		return err
	}
	timer := time.NewTimer(warmPatience)
	defer timer.Stop()
	select {
	case meta := <-n.warm:
		d.meta.Store(&meta)
		d.nursery = n
		return nil
	case <-n.gone:
		return fmt.Errorf("the interpreter %q ended while it warmed up; its standard error says why", d.cfg.Python)
	case <-timer.C:
		n.close()
		return fmt.Errorf("the interpreter %q was not warm after %v", d.cfg.Python, warmPatience)
	case <-ctx.Done():
		n.close()
		return fmt.Errorf("warm up: %w", ctx.Err())
	}
}

// renew replaces a kernel that is over and gives the slot back. The answer to the
// execution that lost the kernel does not wait for it.
func (d *Driver) renew(ctx context.Context) {
	defer d.release()
	if err := d.replace(ctx); err != nil {
		d.log.Error("replace the kernel", "error", err)
	}
}
