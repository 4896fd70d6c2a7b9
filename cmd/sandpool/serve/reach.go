package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sandpool/sandpool/cmd/sandpool/console"
)

// ReachCmd tries whether an address can be reached. The engine of Kubernetes runs it in pods, to
// see whether network policies are enforced.
type ReachCmd struct {
	Listen string        `help:"Listen on this address instead, for others to reach." placeholder:"ADDR"`
	For    time.Duration `help:"How long to listen or to try." default:"5s"`
	Target string        `arg:"" optional:"" help:"Address to connect to, host:port."`
}

// notReached is the exit code that says that nothing was reached.
const notReached = 3

// tryEvery is the time between two attempts. A policy may hold a moment later than its pod runs,
// which is too late: so every attempt counts.
const tryEvery = 200 * time.Millisecond

// Run listens, or tries until the address is reached or the time is over.
func (c *ReachCmd) Run(ctx context.Context, a *console.App) error {
	ctx, cancel := context.WithTimeout(ctx, c.For)
	defer cancel()
	if c.Listen != "" {
		return c.listen(ctx)
	}
	if c.Target == "" {
		return console.UsageError("name an address, or listen on one")
	}
	d := net.Dialer{Timeout: time.Second}
	tick := time.NewTicker(tryEvery)
	defer tick.Stop()
	for {
		conn, err := d.DialContext(ctx, "tcp", c.Target)
		if err == nil {
			a.Say("%s is reached", c.Target)
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			a.Say("%s is not reached: %v", c.Target, err)
			return console.ExitError(notReached)
		}
	}
}

// listen takes connections and closes them until ctx ends.
func (c *ReachCmd) listen(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen on %q: %w", c.Listen, err)
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		_ = conn.Close() // that it came is all
	}
}
