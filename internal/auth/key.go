package auth

import (
	"crypto/rand"
	"strings"

	"github.com/sandpool/sandpool"
)

// poolKeyPrefix begins every key of a pool's own, so that a scanner for secrets can tell it.
const poolKeyPrefix = "spk_"

// NewPoolKey returns a key of a pool's own, with 260 random bits.
func NewPoolKey() sandpool.Secret {
	return sandpool.NewSecret(poolKeyPrefix + strings.ToLower(rand.Text()+rand.Text()))
}

// ShowsPoolKey reports whether c has the form of a pool's own key, and its request may show one.
// Besides in its header it may be a bearer token: some clients can send nothing else.
func ShowsPoolKey(c Credential) bool {
	return c.Kind == APIKey || c.Pool != (sandpool.PoolID{}) &&
		strings.HasPrefix(c.Text, poolKeyPrefix)
}
