package api

// TokenRequest is the body of POST /sandpool/tokens: one grant, as Role and Pool or Scope, or
// several as Grants.
type TokenRequest struct {
	Name string `json:"name"`
	Role string `json:"role,omitempty"` // "admin", "pool-contributor", "session-executor", "reader", "monitoring-reader"
	// Pool is the resource id of the one pool that the token is good for;
	// absent means every pool.
	Pool string `json:"pool,omitempty"`
	// Scope is what the token is good for in place of Pool; see Grant.
	Scope string `json:"scope,omitempty"`
	// Grants are instead of Role, Pool and Scope.
	Grants []Grant `json:"grants,omitempty"`
	// ExpiresAt is in RFC 3339; absent means never.
	ExpiresAt string `json:"expiresAt,omitempty"`
}

// Grant gives a role in a scope: "/" is everything; the resource id of a subscription, a
// resource group or a pool is that and what lies below it; and below a pool,
// POOL/identifiers/NAME is one session, and POOL/identifiers/BEGINNING* are those whose
// identifiers begin so.
type Grant struct {
	Role      string `json:"role"`
	Scope     string `json:"scope"`
	ExpiresAt string `json:"expiresAt,omitempty"` // RFC 3339; never without it
}

// DeviceCode is what a program that is to sign in gets (RFC 8628, section 3.2).
type DeviceCode struct {
	DeviceCode      string `json:"device_code"`
	UserCode        string `json:"user_code"`
	VerificationURI string `json:"verification_uri"`
	// VerificationURL is the same for clients of the first version.
	VerificationURL         string `json:"verification_url"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	ExpiresIn               int    `json:"expires_in"` // seconds
	Interval                int    `json:"interval"`   // seconds
	Message                 string `json:"message"`
}

// DeviceApproval lets the program that shows a code have a token of the caller's.
type DeviceApproval struct {
	UserCode string `json:"userCode"`
}

// The states of an IssuerKey.
const (
	IssuerKeySigns    = "signs"
	IssuerKeyNext     = "next"     // it will sign
	IssuerKeyVerifies = "verifies" // tokens that it has signed still count
)

// IssuerKey is a key that signs the server's JSON Web Tokens.
type IssuerKey struct {
	ID        string `json:"kid"`
	State     string `json:"state"`
	CreatedAt string `json:"createdAt"`
	SignsFrom string `json:"signsFrom"`
	// EndsAt is when its tokens cease to count; empty as long as no other key follows it.
	EndsAt string `json:"endsAt,omitempty"`
}

// IssuerKeys are those that there are, the last one first.
type IssuerKeys struct {
	Value []IssuerKey `json:"value"`
}

// IssuerKeyRequest asks for another key.
type IssuerKeyRequest struct {
	// Drop ends the keys before it, and their tokens, when it begins to sign.
	Drop bool `json:"drop,omitempty"`
}

// Token is a bearer token without its secret. Role is that of a token with one grant, and
// Pool its scope, if that is a pool.
type Token struct {
	ID        string  `json:"id"`
	Name      string  `json:"name"`
	Role      string  `json:"role,omitempty"`
	Pool      string  `json:"pool,omitempty"`
	Grants    []Grant `json:"grants"`
	CreatedAt string  `json:"createdAt"`
	ExpiresAt string  `json:"expiresAt,omitempty"`
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
	// Notice says what the machine lacks for what the pool wants.
	Notice        string `json:"notice,omitempty"`
	Revision      int64  `json:"revision"`
	MaxSessions   int    `json:"maxConcurrentSessions"`
	ReadySessions int    `json:"readySessionInstances"` // as many as the pool wants now
	// ReadyBecause says why it does not want its usual number of ready sessions, if so.
	ReadyBecause string `json:"readyBecause,omitempty"`
	Starting     int    `json:"starting"`
	Ready        int    `json:"ready"`
	Claimed      int    `json:"claimed"`
	Stopping     int    `json:"stopping"`
	Waiting      int    `json:"waiting"` // callers in line for a slot
	// Pull is how far the pull of the pool's image is, while it is under way.
	Pull *Pull `json:"pull,omitempty"`
	// Crashes counts since the server started: sandboxes that ended by themselves, or did not pass
	// their liveness check. PullFailures counts the times that the image could not be had.
	Crashes      int64 `json:"crashes"`
	PullFailures int64 `json:"pullFailures"`
	// RefillFailures and Claims count since the server started; the claims by
	// outcome: "ready", "existing", "new", "full".
	RefillFailures int64 `json:"refillFailures"`
	// SnapshotBytes is what the pool's snapshot takes on disk.
	SnapshotBytes int64 `json:"snapshotBytes"`
	// Refused counts, since the server started, the claims for which the machine had no room.
	Refused int64            `json:"refused"`
	Claims  map[string]int64 `json:"claims"`
	// Egress is what the sandboxes were refused; it is there if they have a network.
	Egress *Refusals `json:"egress,omitempty"`
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
