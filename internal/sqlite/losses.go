package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

const (
	selectLosses = `SELECT p.subscription, p.resource_group, p.name, l.identifier, l.reason, l.until
	FROM losses l JOIN pools p ON p.key = l.pool ORDER BY l.pool, l.identifier`
	mourn = "INSERT OR REPLACE INTO losses (pool, identifier, reason, until) VALUES (?, ?, ?, ?)"
)

// Losses implements store.Losses.
func (s *Store) Losses(ctx context.Context) (losses []sandpool.Loss, err error) {
	rows, err := s.reads.QueryContext(ctx, selectLosses)
	if err != nil {
		return nil, fmt.Errorf("read losses: %w", explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var l sandpool.Loss
		var until int64
		err := rows.Scan(&l.Pool.Subscription, &l.Pool.ResourceGroup, &l.Pool.Name, &l.Identifier,
			&l.Reason, &until)
		if err != nil {
			return nil, fmt.Errorf("read losses: %w", explain(err))
		}
		l.Until = store.TimeOf(until)
		losses = append(losses, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read losses: %w", explain(err))
	}
	return losses, nil
}

// Mourn implements store.Losses.
func (s *Store) Mourn(ctx context.Context, l sandpool.Loss, now time.Time, epoch int64) error {
	return s.write(ctx, fmt.Sprintf("record a loss in pool %q", l.Pool.Key()),
		func(ctx context.Context) error {
			if err := s.fence(ctx, l.Pool, epoch); err != nil {
				return err
			}
			if _, err := s.stmts.forgetOld.ExecContext(ctx, l.Pool.Key(),
				store.Nanos(now)); err != nil {
				return err
			}
			_, err := s.stmts.mourn.ExecContext(ctx, l.Pool.Key(), l.Identifier, l.Reason,
				store.Nanos(l.Until))
			return err
		})
}

// Forget implements store.Losses.
func (s *Store) Forget(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier,
	epoch int64) error {
	return s.write(ctx, fmt.Sprintf("forget a loss in pool %q", id.Key()),
		func(ctx context.Context) error {
			if err := s.fence(ctx, id, epoch); err != nil {
				return ignoreUnknown(err)
			}
			_, err := s.stmts.forget.ExecContext(ctx, id.Key(), identifier)
			return err
		})
}
