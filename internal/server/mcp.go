package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/endpoint"
	"github.com/sandpool/sandpool/internal/mcp"
	"github.com/sandpool/sandpool/internal/mcp/access"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/server/datadir"
)

// mcpKeyFile is where the key is kept that signs the ids of MCP sessions, below the data directory.
const mcpKeyFile = "mcp-session-key"

// mcp serves the MCP endpoints.
func (s *Server) mcp(log *slog.Logger, custom *endpoint.Custom) (*mcp.Server, error) {
	key, err := sessionKey(filepath.Join(s.cfg.DataDir, mcpKeyFile))
	if err != nil {
		return nil, fmt.Errorf("the key of MCP sessions: %w", err)
	}
	guard := access.Guard{Origins: s.cfg.CORS.Origins}
	for _, name := range []string{s.cfg.EndpointSuffix, s.cfg.endpointHost()} {
		name, regional := strings.CutPrefix(name, endpoint.Region+".")
		if name != "" && (regional || name == s.cfg.EndpointSuffix) {
			guard.Suffixes = append(guard.Suffixes, name)
		} else if name != "" {
			guard.Hosts = append(guard.Hosts, name)
		}
	}
	if u, err := url.Parse(s.cfg.PublicURL); err == nil && u.Hostname() != "" {
		guard.Hosts = append(guard.Hosts, u.Hostname())
	}
	return mcp.New(
		log,
		tools{s.manager},
		s.within,
		containers{custom, s.manager},
		mcp.Options{MaxTimeout: s.cfg.Limits.MaxExecution, Key: key,
			Guard: guard, Events: s.executions(), History: s.past, Idle: s.memory.free,
			Version: sandpool.Version},
	)
}

// containers is what the tools of custom pools need.
type containers struct {
	*endpoint.Custom
	*pool.Manager
}

// newSessionKey makes a key.
func newSessionKey() (string, error) {
	key := make([]byte, sessionKeySize)
	_, _ = rand.Read(key) // never fails since Go 1.24
	return string(key), nil
}

// sessionKeySize is in bytes.
const sessionKeySize = 32

// sessionKey returns the key in the file at path, and makes one if there is none.
func sessionKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err == nil && len(key) == sessionKeySize {
		return key, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	text, err := newSessionKey()
	if err == nil {
		err = datadir.Write(path, text)
	}
	return []byte(text), err
}

// Acquire implements mcp.Pools.
func (t tools) Acquire(
	ctx context.Context,
	id sandpool.PoolID,
	identifier sandpool.Identifier,
) (mcp.Lease, error) {
	return leases(t).Acquire(ctx, id, identifier)
}
