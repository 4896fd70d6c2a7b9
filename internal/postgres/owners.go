package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

// Holds implements store.Owners.
func (s *Store) Holds(ctx context.Context) ([]store.Hold, error) {
	rows, err := s.db.Query(ctx,
		"SELECT subscription, resource_group, name, location, owner, epoch FROM pools ORDER BY key")
	if err != nil {
		return nil, fmt.Errorf("read owners: %w", explain(err))
	}
	holds, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h store.Hold, err error) {
		return h, row.Scan(&h.Pool.Subscription, &h.Pool.ResourceGroup, &h.Pool.Name,
			&h.Location, &h.Owner, &h.Epoch)
	})
	if err != nil {
		return nil, fmt.Errorf("read owners: %w", explain(err))
	}
	return orNil(holds), nil
}

// Own implements store.Owners.
func (s *Store) Own(ctx context.Context, id sandpool.PoolID, owner string,
	seen int64) (epoch int64, err error) {
	err = s.retry(ctx, fmt.Sprintf("own pool %q", id.Key()),
		func(ctx context.Context, again bool) error {
			err := s.db.QueryRow(ctx, `UPDATE pools SET owner = $2, epoch = epoch + 1
				WHERE key = $1 AND epoch = $3 RETURNING epoch`,
				id.Key(), owner, seen).Scan(&epoch)
			if !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
			var has string
			err = s.db.QueryRow(ctx, "SELECT owner, epoch FROM pools WHERE key = $1",
				id.Key()).Scan(&has, &epoch)
			switch {
			case errors.Is(err, pgx.ErrNoRows):
				return unknownPool(id)
			case err != nil:
				return err
			case again && has == owner && epoch == seen+1:
				return nil // the first try was committed
			}
			return store.NotOwner(id)
		})
	if err != nil {
		return 0, err
	}
	return epoch, nil
}

func unknownPool(id sandpool.PoolID) error {
	return sandpool.Errorf(sandpool.NotFound, "", "", "The pool %q does not exist.", id.Name)
}
