package gateway

import (
	"context"
	"io"

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

// connectAgent speaks the agent's protocol with l's sandbox. The client serves all
// later leases on the sandbox too: a lease dials as long as its session lives, also
// when it has been released.
func connectAgent(l Lease) Interpreter { return agent.NewClient(l.Dial, l.Sandbox().Secret) }
