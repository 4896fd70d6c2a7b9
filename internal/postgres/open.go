package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/store/burst"
)

//go:embed migrations/*.sql
var migrations embed.FS

// schema is where the tables are, unless the address names a search_path.
const schema = "sandpool"

const (
	// connections is the most that one server holds, unless the address says pool_max_conns.
	connections = 8
	// connectTime is how long a new connection may take.
	connectTime = 5 * time.Second
)

// Store is the database. Its methods may be called from many goroutines.
type Store struct {
	log    *slog.Logger
	db     *pgxpool.Pool
	turn   chan struct{} // holds one token, the right to send claims
	claims burst.Queue[claim]

	patience time.Duration // how long a write is tried again
}

// Open connects to the database at an address (postgres://user@host:port/name?sslmode=verify-full,
// or the form of libpq; the password is better in the passfile or in PGPASSWORD) and brings its
// schema up to date. The user must own the schema, or be allowed to create it.
func Open(ctx context.Context, log *slog.Logger, address string) (*Store, error) {
	if log == nil {
		return nil, errors.New("open database: the logger is nil")
	}
	cfg, err := pgxpool.ParseConfig(address)
	if err != nil {
		// The error of pgx repeats the address without its password.
		return nil, sandpool.Errorf(sandpool.Invalid, "", "store",
			"The store's address is not one of PostgreSQL: %v", err)
	}
	if cfg.MaxConns = max(connections, cfg.MinConns); cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = connectTime
	}
	params := cfg.ConnConfig.RuntimeParams
	if params["search_path"] == "" {
		params["search_path"] = schema
	}
	if params["application_name"] == "" {
		params["application_name"] = "sandpool"
	}
	// A server that is stopped in the middle of a transaction must not hold its locks for ever.
	params["idle_in_transaction_session_timeout"] = "10s"
	params["statement_timeout"] = "30s"
	s := &Store{log: log, turn: make(chan struct{}, 1), patience: defaultPatience}
	s.turn <- struct{}{}
	if s.db, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	where := fmt.Sprintf("database %q on %s", cfg.ConnConfig.Database, cfg.ConnConfig.Host)
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err == nil {
		err = migrate(ctx, s.db, params["search_path"], names)
	}
	if err != nil {
		s.db.Close()
		return nil, fmt.Errorf("open %s: %w", where, explain(err))
	}
	return s, nil
}

// migrate applies those of the migrations that the database has not seen. Servers that start at the
// same time do it one after the other.
func migrate(ctx context.Context, db *pgxpool.Pool, schema string, names []string) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx,
			`SELECT pg_advisory_xact_lock(hashtext('sandpool schema'))`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx,
			"CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{schema}.Sanitize()); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx,
			"CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)"); err != nil {
			return err
		}
		var version int
		if err := tx.QueryRow(ctx,
			"SELECT coalesce(max(version), 0) FROM schema_version").Scan(&version); err != nil {
			return fmt.Errorf("read schema version: %w", err)
		}
		if version > len(names) {
			return fmt.Errorf(
				"the schema has version %d and this program knows up to %d: run the newer sandpool",
				version, len(names))
		}
		for i, name := range names[version:] {
			text, err := migrations.ReadFile(name)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, string(text)); err != nil {
				return fmt.Errorf("migration %q: %w", name, err)
			}
			if _, err := tx.Exec(ctx, "INSERT INTO schema_version VALUES ($1)",
				version+i+1); err != nil {
				return fmt.Errorf("migration %q: %w", name, err)
			}
		}
		return nil
	})
}

// Close closes the connections. Everything committed is kept.
func (s *Store) Close() error {
	s.db.Close()
	return nil
}
