package api

import (
	"encoding/json"
	"strings"
)

// List is a list of Resource Manager that has one page.
type List[T any] struct {
	Value []T `json:"value"`
}

// Subscription is a subscription, of which the server has as many as are named.
type Subscription struct {
	ID             string `json:"id"`
	SubscriptionID string `json:"subscriptionId"`
	DisplayName    string `json:"displayName"`
	State          string `json:"state"`
	TenantID       string `json:"tenantId"`
}

// Tenant is the server's one tenant.
type Tenant struct {
	ID          string `json:"id"`
	TenantID    string `json:"tenantId"`
	DisplayName string `json:"displayName"`
}

// Location is a place for pools.
type Location struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	DisplayName string `json:"displayName"`
}

// Provider is a resource provider with the types that the server serves.
type Provider struct {
	ID                 string         `json:"id"`
	Namespace          string         `json:"namespace"`
	RegistrationState  string         `json:"registrationState"`
	RegistrationPolicy string         `json:"registrationPolicy"`
	ResourceTypes      []ResourceType `json:"resourceTypes"`
}

// ResourceType is a type of a Provider.
type ResourceType struct {
	ResourceType string   `json:"resourceType"`
	Locations    []string `json:"locations"`
	APIVersions  []string `json:"apiVersions"`
	Capabilities string   `json:"capabilities,omitempty"`
}

// ResourceGroup is a resource group.
type ResourceGroup struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Location   string            `json:"location"`
	Tags       map[string]string `json:"tags,omitempty"`
	ManagedBy  string            `json:"managedBy,omitempty"`
	Properties Provisioned       `json:"properties"`
}

// ResourceGroupPatch is a change of a resource group. What is absent stays.
type ResourceGroupPatch struct {
	Tags      *map[string]string `json:"tags,omitempty"`
	ManagedBy *string            `json:"managedBy,omitempty"`
}

// Provisioned is the state of a resource that is there at once.
type Provisioned struct {
	ProvisioningState string `json:"provisioningState"`
}

// Resource is a resource in a list of them.
type Resource struct {
	ID                string            `json:"id"`
	Name              string            `json:"name"`
	Type              string            `json:"type"`
	Location          string            `json:"location"`
	Tags              map[string]string `json:"tags,omitempty"`
	ProvisioningState string            `json:"provisioningState,omitempty"`
	// CreatedTime and ChangedTime are there if $expand asks for them, in RFC 3339.
	CreatedTime string `json:"createdTime,omitempty"`
	ChangedTime string `json:"changedTime,omitempty"`
}

// Environment is a managed environment, which pools may name. Its properties are kept as they
// were sent.
type Environment struct {
	ID         string                     `json:"id"`
	Name       string                     `json:"name"`
	Type       string                     `json:"type"`
	Location   string                     `json:"location"`
	Tags       map[string]string          `json:"tags,omitempty"`
	Properties map[string]json.RawMessage `json:"properties"`
	SystemData *SystemData                `json:"systemData,omitempty"`
}

// UserAssignedIdentity is a managed identity that is a resource of its own, and that pools may be
// given.
type UserAssignedIdentity struct {
	ID         string                 `json:"id"`
	Name       string                 `json:"name"`
	Type       string                 `json:"type"`
	Location   string                 `json:"location"`
	Tags       map[string]string      `json:"tags,omitempty"`
	Properties UserAssignedProperties `json:"properties"`
	SystemData *SystemData            `json:"systemData,omitempty"`
}

// UserAssignedProperties say who an identity is: the object id of its principal, to which roles are
// assigned, and the id by which code asks for its tokens. The server sets them, once.
type UserAssignedProperties struct {
	TenantID    string `json:"tenantId"`
	PrincipalID string `json:"principalId"`
	ClientID    string `json:"clientId"`
	// IsolationScope is kept as it was sent: None or Regional.
	IsolationScope string `json:"isolationScope,omitempty"`
}

// UserAssignedIdentityPatch is a change of a user-assigned identity. What is absent stays.
type UserAssignedIdentityPatch struct {
	Location string             `json:"location,omitempty"`
	Tags     *map[string]string `json:"tags,omitempty"`
}

// UserAssignedIdentityType is the resource type of user-assigned identities.
const UserAssignedIdentityType = "Microsoft.ManagedIdentity/userAssignedIdentities"

// Usage is how much of a quota is used.
type Usage struct {
	Unit         string    `json:"unit"`
	CurrentValue int       `json:"currentValue"`
	Limit        int       `json:"limit"`
	Name         UsageName `json:"name"`
}

// UsageName names a quota.
type UsageName struct {
	Value          string `json:"value"`
	LocalizedValue string `json:"localizedValue"`
}

// RoleDefinition is a role that can be assigned.
type RoleDefinition struct {
	ID         string                   `json:"id"`
	Name       string                   `json:"name"`
	Type       string                   `json:"type"`
	Properties RoleDefinitionProperties `json:"properties"`
}

// Role is our name of the role: admin, session-executor and so on; its name in Azure if it is not
// one of ours.
func (d RoleDefinition) Role() string {
	for _, p := range d.Properties.Permissions {
		for _, action := range p.Actions {
			if name, ok := strings.CutPrefix(action, "sandpool/"); ok {
				return name
			}
		}
	}
	return d.Properties.RoleName
}

// RoleDefinitionProperties say what a role is.
type RoleDefinitionProperties struct {
	RoleName         string       `json:"roleName"`
	Type             string       `json:"type"`
	Description      string       `json:"description"`
	AssignableScopes []string     `json:"assignableScopes"`
	Permissions      []Permission `json:"permissions"`
}

// Permission is what a role permits.
type Permission struct {
	Actions        []string `json:"actions"`
	NotActions     []string `json:"notActions"`
	DataActions    []string `json:"dataActions"`
	NotDataActions []string `json:"notDataActions"`
}

// RoleAssignment gives a principal a role at a scope.
type RoleAssignment struct {
	ID         string                   `json:"id"`
	Name       string                   `json:"name"`
	Type       string                   `json:"type"`
	Properties RoleAssignmentProperties `json:"properties"`
}

// RoleAssignmentProperties say who may do what, and where.
type RoleAssignmentProperties struct {
	Scope            string `json:"scope,omitempty"`
	RoleDefinitionID string `json:"roleDefinitionId"`
	PrincipalID      string `json:"principalId"`
	PrincipalType    string `json:"principalType,omitempty"`
	Description      string `json:"description,omitempty"`
	// Condition is refused: the server's assignments have none.
	Condition string `json:"condition,omitempty"`
	CreatedOn string `json:"createdOn,omitempty"`
	// UpdatedOn is when its end changed last; CreatedBy and UpdatedBy are who did it, as in
	// SystemData.
	UpdatedOn string `json:"updatedOn,omitempty"`
	CreatedBy string `json:"createdBy,omitempty"`
	UpdatedBy string `json:"updatedBy,omitempty"`
	// Sandpool is what Azure's assignments do not have.
	Sandpool *AssignmentSettings `json:"sandpool,omitempty"`
}

// AssignmentSettings are of a role assignment that ends by itself.
type AssignmentSettings struct {
	ExpiresAt string `json:"expiresAt,omitempty"` // RFC 3339
}
