package sandpool

import "time"

// Role names what a grant allows; package auth says what that is.
type Role string

// Grant gives a role in a scope.
type Grant struct {
	Role  Role
	Scope Scope
	// Expires is when it ends, in UTC and whole seconds; zero means never.
	Expires time.Time
}

// Ended reports whether g gives nothing at now any more.
func (g Grant) Ended(now time.Time) bool { return !g.Expires.IsZero() && !now.Before(g.Expires) }

// Token is a bearer token's row in the store. The secret itself is shown once,
// when the token is made, and is kept nowhere.
type Token struct {
	ID   string // the public part, found in the token's text
	Name string // what the operator calls it
	// Hash is the SHA-256 of the secret part. The secret is random and 32 bytes long,
	// so a slow hash would add nothing.
	Hash []byte
	// Grants are what the token allows. Without any it allows nothing.
	Grants    []Grant
	CreatedAt time.Time
	ExpiresAt time.Time // zero means never
}
