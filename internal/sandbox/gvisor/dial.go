package gvisor

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/urpc"
	"gvisor.dev/gvisor/runsc/boot"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Dial implements sandbox.Runtime. The stream is one end of a socket pair;
// the sentry copies between the other end and the guest's TCP port. No port and
// no address of the host takes part.
func (e *Engine) Dial(ctx context.Context, h sandbox.Handle, port int) (net.Conn, error) {
	b := e.box(h.ID)
	if b == nil {
		return nil, sandpool.Errorf(sandpool.Ended, "", "", "The sandbox %s does not run.", h.ID)
	}
	if port < 1 || port > 65535 {
		return nil, invalid("port", "The port is %d; use 1 to 65535.", port)
	}
	if b.ended() {
		return nil, ended(b.id, b.exit)
	}
	conn, err := e.dial(ctx, b.id, port)
	if err != nil && ctx.Err() == nil && b.ended() {
		return nil, ended(b.id, b.exit)
	}
	return conn, err
}

func (e *Engine) dial(ctx context.Context, id sandbox.ID, port int) (net.Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	defer near.Close() // net.FileConn duplicates it
	defer far.Close()
	err = e.call(ctx, id, boot.ContMgrPortForward, &boot.PortForwardOpts{
		FilePayload: urpc.FilePayload{Files: []*os.File{far}},
		ContainerID: string(id),
		Port:        uint16(port),
	}, nil)
	if err != nil {
		return nil, err
	}
	return net.FileConn(near)
}

// ended is the error of using a sandbox that is over.
func ended(id sandbox.ID, exit sandbox.Exit) error {
	return sandpool.Errorf(sandpool.Ended, "", "", "The sandbox %s has ended: %s (code %s).", id, exit.Reason, strconv.Itoa(exit.Code))
}
