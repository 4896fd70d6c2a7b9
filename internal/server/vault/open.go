package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/keyring"
	"github.com/sandpool/sandpool/internal/postgres"
	"github.com/sandpool/sandpool/internal/sqlite"
	"github.com/sandpool/sandpool/internal/store"
)

// KeyFile is where the keys are without settings, below the data directory.
const KeyFile = "store-key"

// storeFile is the store without a setting, below the data directory.
const storeFile = "sandpool.db"

// Options say where the state is.
type Options struct {
	DataDir string
	Store   string // address of a PostgreSQL; empty for a file below DataDir
	Key     keyring.Settings
}

func (o Options) source() keyring.Source {
	return keyring.Source{Settings: o.Key, Default: filepath.Join(o.DataDir, KeyFile)}
}

// open opens the file of this server alone, or the database that it shares with others.
func (o Options) open(ctx context.Context, log *slog.Logger) (backend, error) {
	if o.Store != "" {
		return opened(postgres.Open(ctx, log, o.Store))
	}
	return opened(sqlite.Open(ctx, log, filepath.Join(o.DataDir, storeFile)))
}

// opened returns no backend with an error: a nil pointer in an interface is not nil, and would be
// closed.
func opened[T backend](s T, err error) (backend, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Open opens the state. Secrets that are plain, as those of earlier versions and of a new store
// are, are sealed first, with a new key if there is no setting and no key. A key that is missing or
// is not the store's is an error that names the setting.
func Open(ctx context.Context, log *slog.Logger, o Options) (*State, error) {
	b, err := o.open(ctx, log)
	if err != nil {
		return nil, err
	}
	ring, err := o.unlock(ctx, log, b)
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	s := &State{backend: b, log: log, o: o}
	s.ring.Store(ring)
	return s, nil
}

// unlock returns the keys of a store, set to seal with its own.
func (o Options) unlock(ctx context.Context, log *slog.Logger, b backend) (*keyring.Ring, error) {
	by, err := b.SealedBy(ctx)
	if err != nil {
		return nil, err
	}
	source := o.source()
	ring, err := source.Read(ctx)
	if err != nil && (by != "" || !source.IsDefault() || !errors.Is(err, keyring.ErrNone)) {
		return nil, needs(by, source, err)
	}
	if err != nil {
		if ring, err = create(ctx, log, source); err != nil {
			return nil, err
		}
	}
	if path := source.Path(); path != "" {
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o004 != 0 {
			log.Warn("everybody on the machine may read the key of the store's secrets; "+
				"chmod o-r", "file", path)
		}
	}
	if by == "" {
		if by, err = o.seal(ctx, b, ring); err != nil {
			return nil, err
		}
	}
	if !ring.Has(by) {
		return nil, wrongKey(by, source, ring, o.Store != "")
	}
	if by != ring.Current() {
		log.Warn("the first key is not the one that seals the store's secrets; run 'sandpool "+
			"store rekey' to go on with a change of keys", "first", ring.Current(), "sealedBy", by)
	}
	return ring.With(by)
}

// create makes the first key.
func create(ctx context.Context, log *slog.Logger, source keyring.Source) (*keyring.Ring, error) {
	id, err := keyring.Add(source.Path())
	if err != nil {
		return nil, fmt.Errorf("make a key for the store's secrets: %w", err)
	}
	log.Info("a key for the store's secrets was made; keep a copy apart from backups of the store",
		"file", source.Path(), "key", id)
	return source.Read(ctx)
}

// seal seals secrets that are plain, and returns the key that they are sealed with then, which is
// another if another server has done it meanwhile.
func (o Options) seal(ctx context.Context, b backend, ring *keyring.Ring) (string, error) {
	err := b.Reseal(ctx, "", ring.Current(), func(s store.Secret) (string, error) {
		return ring.Seal(s.Value, s.Place...), nil
	})
	if err != nil && !errors.Is(err, store.ErrSealedBy) {
		return "", err
	}
	return b.SealedBy(ctx)
}

// needs is the error of a source without a key.
func needs(by string, source keyring.Source, err error) error {
	if by == "" {
		return err
	}
	fix := "Put its text there"
	if source.IsDefault() {
		fix = "Put the file back, or copy it from another server of the store, or say with " +
			"store_key where the key is"
	}
	return &sandpool.Error{Class: sandpool.Invalid, Code: "StoreKey", Target: "store_key", Err: err,
		Message: fmt.Sprintf("The store's secrets are sealed with the key %s. %s %s. Without the "+
			"key, 'sandpool store rekey --discard' gives the secrets up.", by, sentence(err), fix)}
}

// sentence is what an error says to callers.
func sentence(err error) string {
	var own *sandpool.Error
	if errors.As(err, &own) {
		return own.Message
	}
	return err.Error() + "."
}

// wrongKey is the error of a source that has other keys than the store's.
func wrongKey(by string, source keyring.Source, ring *keyring.Ring, shared bool) error {
	fix := "Add that key to it"
	if shared {
		fix += "; all servers of a store need the same"
	}
	return &sandpool.Error{Class: sandpool.Invalid, Code: "StoreKey", Target: "store_key",
		Message: fmt.Sprintf("The store's secrets are sealed with the key %s, and in %s is only "+
			"%s. %s. Without the key, 'sandpool store rekey --discard' gives the secrets up.",
			by, source, strings.Join(ring.IDs(), ", "), fix)}
}

// Need is an error unless the key of an id can be had; no id needs none.
func (o Options) Need(ctx context.Context, id string) error {
	if id == "" {
		return nil
	}
	source := o.source()
	ring, err := source.Read(ctx)
	if err != nil {
		return needs(id, source, err)
	}
	if !ring.Has(id) {
		return wrongKey(id, source, ring, false)
	}
	return nil
}

// KeyIs says where the key of the store is, for people.
func (o Options) KeyIs() string { return o.source().String() }
