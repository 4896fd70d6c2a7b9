package postgres

import (
	"context"
	"time"
)

// SetPatience sets how long a write is tried again.
func (s *Store) SetPatience(d time.Duration) { s.patience = d }

// CopyPools makes copies of the pool p00000, up to n pools in all.
func (s *Store) CopyPools(ctx context.Context, n int) error {
	_, err := s.db.Exec(ctx, `INSERT INTO pools (key, `+poolColumns+`, owner, epoch)
		SELECT replace(key, 'p00000', 'p' || lpad(i::text, 5, '0')), subscription, resource_group,
			'p' || lpad(i::text, 5, '0'), `+poolColumns[len("subscription, resource_group, name, "):]+`,
			owner, epoch
		FROM pools, generate_series(1, $1::int - 1) i WHERE name = 'p00000'`, n)
	return err
}
