package api

// SessionView is a session. The data-plane specification names the end of a
// session expireAt, the pages about .management expiresAt; both are sent everywhere.
// Times are RFC 3339.
type SessionView struct {
	Identifier     string `json:"identifier"`
	ETag           string `json:"etag"`
	CreatedAt      string `json:"createdAt"`
	LastAccessedAt string `json:"lastAccessedAt"`
	ExpireAt       string `json:"expireAt"`
	ExpiresAt      string `json:"expiresAt"`
}

// Sessions answers listSessions.
type Sessions struct {
	Sessions []SessionView `json:"sessions"`
	NextLink string        `json:"nextLink,omitempty"`
}

// ManagedSessions answers .management/listSessions. Count is the length of Value.
type ManagedSessions struct {
	Value    []SessionView `json:"value"`
	Count    int           `json:"count"`
	NextLink string        `json:"nextLink,omitempty"`
}

// Metadata answers metadata: what code of a pool finds.
type Metadata struct {
	Runtimes             []Package     `json:"runtimes"`
	PreInstalledPackages []Package     `json:"preInstalledPackages"`
	CreatedAt            string        `json:"createdAt"`
	LastUpdatedAt        string        `json:"lastUpdatedAt"`
	JupyterKernel        JupyterKernel `json:"jupyterKernel"`
}

// Package is a named version.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// JupyterKernel describes what runs the code.
type JupyterKernel struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	ProjectURL  string `json:"projectUrl"`
	Description string `json:"description"`
}
