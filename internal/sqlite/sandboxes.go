package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	lib "modernc.org/sqlite/lib"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

const selectSandbox = `SELECT s.id, p.subscription, p.resource_group, p.name, s.revision, s.state, s.identifier,
	s.secret, s.handle, s.reason, s.created_at, s.claimed_at, s.last_used_at, s.claimed_by
	FROM sandboxes s JOIN pools p ON p.key = s.pool`

const insertSandbox = `INSERT INTO sandboxes
	(id, pool, revision, state, identifier, secret, handle, reason, created_at, claimed_at, last_used_at,
		claimed_by)
	VALUES (?, ?, ?, 'starting', ?, ?, NULL, '', ?, ?, ?, ?)`

const started = `UPDATE sandboxes SET handle = ?1, last_used_at = ?2,
	state = CASE identifier WHEN '' THEN 'ready' ELSE 'claimed' END
	WHERE id = ?3 AND state = 'starting'` + ofEpoch4

// Each write of an owner compares the epoch in its own statement. Only one that changes nothing
// is asked why.
const (
	ofEpoch2 = ` AND (SELECT epoch FROM pools WHERE key = sandboxes.pool) = ?2`
	ofEpoch3 = ` AND (SELECT epoch FROM pools WHERE key = sandboxes.pool) = ?3`
	ofEpoch4 = ` AND (SELECT epoch FROM pools WHERE key = sandboxes.pool) = ?4`
)

const (
	stopping = "UPDATE sandboxes SET state = 'stopping', reason = ?1 WHERE id = ?2 AND state <> " +
		"'stopping'" + ofEpoch3
	touch = "UPDATE sandboxes SET last_used_at = ?1 WHERE id = ?2 AND last_used_at < ?1" +
		ofEpoch3
	remove = "DELETE FROM sandboxes WHERE id = ?1" + ofEpoch2
)

// changed reports whether a statement has changed a row.
func changed(done sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := done.RowsAffected()
	return n > 0, err
}

// scanner is a row or the present one of several.
type scanner interface{ Scan(...any) error }

func scanSandbox(row scanner) (b sandpool.Sandbox, err error) {
	var created, claimed, used int64
	err = row.Scan(&b.ID, &b.Pool.Subscription, &b.Pool.ResourceGroup, &b.Pool.Name, &b.Revision,
		&b.State, &b.Identifier,
		&b.Secret, &b.Handle, &b.Reason, &created, &claimed, &used, &b.ClaimedBy)
	b.CreatedAt, b.ClaimedAt,
		b.LastUsedAt = store.TimeOf(created), store.TimeOf(claimed), store.TimeOf(used)
	return b, err
}

// Sandboxes implements store.Sandboxes.
func (s *Store) Sandboxes(ctx context.Context) ([]sandpool.Sandbox, error) {
	rows, err := s.reads.QueryContext(ctx, selectSandbox+" ORDER BY s.created_at, s.rowid")
	if err != nil {
		return nil, fmt.Errorf("read sandboxes: %w", explain(err))
	}
	defer rows.Close()
	var sandboxes []sandpool.Sandbox
	for rows.Next() {
		b, err := scanSandbox(rows)
		if err != nil {
			return nil, fmt.Errorf("read sandboxes: %w", explain(err))
		}
		sandboxes = append(sandboxes, b)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read sandboxes: %w", explain(err))
	}
	return sandboxes, nil
}

// Insert implements store.Sandboxes.
func (s *Store) Insert(ctx context.Context, b sandpool.Sandbox, epoch int64) error {
	if b.State != sandpool.Starting || b.Identifier != "" {
		return sandpool.Errorf(sandpool.Conflict, "", "state",
			"The new sandbox %q is %s for identifier %q; it must be starting for nobody.", b.ID,
			b.State, b.Identifier)
	}
	err := s.write(ctx, fmt.Sprintf("insert sandbox %q", b.ID), func(ctx context.Context) error {
		if err := s.fence(ctx, b.Pool, epoch); err != nil {
			return err
		}
		_, err := s.stmts.insert.ExecContext(ctx, b.ID, b.Pool.Key(), b.Revision, "", b.Secret,
			store.Nanos(b.CreatedAt), store.Nanos(b.ClaimedAt), store.Nanos(b.LastUsedAt), "")
		return err
	})
	return insertError(err, b.ID, b.Pool)
}

// insertError gives the violations that a caller may cause their classes.
func insertError(err error, id sandpool.SandboxID, pool sandpool.PoolID) error {
	switch {
	case isConstraint(err, lib.SQLITE_CONSTRAINT_PRIMARYKEY):
		return &sandpool.Error{Class: sandpool.Conflict,
			Message: fmt.Sprintf("The sandbox %q exists.", id), Err: err}
	case isConstraint(err, lib.SQLITE_CONSTRAINT_FOREIGNKEY):
		return unknownPool(pool, err)
	}
	return err
}

// Started implements store.Sandboxes.
func (s *Store) Started(ctx context.Context, id sandpool.SandboxID, handle []byte, now time.Time,
	epoch int64) (b sandpool.Sandbox, err error) {
	if handle == nil {
		handle = []byte{} // an empty handle is one; NULL says that there is none
	}
	err = s.write(ctx, fmt.Sprintf("record start of sandbox %q", id),
		func(ctx context.Context) error {
			done, err := changed(s.stmts.started.ExecContext(ctx, handle,
				store.Nanos(now), id, epoch))
			if err != nil {
				return err
			}
			if b, err = s.mine(ctx, id, epoch, done); err != nil {
				return err
			}
			if !done {
				return sandpool.Errorf(sandpool.Conflict, "", "state",
					"The sandbox %q is %s already.",
					id, b.State)
			}
			return nil
		})
	return b, err
}

func (s *Store) byID(ctx context.Context, id sandpool.SandboxID) (sandpool.Sandbox, error) {
	b, err := scanSandbox(s.stmts.byID.QueryRowContext(ctx, id))
	if errors.Is(err, sql.ErrNoRows) {
		return b, sandpool.Errorf(sandpool.NotFound, "", "sandbox", "There is no sandbox %q.", id)
	}
	return b, err
}

// mine is byID for a write of the owner of the sandbox's pool; done says that it has been compared.
func (s *Store) mine(ctx context.Context, id sandpool.SandboxID, epoch int64,
	done bool) (sandpool.Sandbox, error) {
	b, err := s.byID(ctx, id)
	if err == nil && !done {
		err = s.fence(ctx, b.Pool, epoch)
	}
	return b, err
}

// Stopping implements store.Sandboxes.
func (s *Store) Stopping(ctx context.Context, id sandpool.SandboxID, reason string,
	epoch int64) error {
	return s.write(ctx, fmt.Sprintf("mark sandbox %q stopping", id),
		func(ctx context.Context) error {
			done, err := changed(s.stmts.stopping.ExecContext(ctx, reason, id, epoch))
			if err == nil && !done {
				_, err = s.mine(ctx, id, epoch, false)
			}
			return err
		})
}

// Touch implements store.Sandboxes.
func (s *Store) Touch(ctx context.Context, uses []sandpool.Use) error {
	if len(uses) == 0 {
		return nil
	}
	return s.write(ctx, "record use of sandboxes", func(ctx context.Context) error {
		for _, u := range uses {
			if _, err := s.stmts.touch.ExecContext(ctx, store.Nanos(u.At),
				u.ID, u.Epoch); err != nil {
				return fmt.Errorf("sandbox %q: %w", u.ID, err)
			}
		}
		return nil
	})
}

// Remove implements store.Sandboxes.
func (s *Store) Remove(ctx context.Context, id sandpool.SandboxID, epoch int64) error {
	return s.write(ctx, fmt.Sprintf("remove sandbox %q", id), func(ctx context.Context) error {
		done, err := changed(s.stmts.remove.ExecContext(ctx, id, epoch))
		if err == nil && !done {
			_, err = s.mine(ctx, id, epoch, false)
			err = ignoreUnknown(err)
		}
		return err
	})
}
