package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

const selectLosses = `SELECT p.subscription, p.resource_group, p.name, l.identifier, l.reason, l.until
	FROM losses l JOIN pools p ON p.key = l.pool ORDER BY l.pool, l.identifier`

// Losses implements store.Losses.
func (s *Store) Losses(ctx context.Context) ([]sandpool.Loss, error) {
	rows, err := s.db.Query(ctx, selectLosses)
	if err != nil {
		return nil, fmt.Errorf("read losses: %w", explain(err))
	}
	losses, err := pgx.CollectRows(rows, scanLoss)
	if err != nil {
		return nil, fmt.Errorf("read losses: %w", explain(err))
	}
	return orNil(losses), nil
}

func scanLoss(row pgx.CollectableRow) (l sandpool.Loss, err error) {
	var until int64
	err = row.Scan(&l.Pool.Subscription, &l.Pool.ResourceGroup, &l.Pool.Name, &l.Identifier,
		&l.Reason, &until)
	l.Until = store.TimeOf(until)
	return l, err
}

// Mourn implements store.Losses.
func (s *Store) Mourn(ctx context.Context, l sandpool.Loss, now time.Time, epoch int64) error {
	return s.retry(ctx, fmt.Sprintf("record a loss in pool %q", l.Pool.Key()),
		func(ctx context.Context, _ bool) error {
			return s.onPool(ctx, l.Pool, "SELECT mourn($1, $2, $3, $4, $5, $6)",
				l.Pool.Key(), epoch, l.Identifier, text(l.Reason), store.Nanos(l.Until),
				store.Nanos(now))
		})
}

// Forget implements store.Losses.
func (s *Store) Forget(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier,
	epoch int64) error {
	err := s.retry(ctx, fmt.Sprintf("forget a loss in pool %q", id.Key()),
		func(ctx context.Context, _ bool) error {
			return s.onPool(ctx, id, "SELECT forget_loss($1, $2, $3)", id.Key(), epoch, identifier)
		})
	if err != nil && sandpool.ClassOf(err) == sandpool.NotFound {
		return nil
	}
	return err
}

// onPool runs one of the functions about a pool that answer an outcome.
func (s *Store) onPool(ctx context.Context, id sandpool.PoolID, query string, args ...any) error {
	var outcome string
	if err := s.db.QueryRow(ctx, query, args...).Scan(&outcome); err != nil {
		return err
	}
	if outcome == outcomeUnknown {
		return unknownPool(id)
	}
	return refusal(outcome, "", id)
}
