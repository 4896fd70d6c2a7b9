package sandboxtest

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// wire is what a sandbox has of the fake's network, on which every ADDRESS:PORT answers.
type wire struct {
	born    bool // it started with a network
	policy  sandpool.Network
	held    string // where its connection leads; empty for none
	refused sandpool.Refusals
}

func (w *wire) allows(to string) bool {
	return w.born && w.policy.Enabled() &&
		(len(w.policy.Allow) == 0 || slices.Contains(w.policy.Allow, to))
}

// SetNetwork implements sandbox.NetworkSetter. An entry is ADDRESS:PORT or a name.
func (f *Fake) SetNetwork(ctx context.Context, h sandbox.Handle, n sandpool.Network) error {
	fault := f.world.next(Network)
	if err := fault.wait(ctx); err != nil || fault.Err != nil {
		return errors.Join(err, fault.Err)
	}
	for _, e := range n.Allow {
		if strings.Contains(e, "/") {
			return sandpool.Errorf(sandpool.Invalid, "", "network", "The entry %q is wrong.", e)
		}
	}
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.sandboxes[h.ID]
	if b == nil || !b.running {
		return ended(h.ID)
	}
	b.wire.policy = n
	if !b.wire.allows(b.wire.held) {
		b.wire.held = ""
	}
	return nil
}

// Network returns what the sandbox was last told that it may reach.
func (f *Fake) Network(id sandbox.ID) sandpool.Network {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if b := w.sandboxes[id]; b != nil {
		return b.wire.policy
	}
	return sandpool.Network{}
}

// Refusals implements sandbox.RefusalReader.
func (f *Fake) Refusals(_ context.Context, h sandbox.Handle) (sandpool.Refusals, error) {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.sandboxes[h.ID]
	if b == nil {
		return sandpool.Refusals{}, nil
	}
	r := b.wire.refused
	r.Recent = slices.Clone(r.Recent)
	return r, nil
}

// Hold has a running sandbox connect to an ADDRESS:PORT.
func (f *Fake) Hold(_ context.Context, h sandbox.Handle, to string) (bool, error) {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.sandboxes[h.ID]
	if b == nil || !b.running {
		return false, ended(h.ID)
	}
	if b.wire.allows(to) {
		b.wire.held = to
		return true, nil
	}
	if host, service, err := net.SplitHostPort(to); err == nil && b.wire.born {
		port, _ := strconv.ParseUint(service, 10, 16)
		one := sandpool.Refusal{Time: time.Now(), Host: host, Port: uint16(port),
			Protocol: "tcp", Count: 1}
		b.wire.refused.Add(sandpool.Refusals{Packets: 1, Recent: []sandpool.Refusal{one}}, 64)
	}
	return false, nil
}

// Carries reports whether the connection of the last Hold is open still.
func (f *Fake) Carries(_ context.Context, h sandbox.Handle) (bool, error) {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.sandboxes[h.ID]
	return b != nil && b.running && b.wire.held != "", nil
}
