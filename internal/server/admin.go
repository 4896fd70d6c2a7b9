package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

// adminTokenFile is where the administrator's token is kept, below the data
// directory, readable by its owner alone.
const adminTokenFile = "admin-token"

// adminToken returns the text of the administrator's token, making one if there is none
// or if the one on disk is not in the store (revoked, or another store).
func adminToken(ctx context.Context, store auth.TokenStore, tokens *auth.Tokens,
	dir string) (string, error) {
	path := filepath.Join(dir, adminTokenFile)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("administrator's token: %w", err)
	}
	if text := strings.TrimSpace(string(b)); text != "" {
		_, err := tokens.Verify(ctx, auth.Credential{Kind: auth.Bearer, Text: text})
		if err == nil {
			return text, nil
		}
		if sandpool.ClassOf(err) != sandpool.Unauthenticated {
			return "", fmt.Errorf("administrator's token: %w", err)
		}
	}
	row, text, err := auth.NewToken("admin", []sandpool.Grant{{Role: auth.Admin}}, time.Time{},
		time.Now())
	if err != nil {
		return "", fmt.Errorf("administrator's token: %w", err)
	}
	// The file comes first: if the process dies between the two, the next start
	// finds a token that the store does not know and makes another, and no
	// administrator's token exists that nobody has.
	if err := writePrivate(path, text+"\n"); err != nil {
		return "", fmt.Errorf("administrator's token: %w", err)
	}
	if err := store.PutToken(ctx, row); err != nil {
		return "", fmt.Errorf("administrator's token: %w", err)
	}
	return text, nil
}

// forgetEvery is how often role assignments that have ended are looked for. They give nothing since
// their end.
const forgetEvery = time.Minute

// forgetEnded deletes what has ended of what forget knows, until ctx ends.
func (s *Server) forgetEnded(ctx context.Context, forget func(context.Context) (int, error)) {
	tick := time.NewTicker(forgetEvery)
	defer tick.Stop()
	for {
		n, err := forget(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			s.log.Warn("role assignments that have ended are not deleted", "error", err)
		case n > 0:
			s.log.Info("role assignments have ended", "number", n)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// writePrivate replaces the file at path, whole or not at all, readable by its
// owner alone.
func writePrivate(path, text string) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
