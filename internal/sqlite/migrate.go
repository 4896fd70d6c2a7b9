package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
)

//go:embed migrations/*.sql
var migrations embed.FS

// application marks a file as sandpool's ("sndp"), in the file's header.
const application = 0x736e6470

// migrate applies the migrations that the file has not seen, each in a transaction.
func migrate(ctx context.Context, conn *sql.Conn) error {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	var version, app, tables int
	row := conn.QueryRowContext(ctx, "SELECT (SELECT user_version FROM pragma_user_version), "+
		"(SELECT application_id FROM pragma_application_id), (SELECT count(*) FROM sqlite_schema)")
	if err := row.Scan(&version, &app, &tables); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if app != application && tables > 0 {
		return fmt.Errorf("the file is a database of another program (application id %#x)", app)
	}
	if version > len(names) {
		return fmt.Errorf(
			"the schema has version %d and this program knows up to %d: run the newer sandpool",
			version, len(names))
	}
	for i, name := range names[version:] {
		if err := apply(ctx, conn, name, version+i+1); err != nil {
			return fmt.Errorf("migration %q: %w", name, err)
		}
	}
	return nil
}

func apply(ctx context.Context, conn *sql.Conn, name string, version int) error {
	text, err := migrations.ReadFile(name)
	if err != nil {
		return err
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, string(text)+fmt.Sprintf("\nPRAGMA user_version=%d; PRAGMA "+
		"application_id=%d;", version, application))
	if err != nil {
		_ = tx.Rollback() // the first error says more
		return err
	}
	return tx.Commit()
}
