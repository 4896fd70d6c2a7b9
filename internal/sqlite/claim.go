package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/sandpool/sandpool"
)

// claimReady takes the oldest ready sandbox and returns what the claim does not know of it.
const claimReady = `UPDATE sandboxes SET state = 'claimed', identifier = ?1, claimed_at = ?2, last_used_at = ?2
	WHERE id = (SELECT id FROM sandboxes WHERE pool = ?3 AND revision = ?4 AND state = 'ready'
		ORDER BY created_at, rowid LIMIT 1)
	RETURNING id, revision, secret, handle, reason, created_at`

// Claim implements pool.SandboxStore.
func (s *Store) Claim(ctx context.Context, r sandpool.ClaimRequest) (b sandpool.Sandbox, outcome sandpool.ClaimOutcome, err error) {
	if r.Identifier == "" {
		return b, sandpool.ClaimFull, sandpool.Errorf(sandpool.Invalid, "", "identifier", "A claim needs an identifier.")
	}
	err = s.write(ctx, fmt.Sprintf("claim a sandbox of pool %q", r.Pool.Key()), func(ctx context.Context) error {
		b, outcome, err = s.claim(ctx, r)
		return err
	})
	if err != nil {
		return sandpool.Sandbox{}, sandpool.ClaimFull, insertError(err, r.NewID, r.Pool)
	}
	return b, outcome, nil
}

func (s *Store) claim(ctx context.Context, r sandpool.ClaimRequest) (sandpool.Sandbox, sandpool.ClaimOutcome, error) {
	b, err := scanSandbox(s.stmts.bySession.QueryRowContext(ctx, r.Pool.Key(), r.Identifier))
	if err == nil {
		return b, sandpool.ClaimExisting, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return b, sandpool.ClaimFull, err
	}
	var sessions int
	if err := s.stmts.count.QueryRowContext(ctx, r.Pool.Key()).Scan(&sessions); err != nil {
		return b, sandpool.ClaimFull, err
	}
	if sessions >= r.Max {
		return b, sandpool.ClaimFull, nil
	}
	now := nanos(r.Now)
	var created int64
	row := s.stmts.claimReady.QueryRowContext(ctx, r.Identifier, now, r.Pool.Key(), r.Revision)
	switch err := row.Scan(&b.ID, &b.Revision, &b.Secret, &b.Handle, &b.Reason, &created); {
	case err == nil:
		b.Pool, b.State, b.Identifier = r.Pool, sandpool.Claimed, r.Identifier
		b.CreatedAt, b.ClaimedAt, b.LastUsedAt = timeOf(created), timeOf(now), timeOf(now)
		return b, sandpool.ClaimReady, nil
	case !errors.Is(err, sql.ErrNoRows):
		return b, sandpool.ClaimFull, err
	}
	_, err = s.stmts.insert.ExecContext(ctx, r.NewID, r.Pool.Key(), r.Revision, r.Identifier, r.NewSecret, now, now, now)
	if err != nil {
		return b, sandpool.ClaimFull, err
	}
	b, err = s.byID(ctx, r.NewID)
	return b, sandpool.ClaimNew, err
}
