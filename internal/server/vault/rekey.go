package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/backup"
	"github.com/sandpool/sandpool/internal/keyring"
	"github.com/sandpool/sandpool/internal/store"
)

// beatTime is within what a server that lives has changed its beat.
const beatTime = 3 * time.Second

// Rekeyed is what Rekey did.
type Rekeyed struct {
	From, To  string // ids of keys; From is empty if the secrets were plain
	Secrets   int    // how many were sealed
	Discarded int    // how many of these could not be opened, and are empty now
	File      string // that has the new key before the old ones; empty if the key is in none
}

// Rekey seals all secrets of the state with the first key of its source. If they are, and the
// source is a file, it makes a new key first. No server may be running. What is interrupted at any
// moment is finished by the next call: a new key is in its file before anything is sealed with it,
// and all is sealed at once. With discard, secrets that no key opens become empty; otherwise they
// are an error.
func Rekey(ctx context.Context, log *slog.Logger, o Options,
	discard bool) (done Rekeyed, err error) {
	if err := o.exists(); err != nil {
		return done, err
	}
	lock, err := backup.Lock(o.DataDir)
	if err != nil {
		return done, err
	}
	defer closing(lock, &err)
	b, err := o.open(ctx, log)
	if err != nil {
		return done, err
	}
	defer closing(b, &err)
	if err := nobodyRuns(ctx, b, ""); err != nil {
		return done, err
	}
	if done.From, err = b.SealedBy(ctx); err != nil {
		return done, err
	}
	source := o.source()
	done.File = source.Path()
	ring, err := o.next(ctx, source, done.From, discard)
	if err != nil {
		return done, err
	}
	done.To = ring.Current()
	return done, done.reseal(ctx, b, ring, discard)
}

// reseal seals all secrets with the first key of ring.
func (done *Rekeyed) reseal(ctx context.Context, b backend, ring *keyring.Ring,
	discard bool) error {
	return b.Reseal(ctx, done.From, done.To, func(s store.Secret) (_ string, err error) {
		text := s.Value
		if done.From != "" {
			if text, err = ring.Open(s.Value, s.Place...); err != nil && !discard {
				return "", err
			}
			if err != nil {
				done.Discarded++
			}
		}
		done.Secrets++
		return ring.Seal(text, s.Place...), nil
	})
}

// Rekey is the function of that name for a state that is in use: what is to be written waits
// meanwhile, and what is read is opened with either key. Of servers that share a store none but the
// one of the given name may run: another would seal with the earlier key what nobody could open
// once that is gone.
func (s *State) Rekey(ctx context.Context, name string) (done Rekeyed, err error) {
	if err := nobodyRuns(ctx, s.backend, name); err != nil {
		return done, err
	}
	s.change.Lock()
	defer s.change.Unlock()
	if done.From, err = s.SealedBy(ctx); err != nil {
		return done, err
	}
	source := s.o.source()
	done.File = source.Path()
	if source.Variable != "" {
		return done, sandpool.Errorf(sandpool.Invalid, "StoreKey", "store_key",
			"The key is in %s, which does not change while the server runs. Stop the server, and "+
				"run the command with a new key before the old one in the variable.", source)
	}
	ring, err := s.o.next(ctx, source, done.From, false)
	if err != nil {
		return done, err
	}
	done.To = ring.Current()
	with, err := ring.With(done.From)
	if err != nil {
		return done, err
	}
	s.ring.Store(with)
	err = done.reseal(ctx, s.backend, ring, false)
	// Whatever came of it, the store says which key is its own.
	by, unknown := s.SealedBy(context.WithoutCancel(ctx))
	if unknown != nil {
		return done, errors.Join(err, unknown)
	}
	if with, unknown = ring.With(by); unknown == nil {
		s.ring.Store(with)
	}
	return done, errors.Join(err, unknown)
}

// exists is an error if there is no store, which is not to be made now.
func (o Options) exists() error {
	if o.Store != "" {
		return os.MkdirAll(o.DataDir, 0o700)
	}
	if _, err := os.Stat(filepath.Join(o.DataDir, storeFile)); err != nil {
		return sandpool.Errorf(sandpool.NotFound, "", "data_dir",
			"There is no store in %s; name the server's data directory with --data-dir.", o.DataDir)
	}
	return nil
}

func closing(c io.Closer, err *error) { *err = errors.Join(*err, c.Close()) }

// next returns keys of which the first is to seal the secrets that are sealed by another.
func (o Options) next(ctx context.Context, source keyring.Source, by string,
	discard bool) (*keyring.Ring, error) {
	ring, err := source.Read(ctx)
	none := errors.Is(err, keyring.ErrNone) && source.Path() != "" && (by == "" || discard)
	if err != nil && !none {
		return nil, needs(by, source, err)
	}
	if !none && by != "" && !ring.Has(by) && !discard {
		return nil, wrongKey(by, source, ring, o.Store != "")
	}
	if !none && ring.Current() != by {
		return ring, nil
	}
	if source.Path() == "" {
		return nil, sandpool.Errorf(sandpool.Invalid, "StoreKey", "store_key",
			"The secrets are sealed with the first key in %s. Put a new one before it, which "+
				"'sandpool store key' prints, on a line of its own, and run the command again.", source)
	}
	if _, err := keyring.Add(source.Path()); err != nil {
		return nil, fmt.Errorf("add a key to %s: %w", source.Path(), err)
	}
	return source.Read(ctx)
}

// nobodyRuns is an error if a server uses a store that several may share, except the one of the
// given name.
func nobodyRuns(ctx context.Context, b backend, but string) error {
	before, err := b.Servers(ctx)
	if err != nil || len(before) == 0 {
		return err
	}
	wait := time.NewTimer(beatTime)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := b.Servers(ctx)
	if err != nil {
		return err
	}
	beats := map[string]int64{}
	for _, s := range before {
		beats[s.Name] = s.Beat
	}
	var running []string
	for _, s := range after {
		if s.Name != but && s.Beat != 0 && s.Beat != beats[s.Name] {
			running = append(running, s.Name)
		}
	}
	if len(running) > 0 {
		return sandpool.Errorf(sandpool.Conflict, "", "store",
			"The store is in use by %s. Stop all its servers first; their sessions can go on "+
				"meanwhile (on_exit: keep).", strings.Join(running, ", "))
	}
	return nil
}
