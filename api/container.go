package api

import "encoding/json"

// PoolSecret is a secret of a pool. Value is write-only: an answer has names alone. In a request,
// a secret without a value keeps the one that the pool has under its name.
type PoolSecret struct {
	Name  string  `json:"name"`
	Value *string `json:"value,omitempty"`
	// KeyVaultURL and Identity name a value that is kept elsewhere.
	KeyVaultURL string `json:"keyVaultUrl,omitempty"`
	Identity    string `json:"identity,omitempty"`
}

// CustomContainerTemplate is what the sandboxes of a custom container pool run.
type CustomContainerTemplate struct {
	RegistryCredentials *RegistryCredentials `json:"registryCredentials,omitempty"`
	Containers          []Container          `json:"containers,omitempty"`
	Ingress             *Ingress             `json:"ingress,omitempty"`
	InitContainers      []json.RawMessage    `json:"initContainers,omitempty"`
	Volumes             []json.RawMessage    `json:"volumes,omitempty"`
}

// RegistryCredentials say who pulls the image.
type RegistryCredentials struct {
	Server string `json:"server,omitempty"`
	// RegistryServer is the name of Server in 2024-02-02-preview.
	RegistryServer string `json:"registryServer,omitempty"`
	Username       string `json:"username,omitempty"`
	// PasswordSecretRef is the name of one of the pool's secrets.
	PasswordSecretRef string `json:"passwordSecretRef,omitempty"`
	Identity          string `json:"identity,omitempty"`
}

// Container is one container of a template.
type Container struct {
	Image        string              `json:"image,omitempty"`
	Name         string              `json:"name,omitempty"`
	Command      []string            `json:"command,omitempty"`
	Args         []string            `json:"args,omitempty"`
	Env          []EnvironmentVar    `json:"env,omitempty"`
	Resources    *ContainerResources `json:"resources,omitempty"`
	Probes       []ContainerProbe    `json:"probes,omitempty"`
	VolumeMounts []json.RawMessage   `json:"volumeMounts,omitempty"`
}

// EnvironmentVar is a variable with a value, or with the name of the secret that holds it.
type EnvironmentVar struct {
	Name      string  `json:"name"`
	Value     *string `json:"value,omitempty"`
	SecretRef string  `json:"secretRef,omitempty"`
}

// ContainerResources are what a container gets.
type ContainerResources struct {
	CPU    *float64 `json:"cpu,omitempty"`    // cores
	Memory string   `json:"memory,omitempty"` // "0.5Gi"
}

// Ingress says where a container listens.
type Ingress struct {
	TargetPort *int `json:"targetPort,omitempty"`
}

// The values of ContainerProbe.Type.
const (
	StartupProbe  = "Startup"
	LivenessProbe = "Liveness"
)

// ContainerProbe asks a container by HTTP or TCP. Times are in seconds.
type ContainerProbe struct {
	Type                          string     `json:"type,omitempty"`
	HTTPGet                       *HTTPGet   `json:"httpGet,omitempty"`
	TCPSocket                     *TCPSocket `json:"tcpSocket,omitempty"`
	FailureThreshold              *int       `json:"failureThreshold,omitempty"`
	InitialDelaySeconds           *int       `json:"initialDelaySeconds,omitempty"`
	PeriodSeconds                 *int       `json:"periodSeconds,omitempty"`
	SuccessThreshold              *int       `json:"successThreshold,omitempty"`
	TimeoutSeconds                *int       `json:"timeoutSeconds,omitempty"`
	TerminationGracePeriodSeconds *int       `json:"terminationGracePeriodSeconds,omitempty"`
}

// HTTPGet is a request that passes if it is answered with a status from 200 to 399.
type HTTPGet struct {
	Host        string       `json:"host,omitempty"`
	HTTPHeaders []HTTPHeader `json:"httpHeaders,omitempty"`
	Path        string       `json:"path,omitempty"`
	Port        *int         `json:"port,omitempty"`
	Scheme      string       `json:"scheme,omitempty"` // "HTTP" or "HTTPS"
}

// HTTPHeader is one header of a probe's request.
type HTTPHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// TCPSocket is a connection that passes if it can be made.
type TCPSocket struct {
	Host string `json:"host,omitempty"`
	Port *int   `json:"port,omitempty"`
}
