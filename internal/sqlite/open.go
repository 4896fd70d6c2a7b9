package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/sandpool/sandpool/internal/store/burst"
)

// readers is the number of reading connections: reads are short and rare.
const readers = 4

// Store is the database. Its methods may be called from many goroutines.
type Store struct {
	log    *slog.Logger
	path   string
	reads  *sql.DB
	writes *sql.DB // one connection, which writer holds
	writer *sql.Conn
	turn   chan struct{} // holds one token, the right to use writer
	claims burst.Queue[claim]
	stmts  statements
}

// Open opens the database at path, creates it if it does not exist (its directory must), and
// brings its schema up to date. The file is readable by its owner alone.
func Open(ctx context.Context, log *slog.Logger, path string) (*Store, error) {
	if log == nil {
		return nil, errors.New("open database: the logger is nil")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := createPrivate(path); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	s := &Store{log: log, path: path, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %q: %w", path, explain(err)), s.Close())
	}
	return s, nil
}

// createPrivate makes the file with mode 0600, which SQLite copies to the files beside it.
func createPrivate(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Chmod(0o600), file.Close())
}

func (s *Store) open(ctx context.Context) (err error) {
	if s.writes, err = sql.Open("sqlite", dsn(s.path, "synchronous(NORMAL)",
		"journal_size_limit(67108864)")); err != nil {
		return err
	}
	s.writes.SetMaxOpenConns(1)
	if s.writer, err = s.writes.Conn(ctx); err != nil {
		return err
	}
	if err := check(ctx, s.writer); err != nil {
		return err
	}
	if err := migrate(ctx, s.writer); err != nil {
		return err
	}
	if err := scrub(ctx, s.writer); err != nil {
		return fmt.Errorf("overwrite what is sealed now: %w", err)
	}
	if err := s.stmts.prepare(ctx, s.writer); err != nil {
		return err
	}
	s.reads, err = sql.Open("sqlite", dsn(s.path, "query_only(1)"))
	if err != nil {
		return err
	}
	s.reads.SetMaxOpenConns(readers)
	s.reads.SetMaxIdleConns(readers)
	return nil
}

// dsn names the file with the settings that every connection needs and those given.
// The waiting time of busy_timeout only matters if another process uses the file.
func dsn(path string, pragmas ...string) string {
	pragmas = append([]string{"busy_timeout(5000)", "foreign_keys(1)"}, pragmas...)
	name := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{"_pragma": pragmas}.Encode()}
	return name.String()
}

// check reads through the file's structure, so that damage is found before a claim meets it.
func check(ctx context.Context, conn *sql.Conn) error {
	var result string
	if err := conn.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if result != "ok" {
		return fmt.Errorf("check: %w: %s", errDamaged, result)
	}
	var mode string
	if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode=WAL").Scan(&mode); err != nil {
		return fmt.Errorf("set journal mode: %w", err)
	}
	if mode != "wal" {
		return fmt.Errorf("the journal mode is %q, not \"wal\": use a local file system", mode)
	}
	return nil
}

// Close closes the database. Everything committed is kept.
func (s *Store) Close() error {
	var errs []error
	if s.reads != nil {
		errs = append(errs, s.reads.Close())
	}
	errs = append(errs, s.stmts.close())
	if s.writer != nil {
		errs = append(errs, s.writer.Close())
	}
	if s.writes != nil {
		errs = append(errs, s.writes.Close())
	}
	return errors.Join(errs...)
}
