package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

var _ store.Documents = (*Store)(nil)

const putDocument = `INSERT INTO documents (kind, key, text) VALUES (?, ?, ?)
	ON CONFLICT (kind, key) DO UPDATE SET text = excluded.text`

// Documents implements store.Documents.
func (s *Store) Documents(ctx context.Context, kind, prefix string) ([]store.Document, error) {
	rows, err := s.reads.QueryContext(ctx, `SELECT key, text FROM documents WHERE kind = ?1
		AND key >= ?2 AND substr(key, 1, length(?2)) = ?2 ORDER BY key`, kind, prefix)
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", explain(err))
	}
	defer rows.Close()
	var out []store.Document
	for rows.Next() {
		d := store.Document{Kind: kind}
		if err := rows.Scan(&d.Key, &d.Text); err != nil {
			return nil, fmt.Errorf("read documents: %w", explain(err))
		}
		out = append(out, d)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read documents: %w", explain(err))
	}
	return out, nil
}

// Document implements store.Documents.
func (s *Store) Document(ctx context.Context, kind, key string) (store.Document, error) {
	d := store.Document{Kind: kind, Key: key}
	err := s.reads.QueryRowContext(ctx, "SELECT text FROM documents WHERE kind = ? AND key = ?",
		kind, key).Scan(&d.Text)
	if errors.Is(err, sql.ErrNoRows) {
		return d, sandpool.Errorf(sandpool.NotFound, "", kind, "There is no %s %q.", kind, key)
	}
	if err != nil {
		return d, fmt.Errorf("read %s %q: %w", kind, key, explain(err))
	}
	return d, nil
}

// PutDocument implements store.Documents.
func (s *Store) PutDocument(ctx context.Context, d store.Document) error {
	return s.writeSynced(ctx, fmt.Sprintf("write %s %q", d.Kind, d.Key),
		func(ctx context.Context) error {
			_, err := s.stmts.putDocument.ExecContext(ctx, d.Kind, d.Key, d.Text)
			return err
		})
}

// Agree implements store.Agreeing.
func (s *Store) Agree(ctx context.Context, d store.Document) (store.Document, error) {
	err := s.writeSynced(ctx, fmt.Sprintf("write %s %q", d.Kind, d.Key),
		func(ctx context.Context) error {
			_, err := s.writer.ExecContext(ctx, `INSERT INTO documents (kind, key, text)
				VALUES (?1, ?2, ?3) ON CONFLICT (kind, key) DO NOTHING`, d.Kind, d.Key, d.Text)
			return err
		})
	if err != nil {
		return d, err
	}
	return s.Document(ctx, d.Kind, d.Key)
}

// DeleteDocument implements store.Documents.
func (s *Store) DeleteDocument(ctx context.Context, kind, key string) error {
	return s.writeSynced(ctx, fmt.Sprintf("delete %s %q", kind, key),
		func(ctx context.Context) error {
			_, err := s.stmts.deleteDocument.ExecContext(ctx, kind, key)
			return err
		})
}
