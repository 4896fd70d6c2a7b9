package vault

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/keyring"
	"github.com/sandpool/sandpool/internal/store"
)

// backend is a store as it is kept.
type backend interface {
	store.Store
	store.Documents
	store.Agreeing
	store.Usages
	store.Sealing
	auth.TokenStore
	Close() error
}

// State is what outlives the server. Its methods are those of the store that it is kept in, and
// take and return secrets in plain text.
type State struct {
	backend
	log *slog.Logger
	o   Options

	// change is held for reading by whoever seals something and writes it, and for writing while
	// the key is changed: what was sealed with the earlier key is in the store before that begins,
	// and nothing of it comes after.
	change sync.RWMutex
	ring   atomic.Pointer[keyring.Ring]
}

var (
	_ store.Store     = (*State)(nil)
	_ store.Documents = (*State)(nil)
)

// ofPool seals the secrets of a pool; nil stays nil.
func (s *State) ofPool(id sandpool.PoolID, secrets sandpool.Secrets) sandpool.Secrets {
	if secrets == nil {
		return nil
	}
	sealed := make(sandpool.Secrets, len(secrets))
	for name, value := range secrets {
		text := s.ring.Load().Seal(value.Reveal(), store.OfPool, id.Key(), name)
		sealed[name] = sandpool.NewSecret(text)
	}
	return sealed
}

// CreatePool implements store.Pools.
func (s *State) CreatePool(ctx context.Context, p sandpool.Pool, secrets sandpool.Secrets,
	owner string) (int64, error) {
	s.change.RLock()
	defer s.change.RUnlock()
	return s.backend.CreatePool(ctx, p, s.ofPool(p.ID, secrets), owner)
}

// PutPool implements store.Pools.
func (s *State) PutPool(ctx context.Context, p sandpool.Pool, secrets sandpool.Secrets,
	epoch int64) error {
	s.change.RLock()
	defer s.change.RUnlock()
	return s.backend.PutPool(ctx, p, s.ofPool(p.ID, secrets), epoch)
}

// Secrets implements store.Pools.
func (s *State) Secrets(ctx context.Context, id sandpool.PoolID) (sandpool.Secrets, error) {
	sealed, err := s.backend.Secrets(ctx, id)
	if err != nil {
		return nil, err
	}
	secrets := make(sandpool.Secrets, len(sealed))
	for name, value := range sealed {
		text, err := s.ring.Load().Open(value.Reveal(), store.OfPool, id.Key(), name)
		if err != nil {
			return nil, err
		}
		secrets[name] = sandpool.NewSecret(text)
	}
	return secrets, nil
}

func (s *State) ofSandbox(id sandpool.SandboxID, secret string) string {
	return s.ring.Load().Seal(secret, store.OfSandbox, string(id))
}

// open opens the secret of a sandbox. One that does not open is lost with its sandbox: that is then
// found to answer nobody, and replaced.
func (s *State) open(b *sandpool.Sandbox) {
	if b.ID == "" {
		return
	}
	text, err := s.ring.Load().Open(b.Secret, store.OfSandbox, string(b.ID))
	if err != nil {
		s.log.Warn("the secret of a sandbox does not open; the sandbox cannot be used",
			"sandbox", b.ID, "error", err)
	}
	b.Secret = text
}

// Sandboxes implements store.Sandboxes.
func (s *State) Sandboxes(ctx context.Context) ([]sandpool.Sandbox, error) {
	rows, err := s.backend.Sandboxes(ctx)
	for i := range rows {
		s.open(&rows[i])
	}
	return rows, err
}

// Insert implements store.Sandboxes.
func (s *State) Insert(ctx context.Context, b sandpool.Sandbox, epoch int64) error {
	s.change.RLock()
	defer s.change.RUnlock()
	b.Secret = s.ofSandbox(b.ID, b.Secret)
	return s.backend.Insert(ctx, b, epoch)
}

// Claim implements store.Sandboxes.
func (s *State) Claim(ctx context.Context, r sandpool.ClaimRequest) (sandpool.Sandbox,
	sandpool.ClaimOutcome, error) {
	s.change.RLock()
	defer s.change.RUnlock()
	r.NewSecret = s.ofSandbox(r.NewID, r.NewSecret)
	b, outcome, err := s.backend.Claim(ctx, r)
	s.open(&b)
	return b, outcome, err
}

// Started implements store.Sandboxes.
func (s *State) Started(ctx context.Context, id sandpool.SandboxID, handle []byte, now time.Time,
	epoch int64) (sandpool.Sandbox, error) {
	b, err := s.backend.Started(ctx, id, handle, now, epoch)
	s.open(&b)
	return b, err
}

// sameKey is an error if the store has been given another key since it was opened, as can happen
// while a server starts: what this one would seal opens for no other.
func (s *State) sameKey(ctx context.Context) error {
	by, err := s.SealedBy(ctx)
	if err == nil && by != s.ring.Load().Current() {
		return sandpool.Errorf(sandpool.Conflict, "StoreKey", "store_key",
			"The store's secrets were sealed with the key %s while this server ran with %s. "+
				"Start it again.", by, s.ring.Load().Current())
	}
	return err
}

// Join implements store.Servers.
func (s *State) Join(ctx context.Context, server store.Server) error {
	s.change.RLock()
	defer s.change.RUnlock()
	if err := s.backend.Join(ctx, server); err != nil {
		return err
	}
	return s.sameKey(ctx)
}

// Beat implements store.Servers.
func (s *State) Beat(ctx context.Context, name, instance string) error {
	s.change.RLock()
	defer s.change.RUnlock()
	if err := s.sameKey(ctx); err != nil {
		return err
	}
	return s.backend.Beat(ctx, name, instance)
}

func (s *State) sealDocument(d store.Document) store.Document {
	if store.IsSecret(d.Kind) {
		d.Text = s.ring.Load().Seal(d.Text, store.OfDocument, d.Kind, d.Key)
	}
	return d
}

// openDocument opens the text of a document. A deployment that does not open, or was given up with
// its key, is as one that is not there.
func (s *State) openDocument(d store.Document) (_ store.Document, err error) {
	if !store.IsSecret(d.Kind) {
		return d, nil
	}
	d.Text, err = s.ring.Load().Open(d.Text, store.OfDocument, d.Kind, d.Key)
	if d.Kind != store.Deployment || err == nil && d.Text != "" {
		return d, err
	}
	if err != nil {
		s.log.Warn("a deployment does not open and is left out", "deployment", d.Key, "error", err)
	}
	return d, &sandpool.Error{Class: sandpool.NotFound, Err: err,
		Message: fmt.Sprintf("The deployment %.300q cannot be read any more.", d.Key)}
}

// Documents implements store.Documents.
func (s *State) Documents(ctx context.Context, kind, prefix string) ([]store.Document, error) {
	sealed, err := s.backend.Documents(ctx, kind, prefix)
	if err != nil {
		return nil, err
	}
	list := sealed[:0]
	for _, d := range sealed {
		d, err := s.openDocument(d)
		if sandpool.ClassOf(err) == sandpool.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, nil
}

// Document implements store.Documents.
func (s *State) Document(ctx context.Context, kind, key string) (store.Document, error) {
	d, err := s.backend.Document(ctx, kind, key)
	if err != nil {
		return d, err
	}
	return s.openDocument(d)
}

// PutDocument implements store.Documents.
func (s *State) PutDocument(ctx context.Context, d store.Document) error {
	s.change.RLock()
	defer s.change.RUnlock()
	return s.backend.PutDocument(ctx, s.sealDocument(d))
}

// Agree implements store.Agreeing.
func (s *State) Agree(ctx context.Context, d store.Document) (store.Document, error) {
	s.change.RLock()
	defer s.change.RUnlock()
	kept, err := s.backend.Agree(ctx, s.sealDocument(d))
	if err != nil {
		return d, err
	}
	if kept, err = s.openDocument(kept); err != nil || kept.Text != "" {
		return kept, err
	}
	// The one that was kept has been discarded with its key.
	return d, s.backend.PutDocument(ctx, s.sealDocument(d))
}
