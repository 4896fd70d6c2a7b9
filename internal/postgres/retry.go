package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sandpool/sandpool"
)

const (
	// defaultPatience is how long a write is tried again. A failover of a managed database takes
	// longer; then callers are told to come back.
	defaultPatience = 8 * time.Second
	// oneTry bounds a single try, so that a connection that has gone silent does not hold its
	// caller.
	oneTry = 5 * time.Second
	// firstPause is how long the first pause between two tries is at most; each next one is twice
	// as long, up to lastPause.
	firstPause, lastPause = 10 * time.Millisecond, time.Second
)

// Codes of PostgreSQL's errors (https://www.postgresql.org/docs/current/errcodes-appendix.html).
const (
	serialization   = "40001"
	deadlock        = "40P01"
	adminShutdown   = "57P01"
	crashShutdown   = "57P02"
	cannotConnect   = "57P03"
	tooMany         = "53300"
	diskFull        = "53100"
	readOnly        = "25006" // a standby, in the middle of a failover
	idleTimeout     = "25P03"
	lockTimeout     = "55P03"
	statementCancel = "57014"
	uniqueViolation = "23505"
	foreignKey      = "23503"
	restricted      = "23001"
)

// retry runs do until it succeeds, fails for good or patience is over. do is told whether an
// earlier try may have been committed. It is not cut short by ctx once it has begun: nobody would
// know what became of it.
func (s *Store) retry(ctx context.Context, what string,
	do func(ctx context.Context, again bool) error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	again, pause, end := false, firstPause, time.Now().Add(s.patience)
	for {
		try, cancel := context.WithTimeout(context.WithoutCancel(ctx), oneTry)
		err := do(try, again)
		cancel()
		if err == nil {
			return nil
		}
		if !passing(err) || ctx.Err() != nil || time.Now().Add(pause).After(end) {
			return fmt.Errorf("%s: %w", what, explain(err))
		}
		again = again || unknown(err)
		s.log.DebugContext(ctx, "postgres: trying again", "what", what, "pause", pause,
			"error", err)
		wait := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
		pause = min(2*pause, lastPause)
	}
}

// passing reports whether a failure may be over when the write is tried again.
func passing(err error) bool {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		switch e.Code {
		case serialization, deadlock, adminShutdown, crashShutdown, cannotConnect, tooMany,
			readOnly, idleTimeout, lockTimeout, statementCancel:
			return true
		}
		return strings.HasPrefix(e.Code, "08") // connection exceptions
	}
	return broken(err)
}

// broken reports whether err is that of a connection and not of what was sent over it.
func broken(err error) bool {
	var network net.Error
	var connect *pgconn.ConnectError
	return errors.As(err, &network) || errors.As(err, &connect) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.DeadlineExceeded) ||
		pgconn.SafeToRetry(err) ||
		strings.Contains(err.Error(), "conn closed")
}

// unknown reports whether what was sent before err may have been committed.
func unknown(err error) bool {
	var connect *pgconn.ConnectError
	if pgconn.SafeToRetry(err) || errors.As(err, &connect) {
		return false
	}
	var e *pgconn.PgError
	if errors.As(err, &e) {
		// The server rolls back what it answers with an error; of one that goes down nobody knows.
		return e.Code == adminShutdown || e.Code == crashShutdown || strings.HasPrefix(e.Code, "08")
	}
	return true
}

// explain gives the faults of the database, which an operator has to mend, words that say so. Other
// errors pass unchanged.
func explain(err error) error {
	var own *sandpool.Error
	if err == nil || errors.As(err, &own) {
		return err
	}
	var e *pgconn.PgError
	if errors.As(err, &e) {
		switch {
		case e.Code == diskFull:
			return unavailable(err, "The disk of the server's database is full.")
		case e.Code == tooMany:
			return unavailable(err, "The server's database has no connection left.")
		case e.Code == readOnly:
			return unavailable(err, "The server's database is a standby that may not be written.")
		case strings.HasPrefix(e.Code, "28"):
			return unavailable(err, "The server's database refuses the server's user or password.")
		case passing(err):
			return unavailable(err, "The server's database is busy or restarting; try again.")
		}
		return err
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	if broken(err) {
		return unavailable(err, "The server's database cannot be reached; try again.")
	}
	return err
}

func unavailable(err error, message string) error {
	return &sandpool.Error{Class: sandpool.Unavailable, Message: message,
		RetryAfter: time.Second, Err: err}
}

// hasCode reports whether err is one of PostgreSQL's with one of the codes.
func hasCode(err error, codes ...string) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	for _, code := range codes {
		if e.Code == code {
			return true
		}
	}
	return false
}
