package auth

import (
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
)

// The roles are those of Azure: who manages pools does not by that see what runs in them.
const (
	// Admin may do everything.
	Admin sandpool.Role = "admin"
	// PoolContributor manages pools, but neither runs code nor sees sessions.
	PoolContributor sandpool.Role = "pool-contributor"
	// SessionExecutor runs code, and reads pools to find their endpoints.
	SessionExecutor sandpool.Role = "session-executor"
	// Reader reads pools and what lies around them, and neither runs code nor sees sessions.
	Reader sandpool.Role = "reader"
	// MonitoringReader reads the server's metrics, and nothing else.
	MonitoringReader sandpool.Role = "monitoring-reader"
)

// Roles lists the roles, the most powerful first.
func Roles() []sandpool.Role {
	return []sandpool.Role{Admin, PoolContributor, SessionExecutor, Reader, MonitoringReader}
}

// AzureName is what Azure calls a role; empty if r is none.
func AzureName(r sandpool.Role) string {
	return map[sandpool.Role]string{
		Admin:            "Owner",
		PoolContributor:  "Container Apps SessionPools Contributor",
		SessionExecutor:  "Azure ContainerApps Session Executor",
		Reader:           "Reader",
		MonitoringReader: "Monitoring Reader",
	}[r]
}

// least is the role that permits a and the least beside it; empty if none does.
func least(a Action) sandpool.Role {
	for _, r := range slices.Backward(Roles()) {
		if permits(r, a) {
			return r
		}
	}
	return ""
}

// ParseRole checks that s is a role.
func ParseRole(s string) (sandpool.Role, error) {
	if slices.Contains(Roles(), sandpool.Role(s)) {
		return sandpool.Role(s), nil
	}
	names := make([]string, 0, len(Roles()))
	for _, r := range Roles() {
		names = append(names, string(r))
	}
	return "", sandpool.Errorf(sandpool.Invalid, "InvalidRole", "role",
		"The role %.60q is unknown. Use one of %s.", s, strings.Join(names, ", "))
}

// Action is something that a principal may or may not do.
type Action string

// The actions. What each is about is in about.
const (
	// ListPools lists pools; the list holds those that the principal may read.
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
	// ManageTokens makes, lists and revokes tokens of every scope.
	ManageTokens Action = "manage tokens"
	// AssignRoles gives roles within a scope, and takes them back.
	AssignRoles Action = "assign roles"
	// ReadHost reads what concerns the machine: an engine's errors name its files.
	ReadHost Action = "read errors of the host"
	// ReadGroup reads what lies in a resource group beside pools, and WriteGroup changes it.
	ReadGroup  Action = "read the resource group"
	WriteGroup Action = "change the resource group"
	// AssignIdentity gives pools the identities of a resource group, as Azure's action
	// Microsoft.ManagedIdentity/userAssignedIdentities/assign/action does.
	AssignIdentity Action = "assign identities of the resource group"
	// ReadMetrics reads the server's metrics, which count for every pool.
	ReadMetrics Action = "read the metrics"
	// ReadUsage reads what sessions have used, and who began them.
	ReadUsage Action = "read the usage of sessions"
	// ReadAudit reads who changed what, which names every principal.
	ReadAudit Action = "read the audit log"
)

// Actions lists the actions, those on pools first.
func Actions() []Action {
	return []Action{ListPools, ReadPool, WritePool, DeletePool, ReadStatus, Execute, ReadSessions,
		ReadUsage, ReadGroup, WriteGroup, AssignIdentity, AssignRoles, ManageTokens, ReadMetrics,
		ReadAudit, ReadHost}
}

// subject is what an action is about.
type subject int

const (
	// ofPools: a pool, or sessions of it.
	ofPools subject = iota
	// ofServer: the server as a whole, which takes a grant of everything.
	ofServer
	// ofGroups: everything, a subscription, a resource group, or a pool as a part of them.
	ofGroups
	// ofLists: a list, which its answerer filters by a principal's scopes.
	ofLists
)

// about says what an action is about.
func about(a Action) subject {
	switch a {
	case ManageTokens, ReadHost, ReadMetrics, ReadAudit:
		return ofServer
	case ReadGroup, WriteGroup, AssignIdentity, AssignRoles:
		return ofGroups
	case ListPools:
		return ofLists
	}
	return ofPools
}

// permits says what each role may do.
func permits(r sandpool.Role, a Action) bool {
	switch r {
	case Admin:
		return slices.Contains(Actions(), a)
	case PoolContributor:
		return slices.Contains([]Action{ListPools, ReadPool, WritePool, DeletePool, ReadStatus,
			ReadGroup, WriteGroup, AssignIdentity, ReadUsage}, a)
	case SessionExecutor:
		return slices.Contains([]Action{ListPools, ReadPool, ReadStatus, Execute, ReadSessions,
			ReadGroup}, a)
	case Reader:
		return slices.Contains([]Action{ListPools, ReadPool, ReadStatus, ReadGroup,
			ReadUsage}, a)
	case MonitoringReader:
		return a == ReadMetrics
	}
	return false
}
