package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
)

// TokenStore keeps tokens. An unknown id is an error of class NotFound from
// Token, and no error from DeleteToken.
type TokenStore interface {
	// Tokens returns all tokens, oldest first.
	Tokens(ctx context.Context) ([]sandpool.Token, error)
	// Token returns the token with the given id.
	Token(ctx context.Context, id string) (sandpool.Token, error)
	// PutToken inserts t or replaces the token of the same id.
	PutToken(ctx context.Context, t sandpool.Token) error
	// DeleteToken removes the token with the given id.
	DeleteToken(ctx context.Context, id string) error
}

// A token's text is sp_ID_SECRET. Id and secret are lower-case base32 of 10 and
// 32 random bytes, so that a double click selects the whole, and a secret
// scanner can tell it from other text.
const (
	tokenPrefix = "sp_"
	idBytes     = 10
	secretBytes = 32
	idLen       = 16
	secretLen   = 52
	tokenLen    = len(tokenPrefix) + idLen + 1 + secretLen
)

const alphabet = "abcdefghijklmnopqrstuvwxyz234567"

// maxName bounds a token's name in bytes.
const maxName = 100

// NewToken makes a token. The text is shown to its owner once; only the row is kept.
// A zero scope means every pool, a zero expires never.
func NewToken(name string, role Role, scope sandpool.PoolID, expires, now time.Time) (sandpool.Token, string, error) {
	if _, err := ParseRole(role); err != nil {
		return sandpool.Token{}, "", err
	}
	if !isName(name) {
		return sandpool.Token{}, "", sandpool.Errorf(sandpool.Invalid, "InvalidTokenName", "name",
			"The token's name %q is not allowed. Use 1 to %d printable characters.", name, maxName)
	}
	if !expires.IsZero() && !expires.After(now) {
		return sandpool.Token{}, "", sandpool.Errorf(sandpool.Invalid, "InvalidTokenExpiry", "expiresAt",
			"The token would expire at %s, which is not in the future.", expires.Format(time.RFC3339))
	}
	id, secret := randomWord(idBytes), randomWord(secretBytes)
	return sandpool.Token{
		ID: id, Name: name, Hash: hash(secret), Role: role, Pool: scope, CreatedAt: now, ExpiresAt: expires,
	}, tokenPrefix + id + "_" + secret, nil
}

func isName(s string) bool {
	return s != "" && len(s) <= maxName && strings.TrimSpace(s) == s &&
		strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\uFFFD' }) < 0
}

func randomWord(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return base32.NewEncoding(alphabet).WithPadding(base32.NoPadding).EncodeToString(b)
}

// hash is over the secret's text, not the bytes behind it: base32 of 32 bytes
// has spare bits, so several texts would decode to the same bytes.
func hash(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}

// parseToken splits a token's text. It accepts exactly what NewToken makes.
func parseToken(text string) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok || len(text) != tokenLen {
		return "", "", false
	}
	id, secret = rest[:idLen], rest[idLen+1:]
	ok = rest[idLen] == '_' && strings.Trim(id, alphabet) == "" && strings.Trim(secret, alphabet) == ""
	return id, secret, ok
}

// Verify looks the token with the given text up in store and returns its
// principal. A token that is malformed, unknown, wrong or expired is an error of class
// Unauthenticated that does not say which.
func Verify(ctx context.Context, store TokenStore, text string, now time.Time) (Principal, error) {
	id, secret, ok := parseToken(text)
	switch {
	case ok:
	case strings.HasPrefix(text, "eyJ") && strings.Count(text, ".") == 2: // a JSON Web Token
		return Principal{}, entra()
	default:
		return Principal{}, refused()
	}
	t, err := find(ctx, store, id)
	if err != nil {
		return Principal{}, err
	}
	return check(t, secret, now)
}

// find returns the zero token for an unknown id: check compares it like any
// other, so that an unknown id costs what a known one does.
func find(ctx context.Context, store TokenStore, id string) (sandpool.Token, error) {
	t, err := store.Token(ctx, id)
	if sandpool.ClassOf(err) == sandpool.NotFound {
		return sandpool.Token{}, nil
	}
	if err != nil {
		return sandpool.Token{}, &sandpool.Error{Class: sandpool.Unavailable,
			Message: "The server cannot check tokens at the moment. Try again.", Err: err}
	}
	return t, nil
}

// check compares secret with t and returns t's principal.
func check(t sandpool.Token, secret string, now time.Time) (Principal, error) {
	want := t.Hash
	if len(want) != sha256.Size {
		want = make([]byte, sha256.Size) // no secret is known that hashes to zeros
	}
	same := subtle.ConstantTimeCompare(want, hash(secret)) == 1
	expired := !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt)
	if !same || expired || t.ID == "" {
		return Principal{}, refused()
	}
	return Principal{TokenID: t.ID, Name: t.Name, Role: t.Role, Pool: t.Pool}, nil
}

// entra is the error of a token that a Microsoft service has made.
func entra() error {
	return sandpool.Errorf(sandpool.Unauthenticated, "InvalidAuthenticationToken", "Authorization",
		"Microsoft Entra tokens are not accepted; use a token of this server, as 'sandpool token create' makes them.")
}

func refused() error {
	return sandpool.Errorf(sandpool.Unauthenticated, "InvalidAuthenticationToken", "Authorization",
		"The bearer token is not valid: it is unknown, wrong, revoked or expired.")
}
