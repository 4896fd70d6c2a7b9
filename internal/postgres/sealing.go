package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sandpool/sandpool/internal/store"
)

var _ store.Sealing = (*Store)(nil)

// SealedBy implements store.Sealing.
func (s *Store) SealedBy(ctx context.Context) (key string, err error) {
	err = s.db.QueryRow(ctx, "SELECT key FROM sealing").Scan(&key)
	if isNoRow(err) {
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
		{store.OfPool, "SELECT pool, name, value FROM secrets WHERE (pool, name) > ($1, $2) " +
			"ORDER BY pool, name LIMIT 100",
			"UPDATE secrets SET value = $1 WHERE pool = $2 AND name = $3"},
		{store.OfSandbox, "SELECT id, NULL, convert_to(secret, 'UTF8') FROM sandboxes " +
			"WHERE (id, ''::text) > ($1, $2) ORDER BY id LIMIT 100",
			"UPDATE sandboxes SET secret = convert_from($1, 'UTF8') WHERE id = $2"},
		{store.OfDocument, "SELECT kind, key, convert_to(text, 'UTF8') FROM documents " +
			"WHERE kind IN ('" + store.ServerSecret + "', '" + store.Deployment + "') " +
			"AND (kind, key) > ($1, $2) ORDER BY kind, key LIMIT 100",
			"UPDATE documents SET text = convert_from($1, 'UTF8') WHERE kind = $2 AND key = $3"},
	}
}

// Reseal implements store.Sealing. The earlier values stay in dead rows until the database vacuums
// them, and in its log.
func (s *Store) Reseal(ctx context.Context, from, to string,
	change func(store.Secret) (string, error)) error {
	return s.retry(ctx, "seal the secrets", func(ctx context.Context, again bool) error {
		return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
			// Nobody writes a secret meanwhile, and of several that seal one does.
			if _, err := tx.Exec(ctx, "LOCK TABLE sealing, pools, secrets, sandboxes, documents "+
				"IN SHARE ROW EXCLUSIVE MODE"); err != nil {
				return err
			}
			var now string
			err := tx.QueryRow(ctx, "SELECT coalesce(max(key), '') FROM sealing").Scan(&now)
			if err != nil || again && now == to && now != from {
				return err
			}
			if now != from {
				return store.SealedByAnother(now)
			}
			for _, t := range secretTables() {
				if err := resealTable(ctx, tx, t, change); err != nil {
					return err
				}
			}
			_, err = tx.Exec(ctx, `INSERT INTO sealing VALUES (1, $1)
				ON CONFLICT (one) DO UPDATE SET key = excluded.key`, to)
			return err
		})
	})
}

// resealTable is Reseal for the secrets of one kind, in a transaction.
func resealTable(ctx context.Context, tx pgx.Tx, t secretTable,
	change func(store.Secret) (string, error)) error {
	for owner, name := "", ""; ; {
		some, err := secretsIn(ctx, tx, t, owner, name)
		if err != nil || len(some) == 0 {
			return err
		}
		var batch pgx.Batch
		for _, each := range some {
			text, err := change(each)
			if err != nil {
				return err
			}
			args := []any{[]byte(text)}
			for _, part := range each.Place[1:] {
				args = append(args, part)
			}
			batch.Queue(t.write, args...)
		}
		if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
			return fmt.Errorf("%s: %w", t.kind, err)
		}
		owner, name = some[len(some)-1].Parts()
	}
}

func secretsIn(ctx context.Context, tx pgx.Tx, t secretTable, owner, name string) ([]store.Secret,
	error) {
	rows, err := tx.Query(ctx, t.read, owner, name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.Secret, error) {
		var owner string
		var name *string
		var value []byte
		err := row.Scan(&owner, &name, &value)
		place := []string{t.kind, owner}
		if name != nil {
			place = append(place, *name)
		}
		return store.Secret{Place: place, Value: string(value)}, err
	})
}
