package sqlite

import (
	"errors"
	"fmt"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/sandpool/sandpool"
)

var errDamaged = errors.New("the file is damaged")

// primary is the part of SQLite's result codes that names the class of error; the bits
// above it tell variants apart (https://sqlite.org/rescode.html).
const primary = 0xff

// explain gives the faults of the machine under the database, which an
// operator has to mend, words that say so. Other errors pass unchanged.
func explain(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & primary {
	case lib.SQLITE_FULL:
		return unavailable(err, "The disk that holds the server's state is full; free some space.")
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED:
		return unavailable(err, "Another program holds the server's database locked.")
	case lib.SQLITE_IOERR:
		return unavailable(err,
			"The server's database cannot be read or written; look at the disk that holds it.")
	case lib.SQLITE_READONLY, lib.SQLITE_PERM, lib.SQLITE_CANTOPEN:
		return unavailable(err, "The server may not write its database; look at the owner and "+
			"mode of the file and its directory.")
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return fmt.Errorf("%w; stop the server and restore the file from a backup, or move it "+
			"away to start empty: %w", errDamaged, err)
	}
	return err
}

func unavailable(err error, message string) error {
	return &sandpool.Error{Class: sandpool.Unavailable, Message: message, RetryAfter: time.Second,
		Err: err}
}

// isConstraint reports whether err is a violation of the given kind.
func isConstraint(err error, kinds ...int) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, kind := range kinds {
		if e.Code() == kind {
			return true
		}
	}
	return false
}

// undone reports whether err undid the statement that it came from and nothing else: its
// transaction goes on (https://sqlite.org/lang_conflict.html, ABORT). After other errors
// nobody knows what is left of the transaction.
func undone(err error) bool {
	var own *sandpool.Error
	if errors.As(err, &own) {
		return true // a claim that was refused has written nothing
	}
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&primary == lib.SQLITE_CONSTRAINT
}
