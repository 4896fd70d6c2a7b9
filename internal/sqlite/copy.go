package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
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
