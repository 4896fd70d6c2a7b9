package sandpool

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// ManagedIdentity is who a pool is to others. The zero value is nobody.
type ManagedIdentity struct {
	// Principal is the object id of the pool's own principal, which ends with the pool; empty if it
	// has none.
	Principal string `json:"principal,omitempty"`
	// InSessions lets code in sessions get tokens of the principal.
	InSessions bool `json:"inSessions,omitempty"`
	// Audiences are what the tokens may be for; without any there are none.
	Audiences []string `json:"audiences,omitempty"`
}

// managedPrefix begins the object ids of pools' principals. An issuer elsewhere that used it would
// get nothing by it: what is assigned to such an id counts for tokens of this server alone.
const managedPrefix = "5a9d9001-"

// NewManagedPrincipal makes an object id that no principal has had: a UUID of version 8 (RFC 9562).
func NewManagedPrincipal() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	b[2], b[4] = b[2]&0x0f|0x80, b[4]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return managedPrefix + h[:4] + "-" + h[4:8] + "-" + h[8:12] + "-" + h[12:]
}

// IsManagedPrincipal reports whether id is of a pool's principal, there or gone.
func IsManagedPrincipal(id string) bool {
	return len(id) == 36 && strings.HasPrefix(strings.ToLower(id), managedPrefix)
}

// Audience is the one form of the name of what a token is for, as it is compared: clients add a
// slash or the scope ".default".
func Audience(resource string) string {
	return strings.TrimRight(strings.TrimSuffix(resource, "/.default"), "/")
}
