package sandpool

import "time"

// Token is a bearer token's row in the store. The secret itself is shown once,
// when the token is made, and is kept nowhere.
type Token struct {
	ID   string // the public part, found in the token's text
	Name string // what the operator calls it
	// Hash is the SHA-256 of the secret part. The secret is random and 32 bytes long,
	// so a slow hash would add nothing.
	Hash []byte
	Role string // see package auth
	// Pool limits the token to one pool; the zero PoolID means every pool.
	Pool      PoolID
	CreatedAt time.Time
	ExpiresAt time.Time // zero means never
}
