package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

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

// instanceFile is where a server keeps what tells it from another of the same name, below the data
// directory, whose lock the server holds.
const instanceFile = "server-id"

// member is what the server is to those that share its store; zero if nobody does.
func (c Config) member() (m store.Server, err error) {
	if c.Store == "" {
		return m, nil
	}
	if m.Name, err = c.serverName(); err != nil {
		return m, err
	}
	path := filepath.Join(c.DataDir, instanceFile)
	text, err := os.ReadFile(path)
	if m.Instance = strings.TrimSpace(string(text)); err == nil && m.Instance != "" {
		return m, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return m, fmt.Errorf("the server's id: %w", err)
	}
	m.Instance = rand.Text()
	if err := writePrivate(path, m.Instance+"\n"); err != nil {
		return m, fmt.Errorf("the server's id: %w", err)
	}
	return m, nil
}

// serverName is the name under which the server owns pools and deployments; it may be empty if
// nobody shares its store.
func (c Config) serverName() (string, error) {
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
