package usage

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"

	"github.com/sandpool/sandpool"
)

// Key makes what records say in place of identifiers: HMAC-SHA256 under the key, of the
// identifier's hash. Without the key nobody can try identifiers until one fits, whoever may read
// the records. Those that were written before there was a key say the hash alone, as do all under
// an empty one.
type Key []byte

// name is what a record of an identifier says.
func (k Key) name(identifier sandpool.Identifier) string { return k.of(identifier.Hash()) }

func (k Key) of(hash string) string {
	if len(k) == 0 {
		return hash
	}
	sum := hmac.New(sha256.New, k)
	_, _ = io.WriteString(sum, hash) // hashes take everything
	return hex.EncodeToString(sum.Sum(nil))
}

// names are what records may say of the identifier that a caller means by a hash, or by what a
// record says.
func (k Key) names(hash string) []string { return []string{hash, k.of(hash)} }
