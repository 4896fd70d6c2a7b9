package api

// SessionPoolType is the resource type of pools.
const SessionPoolType = "Microsoft.App/sessionPools"

// SessionPool is a pool in the control plane, for every api-version. ID, Name,
// Type and SystemData are set by the server and ignored in requests.
type SessionPool struct {
	ID         string                 `json:"id,omitempty"`
	Name       string                 `json:"name,omitempty"`
	Type       string                 `json:"type,omitempty"`
	Location   string                 `json:"location,omitempty"`
	Tags       map[string]string      `json:"tags,omitempty"`
	Identity   *Identity              `json:"identity,omitempty"`
	Properties *SessionPoolProperties `json:"properties,omitempty"`
	SystemData *SystemData            `json:"systemData,omitempty"`
}

// SessionPools is a page of pools; NextLink is the address of the next one.
type SessionPools struct {
	Value    []SessionPool `json:"value"`
	NextLink string        `json:"nextLink,omitempty"`
}

// SearchParameter is a part of the names of the pools that a list has, in any case.
const SearchParameter = "search"

// Identity is the managed identity of a resource.
// PrincipalID and TenantID are set by the server and ignored in requests.
type Identity struct {
	Type        string `json:"type,omitempty"` // "None", "SystemAssigned", …
	PrincipalID string `json:"principalId,omitempty"`
	TenantID    string `json:"tenantId,omitempty"`
	// UserAssignedIdentities are identities by their resource ids; null takes one out.
	UserAssignedIdentities map[string]*UserAssigned `json:"userAssignedIdentities,omitempty"`
}

// UserAssigned says who a user-assigned identity of a pool is; in requests it is empty.
type UserAssigned struct {
	PrincipalID string `json:"principalId,omitempty"`
	ClientID    string `json:"clientId,omitempty"`
}

// ManagedIdentitySetting says where an identity of a pool can be used.
type ManagedIdentitySetting struct {
	Identity  string `json:"identity"`            // "system", or a resource id
	Lifecycle string `json:"lifecycle,omitempty"` // "None", "Main", …
}

// SessionPoolProperties are a pool's settings and state. Pointers tell an absent
// field from a zero one. PoolManagementEndpoint and ProvisioningState are set by
// the server and ignored in requests. A raw field is one whose content no code pool has.
type SessionPoolProperties struct {
	EnvironmentID               string                       `json:"environmentId,omitempty"`
	ContainerType               string                       `json:"containerType,omitempty"`
	PoolManagementType          string                       `json:"poolManagementType,omitempty"`
	ScaleConfiguration          *ScaleConfiguration          `json:"scaleConfiguration,omitempty"`
	Secrets                     []PoolSecret                 `json:"secrets,omitempty"`
	DynamicPoolConfiguration    *DynamicPoolConfiguration    `json:"dynamicPoolConfiguration,omitempty"`
	CustomContainerTemplate     *CustomContainerTemplate     `json:"customContainerTemplate,omitempty"`
	SessionNetworkConfiguration *SessionNetworkConfiguration `json:"sessionNetworkConfiguration,omitempty"`
	ManagedIdentitySettings     []ManagedIdentitySetting     `json:"managedIdentitySettings,omitzero"`
	McpServerSettings           *McpServerSettings           `json:"mcpServerSettings,omitempty"`
	TemplateUpdateStatus        *TemplateUpdateStatus        `json:"templateUpdateStatus,omitempty"`
	NodeCount                   *int                         `json:"nodeCount,omitempty"` // Azure's alone
	PoolManagementEndpoint      string                       `json:"poolManagementEndpoint,omitempty"`
	ProvisioningState           string                       `json:"provisioningState,omitempty"`
	// Sandpool holds what Azure's resource type does not know.
	Sandpool *SandpoolSettings `json:"sandpool,omitempty"`
}

// ScaleConfiguration bounds the number of sessions.
type ScaleConfiguration struct {
	MaxConcurrentSessions *int `json:"maxConcurrentSessions,omitempty"`
	ReadySessionInstances *int `json:"readySessionInstances,omitempty"`
}

// DynamicPoolConfiguration says when sessions end. Versions up to
// 2024-10-02-preview have ExecutionType and the cooldown flat, later ones
// have LifecycleConfiguration.
type DynamicPoolConfiguration struct {
	ExecutionType           string                  `json:"executionType,omitempty"`
	CooldownPeriodInSeconds *int                    `json:"cooldownPeriodInSeconds,omitempty"`
	LifecycleConfiguration  *LifecycleConfiguration `json:"lifecycleConfiguration,omitempty"`
}

// LifecycleConfiguration is how sessions end from 2025-01-01 on.
type LifecycleConfiguration struct {
	LifecycleType           string `json:"lifecycleType,omitempty"` // "Timed", "OnContainerExit"
	CooldownPeriodInSeconds *int   `json:"cooldownPeriodInSeconds,omitempty"`
	MaxAlivePeriodInSeconds *int   `json:"maxAlivePeriodInSeconds,omitempty"`
}

// SessionNetworkConfiguration says whether sandboxes may reach other hosts.
type SessionNetworkConfiguration struct {
	Status string `json:"status,omitempty"` // "EgressDisabled", "EgressEnabled"
}

// McpServerSettings says whether the MCP endpoint of a pool takes a key of the pool's own.
// McpServerEndpoint is set by the server and ignored in requests.
type McpServerSettings struct {
	IsMcpServerEnabled *bool `json:"isMcpServerEnabled,omitempty"`
	// IsMCPServerEnabled is the same in the spelling of Azure's documentation. Answers have both.
	IsMCPServerEnabled        *bool  `json:"isMCPServerEnabled,omitempty"`
	IsMcpServerAPIKeyDisabled bool   `json:"isMcpServerApiKeyDisabled,omitempty"`
	McpServerEndpoint         string `json:"mcpServerEndpoint,omitempty"`
}

// McpServerCredentials is the key of a pool's MCP endpoint.
type McpServerCredentials struct {
	APIKey string `json:"apiKey"`
}

// Queue is how callers of a full pool wait, first come, first served. WaitInSeconds absent
// means 10.
type Queue struct {
	Length        *int64 `json:"length,omitempty"` // callers at the same time; 0 means none
	WaitInSeconds *int64 `json:"waitInSeconds,omitempty"`
}

// HistorySettings say whether code that sessions run is kept, with how its output began, for those
// who may run code in them. RetentionInSeconds absent means a day.
type HistorySettings struct {
	Enabled            *bool  `json:"enabled,omitempty"`
	RetentionInSeconds *int64 `json:"retentionInSeconds,omitempty"`
}

// SandpoolSettings are settings of a pool's sandboxes that Azure's resource type
// has no name for. Absent ones take the server's defaults. Sizes are written as "512Mi", "1.5Gi" or
// a number of bytes. Revision, Problem, Notice, Pull and Ignored are set by the server and ignored
// in requests.
type SandpoolSettings struct {
	// Image names an image of the server; absent means the container type's own.
	Image  string   `json:"image,omitempty"`
	CPU    *float64 `json:"cpu,omitempty"` // cores
	Memory string   `json:"memory,omitempty"`
	PIDs   *int64   `json:"pids,omitempty"` // processes and threads
	Disk   string   `json:"disk,omitempty"` // files that a session may write
	// WarmStart says how ready sandboxes are made: "boot" or "snapshot". WarmStartHook is a path
	// of the target port to which the server posts after each restore of a snapshot.
	WarmStart     string `json:"warmStart,omitempty"`
	WarmStartHook string `json:"warmStartHook,omitempty"`
	// WorkingDir is the container's working directory; absent means the image's.
	WorkingDir string `json:"workingDir,omitempty"`
	// Ports are those that a tunnel may reach besides the target port.
	Ports []int `json:"ports,omitempty"`
	// KeepAuthorization passes the header Authorization on to the container, KeepCookies the
	// cookie with the session's identifier.
	KeepAuthorization bool `json:"keepAuthorization,omitempty"`
	KeepCookies       bool `json:"keepCookies,omitempty"`
	// Transport is what the container speaks on its target port: "http" or "http2".
	Transport string `json:"transport,omitempty"`
	// TunnelIdleInSeconds ends tunnels and WebSockets in which nothing flows; absent means never.
	TunnelIdleInSeconds *int64 `json:"tunnelIdleInSeconds,omitempty"`
	// Queue lets callers of a full pool wait for a slot; absent means as the server says.
	Queue *Queue `json:"queue,omitempty"`
	// EvictIdleAfterInSeconds lets a new session end the one that has been idle longest, if that
	// is at least so long, when the pool is full; absent or 0 means never.
	EvictIdleAfterInSeconds *int64 `json:"evictIdleAfterInSeconds,omitempty"`
	// ReadySchedule is how many sessions are kept ready at times of the week, in place of
	// readySessionInstances; of windows that overlap the one with most counts.
	ReadySchedule []ReadyWindow `json:"readySchedule,omitzero"`
	// ReadyForecast keeps more sessions ready when claims come often; absent means that it does
	// not.
	ReadyForecast *ReadyForecast `json:"readyForecast,omitempty"`
	// History has what sessions run kept for a while; absent means that it is not.
	History *HistorySettings `json:"history,omitempty"`
	// Egress says what sandboxes with EgressEnabled may reach; absent means every public address.
	// A change holds for sandboxes that run.
	Egress *Egress `json:"egress,omitempty"`
	// IdentityAudiences are what tokens of the pool's identity, which code in sessions may get, may
	// be for; absent means that there are none.
	IdentityAudiences []string `json:"identityAudiences,omitempty"`
	// Revision grows when the settings of sandboxes change.
	Revision int64 `json:"revision,omitempty"`
	// Problem says why the pool failed, or why it is held up.
	Problem string `json:"problem,omitempty"`
	// Notice says what the machine lacks for what the pool wants.
	Notice string `json:"notice,omitempty"`
	// Pull is how far the pull of the pool's image is, while it is under way.
	Pull *Pull `json:"pull,omitempty"`
	// Ignored are the paths of what a PUT had in it and pools do not know, in its answer alone.
	Ignored []string `json:"ignored,omitempty"`
}

// ReadyWindow is a part of each of some days, in which so many sessions are kept ready.
type ReadyWindow struct {
	Days []string `json:"days"` // Mon, Tue, Wed, Thu, Fri, Sat, Sun: those on which it begins
	// From and To are times such as "08:00"; a window whose To is not after its From ends on the
	// next day. TimeZone is a name of the IANA database, such as Europe/Berlin; absent means UTC.
	From     string `json:"from"`
	To       string `json:"to"`
	TimeZone string `json:"timeZone,omitempty"`
	Ready    int    `json:"ready"`
}

// ReadyForecast keeps as many sessions ready as may be claimed in LeadInSeconds (60 if absent), by
// the busiest of the last ten minutes and of those that come, as they were a day ago; at most
// MaxReady.
type ReadyForecast struct {
	MaxReady      int    `json:"maxReady"`
	LeadInSeconds *int64 `json:"leadInSeconds,omitempty"`
}

// Pull is how far the pull of an image is. While Step is "pack", Bytes of TotalBytes are written to
// the server's disk, and else downloaded.
type Pull struct {
	Step       string `json:"step"` // "wait", "download", "unpack", "pack"
	Layers     int    `json:"layers"`
	LayersDone int    `json:"layersDone"`
	Bytes      int64  `json:"bytes"`
	TotalBytes int64  `json:"totalBytes"`
}

// TemplateUpdateStatus is how far a change of a custom pool's containers is: the template that its
// sandboxes had before, and the one that they are to have. They are the same if no change is under
// way.
type TemplateUpdateStatus struct {
	ActiveTemplate  *TemplateStatus `json:"activeTemplate,omitempty"`
	DesiredTemplate *TemplateStatus `json:"desiredTemplate,omitempty"`
}

// TemplateStatus is a template of a custom pool and what became of it. What is not kept of an
// earlier template is absent.
type TemplateStatus struct {
	Details     string         `json:"details,omitempty"`
	CreatedTime string         `json:"createdTime,omitempty"` // RFC 3339
	Status      TemplateCounts `json:"status"`
	Containers  []Container    `json:"containers,omitempty"`
	Ingress     *Ingress       `json:"ingress,omitempty"`
}

// TemplateCounts are a template's sandboxes: those that are to be ready, those that are, those that
// start, those that sessions have; and since the server started, pulls that failed and sandboxes
// that ended by themselves.
type TemplateCounts struct {
	ExpectedCount      int   `json:"expectedCount"`
	ReadyCount         int   `json:"readyCount"`
	PendingCount       int   `json:"pendingCount"`
	AllocatedCount     int   `json:"allocatedCount"`
	ImagePullFailCount int64 `json:"imagePullFailCount"`
	CrashCount         int64 `json:"crashCount"`
}
