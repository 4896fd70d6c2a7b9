package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

const own = `UPDATE pools SET owner = ?2, owner_until = ?4, epoch = epoch + 1
	WHERE key = ?1 AND (owner = ?2 OR owner = '' OR owner_until <= ?3) RETURNING epoch`

// Own implements store.Owners.
func (s *Store) Own(ctx context.Context, id sandpool.PoolID, owner string, now,
	until time.Time) (epoch int64, err error) {
	err = s.writeSynced(ctx, fmt.Sprintf("own pool %q", id.Key()), func(ctx context.Context) error {
		err := s.stmts.own.QueryRowContext(ctx, id.Key(), owner, store.Nanos(now),
			store.Nanos(until)).Scan(&epoch)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if _, err := s.epoch(ctx, id); err != nil {
			return err
		}
		return store.NotOwner(id)
	})
	return epoch, err
}

// Renew implements store.Owners.
func (s *Store) Renew(ctx context.Context, epochs map[sandpool.PoolID]int64,
	until time.Time) (lost []sandpool.PoolID, err error) {
	if len(epochs) == 0 {
		return nil, nil
	}
	err = s.write(ctx, "renew the ownership of pools", func(ctx context.Context) error {
		lost = nil
		for id, epoch := range epochs {
			done, err := s.stmts.renew.ExecContext(ctx, store.Nanos(until), id.Key(), epoch)
			if err != nil {
				return err
			}
			if n, err := done.RowsAffected(); err != nil {
				return err
			} else if n == 0 {
				lost = append(lost, id)
			}
		}
		return nil
	})
	return lost, err
}

// epoch returns the epoch of a pool's row, in a transaction.
func (s *Store) epoch(ctx context.Context, id sandpool.PoolID) (epoch int64, err error) {
	err = s.stmts.epoch.QueryRowContext(ctx, id.Key()).Scan(&epoch)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, unknownPool(id, err)
	}
	return epoch, err
}

func unknownPool(id sandpool.PoolID, err error) error {
	return &sandpool.Error{Class: sandpool.NotFound,
		Message: fmt.Sprintf("The pool %q does not exist.", id.Name), Err: err}
}

// fence refuses a transaction of an earlier owner.
func (s *Store) fence(ctx context.Context, id sandpool.PoolID, epoch int64) error {
	now, err := s.epoch(ctx, id)
	if err == nil && now != epoch {
		err = store.NotOwner(id)
	}
	return err
}

// ignoreUnknown returns nil for what is to be removed and is not there.
func ignoreUnknown(err error) error {
	if err != nil && sandpool.ClassOf(err) == sandpool.NotFound {
		return nil
	}
	return err
}
