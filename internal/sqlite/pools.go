package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	lib "modernc.org/sqlite/lib"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

const poolColumns = `subscription, resource_group, name, location, tags, spec,
	max_sessions, ready_sessions, cooldown, revision, template, image_digest, state, problem, created_at, updated_at,
	history`

const createPool = `INSERT INTO pools (key, ` + poolColumns + `, owner, epoch)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)`

const putPool = `UPDATE pools SET subscription = ?2, resource_group = ?3, name = ?4, location = ?5, tags = ?6,
	spec = ?7, max_sessions = ?8, ready_sessions = ?9, cooldown = ?10, revision = ?11, template = ?12,
	image_digest = ?13, state = ?14, problem = ?15, created_at = ?16, updated_at = ?17,
	history = ?18 WHERE key = ?1 AND epoch = ?19`

// Pools implements store.Pools.
func (s *Store) Pools(ctx context.Context) ([]sandpool.Pool, error) {
	return s.readPools(ctx, "ORDER BY key")
}

// PoolsBetween implements store.Pools.
func (s *Store) PoolsBetween(ctx context.Context, from, below string,
	limit int) ([]sandpool.Pool, error) {
	return s.readPools(ctx, "WHERE key >= ? AND key < ? ORDER BY key LIMIT ?", from, below, limit)
}

// PoolsNamed implements store.Pools. Both statements read the index of keys; the second one reads
// rows too, where a name is right.
func (s *Store) PoolsNamed(ctx context.Context, from, below, part string,
	look, limit int) (f store.Found, err error) {
	err = s.reads.QueryRowContext(ctx, `SELECT count(*), coalesce(max(key), '') FROM
		(SELECT key FROM pools WHERE key >= ? AND key < ? ORDER BY key LIMIT ?)`,
		from, below, look).Scan(&f.Looked, &f.Last)
	if err != nil {
		return store.Found{}, fmt.Errorf("look at the names of pools: %w", explain(err))
	}
	const before = "/microsoft.app/sessionpools/"
	f.Pools, err = s.readPools(ctx, `WHERE key >= ? AND key <= ? AND
		instr(substr(key, instr(key, ?) + ?), ?) > 0 ORDER BY key LIMIT ?`,
		from, f.Last, before, len(before), part, limit)
	return f, err
}

func (s *Store) readPools(ctx context.Context, which string, args ...any) ([]sandpool.Pool, error) {
	rows, err := s.reads.QueryContext(ctx, "SELECT "+poolColumns+" FROM pools "+which, args...)
	if err != nil {
		return nil, fmt.Errorf("read pools: %w", explain(err))
	}
	defer rows.Close()
	var pools []sandpool.Pool
	for rows.Next() {
		p, err := scanPool(rows)
		if err != nil {
			return nil, fmt.Errorf("read pools: %w", explain(err))
		}
		pools = append(pools, p)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read pools: %w", explain(err))
	}
	return pools, nil
}

func scanPool(rows *sql.Rows) (p sandpool.Pool, err error) {
	var tags, spec, history string
	var created, updated int64
	err = rows.Scan(&p.ID.Subscription, &p.ID.ResourceGroup, &p.ID.Name, &p.Location, &tags, &spec,
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
	return []any{p.ID.Key(), p.ID.Subscription, p.ID.ResourceGroup, p.ID.Name, p.Location,
		tags, spec,
		p.MaxSessions, p.ReadySessions, p.Cooldown, p.Revision, p.Template, p.ImageDigest, p.State,
		p.Problem,
		store.Nanos(p.CreatedAt), store.Nanos(p.UpdatedAt), history}, nil
}

// CreatePool implements store.Pools.
func (s *Store) CreatePool(ctx context.Context, p sandpool.Pool, secrets sandpool.Secrets,
	owner string) (int64, error) {
	values, err := poolValues(p)
	if err != nil {
		return 0, fmt.Errorf("write pool %q: %w", p.ID.Key(), err)
	}
	err = s.writeSynced(ctx, fmt.Sprintf("write pool %q", p.ID.Key()),
		func(ctx context.Context) error {
			if _, err := s.stmts.createPool.ExecContext(ctx,
				append(values, owner)...); err != nil {
				return err
			}
			return s.replaceSecrets(ctx, p.ID, secrets)
		})
	if isConstraint(err, lib.SQLITE_CONSTRAINT_PRIMARYKEY) {
		return 0, &sandpool.Error{Class: sandpool.Conflict,
			Message: fmt.Sprintf("The pool %q exists.", p.ID.Name), Err: err}
	}
	return 1, err
}

// PutPool implements store.Pools.
func (s *Store) PutPool(ctx context.Context, p sandpool.Pool, secrets sandpool.Secrets,
	epoch int64) error {
	values, err := poolValues(p)
	if err != nil {
		return fmt.Errorf("write pool %q: %w", p.ID.Key(), err)
	}
	return s.writeSynced(ctx, fmt.Sprintf("write pool %q", p.ID.Key()),
		func(ctx context.Context) error {
			done, err := s.stmts.putPool.ExecContext(ctx, append(values, epoch)...)
			if err != nil {
				return err
			}
			if n, err := done.RowsAffected(); err != nil || n == 0 {
				return errors.Join(store.NotOwner(p.ID), err)
			}
			if secrets == nil {
				return nil
			}
			return s.replaceSecrets(ctx, p.ID, secrets)
		})
}

// replaceSecrets makes secrets the only ones of a pool.
func (s *Store) replaceSecrets(ctx context.Context, id sandpool.PoolID,
	secrets sandpool.Secrets) error {
	if _, err := s.stmts.clearSecrets.ExecContext(ctx, id.Key()); err != nil {
		return err
	}
	for _, name := range secrets.Names() {
		if _, err := s.stmts.putSecret.ExecContext(ctx, id.Key(), name,
			secrets[name].Reveal()); err != nil {
			return fmt.Errorf("secret %q: %w", name, err)
		}
	}
	return nil
}

// Secrets implements store.Pools.
func (s *Store) Secrets(ctx context.Context, id sandpool.PoolID) (sandpool.Secrets, error) {
	fail := func(err error) (sandpool.Secrets, error) {
		return nil, fmt.Errorf("read the secrets of pool %q: %w", id.Key(), explain(err))
	}
	rows, err := s.reads.QueryContext(ctx, "SELECT name, value FROM secrets WHERE pool = ?",
		id.Key())
	if err != nil {
		return fail(err)
	}
	defer rows.Close()
	secrets := sandpool.Secrets{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return fail(err)
		}
		secrets[name] = sandpool.NewSecret(value)
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	return secrets, nil
}

// DeletePool implements store.Pools.
func (s *Store) DeletePool(ctx context.Context, id sandpool.PoolID, epoch int64) error {
	err := s.writeSynced(ctx, fmt.Sprintf("delete pool %q", id.Key()),
		func(ctx context.Context) error {
			if err := s.fence(ctx, id, epoch); err != nil {
				return ignoreUnknown(err)
			}
			_, err := s.stmts.deletePool.ExecContext(ctx, id.Key())
			return err
		})
	// ON DELETE RESTRICT is carried out like a trigger, hence the second code.
	if isConstraint(err, lib.SQLITE_CONSTRAINT_FOREIGNKEY, lib.SQLITE_CONSTRAINT_TRIGGER) {
		return &sandpool.Error{Class: sandpool.Conflict,
			Message: fmt.Sprintf("The pool %q still has sandboxes.", id.Name), Err: err}
	}
	return err
}
