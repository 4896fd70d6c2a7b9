package api

// Event answers GET POOL/events and GET /sandpool/events: something that happened to a pool,
// a sandbox, a session or the server. Names are stable; new ones are added. Absent fields say
// nothing about it.
type Event struct {
	// Sequence grows from event to event, also across restarts of the server.
	Sequence uint64 `json:"sequence"`
	Time     string `json:"time"` // RFC 3339
	Name     string `json:"name"` // such as "SandboxEnded"
	// Stream is the diagnostic log of Azure's that holds such events, or "SandpoolServerLogs".
	Stream  string `json:"stream"`
	Level   string `json:"level"` // "debug", "info", "warning", "error"
	Text    string `json:"text"`  // what the name means
	Pool    string `json:"pool,omitempty"`
	Sandbox string `json:"sandbox,omitempty"`
	// By is the principal who asked for it, such as "token:ID".
	By      string   `json:"by,omitempty"`
	Outcome string   `json:"outcome,omitempty"`
	Message string   `json:"message,omitempty"`
	Seconds *float64 `json:"seconds,omitempty"` // how long it took
	Count   int64    `json:"count,omitempty"`
	RetryAt string   `json:"retryAt,omitempty"` // RFC 3339
	// Error is the cause, for administrators of the server alone.
	Error string `json:"error,omitempty"`
}

// Events is a page of Event, the oldest first.
type Events struct {
	Value []Event `json:"value"`
	// Next is the parameter "after" for the events that follow.
	Next uint64 `json:"next"`
	// Missed says that there were more after "after", which are not kept any more.
	Missed bool `json:"missed,omitempty"`
}

// The parameters of a query for events: the number after which they begin, the most that an
// answer holds, and how many seconds to wait for one if there is none.
const (
	AfterParameter = "after"
	LimitParameter = "limit"
	WaitParameter  = "wait"
)
