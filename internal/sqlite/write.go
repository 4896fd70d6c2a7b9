package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// statements are the prepared statements of the writing connection: preparing
// them for each claim would double its time.
type statements struct {
	begin, commit, rollback *sql.Stmt
	syncEach, syncLater     *sql.Stmt

	createPool, putPool     *sql.Stmt
	deletePool              *sql.Stmt
	own, epoch              *sql.Stmt
	join, beat, leave       *sql.Stmt
	putSecret, clearSecrets *sql.Stmt
	putToken, deleteToken   *sql.Stmt
	putDocument             *sql.Stmt
	deleteDocument          *sql.Stmt

	insert, byID, bySession, count *sql.Stmt
	claimReady                     *sql.Stmt
	started, stopping, touch       *sql.Stmt
	remove                         *sql.Stmt
	mourn, forget, forgetOld       *sql.Stmt

	putUsage, putMark, forgetUsage *sql.Stmt

	all []*sql.Stmt
}

func (s *statements) prepare(ctx context.Context, conn *sql.Conn) error {
	for _, each := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&s.begin, "BEGIN IMMEDIATE"},
		{&s.commit, "COMMIT"},
		{&s.rollback, "ROLLBACK"},
		{&s.syncEach, "PRAGMA synchronous=FULL"},
		{&s.syncLater, "PRAGMA synchronous=NORMAL"},
		{&s.createPool, createPool},
		{&s.putPool, putPool},
		{&s.own, own},
		{&s.join, `INSERT INTO servers (name, instance, address, place, locations, beat, last)
			VALUES (?1, ?2, ?3, ?4, ?5, 1, 1) ON CONFLICT (name) DO UPDATE SET instance = ?2,
			address = ?3, place = ?4, locations = ?5, beat = last + 1, last = last + 1`},
		{&s.beat, `UPDATE servers SET beat = last + 1, last = last + 1
			WHERE name = ?1 AND instance = ?2`},
		{&s.leave, "UPDATE servers SET beat = 0 WHERE name = ?1 AND instance = ?2"},
		{&s.epoch, "SELECT epoch FROM pools WHERE key = ?"},
		{&s.deletePool, "DELETE FROM pools WHERE key = ?"},
		{&s.putSecret, "INSERT INTO secrets (pool, name, value) VALUES (?, ?, ?)"},
		{&s.clearSecrets, "DELETE FROM secrets WHERE pool = ?"},
		{&s.putToken, putToken},
		{&s.deleteToken, "DELETE FROM tokens WHERE id = ?"},
		{&s.putDocument, putDocument},
		{&s.deleteDocument, "DELETE FROM documents WHERE kind = ? AND key = ?"},
		{&s.insert, insertSandbox},
		{&s.byID, selectSandbox + " WHERE s.id = ?"},
		{&s.bySession, selectSandbox + " WHERE s.pool = ? AND s.identifier = ? AND s.identifier " +
			"<> '' AND s.state IN ('starting', 'claimed')"},
		{&s.count, "SELECT count(*) FROM sandboxes WHERE pool = ? AND identifier <> '' AND state " +
			"IN ('starting', 'claimed')"},
		{&s.claimReady, claimReady},
		{&s.started, started},
		{&s.stopping, stopping},
		{&s.touch, touch},
		{&s.remove, remove},
		{&s.mourn, mourn},
		{&s.forget, "DELETE FROM losses WHERE pool = ? AND identifier = ?"},
		{&s.forgetOld, "DELETE FROM losses WHERE pool = ? AND until <= ?"},
		{&s.putUsage, putUsage},
		{&s.putMark, putMark},
		{&s.forgetUsage, "DELETE FROM usage WHERE number = ? AND ended"},
	} {
		stmt, err := conn.PrepareContext(ctx, each.text)
		if err != nil {
			return fmt.Errorf("prepare %q: %w", each.text, err)
		}
		*each.stmt = stmt
		s.all = append(s.all, stmt)
	}
	return nil
}

func (s *statements) close() error {
	var errs []error
	for _, stmt := range s.all {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(errs...)
}

// write runs do in one transaction on the writing connection. The context
// bounds the wait for the connection, not the transaction.
func (s *Store) write(ctx context.Context, what string, do func(context.Context) error) error {
	return s.alone(ctx, what, func(ctx context.Context) error { return s.transact(ctx, do) })
}

// writeSynced is write for rows that must survive a power cut.
func (s *Store) writeSynced(ctx context.Context, what string,
	do func(context.Context) error) error {
	return s.alone(ctx, what, func(ctx context.Context) error {
		if _, err := s.stmts.syncEach.ExecContext(ctx); err != nil {
			return err
		}
		err := s.transact(ctx, do)
		_, back := s.stmts.syncLater.ExecContext(ctx)
		return errors.Join(err, back)
	})
}

// alone runs do while no other goroutine uses the writing connection.
func (s *Store) alone(ctx context.Context, what string, do func(context.Context) error) error {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, ctx.Err())
	}
	defer func() { s.turn <- struct{}{} }()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := do(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("%s: %w", what, explain(err))
	}
	return nil
}

func (s *Store) transact(ctx context.Context, do func(context.Context) error) error {
	if _, err := s.stmts.begin.ExecContext(ctx); err != nil {
		return err
	}
	err := do(ctx)
	if err == nil {
		_, err = s.stmts.commit.ExecContext(ctx)
	}
	if err == nil {
		return nil
	}
	// SQLite has rolled back by itself after some errors (a full disk), which
	// makes ROLLBACK an error that means nothing.
	if _, rolled := s.stmts.rollback.ExecContext(ctx); rolled != nil {
		s.log.DebugContext(ctx, "sqlite: nothing to roll back", "error", rolled)
	}
	return err
}
