package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/sandpool/sandpool/internal/store"
)

// Copy writes a copy of the database at from, whole and of one moment, to the file to, which must
// not exist. Others may use the database meanwhile, and do not wait.
func Copy(ctx context.Context, from, to string) (err error) {
	from, err = filepath.Abs(from)
	if err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	db, err := sql.Open("sqlite", dsn(from))
	if err != nil {
		return fmt.Errorf("copy database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := createPrivate(to); err != nil { // SQLite writes into a file that is empty
		return fmt.Errorf("copy database: %w", err)
	}
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", to); err != nil {
		return fmt.Errorf("copy database %q: %w", from, explain(err))
	}
	return nil
}

var _ store.Dumper = (*Store)(nil)

// dumps read the tables that a store has, those before that others refer to.
func dumps() []struct{ table, query string } {
	return []struct{ table, query string }{
		{"sealing", "SELECT one, key FROM sealing"},
		{"pools", "SELECT * FROM pools"},
		{"secrets", "SELECT * FROM secrets"},
		{"sandboxes", "SELECT * FROM sandboxes ORDER BY rowid"},
		{"losses", "SELECT * FROM losses"},
		{"documents", "SELECT * FROM documents"},
		{"tokens", "SELECT * FROM tokens"},
		{"usage", "SELECT * FROM usage"},
		{"meters", "SELECT * FROM meters"},
	}
}

// Dump implements store.Dumper.
func (s *Store) Dump(ctx context.Context, each func(store.Row) error) (err error) {
	tx, err := s.reads.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("dump: %w", explain(err))
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	for _, d := range dumps() {
		if err := dumpTable(ctx, tx, d.table, d.query, each); err != nil {
			return fmt.Errorf("dump table %q: %w", d.table, explain(err))
		}
	}
	return nil
}

func dumpTable(ctx context.Context, tx *sql.Tx, table, query string,
	each func(store.Row) error) (err error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	for rows.Next() {
		row := store.Row{Table: table, Columns: columns, Values: make([]any, len(columns))}
		into := make([]any, len(columns))
		for i := range into {
			into[i] = &row.Values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := each(row); err != nil {
			return err
		}
	}
	return rows.Err()
}
