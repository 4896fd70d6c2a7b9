package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

// What the functions of the schema answer.
const (
	outcomeUnknown = "unknown"
	outcomeStale   = "stale"
	outcomeExists  = "exists"
	outcomeLate    = "late"
	outcomeDone    = "done"
)

// sandboxColumns are those that scanSandbox reads, of a row s of sandboxes, or of no row, and of p,
// its pool's.
func sandboxColumns(s string) string {
	var list strings.Builder
	for _, c := range []string{"p.subscription", "p.resource_group", "p.name", s + ".id",
		s + ".state", s + ".identifier", s + ".secret", s + ".reason", s + ".claimed_by"} {
		list.WriteString("coalesce(" + c + ", ''), ")
	}
	for _, c := range []string{"revision", "created_at", "claimed_at", "last_used_at"} {
		list.WriteString("coalesce(" + s + "." + c + ", 0), ")
	}
	return list.String() + s + ".handle"
}

func scanSandbox(row pgx.Row, before ...any) (b sandpool.Sandbox, err error) {
	var created, claimed, used int64
	err = row.Scan(append(before, &b.Pool.Subscription, &b.Pool.ResourceGroup, &b.Pool.Name,
		&b.ID, &b.State, &b.Identifier,
		&b.Secret, &b.Reason, &b.ClaimedBy, &b.Revision, &created, &claimed, &used, &b.Handle)...)
	b.CreatedAt, b.ClaimedAt,
		b.LastUsedAt = store.TimeOf(created), store.TimeOf(claimed), store.TimeOf(used)
	return b, err
}

// Sandboxes implements store.Sandboxes.
func (s *Store) Sandboxes(ctx context.Context) ([]sandpool.Sandbox, error) {
	rows, err := s.db.Query(ctx, "SELECT "+sandboxColumns("s")+
		" FROM sandboxes s JOIN pools p ON p.key = s.pool ORDER BY s.created_at, s.number")
	if err != nil {
		return nil, fmt.Errorf("read sandboxes: %w", explain(err))
	}
	sandboxes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (sandpool.Sandbox, error) {
		return scanSandbox(row)
	})
	if err != nil {
		return nil, fmt.Errorf("read sandboxes: %w", explain(err))
	}
	return orNil(sandboxes), nil
}

// Insert implements store.Sandboxes.
func (s *Store) Insert(ctx context.Context, b sandpool.Sandbox, epoch int64) error {
	if b.State != sandpool.Starting || b.Identifier != "" {
		return sandpool.Errorf(sandpool.Conflict, "", "state",
			"The new sandbox %q is %s for identifier %q; it must be starting for nobody.", b.ID,
			b.State, b.Identifier)
	}
	return s.retry(ctx, fmt.Sprintf("insert sandbox %q", b.ID),
		func(ctx context.Context, again bool) error {
			var outcome string
			err := s.db.QueryRow(ctx, "SELECT insert_sandbox($1, $2, $3, $4, $5, $6, $7, $8)", b.ID,
				b.Pool.Key(), epoch, b.Revision,
				b.Secret, store.Nanos(b.CreatedAt), store.Nanos(b.ClaimedAt),
				store.Nanos(b.LastUsedAt)).Scan(&outcome)
			if err != nil || again && outcome == outcomeExists {
				return err
			}
			if outcome == outcomeUnknown {
				return unknownPool(b.Pool)
			}
			return refusal(outcome, b.ID, b.Pool)
		})
}

// refusal is the error of a write that has answered outcome; nil if it was done.
func refusal(outcome string, id sandpool.SandboxID, pool sandpool.PoolID) error {
	switch outcome {
	case outcomeDone:
		return nil
	case outcomeUnknown:
		return sandpool.Errorf(sandpool.NotFound, "", "sandbox", "There is no sandbox %q.", id)
	case outcomeStale:
		return store.NotOwner(pool)
	case outcomeExists:
		return sandpool.Errorf(sandpool.Conflict, "", "", "The sandbox %q exists.", id)
	}
	return fmt.Errorf("the database answers %q, which this program does not know", outcome)
}

// Started implements store.Sandboxes.
func (s *Store) Started(ctx context.Context, id sandpool.SandboxID, handle []byte, now time.Time,
	epoch int64) (b sandpool.Sandbox, err error) {
	if handle == nil {
		handle = []byte{} // an empty handle is one; NULL says that there is none
	}
	err = s.retry(ctx, fmt.Sprintf("record start of sandbox %q", id),
		func(ctx context.Context, again bool) error {
			var outcome string
			b, err = scanSandbox(s.db.QueryRow(ctx, "SELECT c.outcome, "+sandboxColumns("(c.box)")+
				" FROM start_sandbox($1, $2, $3, $4, $5) c LEFT JOIN pools p ON p.key = (c.box).pool",
				id, epoch, handle, store.Nanos(now), again), &outcome)
			if err == nil && outcome == outcomeLate {
				return sandpool.Errorf(sandpool.Conflict, "", "state",
					"The sandbox %q is %s already.", id, b.State)
			}
			if err != nil {
				return err
			}
			return refusal(outcome, id, b.Pool)
		})
	return b, err
}

// Stopping implements store.Sandboxes.
func (s *Store) Stopping(ctx context.Context, id sandpool.SandboxID, reason string,
	epoch int64) error {
	return s.call(ctx, fmt.Sprintf("mark sandbox %q stopping", id), id,
		"SELECT stop_sandbox($1, $2, $3)", id, epoch, text(reason))
}

// Remove implements store.Sandboxes.
func (s *Store) Remove(ctx context.Context, id sandpool.SandboxID, epoch int64) error {
	err := s.call(ctx, fmt.Sprintf("remove sandbox %q", id), id,
		"SELECT remove_sandbox($1, $2)", id, epoch)
	if err != nil && sandpool.ClassOf(err) == sandpool.NotFound {
		return nil
	}
	return err
}

// call runs one of the functions that answer an outcome.
func (s *Store) call(ctx context.Context, what string, id sandpool.SandboxID, query string,
	args ...any) error {
	return s.retry(ctx, what, func(ctx context.Context, _ bool) error {
		var outcome string
		if err := s.db.QueryRow(ctx, query, args...).Scan(&outcome); err != nil {
			return err
		}
		return refusal(outcome, id, sandpool.PoolID{})
	})
}

// Touch implements store.Sandboxes.
func (s *Store) Touch(ctx context.Context, uses []sandpool.Use) error {
	if len(uses) == 0 {
		return nil
	}
	ids, epochs, times := make([]string, 0, len(uses)), make([]int64, 0, len(uses)), make([]int64,
		0, len(uses))
	for _, u := range uses {
		ids, epochs, times = append(ids, string(u.ID)), append(epochs, u.Epoch), append(times,
			store.Nanos(u.At))
	}
	return s.retry(ctx, "record use of sandboxes", func(ctx context.Context, _ bool) error {
		_, err := s.db.Exec(ctx, "SELECT touch($1, $2, $3)", ids, epochs, times)
		return err
	})
}

// orNil returns nil for an empty list, as package sqlite does.
func orNil[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}

// isNoRow reports whether err says that a query has found nothing.
func isNoRow(err error) bool { return errors.Is(err, pgx.ErrNoRows) }

// text is what a column of type TEXT takes: valid UTF-8 without NUL. Reasons may hold words of a
// hostile guest.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
