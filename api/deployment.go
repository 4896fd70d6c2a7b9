package api

// Deployment is a template deployment.
type Deployment struct {
	ID         string               `json:"id"`
	Name       string               `json:"name"`
	Type       string               `json:"type"`
	Location   string               `json:"location,omitempty"`
	Tags       map[string]string    `json:"tags,omitempty"`
	Properties DeploymentProperties `json:"properties"`
}

// DeploymentRequest asks for a deployment of a template.
type DeploymentRequest struct {
	Location   string                   `json:"location,omitempty"`
	Tags       map[string]string        `json:"tags,omitempty"`
	Properties DeploymentRequestDetails `json:"properties"`
}

// DeploymentRequestDetails say what is to be deployed, and how.
type DeploymentRequestDetails struct {
	Mode       string         `json:"mode,omitempty"` // "Incremental", "Complete"
	Template   map[string]any `json:"template,omitempty"`
	Parameters map[string]any `json:"parameters,omitempty"`
	// TemplateLink is refused: the server fetches no templates.
	TemplateLink any `json:"templateLink,omitempty"`
}

// DeploymentProperties say what was deployed and how far it is. The values of secure parameters
// and outputs are left out.
type DeploymentProperties struct {
	ProvisioningState  string           `json:"provisioningState"`
	CorrelationID      string           `json:"correlationId"`
	Mode               string           `json:"mode"`
	Timestamp          string           `json:"timestamp"`          // RFC 3339
	Duration           string           `json:"duration,omitempty"` // ISO 8601
	Parameters         map[string]any   `json:"parameters,omitempty"`
	Outputs            map[string]any   `json:"outputs,omitempty"`
	OutputResources    []ResourceRef    `json:"outputResources,omitempty"`
	ValidatedResources []ResourceRef    `json:"validatedResources,omitempty"`
	Providers          []map[string]any `json:"providers"`
	Dependencies       []map[string]any `json:"dependencies"`
	Error              *ErrorDetail     `json:"error,omitempty"`
}

// ResourceRef names a resource.
type ResourceRef struct {
	ID string `json:"id"`
}

// DeploymentOperation is what a deployment did with one resource.
type DeploymentOperation struct {
	ID          string                        `json:"id"`
	OperationID string                        `json:"operationId"`
	Properties  DeploymentOperationProperties `json:"properties"`
}

// DeploymentOperationProperties say how far an operation is.
type DeploymentOperationProperties struct {
	ProvisioningOperation string          `json:"provisioningOperation"` // "Create", "Delete"
	ProvisioningState     string          `json:"provisioningState"`
	Timestamp             string          `json:"timestamp"`
	StatusCode            string          `json:"statusCode,omitempty"`
	StatusMessage         *ErrorBody      `json:"statusMessage,omitempty"`
	TargetResource        *TargetResource `json:"targetResource,omitempty"`
}

// TargetResource is the resource of an operation.
type TargetResource struct {
	ID           string `json:"id"`
	ResourceType string `json:"resourceType"`
	ResourceName string `json:"resourceName"`
}

// WhatIf says what a deployment would change.
type WhatIf struct {
	Status     string           `json:"status"`
	Properties WhatIfProperties `json:"properties"`
}

// WhatIfProperties hold the changes.
type WhatIfProperties struct {
	CorrelationID string   `json:"correlationId"`
	Changes       []Change `json:"changes"`
}

// Change is what would become of one resource: Create, Modify, NoChange, Ignore or Delete.
type Change struct {
	ResourceID string           `json:"resourceId"`
	ChangeType string           `json:"changeType"`
	Before     map[string]any   `json:"before,omitempty"`
	After      map[string]any   `json:"after,omitempty"`
	Delta      []PropertyChange `json:"delta,omitempty"`
}

// PropertyChange is what would become of one property.
type PropertyChange struct {
	Path               string `json:"path"`
	PropertyChangeType string `json:"propertyChangeType"` // "Create", "Modify"
	Before             any    `json:"before,omitempty"`
	After              any    `json:"after,omitempty"`
}
