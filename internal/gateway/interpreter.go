package gateway

import (
	"context"
	"io"
	"net"

	"github.com/sandpool/sandpool/internal/agent"
)

// Interpreter is what the gateway asks of the sandbox: to run code and to keep files.
// It is safe for use by several goroutines.
type Interpreter interface {
	Execute(ctx context.Context, r agent.ExecuteRequest) (agent.ExecuteResult, error)
	Metadata(ctx context.Context) (agent.Metadata, error)
	// The paths of files are relative to /mnt/data.
	Upload(ctx context.Context, path string, r io.Reader, limit int64) (agent.FileInfo, error)
	List(ctx context.Context, dir string, recursive bool) ([]agent.FileInfo, error)
	Stat(ctx context.Context, path string) (agent.FileInfo, error)
	Open(ctx context.Context, path, rangeHeader string) (*agent.Content, error)
	Delete(ctx context.Context, path string) error
	// Close drops idle connections.
	Close()
}

var _ Interpreter = (*agent.Client)(nil)

// leaseKey marks a context with the lease of the request that it belongs to.
type leaseKey struct{}

// connectAgent speaks the agent's protocol with l's sandbox. The client serves all
// later leases on the sandbox too, so a connection is dialled by the lease of the
// request that needs it: l may have been given back by then.
func connectAgent(l Lease) Interpreter {
	dial := func(ctx context.Context, port int) (net.Conn, error) {
		if current, ok := ctx.Value(leaseKey{}).(Lease); ok {
			return current.Dial(ctx, port)
		}
		return l.Dial(ctx, port)
	}
	return agent.NewClient(dial, l.Sandbox().Secret)
}
