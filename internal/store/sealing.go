package store

import (
	"context"
	"errors"
	"fmt"
)

// ErrSealedBy is in the error of Reseal when the secrets are sealed with another key than it says.
var ErrSealedBy = errors.New("the secrets are sealed with another key")

// SealedByAnother is that error; now is the key's id.
func SealedByAnother(now string) error { return fmt.Errorf("%w: %q", ErrSealedBy, now) }

// The kinds of documents whose texts are secrets. A deployment that has not ended has what was
// asked for, with the values of its secure parameters.
const (
	ServerSecret = "serverSecret"
	Deployment   = "deployment"
)

// IsSecret reports whether the texts of documents of a kind are secrets.
func IsSecret(kind string) bool { return kind == ServerSecret || kind == Deployment }

// The places of secrets are named by a kind, by what they belong to, and some by a name.
const (
	OfPool     = "secret"   // the pool's key and the secret's name
	OfSandbox  = "sandbox"  // the sandbox's id
	OfDocument = "document" // the document's kind and key
)

// Secret is a value that a store keeps as it was given: sealed, if it says so.
type Secret struct {
	Place []string
	Value string
}

// Parts are what the secret belongs to, and its name, which is empty if it has none.
func (s Secret) Parts() (owner, name string) {
	if len(s.Place) > 2 {
		name = s.Place[2]
	}
	return s.Place[1], name
}

// Sealing keeps which key seals the secrets of a store: those of pools and sandboxes, and the
// documents of the kinds of secrets. Stores know nothing of keys but an id.
type Sealing interface {
	// SealedBy returns the id of the key, which is empty as long as the secrets are plain.
	SealedBy(ctx context.Context) (string, error)
	// Reseal replaces the value of every secret by what change makes of it, and from by to as the
	// id of the key, all in one transaction. It is ErrSealedBy if the key is not from. When it
	// returns, the earlier values are not in the store's files, as far as that is for the store to
	// say.
	Reseal(ctx context.Context, from, to string, change func(Secret) (string, error)) error
}
