package sandpool

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// Usage is what one session has used, as it is recorded.
type Usage struct {
	// Number tells records apart and grows with each new one; the store gives it.
	Number int64
	// Sandbox is what served the session. It serves no other, so there is one record for each.
	Sandbox SandboxID
	Pool    PoolID
	// Identifier stands for the session's identifier: its Hash, or that under a key of the server.
	Identifier string
	// By is the subject of the principal whose request began the session; empty if nobody knows.
	By string
	// Began is when the session was allocated, and Lasted how long it has been there.
	Began  time.Time
	Lasted time.Duration
	// Ended says that nothing more will come.
	Ended bool
	// CPU is the time of processors that the sandbox took, its start included.
	CPU time.Duration
	// Memory and Disk are byte-seconds: what the sandbox held, times how long it did.
	Memory, Disk int64
	// Sent is the bytes that the sandbox sent to the network.
	Sent int64
	// Executions is how often code ran.
	Executions int64

	// Epoch is that of the pool's owner who has written the record.
	Epoch int64
	// Meter is the life of the server that has written it, and Written when in that life it did.
	Meter   string
	Written time.Duration
	// Unwritten is the part of Lasted that came after that, as far as the life was known to go on,
	// and Seen is when it was last known, by the clock of its machine. A store that is asked for
	// records sets both.
	Unwritten time.Duration
	Seen      time.Time
}

// Until is when the session ended, or was last seen.
func (u Usage) Until() time.Time { return u.Began.Add(u.Lasted) }

// Hash is SHA-256 of the identifier in hexadecimal digits, by which records are asked for.
func (i Identifier) Hash() string {
	sum := sha256.Sum256([]byte(i))
	return hex.EncodeToString(sum[:])
}
