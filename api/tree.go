package api

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
	ID                string         `json:"id"`
	Namespace         string         `json:"namespace"`
	RegistrationState string         `json:"registrationState"`
	ResourceTypes     []ResourceType `json:"resourceTypes"`
}

// ResourceType is a type of a Provider.
type ResourceType struct {
	ResourceType string   `json:"resourceType"`
	Locations    []string `json:"locations"`
	APIVersions  []string `json:"apiVersions"`
}

// ResourceGroup is a resource group.
type ResourceGroup struct {
	ID         string      `json:"id"`
	Name       string      `json:"name"`
	Type       string      `json:"type"`
	Location   string      `json:"location"`
	Properties Provisioned `json:"properties"`
}

// Provisioned is the state of a resource that is there at once.
type Provisioned struct {
	ProvisioningState string `json:"provisioningState"`
}
