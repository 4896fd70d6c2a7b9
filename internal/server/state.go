package server

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/postgres"
	"github.com/sandpool/sandpool/internal/sqlite"
	"github.com/sandpool/sandpool/internal/store"
)

// state is what outlives the server.
type state interface {
	store.Store
	store.Documents
	auth.TokenStore
	Close() error
}

// openState opens the file of this server alone, or the database that it shares with others.
func openState(ctx context.Context, log *slog.Logger, cfg Config) (state, error) {
	if cfg.Store != "" {
		return opened(postgres.Open(ctx, log, cfg.Store))
	}
	return opened(sqlite.Open(ctx, log, filepath.Join(cfg.DataDir, "sandpool.db")))
}

// opened returns no state with an error: a nil pointer in an interface is not nil, and would be
// closed.
func opened[T state](s T, err error) (state, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// owner is the name under which the server owns pools; empty if nobody shares its store.
func (c Config) owner() (string, error) {
	if c.Store == "" || c.Name != "" {
		return c.Name, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf(
			"the machine has no host name, so the server needs the setting name: %w", err)
	}
	return name, nil
}
