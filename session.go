package sandpool

import "time"

// SandboxID names one sandbox for ever: random, lower-case letters and digits,
// usable as a host name and as a path element.
type SandboxID string

// SandboxState is where a sandbox is in its life.
//
//	            claim (nothing ready)
//	          ┌───────────────┐
//	          │               ▼
//	(new) ─▶ starting ─▶ ready ─▶ claimed ─▶ stopping ─▶ (gone)
//	             │         │                    ▲
//	             └─────────┴────────────────────┘
//
// A sandbox never goes back: once claimed it serves one identifier until it is
// gone. Starting may carry an identifier already, when a claim found nothing
// ready; it then becomes claimed without having been ready.
type SandboxState string

// The states of a sandbox.
const (
	Starting SandboxState = "starting"
	Ready    SandboxState = "ready"
	Claimed  SandboxState = "claimed"
	Stopping SandboxState = "stopping"
)

// Sandbox is a sandbox's row in the store: what must survive a crash.
type Sandbox struct {
	ID       SandboxID
	Pool     PoolID
	Revision int64
	State    SandboxState
	// Identifier is who holds the sandbox; empty while nobody does.
	Identifier Identifier
	// Secret is the token that the host shows to the agent inside.
	Secret string
	// Handle is the engine's own record, enough to adopt the sandbox after a
	// restart; nil until the engine has started it.
	Handle []byte
	// Reason says why a stopping sandbox is stopped, for logs.
	Reason     string
	CreatedAt  time.Time
	ClaimedAt  time.Time
	LastUsedAt time.Time
	// ClaimedBy is the subject of the principal whose request claimed it; empty if nobody knows.
	ClaimedBy string
}

// Session is an identifier's hold on a sandbox, as callers see it.
type Session struct {
	Pool       PoolID
	Identifier Identifier
	Sandbox    SandboxID // shown as the session's etag
	CreatedAt  time.Time // when it was claimed
	LastUsedAt time.Time
	ExpiresAt  time.Time // LastUsedAt plus the pool's cooldown
}

// ClaimRequest asks the store for a sandbox for Identifier.
type ClaimRequest struct {
	Pool       PoolID
	Identifier Identifier
	// Revision is that whose ready sandboxes are given out: the pool's present one, or an earlier
	// one while none of it is ready yet.
	Revision int64
	// Epoch is that of the pool's owner.
	Epoch int64
	// Max is the pool's maximum of sessions.
	Max int
	Now time.Time
	// By is the subject of the principal that asks; empty if nobody knows.
	By string
	// NewID and NewSecret are used if a sandbox has to be started for the claim.
	NewID     SandboxID
	NewSecret string
}

// Use is when a sandbox was last used by its session.
type Use struct {
	ID    SandboxID
	At    time.Time
	Epoch int64 // of the owner of its pool
}

// ClaimOutcome says how a claim ended.
type ClaimOutcome int

// The outcomes of a claim.
const (
	// ClaimFull: the pool has its maximum of sessions; nothing changed.
	ClaimFull ClaimOutcome = iota
	// ClaimExisting: the identifier held the sandbox already (claimed, or
	// starting on its behalf).
	ClaimExisting
	// ClaimReady: a ready sandbox now belongs to the identifier.
	ClaimReady
	// ClaimNew: nothing was ready; a starting row with NewID and the
	// identifier was written, and the caller must start that sandbox.
	ClaimNew
)

func (o ClaimOutcome) String() string {
	return [...]string{"full", "existing", "ready", "new"}[o]
}

// Claim says how an identifier came to its sandbox.
type Claim struct {
	Outcome ClaimOutcome
	// Took is what finding the sandbox took: memory, or the store's transaction. Start is what
	// starting it took; zero if it ran already.
	Took, Start time.Duration
	// Steps are what Start consists of, in order; nil if it ran already.
	Steps []Step
}

// Step is a part of something that took time.
type Step struct {
	Name string // one of few words
	Took time.Duration
}

// Loss is a session that was lost and whose caller does not know of it yet.
type Loss struct {
	Pool       PoolID
	Identifier Identifier
	// Reason is a sentence for the caller.
	Reason string
	// Until is when the session would have ended by itself at the latest; nobody is told then.
	Until time.Time
}
