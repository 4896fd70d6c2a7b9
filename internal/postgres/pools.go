package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

const poolColumns = `subscription, resource_group, name, location, tags, spec,
	max_sessions, ready_sessions, cooldown, revision, template, image_digest, state, problem, created_at, updated_at,
	history`

const createPool = `INSERT INTO pools (key, ` + poolColumns + `, owner, epoch)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, 1)`

const putPool = `UPDATE pools SET (` + poolColumns + `) =
	($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
	WHERE key = $1 AND epoch = $19`

const putSecret = "INSERT INTO secrets (pool, name, value) VALUES ($1, $2, $3)"

// Pools implements store.Pools.
func (s *Store) Pools(ctx context.Context) ([]sandpool.Pool, error) {
	return s.readPools(ctx, "ORDER BY key")
}

// PoolsBetween implements store.Pools.
func (s *Store) PoolsBetween(ctx context.Context, from, below string,
	limit int) ([]sandpool.Pool, error) {
	return s.readPools(ctx, "WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3", from, below,
		limit)
}

// PoolsNamed implements store.Pools.
func (s *Store) PoolsNamed(ctx context.Context, from, below, part string,
	look, limit int) (f store.Found, err error) {
	err = s.db.QueryRow(ctx, `SELECT count(*), coalesce(max(key), '') FROM
		(SELECT key FROM pools WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3) AS names`,
		from, below, look).Scan(&f.Looked, &f.Last)
	if err != nil {
		return store.Found{}, fmt.Errorf("look at the names of pools: %w", explain(err))
	}
	f.Pools, err = s.readPools(ctx, `WHERE key >= $1 AND key <= $2 AND
		strpos(split_part(key, '/microsoft.app/sessionpools/', 2), $3) > 0
		ORDER BY key LIMIT $4`, from, f.Last, part, limit)
	return f, err
}

func (s *Store) readPools(ctx context.Context, which string, args ...any) ([]sandpool.Pool, error) {
	rows, err := s.db.Query(ctx, "SELECT "+poolColumns+" FROM pools "+which, args...)
	if err != nil {
		return nil, fmt.Errorf("read pools: %w", explain(err))
	}
	pools, err := pgx.CollectRows(rows, scanPool)
	if err != nil {
		return nil, fmt.Errorf("read pools: %w", explain(err))
	}
	return orNil(pools), nil
}

func scanPool(row pgx.CollectableRow) (p sandpool.Pool, err error) {
	var tags, spec, history string
	var created, updated int64
	err = row.Scan(&p.ID.Subscription, &p.ID.ResourceGroup, &p.ID.Name, &p.Location, &tags, &spec,
		&p.MaxSessions, &p.ReadySessions, &p.Cooldown,
		&p.Revision, &p.Template, &p.ImageDigest, &p.State, &p.Problem, &created, &updated,
		&history)
	if err != nil {
		return p, err
	}
	p.CreatedAt, p.UpdatedAt = store.TimeOf(created), store.TimeOf(updated)
	err = store.ReadPoolTexts(&p, tags, spec, history)
	return p, err
}

// poolValues are those of key and poolColumns.
func poolValues(p sandpool.Pool) ([]any, error) {
	tags, spec, history, err := store.PoolTexts(p)
	if err != nil {
		return nil, err
	}
	return []any{p.ID.Key(), p.ID.Subscription, p.ID.ResourceGroup, p.ID.Name,
		p.Location, tags, spec,
		p.MaxSessions, p.ReadySessions, int64(p.Cooldown), p.Revision, p.Template, p.ImageDigest,
		p.State, text(p.Problem),
		store.Nanos(p.CreatedAt), store.Nanos(p.UpdatedAt), text(history)}, nil
}

// CreatePool implements store.Pools.
func (s *Store) CreatePool(ctx context.Context, p sandpool.Pool, secrets sandpool.Secrets,
	owner string) (int64, error) {
	values, err := poolValues(p)
	if err != nil {
		return 0, fmt.Errorf("write pool %q: %w", p.ID.Key(), err)
	}
	err = s.retry(ctx, fmt.Sprintf("write pool %q", p.ID.Key()),
		func(ctx context.Context, again bool) error {
			err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, createPool,
					append(values, owner)...); err != nil {
					return err
				}
				return replaceSecrets(ctx, tx, p.ID, secrets)
			})
			if !hasCode(err, uniqueViolation) {
				return err
			}
			if again && s.isFirst(ctx, p, owner) {
				return nil
			}
			return &sandpool.Error{Class: sandpool.Conflict,
				Message: fmt.Sprintf("The pool %q exists.", p.ID.Name), Err: err}
		})
	return 1, err
}

// isFirst reports whether the pool's row is the one that an earlier try of its creation has
// written.
func (s *Store) isFirst(ctx context.Context, p sandpool.Pool, owner string) (is bool) {
	err := s.db.QueryRow(ctx,
		"SELECT epoch = 1 AND owner = $2 AND created_at = $3 FROM pools WHERE key = $1",
		p.ID.Key(), owner, store.Nanos(p.CreatedAt)).Scan(&is)
	return err == nil && is
}

// PutPool implements store.Pools.
func (s *Store) PutPool(ctx context.Context, p sandpool.Pool, secrets sandpool.Secrets,
	epoch int64) error {
	values, err := poolValues(p)
	if err != nil {
		return fmt.Errorf("write pool %q: %w", p.ID.Key(), err)
	}
	return s.retry(ctx, fmt.Sprintf("write pool %q", p.ID.Key()),
		func(ctx context.Context, _ bool) error {
			return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
				done, err := tx.Exec(ctx, putPool, append(values, epoch)...)
				if err != nil {
					return err
				}
				if done.RowsAffected() == 0 {
					return store.NotOwner(p.ID)
				}
				if secrets == nil {
					return nil
				}
				return replaceSecrets(ctx, tx, p.ID, secrets)
			})
		})
}

// replaceSecrets makes secrets the only ones of a pool.
func replaceSecrets(ctx context.Context, tx pgx.Tx, id sandpool.PoolID,
	secrets sandpool.Secrets) error {
	if _, err := tx.Exec(ctx, "DELETE FROM secrets WHERE pool = $1", id.Key()); err != nil {
		return err
	}
	for _, name := range secrets.Names() {
		if _, err := tx.Exec(ctx, putSecret, id.Key(),
			name, []byte(secrets[name].Reveal())); err != nil {
			return fmt.Errorf("secret %q: %w", name, err)
		}
	}
	return nil
}

// Secrets implements store.Pools.
func (s *Store) Secrets(ctx context.Context, id sandpool.PoolID) (sandpool.Secrets, error) {
	secrets := sandpool.Secrets{}
	rows, err := s.db.Query(ctx, "SELECT name, value FROM secrets WHERE pool = $1", id.Key())
	if err == nil {
		var name string
		var value []byte
		_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error {
			secrets[name] = sandpool.NewSecret(string(value))
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read the secrets of pool %q: %w", id.Key(), explain(err))
	}
	return secrets, nil
}

// DeletePool implements store.Pools.
func (s *Store) DeletePool(ctx context.Context, id sandpool.PoolID, epoch int64) error {
	return s.retry(ctx, fmt.Sprintf("delete pool %q", id.Key()),
		func(ctx context.Context, _ bool) error {
			done, err := s.db.Exec(ctx, "DELETE FROM pools WHERE key = $1 AND epoch = $2",
				id.Key(), epoch)
			if hasCode(err, foreignKey, restricted) {
				return &sandpool.Error{Class: sandpool.Conflict,
					Message: fmt.Sprintf("The pool %q still has sandboxes.", id.Name), Err: err}
			}
			if err != nil || done.RowsAffected() > 0 {
				return err
			}
			var there bool
			if err := s.db.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pools WHERE key = $1)",
				id.Key()).Scan(&there); err != nil || !there {
				return err
			}
			return store.NotOwner(id)
		})
}
