package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

var _ store.Documents = (*Store)(nil)

const putDocument = `INSERT INTO documents (kind, key, text) VALUES ($1, $2, $3)
	ON CONFLICT (kind, key) DO UPDATE SET text = excluded.text`

// Documents implements store.Documents.
func (s *Store) Documents(ctx context.Context, kind, prefix string) ([]store.Document, error) {
	rows, err := s.db.Query(ctx, `SELECT key, text FROM documents WHERE kind = $1
		AND starts_with(key, $2) ORDER BY key`, text(kind), text(prefix))
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", explain(err))
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.Document, error) {
		d := store.Document{Kind: kind}
		return d, row.Scan(&d.Key, &d.Text)
	})
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", explain(err))
	}
	return orNil(out), nil
}

// Document implements store.Documents.
func (s *Store) Document(ctx context.Context, kind, key string) (store.Document, error) {
	d := store.Document{Kind: kind, Key: key}
	err := s.db.QueryRow(ctx, "SELECT text FROM documents WHERE kind = $1 AND key = $2",
		text(kind), text(key)).Scan(&d.Text)
	if isNoRow(err) {
		return d, sandpool.Errorf(sandpool.NotFound, "", kind, "There is no %s %q.", kind, key)
	}
	if err != nil {
		return d, fmt.Errorf("read %s %q: %w", kind, key, explain(err))
	}
	return d, nil
}

// PutDocument implements store.Documents.
func (s *Store) PutDocument(ctx context.Context, d store.Document) error {
	return s.retry(ctx, fmt.Sprintf("write %s %q", d.Kind, d.Key),
		func(ctx context.Context, _ bool) error {
			_, err := s.db.Exec(ctx, putDocument, text(d.Kind), text(d.Key), text(d.Text))
			return err
		})
}

// Agree implements store.Agreeing.
func (s *Store) Agree(ctx context.Context, d store.Document) (store.Document, error) {
	err := s.retry(ctx, fmt.Sprintf("write %s %q", d.Kind, d.Key),
		func(ctx context.Context, _ bool) error {
			_, err := s.db.Exec(ctx, `INSERT INTO documents (kind, key, text) VALUES ($1, $2, $3)
				ON CONFLICT (kind, key) DO NOTHING`, text(d.Kind), text(d.Key), text(d.Text))
			return err
		})
	if err != nil {
		return d, err
	}
	return s.Document(ctx, d.Kind, d.Key)
}

// DeleteDocument implements store.Documents.
func (s *Store) DeleteDocument(ctx context.Context, kind, key string) error {
	return s.retry(ctx, fmt.Sprintf("delete %s %q", kind, key),
		func(ctx context.Context, _ bool) error {
			_, err := s.db.Exec(ctx, "DELETE FROM documents WHERE kind = $1 AND key = $2",
				text(kind), text(key))
			return err
		})
}
