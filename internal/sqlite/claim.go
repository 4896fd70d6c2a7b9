package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
	"github.com/sandpool/sandpool/internal/store/burst"
)

// sessionsOf selects a pool's sessions, by the index that makes them unique.
const sessionsOf = ` FROM sandboxes WHERE pool = ?3 AND identifier <> '' AND state IN ('starting', 'claimed')`

// claimReady takes the oldest ready sandbox, if the identifier has no session and the pool is not
// full, and returns what the claim does not know of it. In one statement, because most
// claims end here, and each statement costs as much as what this one looks up.
const claimReady = `UPDATE sandboxes SET state = 'claimed', identifier = ?1, claimed_at = ?2, last_used_at = ?2,
	claimed_by = ?7
	WHERE (SELECT epoch FROM pools WHERE key = ?3) = ?6
	AND rowid = (SELECT rowid FROM sandboxes WHERE pool = ?3 AND revision = ?4 AND state = 'ready'
		ORDER BY created_at, rowid LIMIT 1)
	AND NOT EXISTS (SELECT 1` + sessionsOf + ` AND identifier = ?1)
	AND (SELECT count(*)` + sessionsOf + `) < ?5
	RETURNING id, revision, secret, handle, reason, created_at`

// claim is a claim and its answer.
type claim struct {
	request sandpool.ClaimRequest
	sandbox sandpool.Sandbox
	outcome sandpool.ClaimOutcome
}

// Claim implements store.Sandboxes.
func (s *Store) Claim(ctx context.Context, r sandpool.ClaimRequest) (sandpool.Sandbox,
	sandpool.ClaimOutcome, error) {
	if r.Identifier == "" {
		return sandpool.Sandbox{}, sandpool.ClaimFull, sandpool.Errorf(sandpool.Invalid, "",
			"identifier", "A claim needs an identifier.")
	}
	c, err := s.claims.Do(ctx, s.turn, claim{request: r}, s.serve)
	if err != nil {
		err = fmt.Errorf("claim a sandbox of pool %q: %w", r.Pool.Key(), explain(err))
		return sandpool.Sandbox{}, sandpool.ClaimFull, insertError(err, r.NewID, r.Pool)
	}
	return c.sandbox, c.outcome, nil
}

// sessionsOfPrincipal counts, by an index of its own.
const sessionsOfPrincipal = `SELECT count(*) FROM sandboxes WHERE identifier <> ''
	AND state IN ('starting', 'claimed') AND claimed_by = ?1 AND NOT (pool = ?2 AND identifier = ?3)`

// SessionsOf implements store.Sandboxes.
func (s *Store) SessionsOf(ctx context.Context, by string, besides sandpool.PoolID,
	identifier sandpool.Identifier) (n int, err error) {
	err = s.reads.QueryRowContext(ctx, sessionsOfPrincipal, by, besides.Key(), identifier).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count the sessions of a principal: %w", explain(err))
	}
	return n, nil
}

// serve carries claims out in one transaction.
func (s *Store) serve(ctx context.Context, all []*burst.Call[claim]) {
	err := s.transact(ctx, func(ctx context.Context) error {
		for _, c := range all {
			c.Value.sandbox, c.Value.outcome, c.Err = s.claim(ctx, c.Value.request)
			if c.Err != nil && !undone(c.Err) {
				return c.Err
			}
		}
		return nil
	})
	if err != nil {
		for _, c := range all {
			c.Err = err
		}
	}
}

// claim is one claim in a transaction. It changes at most one row, in one statement.
func (s *Store) claim(ctx context.Context, r sandpool.ClaimRequest) (b sandpool.Sandbox,
	outcome sandpool.ClaimOutcome, err error) {
	pool, now := r.Pool.Key(), store.Nanos(r.Now)
	var created int64
	row := s.stmts.claimReady.QueryRowContext(ctx, r.Identifier, now, pool, r.Revision, r.Max,
		r.Epoch, r.By)
	switch err := row.Scan(&b.ID, &b.Revision, &b.Secret, &b.Handle, &b.Reason, &created); {
	case err == nil:
		b.Pool, b.State, b.Identifier, b.ClaimedBy = r.Pool, sandpool.Claimed, r.Identifier, r.By
		b.CreatedAt, b.ClaimedAt,
			b.LastUsedAt = store.TimeOf(created), store.TimeOf(now), store.TimeOf(now)
		return b, sandpool.ClaimReady, nil
	case !errors.Is(err, sql.ErrNoRows):
		return b, sandpool.ClaimFull, err
	}
	if err := s.fence(ctx, r.Pool, r.Epoch); err != nil {
		return b, sandpool.ClaimFull, err
	}
	b, err = scanSandbox(s.stmts.bySession.QueryRowContext(ctx, pool, r.Identifier))
	if err == nil {
		return b, sandpool.ClaimExisting, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return b, sandpool.ClaimFull, err
	}
	var sessions int
	if err := s.stmts.count.QueryRowContext(ctx, pool).Scan(&sessions); err != nil {
		return b, sandpool.ClaimFull, err
	}
	if sessions >= r.Max {
		return b, sandpool.ClaimFull, nil
	}
	_, err = s.stmts.insert.ExecContext(ctx, r.NewID, pool, r.Revision, r.Identifier, r.NewSecret,
		now, now, now, r.By)
	if err != nil {
		return b, sandpool.ClaimFull, err
	}
	b, err = s.byID(ctx, r.NewID)
	return b, sandpool.ClaimNew, err
}
