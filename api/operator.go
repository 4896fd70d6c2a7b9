package api

// TokenRequest is the body of POST /sandpool/tokens.
type TokenRequest struct {
	Name string `json:"name"`
	Role string `json:"role"` // "admin", "pool-contributor", "session-executor"
	// Pool is the resource id of the one pool that the token is good for;
	// absent means every pool.
	Pool string `json:"pool,omitempty"`
	// ExpiresAt is in RFC 3339; absent means never.
	ExpiresAt string `json:"expiresAt,omitempty"`
}

// Token is a bearer token without its secret.
type Token struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Role      string `json:"role"`
	Pool      string `json:"pool,omitempty"`
	CreatedAt string `json:"createdAt"`
	ExpiresAt string `json:"expiresAt,omitempty"`
}

// NewToken answers POST /sandpool/tokens. Token is its text, which the server
// shows this once and does not keep.
type NewToken struct {
	Token
	Text string `json:"token"`
}

// Tokens answers GET /sandpool/tokens.
type Tokens struct {
	Value []Token `json:"value"`
}

// PoolStatus answers GET POOL/status: what a pool's sandboxes are doing.
// Identifiers are not in it: who knows one reaches its session.
type PoolStatus struct {
	ID                string `json:"id"`
	ProvisioningState string `json:"provisioningState"`
	Problem           string `json:"problem,omitempty"`
	Revision          int64  `json:"revision"`
	MaxSessions       int    `json:"maxConcurrentSessions"`
	ReadySessions     int    `json:"readySessionInstances"`
	Starting          int    `json:"starting"`
	Ready             int    `json:"ready"`
	Claimed           int    `json:"claimed"`
	Stopping          int    `json:"stopping"`
	// RefillFailures and Claims count since the server started; the claims by
	// outcome: "ready", "existing", "new", "full".
	RefillFailures int64            `json:"refillFailures"`
	Claims         map[string]int64 `json:"claims"`
	// Sandboxes is there if the query has $expand=sandboxes: each is measured for it.
	Sandboxes []SandboxStats `json:"sandboxes,omitzero"`
}

// The parameter of the query that asks for PoolStatus.Sandboxes, and its only value.
const (
	ExpandParameter = "$expand"
	ExpandSandboxes = "sandboxes"
)

// SandboxStats is one sandbox of a pool. Times are in RFC 3339. Memory and CPU
// are absent when they could not be measured.
type SandboxStats struct {
	ID          string   `json:"id"`
	State       string   `json:"state"`
	Revision    int64    `json:"revision"`
	CreatedAt   string   `json:"createdAt"`
	ClaimedAt   string   `json:"claimedAt,omitempty"`
	LastUsedAt  string   `json:"lastUsedAt,omitempty"`
	MemoryBytes *int64   `json:"memoryBytes,omitempty"`
	CPUSeconds  *float64 `json:"cpuSeconds,omitempty"`
}
