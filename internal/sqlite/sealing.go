package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/sandpool/sandpool/internal/store"
)

var _ store.Sealing = (*Store)(nil)

// SealedBy implements store.Sealing.
func (s *Store) SealedBy(ctx context.Context) (key string, err error) {
	err = s.reads.QueryRowContext(ctx, "SELECT key FROM sealing").Scan(&key)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the key of the secrets: %w", explain(err))
	}
	return key, nil
}

// secretTable says where secrets of one kind are, and how one is written. read returns as many as
// are in memory at a time, those after an owner and a name.
type secretTable struct{ kind, read, write string }

func secretTables() []secretTable {
	return []secretTable{
		{store.OfPool, "SELECT pool, name, value FROM secrets WHERE (pool, name) > (?1, ?2) " +
			"ORDER BY pool, name LIMIT 100",
			"UPDATE secrets SET value = ?1 WHERE pool = ?2 AND name = ?3"},
		{store.OfSandbox, "SELECT id, NULL, secret FROM sandboxes WHERE (id, '') > (?1, ?2) " +
			"ORDER BY id LIMIT 100",
			"UPDATE sandboxes SET secret = ?1 WHERE id = ?2"},
		{store.OfDocument, "SELECT kind, key, text FROM documents WHERE kind IN ('" +
			store.ServerSecret + "', '" + store.Deployment + "') AND (kind, key) > (?1, ?2) " +
			"ORDER BY kind, key LIMIT 100",
			"UPDATE documents SET text = ?1 WHERE kind = ?2 AND key = ?3"},
	}
}

// Reseal implements store.Sealing. What it replaces is overwritten, in the file and in its log.
func (s *Store) Reseal(ctx context.Context, from, to string,
	change func(store.Secret) (string, error)) error {
	err := s.writeSynced(ctx, "seal the secrets", func(ctx context.Context) error {
		var now string
		err := s.writer.QueryRowContext(ctx,
			"SELECT coalesce(max(key), '') FROM sealing").Scan(&now)
		if err != nil {
			return err
		}
		if now != from {
			return store.SealedByAnother(now)
		}
		for _, t := range secretTables() {
			if err := s.resealTable(ctx, t, change); err != nil {
				return err
			}
		}
		_, err = s.writer.ExecContext(ctx, `INSERT INTO sealing VALUES (1, ?1, 0)
			ON CONFLICT (one) DO UPDATE SET key = ?1, scrubbed = 0`, to)
		return err
	})
	if err != nil {
		return err
	}
	return s.alone(ctx, "overwrite what is sealed now", func(ctx context.Context) error {
		return scrub(ctx, s.writer)
	})
}

// resealTable is Reseal for the secrets of one kind, in a transaction.
func (s *Store) resealTable(ctx context.Context, t secretTable,
	change func(store.Secret) (string, error)) error {
	for owner, name := "", ""; ; {
		some, err := s.secretsIn(ctx, t, owner, name)
		if err != nil || len(some) == 0 {
			return err
		}
		for _, each := range some {
			text, err := change(each)
			if err != nil {
				return err
			}
			args := []any{text}
			for _, part := range each.Place[1:] {
				args = append(args, part)
			}
			if _, err := s.writer.ExecContext(ctx, t.write, args...); err != nil {
				return err
			}
		}
		owner, name = some[len(some)-1].Parts()
	}
}

func (s *Store) secretsIn(ctx context.Context, t secretTable, owner, name string) ([]store.Secret,
	error) {
	rows, err := s.writer.QueryContext(ctx, t.read, owner, name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var some []store.Secret
	for rows.Next() {
		var owner, value string
		var name sql.NullString
		if err := rows.Scan(&owner, &name, &value); err != nil {
			return nil, err
		}
		place := []string{t.kind, owner}
		if name.Valid {
			place = append(place, name.String)
		}
		some = append(some, store.Secret{Place: place, Value: value})
	}
	return some, rows.Err()
}

// scrub writes the file anew, without its free pages, and empties its log, if secrets were sealed
// since that was done: their earlier values are nowhere then. What a crash has interrupted is done
// when the file is opened again.
func scrub(ctx context.Context, conn *sql.Conn) error {
	var due bool
	err := conn.QueryRowContext(ctx,
		"SELECT EXISTS (SELECT 1 FROM sealing WHERE scrubbed = 0)").Scan(&due)
	if err != nil || !due {
		return err
	}
	each := func(list ...string) error {
		for _, text := range list {
			if _, err := conn.ExecContext(ctx, text); err != nil {
				return fmt.Errorf("%s: %w", text, err)
			}
		}
		return nil
	}
	if err := each("PRAGMA synchronous=FULL", "VACUUM"); err != nil {
		return err
	}
	// A reader of an earlier state keeps the log, which is no error of the pragma.
	var kept bool
	var pages, moved int
	if err := conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&kept, &pages,
		&moved); err != nil {
		return fmt.Errorf("empty the log: %w", err)
	}
	if kept {
		return errors.New("another process reads the file, such as a backup, so that its log " +
			"cannot be emptied; try again when it has ended")
	}
	return each("UPDATE sealing SET scrubbed = 1", "PRAGMA synchronous=NORMAL")
}
