package sandpool

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
)

// ManagedIdentity is who a pool is to others. The zero value is nobody.
type ManagedIdentity struct {
	// Principal is the object id of the pool's own principal, which ends with the pool; empty if it
	// has none.
	Principal string `json:"principal,omitempty"`
	// InSessions lets code in sessions get tokens of the principal.
	InSessions bool `json:"inSessions,omitempty"`
	// Audiences are what tokens may be for, of every identity that the pool has; without any there
	// are none.
	Audiences []string `json:"audiences,omitempty"`
	// Assigned are the user-assigned identities that the pool has beside its own. They are there
	// without it, and one that was deleted stays in the list until it is taken out.
	Assigned []AssignedIdentity `json:"assigned,omitempty"`
}

// AssignedIdentity is an identity as a pool has it: the one that it is itself, or one that is a
// resource of its own.
type AssignedIdentity struct {
	// ID is the resource id: of the pool, or of the identity.
	ID string `json:"id"`
	// Principal is the object id, which another resource of the same name does not have.
	Principal string `json:"principal"`
	// Client is the id by which code asks for its tokens.
	Client string `json:"client"`
	// InSessions lets code in sessions get tokens of it.
	InSessions bool `json:"inSessions,omitempty"`
}

// Used reports whether code in sessions can get tokens of some identity.
func (m ManagedIdentity) Used() bool {
	return m.Principal != "" && m.InSessions ||
		slices.ContainsFunc(m.Assigned, func(a AssignedIdentity) bool { return a.InSessions })
}

// Identities are those of which code in the pool's sessions can get tokens, the pool's own first.
func (p Pool) Identities() (usable []AssignedIdentity) {
	if own := p.Spec.Identity; own.Principal != "" && own.InSessions {
		usable = append(usable, AssignedIdentity{ID: p.ID.String(), Principal: own.Principal,
			Client: own.Principal, InSessions: true})
	}
	for _, a := range p.Spec.Identity.Assigned {
		if a.InSessions {
			usable = append(usable, a)
		}
	}
	return usable
}

// IsOwn reports whether a is what a pool is itself.
func (p Pool) IsOwn(a AssignedIdentity) bool { return a.ID == p.ID.String() }

// managedPrefix begins the object ids of pools' principals, and of user-assigned identities. An
// issuer elsewhere that used it would get nothing by it: what is assigned to such an id counts for
// tokens of this server alone.
const managedPrefix = "5a9d9001-"

// NewManagedPrincipal makes an object id that no principal has had: a UUID of version 8 (RFC 9562).
func NewManagedPrincipal() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	b[2], b[4] = b[2]&0x0f|0x80, b[4]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return managedPrefix + h[:4] + "-" + h[4:8] + "-" + h[8:12] + "-" + h[12:]
}

// IsManagedPrincipal reports whether id is of a managed identity's principal, there or gone.
func IsManagedPrincipal(id string) bool {
	return len(id) == 36 && strings.HasPrefix(strings.ToLower(id), managedPrefix)
}

// Audience is the one form of the name of what a token is for, as it is compared: clients add a
// slash or the scope ".default".
func Audience(resource string) string {
	return strings.TrimRight(strings.TrimSuffix(resource, "/.default"), "/")
}
