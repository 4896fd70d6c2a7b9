package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

// Own implements store.Owners. Tried again it may pass over an epoch, which harms nobody.
func (s *Store) Own(ctx context.Context, id sandpool.PoolID, owner string,
	now, until time.Time) (epoch int64, err error) {
	err = s.retry(ctx, fmt.Sprintf("own pool %q", id.Key()),
		func(ctx context.Context, _ bool) error {
			err := s.db.QueryRow(ctx, `UPDATE pools SET owner = $2, owner_until = $4, epoch = epoch + 1
			WHERE key = $1 AND (owner = $2 OR owner = '' OR owner_until <= $3) RETURNING epoch`,
				id.Key(), owner, store.Nanos(now), store.Nanos(until)).Scan(&epoch)
			if !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
			var there bool
			if err := s.db.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pools WHERE key = $1)",
				id.Key()).Scan(&there); err != nil {
				return err
			}
			if !there {
				return unknownPool(id)
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
	ids := map[string]sandpool.PoolID{}
	var keys []string
	var of []int64
	for id, epoch := range epochs {
		ids[id.Key()] = id
		keys, of = append(keys, id.Key()), append(of, epoch)
	}
	err = s.retry(ctx, "renew the ownership of pools", func(ctx context.Context, _ bool) error {
		rows, err := s.db.Query(ctx, `WITH mine AS (
				SELECT p.key FROM pools p JOIN (SELECT unnest($1::text[]) AS key, unnest($2::bigint[]) AS epoch) w
				ON w.key = p.key AND w.epoch = p.epoch ORDER BY p.key FOR NO KEY UPDATE OF p)
			UPDATE pools SET owner_until = $3 FROM mine WHERE pools.key = mine.key RETURNING pools.key`,
			keys, of, store.Nanos(until))
		if err != nil {
			return err
		}
		kept, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		gone := map[string]bool{}
		for _, key := range keys {
			gone[key] = true
		}
		for _, key := range kept {
			delete(gone, key)
		}
		lost = nil
		for key := range gone {
			lost = append(lost, ids[key])
		}
		return nil
	})
	return lost, err
}

func unknownPool(id sandpool.PoolID) error {
	return sandpool.Errorf(sandpool.NotFound, "", "", "The pool %q does not exist.", id.Name)
}
