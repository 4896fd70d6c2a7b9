package api

import "time"

// Used is what sessions have used.
type Used struct {
	// SessionSeconds are from a session's allocation to its end.
	SessionSeconds float64 `json:"sessionSeconds"`
	// CPUSeconds are those of the sandboxes, their starts included.
	CPUSeconds float64 `json:"cpuSeconds"`
	// MemoryByteSeconds and DiskByteSeconds are what sandboxes held, times how long they did.
	MemoryByteSeconds int64 `json:"memoryByteSeconds"`
	DiskByteSeconds   int64 `json:"diskByteSeconds"`
	// EgressBytes is what sandboxes sent to the network.
	EgressBytes int64 `json:"egressBytes"`
	// Executions is how often code ran.
	Executions int64 `json:"executions"`
}

// UsageRecord is what one session has used.
type UsageRecord struct {
	Number int64 `json:"number"`
	// Pool is the pool's resource id. The pool may be gone.
	Pool string `json:"pool"`
	// Sandbox is what served the session, which the session's etag says, too.
	Sandbox string `json:"sandbox"`
	// IdentifierHash is SHA-256 of the session's identifier, in hexadecimal digits.
	IdentifierHash string `json:"identifierHash"`
	// Principal is the subject whose request began the session; empty if it is not known.
	Principal string    `json:"principal,omitempty"`
	Began     time.Time `json:"began"`
	// Until is when the session ended or, if Running, was last seen.
	Until   time.Time `json:"until"`
	Running bool      `json:"running,omitempty"`
	Used
}

// UsageRecords answers GET /sandpool/usage/records, in the order in which sessions were first
// recorded.
type UsageRecords struct {
	Value []UsageRecord `json:"value"`
	// Next is the parameter "after" for the records that follow; zero if there are no more.
	Next int64 `json:"next,omitempty"`
}

// UsageTotal is what the sessions have used that have something in common.
type UsageTotal struct {
	Pool           string `json:"pool,omitempty"`
	Principal      string `json:"principal,omitempty"`
	IdentifierHash string `json:"identifierHash,omitempty"`
	// Time is when the step begins; absent if there are no steps.
	Time *time.Time `json:"time,omitempty"`
	// Sessions is how many there were, if only for a part of the time.
	Sessions int64 `json:"sessions"`
	Used
}

// UsageTotals answers GET /sandpool/usage, ordered by time, pool, principal and identifier.
type UsageTotals struct {
	// Since and Until are the time that was asked for; absent where nothing bounds it.
	Since *time.Time   `json:"since,omitempty"`
	Until *time.Time   `json:"until,omitempty"`
	Value []UsageTotal `json:"value"`
}

// The parameters of a question for usage, beside WhoParameter, SinceParameter, UntilParameter,
// AfterParameter and LimitParameter.
const (
	// ScopeParameter is the resource id of a pool, a resource group or a subscription.
	ScopeParameter = "scope"
	// IdentifierHashParameter is SHA-256 of an identifier.
	IdentifierHashParameter = "identifierHash"
	// ByParameter is what sessions must have in common to be added up: some of UsageByPool,
	// UsageByPrincipal and UsageByIdentifier, with commas between them.
	ByParameter = "by"
	// StepParameter divides the time in steps: UsageByHour or UsageByDay.
	StepParameter = "step"
)

// What usage can be told apart by.
const (
	UsageByPool       = "pool"
	UsageByPrincipal  = "principal"
	UsageByIdentifier = "identifier"
	UsageByHour       = "hour"
	UsageByDay        = "day"
)
