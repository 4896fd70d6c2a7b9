package postgres

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// SetPatience sets how long a write is tried again.
func (s *Store) SetPatience(d time.Duration) { s.patience = d }

// CopyPools makes copies of the pool p00000, up to n pools in all.
func (s *Store) CopyPools(ctx context.Context, n int) error {
	_, err := s.db.Exec(ctx, `INSERT INTO pools (key, `+poolColumns+`, owner, epoch)
		SELECT replace(key, 'p00000', 'p' || lpad(i::text, 5, '0')), subscription, resource_group,
			'p' || lpad(i::text, 5, '0'), `+poolColumns[len("subscription, resource_group, name, "):]+`,
			owner, epoch
		FROM pools, generate_series(1, $1::int - 1) i WHERE name = 'p00000'`, n)
	return err
}

// MigrateTo brings an empty database to a version of its schema.
func MigrateTo(ctx context.Context, db *pgxpool.Pool, version int) error {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	return migrate(ctx, db, schema, names[:version])
}

// Miscounted is how many pools have another number of sessions than is written down.
func (s *Store) Miscounted(ctx context.Context) (n int, err error) {
	err = s.db.QueryRow(ctx, `SELECT count(*) FROM pools p LEFT JOIN held_sessions h ON h.pool = p.key
		WHERE coalesce(h.sessions, 0) <> (SELECT count(*) FROM sandboxes s WHERE s.pool = p.key
			AND s.identifier <> '' AND s.state IN ('starting', 'claimed'))`).Scan(&n)
	return n, err
}

// PlanOfQuota is how PostgreSQL counts the sessions of a principal where a table is not small.
func (s *Store) PlanOfQuota(ctx context.Context) (plan string, err error) {
	tx, err := s.db.Begin(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, tx.Rollback(ctx)) }()
	if _, err := tx.Exec(ctx, "SET LOCAL enable_seqscan = off"); err != nil {
		return "", err
	}
	rows, err := tx.Query(ctx, "EXPLAIN "+sessionsOfPrincipal, "a", "b", "c")
	if err != nil {
		return "", err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return strings.Join(lines, "\n"), err
}
