package postgres

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

var _ store.Usages = (*Store)(nil)

const putUsage = `INSERT INTO usage AS u (sandbox, subscription, resource_group, name, identifier,
		claimed_by, began, lasted, ended, cpu, memory, disk, sent, executions, epoch, meter, written)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
	ON CONFLICT (sandbox) DO UPDATE SET lasted = $8, ended = $9, cpu = $10, memory = $11,
		disk = $12, sent = $13, executions = $14, epoch = $15, meter = $16, written = $17
	WHERE $15 >= u.epoch`

const putMark = `INSERT INTO meters AS m (name, elapsed, at) VALUES ($1, $2, $3)
	ON CONFLICT (name) DO UPDATE SET elapsed = $2, at = $3 WHERE $2 > m.elapsed`

// unwritten is how long a session has been there since its record was written: one that has not
// ended, until its meter was last known to go on.
const unwritten = `(CASE WHEN u.ended THEN 0 ELSE greatest(0, coalesce(m.elapsed, 0) - u.written) END)`

const selectUsage = `SELECT u.number, u.sandbox, u.subscription, u.resource_group, u.name,
	u.identifier, u.claimed_by, u.began, u.lasted, ` + unwritten + `, u.ended, u.cpu, u.memory,
	u.disk, u.sent, u.executions, u.epoch, u.meter, u.written, coalesce(m.at, 0)
	FROM usage u LEFT JOIN meters m ON m.name = u.meter WHERE u.number > $1
	AND u.began < $2 AND u.began + u.lasted + ` + unwritten + ` >= $3`

// maxForgotten bounds the records that one transaction forgets.
const maxForgotten = 500

// PutUsage implements store.Usages. Records are sent ordered by sandbox, as they are locked.
func (s *Store) PutUsage(ctx context.Context, records []sandpool.Usage, m store.Mark) error {
	return s.retry(ctx, fmt.Sprintf("record usage of %d sessions", len(records)),
		func(ctx context.Context, _ bool) error {
			var batch pgx.Batch
			for _, u := range bySandbox(records) {
				batch.Queue(putUsage, u.Sandbox, text(u.Pool.Subscription),
					text(u.Pool.ResourceGroup), text(u.Pool.Name), u.Identifier, text(u.By),
					store.Nanos(u.Began), int64(u.Lasted), u.Ended, int64(u.CPU), u.Memory, u.Disk,
					u.Sent, u.Executions, u.Epoch, u.Meter, int64(u.Written))
			}
			batch.Queue(putMark, m.Meter, int64(m.Elapsed), store.Nanos(m.At))
			return s.db.SendBatch(ctx, &batch).Close()
		})
}

// Usage implements store.Usages.
func (s *Store) Usage(ctx context.Context, q store.UsageQuery,
	each func(sandpool.Usage) error) error {
	until := int64(math.MaxInt64)
	if !q.Until.IsZero() {
		until = store.Nanos(q.Until)
	}
	query := selectUsage
	if q.Live {
		query += " AND u.sandbox IN (SELECT id FROM sandboxes)"
	}
	rows, err := s.db.Query(ctx, query+" ORDER BY u.number", q.After, until, store.Nanos(q.Since))
	if err != nil {
		return fmt.Errorf("read usage: %w", explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		u, err := scanUsage(rows)
		if err != nil {
			return fmt.Errorf("read usage: %w", explain(err))
		}
		if err := each(u); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read usage: %w", explain(err))
	}
	return nil
}

func scanUsage(row pgx.Row) (u sandpool.Usage, err error) {
	var began, seen, lasted, unwritten, cpu, written int64
	err = row.Scan(&u.Number, &u.Sandbox, &u.Pool.Subscription, &u.Pool.ResourceGroup,
		&u.Pool.Name, &u.Identifier, &u.By, &began, &lasted, &unwritten, &u.Ended, &cpu, &u.Memory,
		&u.Disk, &u.Sent, &u.Executions, &u.Epoch, &u.Meter, &written, &seen)
	u.Began, u.Seen = store.TimeOf(began), store.TimeOf(seen)
	u.Lasted, u.Unwritten = time.Duration(lasted+unwritten), time.Duration(unwritten)
	u.CPU, u.Written = time.Duration(cpu), time.Duration(written)
	return u, err
}

const (
	// endUsage ends what has no sandbox any more.
	endUsage = `UPDATE usage AS u SET ended = true, lasted = lasted + greatest(0,
			coalesce((SELECT elapsed FROM meters WHERE name = u.meter), 0) - written)
		WHERE NOT ended AND NOT EXISTS (SELECT 1 FROM sandboxes WHERE id = u.sandbox)`
	forgetMeters = `DELETE FROM meters WHERE at < $1
		AND name NOT IN (SELECT meter FROM usage WHERE NOT ended)`
	forgetLate = `DELETE FROM usage WHERE number IN (SELECT number FROM usage
		WHERE ended AND began + lasted < $1 LIMIT $2)`
	forgetBeyond = `DELETE FROM usage WHERE number IN (SELECT number FROM usage
		WHERE ended ORDER BY number LIMIT greatest(0, least($2, (SELECT count(*) FROM usage) - $1)))`
)

// TidyUsage implements store.Usages.
func (s *Store) TidyUsage(ctx context.Context, b store.UsageBounds) (forgotten int64, err error) {
	err = s.retry(ctx, "tidy usage", func(ctx context.Context, _ bool) error {
		if _, err := s.db.Exec(ctx, endUsage); err != nil {
			return err
		}
		if _, err := s.db.Exec(ctx, forgetMeters, store.Nanos(b.Before)); err != nil {
			return err
		}
		late, err := s.db.Exec(ctx, forgetLate, store.Nanos(b.Before), maxForgotten)
		if err != nil {
			return err
		}
		beyond, err := s.db.Exec(ctx, forgetBeyond, b.Most, maxForgotten)
		forgotten += late.RowsAffected() + beyond.RowsAffected()
		return err
	})
	return forgotten, err
}

// bySandbox returns the records ordered by sandbox, so that two servers lock rows in one order.
func bySandbox(records []sandpool.Usage) []sandpool.Usage {
	return slices.SortedFunc(slices.Values(records), func(a, b sandpool.Usage) int {
		return cmp.Compare(a.Sandbox, b.Sandbox)
	})
}
