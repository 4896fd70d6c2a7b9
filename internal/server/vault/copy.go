package vault

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/backup"
	"github.com/sandpool/sandpool/internal/postgres"
	"github.com/sandpool/sandpool/internal/sqlite"
	"github.com/sandpool/sandpool/internal/store"
)

// Copied is how many there were of what Copy has copied.
type Copied struct{ Pools, Sandboxes, Tokens int }

// Copy copies the state of a server from the file below its data directory into the PostgreSQL at
// an address, which must be empty. No server may be running. Sandboxes that run go on: a server
// with the same name and the same data directory finds them in the database. Secrets stay sealed
// with their key. It is one transaction, and the file stays as it is.
func Copy(ctx context.Context, log *slog.Logger, o Options, to string) (done Copied, err error) {
	if o.Store != "" {
		return done, sandpool.Errorf(sandpool.Invalid, "", "store",
			"The setting store names a database. What is copied is the file of a server without "+
				"one: leave the setting out, and name the database behind the command.")
	}
	if err := o.exists(); err != nil {
		return done, err
	}
	lock, err := backup.Lock(o.DataDir)
	if err != nil {
		return done, err
	}
	defer closing(lock, &err)
	from, err := sqlite.Open(ctx, log, filepath.Join(o.DataDir, storeFile))
	if err != nil {
		return done, err
	}
	defer closing(from, &err)
	by, err := from.SealedBy(ctx)
	if err == nil {
		err = o.Need(ctx, by)
	}
	if err != nil {
		return done, err
	}
	into, err := postgres.Open(ctx, log, to)
	if err != nil {
		return done, err
	}
	defer closing(into, &err)
	counts := counting{Dumper: from, of: map[string]int{}}
	if err := into.Load(ctx, counts); err != nil {
		return done, fmt.Errorf("copy the store: %w", err)
	}
	return Copied{Pools: counts.of["pools"], Sandboxes: counts.of["sandboxes"],
		Tokens: counts.of["tokens"]}, nil
}

// counting counts what is dumped.
type counting struct {
	store.Dumper
	of map[string]int
}

// Dump implements store.Dumper.
func (c counting) Dump(ctx context.Context, each func(store.Row) error) error {
	return c.Dumper.Dump(ctx, func(r store.Row) error {
		c.of[r.Table]++
		return each(r)
	})
}
