package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store"
)

var _ store.Loader = (*Store)(nil)

// loadRows is how many rows are sent at a time.
const loadRows = 500

// Load implements store.Loader, in one transaction.
func (s *Store) Load(ctx context.Context, from store.Dumper) error {
	err := pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if err := empty(ctx, tx); err != nil {
			return err
		}
		l := loading{tx: tx, kinds: map[string]map[string]string{}}
		if err := from.Dump(ctx, func(r store.Row) error { return l.add(ctx, r) }); err != nil {
			return err
		}
		if err := l.send(ctx); err != nil {
			return err
		}
		// What is inserted from now on comes after what was copied.
		_, err := tx.Exec(ctx, `SELECT setval(pg_get_serial_sequence('usage', 'number'),
			coalesce(max(number), 0) + 1, false) FROM usage`)
		return err
	})
	if err != nil {
		return fmt.Errorf("load: %w", explain(err))
	}
	return nil
}

// empty is an error if there is something in the database, and keeps servers from writing.
func empty(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "LOCK TABLE sealing, pools, tokens, documents, usage"); err != nil {
		return err
	}
	var used bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM sealing) OR EXISTS (SELECT FROM pools)
		OR EXISTS (SELECT FROM tokens) OR EXISTS (SELECT FROM documents)
		OR EXISTS (SELECT FROM usage)`).Scan(&used)
	if err != nil {
		return err
	}
	if used {
		return sandpool.Errorf(sandpool.Conflict, "StoreNotEmpty", "store",
			"The database has the state of servers already; name one that no server has used, or "+
				"another schema (search_path).")
	}
	return nil
}

// loading is rows on their way.
type loading struct {
	tx    pgx.Tx
	kinds map[string]map[string]string // of each table: its columns' types
	first store.Row                    // of those that wait
	wait  [][]any
}

func (l *loading) add(ctx context.Context, r store.Row) error {
	if len(l.wait) == loadRows || len(l.wait) > 0 && r.Table != l.first.Table {
		if err := l.send(ctx); err != nil {
			return err
		}
	}
	if len(l.wait) == 0 {
		l.first = r
	}
	kinds, err := l.kindsOf(ctx, r.Table)
	if err != nil {
		return err
	}
	values := make([]any, len(r.Values))
	for i, v := range r.Values {
		switch kind, given := kinds[r.Columns[i]], v; kind {
		case "":
			return fmt.Errorf("table %q has no column %q", r.Table, r.Columns[i])
		case "bytea":
			if text, ok := given.(string); ok {
				v = []byte(text)
			}
		case "boolean":
			v = given != int64(0)
		}
		values[i] = v
	}
	l.wait = append(l.wait, values)
	return nil
}

func (l *loading) send(ctx context.Context) error {
	if len(l.wait) == 0 {
		return nil
	}
	_, err := l.tx.CopyFrom(ctx, pgx.Identifier{l.first.Table}, l.first.Columns,
		pgx.CopyFromRows(l.wait))
	if err != nil {
		return fmt.Errorf("table %q: %w", l.first.Table, err)
	}
	l.wait = l.wait[:0]
	return nil
}

func (l *loading) kindsOf(ctx context.Context, table string) (map[string]string, error) {
	if kinds := l.kinds[table]; kinds != nil {
		return kinds, nil
	}
	rows, err := l.tx.Query(ctx, `SELECT column_name, data_type FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name = $1`, table)
	if err != nil {
		return nil, err
	}
	kinds := map[string]string{}
	var name, kind string
	_, err = pgx.ForEachRow(rows, []any{&name, &kind}, func() error {
		kinds[name] = kind
		return nil
	})
	l.kinds[table] = kinds
	return kinds, err
}
