package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

var _ store.Usages = (*Store)(nil)

const putUsage = `INSERT INTO usage (sandbox, subscription, resource_group, name, identifier,
		claimed_by, began, lasted, ended, cpu, memory, disk, sent, executions, epoch, meter, written)
	VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
	ON CONFLICT (sandbox) DO UPDATE SET lasted = ?8, ended = ?9, cpu = ?10, memory = ?11,
		disk = ?12, sent = ?13, executions = ?14, epoch = ?15, meter = ?16, written = ?17
	WHERE ?15 >= usage.epoch`

const putMark = `INSERT INTO meters (name, elapsed, at) VALUES (?1, ?2, ?3)
	ON CONFLICT (name) DO UPDATE SET elapsed = ?2, at = ?3 WHERE ?2 > meters.elapsed`

// unwritten is how long a session has been there since its record was written: one that has not
// ended, until its meter was last known to go on.
const unwritten = `(CASE WHEN u.ended THEN 0 ELSE max(0, coalesce(m.elapsed, 0) - u.written) END)`

const selectUsage = `SELECT u.number, u.sandbox, u.subscription, u.resource_group, u.name,
	u.identifier, u.claimed_by, u.began, u.lasted, ` + unwritten + `, u.ended, u.cpu, u.memory,
	u.disk, u.sent, u.executions, u.epoch, u.meter, u.written, coalesce(m.at, 0)
	FROM usage u LEFT JOIN meters m ON m.name = u.meter WHERE u.number > ?1
	AND u.began < ?2 AND u.began + u.lasted + ` + unwritten + ` >= ?3`

// maxForgotten bounds the records that one transaction forgets: claims wait for it.
const maxForgotten = 500

// PutUsage implements store.Usages.
func (s *Store) PutUsage(ctx context.Context, records []sandpool.Usage, m store.Mark) error {
	return s.write(ctx, "record usage", func(ctx context.Context) error {
		for _, u := range records {
			_, err := s.stmts.putUsage.ExecContext(ctx, u.Sandbox, u.Pool.Subscription,
				u.Pool.ResourceGroup, u.Pool.Name, u.Identifier, u.By, store.Nanos(u.Began),
				int64(u.Lasted), u.Ended, int64(u.CPU), u.Memory, u.Disk, u.Sent, u.Executions,
				u.Epoch, u.Meter, int64(u.Written))
			if err != nil {
				return fmt.Errorf("sandbox %q: %w", u.Sandbox, err)
			}
		}
		_, err := s.stmts.putMark.ExecContext(ctx, m.Meter, int64(m.Elapsed), store.Nanos(m.At))
		return err
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
	rows, err := s.reads.QueryContext(ctx, query+" ORDER BY u.number", q.After, until,
		store.Nanos(q.Since))
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

func scanUsage(row scanner) (u sandpool.Usage, err error) {
	var began, seen int64
	err = row.Scan(&u.Number, &u.Sandbox, &u.Pool.Subscription, &u.Pool.ResourceGroup,
		&u.Pool.Name, &u.Identifier, &u.By, &began, &u.Lasted, &u.Unwritten, &u.Ended, &u.CPU,
		&u.Memory, &u.Disk, &u.Sent, &u.Executions, &u.Epoch, &u.Meter, &u.Written, &seen)
	u.Lasted += u.Unwritten
	u.Began, u.Seen = store.TimeOf(began), store.TimeOf(seen)
	return u, err
}

// TidyUsage implements store.Usages.
func (s *Store) TidyUsage(ctx context.Context, b store.UsageBounds) (forgotten int64, err error) {
	err = s.write(ctx, "end records of usage", func(ctx context.Context) error {
		for _, query := range []string{`UPDATE usage AS u SET ended = 1,
				lasted = lasted + max(0, coalesce((SELECT elapsed FROM meters WHERE name = meter),
					0) - written)
				WHERE ended = 0 AND NOT EXISTS (SELECT 1 FROM sandboxes WHERE id = u.sandbox)`,
			`DELETE FROM meters WHERE at < ` + fmt.Sprint(store.Nanos(b.Before)) +
				` AND name NOT IN (SELECT meter FROM usage WHERE ended = 0)`} {
			if _, err := s.writer.ExecContext(ctx, query); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	// What is to go is found beside the writes of others.
	old, err := s.oldUsage(ctx, b)
	if err != nil || len(old) == 0 {
		return 0, err
	}
	err = s.write(ctx, "forget records of usage", func(ctx context.Context) error {
		for _, number := range old {
			if _, err := s.stmts.forgetUsage.ExecContext(ctx, number); err != nil {
				return err
			}
		}
		return nil
	})
	return int64(len(old)), err
}

// oldUsage returns the numbers of records that are to go, of many some.
func (s *Store) oldUsage(ctx context.Context, b store.UsageBounds) ([]int64, error) {
	var all int64
	if err := s.reads.QueryRowContext(ctx, "SELECT count(*) FROM usage").Scan(&all); err != nil {
		return nil, fmt.Errorf("count usage: %w", explain(err))
	}
	old, err := s.usageNumbers(ctx, "began + lasted < ?1", store.Nanos(b.Before), maxForgotten)
	if beyond := all - b.Most; err == nil && int64(len(old)) < min(beyond, maxForgotten) {
		return s.usageNumbers(ctx, "?1 = 0 ORDER BY number", 0, min(beyond, maxForgotten))
	}
	return old, err
}

func (s *Store) usageNumbers(ctx context.Context, which string, arg, most int64) (numbers []int64,
	err error) {
	rows, err := s.reads.QueryContext(ctx, "SELECT number FROM usage WHERE ended AND "+which+
		" LIMIT ?2", arg, most)
	if err != nil {
		return nil, fmt.Errorf("read usage: %w", explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var number int64
		if err := rows.Scan(&number); err != nil {
			return nil, fmt.Errorf("read usage: %w", explain(err))
		}
		numbers = append(numbers, number)
	}
	return numbers, errors.Join(rows.Err(), rows.Close())
}
