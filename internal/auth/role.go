package auth

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
)

// Role is what a token may do. The roles are those of Azure: who manages pools
// does not by that see what runs in them.
type Role = string

// The roles.
const (
	// Admin may do everything.
	Admin Role = "admin"
	// PoolContributor manages pools, but neither runs code nor sees sessions.
	PoolContributor Role = "pool-contributor"
	// SessionExecutor runs code, and reads pools to find their endpoints.
	SessionExecutor Role = "session-executor"
)

// Roles lists the roles, the most powerful first.
func Roles() []Role { return []Role{Admin, PoolContributor, SessionExecutor} }

// ParseRole checks that s is a role.
func ParseRole(s string) (Role, error) {
	if slices.Contains(Roles(), s) {
		return s, nil
	}
	return "", sandpool.Errorf(sandpool.Invalid, "InvalidRole", "role", "The role %q is unknown. Use one of %s.", s, strings.Join(Roles(), ", "))
}

// Action is something that a principal may or may not do.
type Action string

// The actions. All but ListPools and ManageTokens are about one pool.
const (
	// ListPools lists pools; the list holds those that the principal sees.
	ListPools Action = "list pools"
	// ReadPool reads a pool's settings.
	ReadPool Action = "read the pool"
	// WritePool creates or changes a pool.
	WritePool Action = "write the pool"
	// DeletePool deletes a pool and ends its sessions.
	DeletePool Action = "delete the pool"
	// ReadStatus reads counts and the use of resources.
	ReadStatus Action = "read the pool's status"
	// Execute uses the data plane: runs code, moves files, ends sessions.
	Execute Action = "execute in the pool"
	// ReadSessions lists sessions. Their identifiers are secrets.
	ReadSessions Action = "read the pool's sessions"
	// ManageTokens makes, lists and revokes tokens.
	ManageTokens Action = "manage tokens"
)

// Principal is who a request comes from.
type Principal struct {
	TokenID string
	Name    string
	Role    Role
	// Pool limits the principal to one pool; the zero PoolID means every pool.
	Pool sandpool.PoolID
}

// permits says what each role may do.
func permits(r Role, a Action) bool {
	switch r {
	case Admin:
		return slices.Contains([]Action{ListPools, ReadPool, WritePool, DeletePool, ReadStatus, Execute, ReadSessions, ManageTokens}, a)
	case PoolContributor:
		return slices.Contains([]Action{ListPools, ReadPool, WritePool, DeletePool, ReadStatus}, a)
	case SessionExecutor:
		return slices.Contains([]Action{ListPools, ReadPool, ReadStatus, Execute, ReadSessions}, a)
	}
	return false
}

// Sees reports whether pool lies within the principal's scope.
func (p Principal) Sees(pool sandpool.PoolID) bool {
	return p.Pool == (sandpool.PoolID{}) || p.Pool.Key() == pool.Key()
}

// Allow returns nil if p may take action a on pool, and else an error of class Denied that
// names both. pool is ignored by ListPools, whose answer the caller filters
// with Sees, and by ManageTokens, which needs a principal without a scope: else
// it could make itself a token for every pool.
func Allow(p Principal, a Action, pool sandpool.PoolID) error {
	if !permits(p.Role, a) {
		return denied(p, a, fmt.Sprintf("the role %q does not permit it", p.Role))
	}
	switch a {
	case ListPools:
		return nil
	case ManageTokens:
		if p.Pool != (sandpool.PoolID{}) {
			return denied(p, a, "it is limited to one pool")
		}
		return nil
	}
	if pool == (sandpool.PoolID{}) || !p.Sees(pool) {
		return denied(p, a, "its scope does not include "+pool.String())
	}
	return nil
}

func denied(p Principal, a Action, why string) error {
	return sandpool.Errorf(sandpool.Denied, "AuthorizationFailed", "",
		"The token %q (%s) may not %s: %s. An administrator can make one that may, with 'sandpool token create'.", p.Name, p.TokenID, a, why)
}
