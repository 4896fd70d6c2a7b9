package gvisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/sentry/control"
	"gvisor.dev/gvisor/pkg/sentry/state/checkpointfiles"
	"gvisor.dev/gvisor/pkg/state/statefile"
	"gvisor.dev/gvisor/pkg/unet"
	"gvisor.dev/gvisor/pkg/urpc"
	"gvisor.dev/gvisor/runsc/boot"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/quiet"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Dial implements sandbox.Runtime. The stream is one end of a socket pair;
// the sentry copies between the other end and the guest's TCP port. No port and
// no address of the host takes part. A stream to a port has CloseWrite, as net.TCPConn has.
func (e *Engine) Dial(ctx context.Context, h sandbox.Handle, port int) (net.Conn, error) {
	b := e.process(h.ID)
	if b == nil {
		return nil, sandpool.Errorf(sandpool.Ended, "", "", "The sandbox %s does not run.", h.ID)
	}
	if port < 0 || port > 65535 {
		return nil, invalid("port", "The port is %d; use 1 to 65535.", port)
	}
	if b.ended() {
		return nil, ended(b.id, b.exit)
	}
	if port == sandbox.Channel {
		return e.takeChannel(ctx, b)
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
	return connection(near)
}

// portAccept is the request of listen.patch: the sentry takes a connection at a port of the guest's
// loopback interface, and copies between it and the stream that comes with the request.
const portAccept = "containerManager.PortAccept"

// Accept implements sandbox.Accepter. The guest's network stack, which is the sentry's own,
// listens; no program of the guest does, and no address of the host takes part.
func (e *Engine) Accept(ctx context.Context, h sandbox.Handle, port int) (net.Conn, error) {
	b := e.process(h.ID)
	if b == nil {
		return nil, sandpool.Errorf(sandpool.Ended, "", "", "The sandbox %s does not run.", h.ID)
	}
	if port < 1 || port > 65535 {
		return nil, invalid("port", "The port is %d; use 1 to 65535.", port)
	}
	for ctx.Err() == nil {
		conn, err := e.accept(ctx, b.id, port)
		switch {
		case conn != nil && err == nil:
			return conn, nil
		case sandpool.ClassOf(err) == sandpool.Conflict && err != nil:
			return nil, err
		case err != nil && !b.endsWithin(ctx, deathWait) && ctx.Err() == nil:
			return nil, err
		case b.ended():
			return nil, ended(b.id, b.exit)
		}
	}
	return nil, context.Cause(ctx)
}

// endsWithin reports whether the sandbox ends in a time: a call that its end has cut off does not
// say so.
func (b *process) endsWithin(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-b.done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// Listen implements sandbox.Accepter. The stream of its request is over before a connection comes,
// so the sentry takes none.
func (e *Engine) Listen(ctx context.Context, h sandbox.Handle, port int) error {
	near, err := e.askForOne(ctx, h.ID, port)
	if err != nil {
		return err
	}
	return near.Close()
}

// accept is one request, and the wait for what becomes of it; nil without an error if the
// connection has ended before it was of use.
func (e *Engine) accept(ctx context.Context, id sandbox.ID, port int) (net.Conn, error) {
	near, err := e.askForOne(ctx, id, port)
	if err != nil {
		return nil, err
	}
	defer near.Close() // net.FileConn duplicates it
	conn, err := connection(near)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	first := make([]byte, 1)
	n, err := conn.Read(first)
	if n == 0 || err != nil || !stop() {
		_ = conn.Close()
		return nil, nil
	}
	return &begun{Conn: conn, first: first}, nil
}

// askForOne asks the sentry for the next connection to a port, and returns the stream on which it
// is to come.
func (e *Engine) askForOne(ctx context.Context, id sandbox.ID, port int) (*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	defer far.Close()
	err = e.call(ctx, id, portAccept, &boot.PortForwardOpts{
		FilePayload: urpc.FilePayload{Files: []*os.File{far}},
		ContainerID: string(id),
		Port:        uint16(port),
	}, nil)
	if err == nil {
		return near, nil
	}
	_ = near.Close()
	if strings.Contains(err.Error(), "in use") {
		return nil, sandpool.Errorf(sandpool.Conflict, "", "port",
			"A program of the sandbox %s listens at port %d.", id, port)
	}
	return nil, err
}

// begun is a connection of which the first byte was read already.
type begun struct {
	net.Conn
	first []byte // until it is read again
}

// Read implements net.Conn.
func (c *begun) Read(p []byte) (int, error) {
	if len(c.first) == 0 || len(p) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.first)
	c.first = nil
	return n, nil
}

// CloseWrite says that nothing more is sent.
func (c *begun) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// takeChannel hands the channel out, which a caller that has gone must not take along.
func (e *Engine) takeChannel(ctx context.Context, b *process) (net.Conn, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	f := b.channel.Swap(nil)
	if f == nil {
		return nil, sandpool.Errorf(sandpool.Conflict, "", "port",
			"The sandbox %s has no channel, or it is taken.", b.id)
	}
	defer f.Close() // net.FileConn duplicates it
	conn, err := connection(f)
	if err != nil {
		return nil, err
	}
	return &observed{Conn: conn, engine: e, process: b}, nil
}

// connection is quiet.FromFile with a result that is nil after an error.
func connection(socket *os.File) (net.Conn, error) {
	conn, err := quiet.FromFile(socket)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// ended is the error of using a sandbox that is over.
func ended(id sandbox.ID, exit sandbox.Exit) error {
	return sandpool.Errorf(sandpool.Ended, "", "", "The sandbox %s has ended: %s (code %s).",
		id, exit.Reason, strconv.Itoa(exit.Code))
}

// socket returns the path of the control socket of id, by way of a
// descriptor of the directory: a socket's path has at most 107 bytes.
func (e *Engine) socket(id sandbox.ID) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s/%s", e.boxDir.Fd(), id, socketName)
}

// call makes one request to the sentry of id. A context that ends cuts the
// connection, which the sentry may or may not notice.
func (e *Engine) call(ctx context.Context, id sandbox.ID, method string, arg, result any) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	socket, err := unet.Connect(e.socket(id), false)
	if err != nil {
		return fmt.Errorf("connect to the sandbox process of %q: %w", id, err)
	}
	client := urpc.NewClient(socket)
	defer client.Close()
	stop := context.AfterFunc(ctx, func() { _ = socket.Shutdown() })
	defer stop()
	if err := client.Call(method, arg, result); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%s of %q: %w", method, id, err)
	}
	return nil
}

// run starts the guest's first process.
func (e *Engine) run(ctx context.Context, id sandbox.ID) error {
	name := string(id)
	return e.call(ctx, id, boot.ContMgrRootContainerStart, &name, nil)
}

// restore fills the guest from the snapshot in dir and lets it run.
func (e *Engine) restore(ctx context.Context, id sandbox.ID, dir string) error {
	files, err := openAll(dir, metadataName(dir), os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("open the snapshot: %w", err)
	}
	defer func() { _ = closeAll(files) }() // read only; the sentry has its own
	return e.call(ctx, id, boot.ContMgrRestore, &boot.RestoreOpts{
		FilePayload:   urpc.FilePayload{Files: files},
		Background:    true,
		HavePagesFile: true,
	}, nil)
}

// checkpoint writes the guest of id into dir; the sandbox ends by it. Pages
// stay uncompressed so that a restore reads them straight into place.
func (e *Engine) checkpoint(ctx context.Context, id sandbox.ID, dir string) (err error) {
	files, err := openAll(dir, checkpointfiles.PagesMetadataFileName,
		os.O_CREATE|os.O_EXCL|os.O_RDWR)
	if err != nil {
		return fmt.Errorf("create the snapshot's files: %w", err)
	}
	defer func() { err = errors.Join(err, closeAll(files)) }()
	// to read it forgets names; see dropNames
	only := &control.MetricsExportOpts{OnlyMetrics: "sandpool"}
	if err := e.call(ctx, id, boot.MetricsExport, only, &control.MetricsExportData{}); err != nil {
		return err
	}
	err = e.call(ctx, id, boot.ContMgrCheckpoint, &control.SaveOpts{
		Metadata:                       statefile.CompressionLevelNone.ToMetadata(),
		AppMFExcludeCommittedZeroPages: true,
		HavePagesFile:                  true,
		FilePayload:                    urpc.FilePayload{Files: files},
	}, nil)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := f.Sync(); err != nil {
			return fmt.Errorf("write %q to disk: %w", f.Name(), err)
		}
	}
	return nil
}

// openAll opens a snapshot's files in the order that the protocol wants.
func openAll(dir, metadata string, flags int) (files []*os.File, err error) {
	for _, name := range []string{checkpointfiles.StateFileName, metadata,
		checkpointfiles.PagesFileName} {
		f, err := os.OpenFile(filepath.Join(dir, name), flags, 0o600)
		if err != nil {
			return nil, errors.Join(err, closeAll(files))
		}
		files = append(files, f)
	}
	return files, nil
}

func closeAll(files []*os.File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
