package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
	"github.com/sandpool/sandpool/internal/store/burst"
)

// claim is a claim and its answer.
type claim struct {
	request sandpool.ClaimRequest
	sandbox sandpool.Sandbox
	outcome sandpool.ClaimOutcome
}

// Claim implements store.Sandboxes.
func (s *Store) Claim(ctx context.Context,
	r sandpool.ClaimRequest) (sandpool.Sandbox, sandpool.ClaimOutcome, error) {
	if r.Identifier == "" {
		return sandpool.Sandbox{}, sandpool.ClaimFull,
			sandpool.Errorf(sandpool.Invalid, "", "identifier", "A claim needs an identifier.")
	}
	c, err := s.claims.Do(ctx, s.turn, claim{request: r}, s.serve)
	if err != nil {
		return sandpool.Sandbox{}, sandpool.ClaimFull,
			fmt.Errorf("claim a sandbox of pool %q: %w", r.Pool.Key(), err)
	}
	return c.sandbox, c.outcome, nil
}

// sessionsOfPrincipal counts, by an index of its own.
const sessionsOfPrincipal = `SELECT count(*) FROM sandboxes WHERE identifier <> ''
	AND state IN ('starting', 'claimed') AND claimed_by = $1 AND NOT (pool = $2 AND identifier = $3)`

// SessionsOf implements store.Sandboxes.
func (s *Store) SessionsOf(ctx context.Context, by string, besides sandpool.PoolID,
	identifier sandpool.Identifier) (n int, err error) {
	err = s.db.QueryRow(ctx, sessionsOfPrincipal, text(by), besides.Key(), identifier).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count the sessions of a principal: %w", explain(err))
	}
	return n, nil
}

// serve carries claims out in one transaction. They are sent in the order of their pools, because
// that is the order of locks; each pool's stay in the order in which they came.
func (s *Store) serve(ctx context.Context, all []*burst.Call[claim]) {
	slices.SortStableFunc(all, func(a, b *burst.Call[claim]) int {
		return cmp.Compare(a.Value.request.Pool.Key(), b.Value.request.Pool.Key())
	})
	query := "SELECT c.outcome, " + sandboxColumns("(c.box)") +
		" FROM claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) c LEFT JOIN pools p ON p.key = (c.box).pool"
	err := s.retry(ctx, fmt.Sprintf("%d claims", len(all)),
		func(ctx context.Context, again bool) error {
			var batch pgx.Batch
			for _, c := range all {
				r := &c.Value.request
				batch.Queue(query, r.Pool.Key(), r.Epoch, r.Identifier, r.Revision, r.Max,
					store.Nanos(r.Now), r.NewID, r.NewSecret, again, text(r.By))
			}
			results := s.db.SendBatch(ctx, &batch)
			for _, c := range all {
				if err := c.Value.read(results.QueryRow(), &c.Err); err != nil {
					_ = results.Close() // the first error says more
					return err
				}
			}
			return results.Close()
		})
	if err != nil {
		for _, c := range all {
			c.Err = err
		}
	}
}

// read reads the answer of the function claim. What it refuses is the call's own error, and none of
// the transaction.
func (c *claim) read(row pgx.Row, refused *error) (err error) {
	var outcome string
	if c.sandbox, err = scanSandbox(row, &outcome); err != nil {
		return err
	}
	c.outcome, *refused = sandpool.ClaimFull, nil
	switch outcome {
	case "ready":
		c.outcome = sandpool.ClaimReady
	case "new":
		c.outcome = sandpool.ClaimNew
	case "existing":
		c.outcome = sandpool.ClaimExisting
	case "full":
		c.sandbox = sandpool.Sandbox{}
	case outcomeUnknown:
		*refused = unknownPool(c.request.Pool)
	case outcomeStale:
		*refused = store.NotOwner(c.request.Pool)
	default:
		*refused = refusal(outcome, c.request.NewID, c.request.Pool)
	}
	return nil
}
