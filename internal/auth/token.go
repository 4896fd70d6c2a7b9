package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
)

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

const (
	// maxName bounds a token's name in bytes.
	maxName = 100
	// maxGrants bounds a token's grants: every request looks at them.
	maxGrants = 20
)

// NewToken makes a token. The text is shown to its owner once; only the row is kept.
// A zero expires means never.
func NewToken(name string, grants []sandpool.Grant, expires, now time.Time) (sandpool.Token, string,
	error) {
	if len(grants) == 0 || len(grants) > maxGrants {
		return sandpool.Token{}, "", sandpool.Errorf(sandpool.Invalid, "InvalidGrants", "grants",
			"The token has %d grants. Give it 1 to %d.", len(grants), maxGrants)
	}
	for _, g := range grants {
		if _, err := ParseRole(string(g.Role)); err != nil {
			return sandpool.Token{}, "", err
		}
		if g.Ended(now) {
			return sandpool.Token{}, "", sandpool.Errorf(sandpool.Invalid, "InvalidGrants", "grants",
				"A grant would expire at %s, which is not in the future.",
				g.Expires.Format(time.RFC3339))
		}
	}
	if !isName(name) {
		return sandpool.Token{}, "", sandpool.Errorf(sandpool.Invalid, "InvalidTokenName", "name",
			"The token's name %.120q is not allowed. Use 1 to %d printable characters.", name,
			maxName)
	}
	if !expires.IsZero() && !expires.After(now) {
		return sandpool.Token{}, "", sandpool.Errorf(sandpool.Invalid, "InvalidTokenExpiry",
			"expiresAt",
			"The token would expire at %s, which is not in the future.",
			expires.Format(time.RFC3339))
	}
	id, secret := randomWord(idBytes), randomWord(secretBytes)
	return sandpool.Token{
		ID: id, Name: name, Hash: hash(secret), Grants: grants, CreatedAt: now, ExpiresAt: expires,
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
	ok = rest[idLen] == '_' && strings.Trim(id, alphabet) == "" &&
		strings.Trim(secret, alphabet) == ""
	return id, secret, ok
}
