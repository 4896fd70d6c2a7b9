package postgres

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

const selectToken = `SELECT id, name, hash, grants, created_at, expires_at FROM tokens`

const putToken = `INSERT INTO tokens (id, name, hash, grants, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)
	ON CONFLICT (id) DO UPDATE SET name = excluded.name, hash = excluded.hash, grants = excluded.grants,
		created_at = excluded.created_at, expires_at = excluded.expires_at`

func scanToken(row pgx.CollectableRow) (t sandpool.Token, err error) {
	var created, expires int64
	var grants string
	if err := row.Scan(&t.ID, &t.Name, &t.Hash, &grants, &created, &expires); err != nil {
		return t, err
	}
	t.CreatedAt, t.ExpiresAt = store.TimeOf(created), store.TimeOf(expires)
	t.Grants, err = store.ParseGrants(grants)
	return t, err
}

// Tokens returns all tokens, oldest first.
func (s *Store) Tokens(ctx context.Context) ([]sandpool.Token, error) {
	rows, err := s.db.Query(ctx, selectToken+" ORDER BY created_at, id")
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", explain(err))
	}
	tokens, err := pgx.CollectRows(rows, scanToken)
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", explain(err))
	}
	return orNil(tokens), nil
}

// Token returns the token with the given public id, or an error of class NotFound.
func (s *Store) Token(ctx context.Context, id string) (sandpool.Token, error) {
	rows, err := s.db.Query(ctx, selectToken+" WHERE id = $1", text(id))
	if err != nil {
		return sandpool.Token{}, fmt.Errorf("read token %q: %w", id, explain(err))
	}
	t, err := pgx.CollectExactlyOneRow(rows, scanToken)
	if isNoRow(err) {
		return t, sandpool.Errorf(sandpool.NotFound, "", "token", "There is no token %q.", id)
	}
	if err != nil {
		return t, fmt.Errorf("read token %q: %w", id, explain(err))
	}
	return t, nil
}

// PutToken inserts t or replaces the token with its id.
func (s *Store) PutToken(ctx context.Context, t sandpool.Token) error {
	if len(t.Hash) != sha256.Size {
		return sandpool.Errorf(sandpool.Invalid, "", "hash",
			"The hash of token %q has %d bytes; SHA-256 has %d.", t.ID, len(t.Hash), sha256.Size)
	}
	grants, err := store.GrantsText(t.Grants)
	if err != nil {
		return fmt.Errorf("write token %q: %w", t.ID, err)
	}
	return s.retry(ctx, fmt.Sprintf("write token %q", t.ID),
		func(ctx context.Context, _ bool) error {
			_, err := s.db.Exec(ctx, putToken, t.ID, text(t.Name), t.Hash, grants,
				store.Nanos(t.CreatedAt), store.Nanos(t.ExpiresAt))
			return err
		})
}

// DeleteToken removes a token. An unknown id is not an error.
func (s *Store) DeleteToken(ctx context.Context, id string) error {
	return s.retry(ctx, fmt.Sprintf("delete token %q", id),
		func(ctx context.Context, _ bool) error {
			_, err := s.db.Exec(ctx, "DELETE FROM tokens WHERE id = $1", text(id))
			return err
		})
}
