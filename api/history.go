package api

// History answers GET POOL/history: how the pool did lately. Steps in which nothing is known are
// absent. It begins anew when the server starts.
type History struct {
	Window      string         `json:"window"`
	StepSeconds int            `json:"stepSeconds"`
	Points      []HistoryPoint `json:"points"` // the oldest first
}

// The parameter of the query that chooses the window, and its values: the last hour in steps of 15
// seconds, the last day in steps of 5 minutes, the last week in steps of 30 minutes.
const (
	WindowParameter = "window"
	HistoryHour     = "hour"
	HistoryDay      = "day"
	HistoryWeek     = "week"
)

// HistoryPoint is one step: what happened in it, and how the pool was at its end. Quantiles are in
// seconds, to an eighth, and absent if there was nothing to measure.
type HistoryPoint struct {
	Time        string        `json:"time"` // RFC 3339, of the step's beginning
	Level       *HistoryLevel `json:"level,omitempty"`
	ClaimsReady int           `json:"claimsReady,omitempty"` // of new sessions, by ready sandboxes
	// of new sessions, by ones that had to start
	ClaimsNew  int `json:"claimsNew,omitempty"`
	ClaimsFull int `json:"claimsFull,omitempty"` // refused
	// Lost counts sandboxes that did not start, ended by themselves or failed their check.
	Lost              int `json:"lost,omitempty"`
	Executions        int `json:"executions,omitempty"`
	ExecutionFailures int `json:"executionFailures,omitempty"`
	// Claim is the wait for a sandbox; answer that from a request that begins a session to the
	// answer of its code; start that of a sandbox to be ready; execution that of code.
	ClaimP50     *float64 `json:"claimP50,omitempty"`
	ClaimP99     *float64 `json:"claimP99,omitempty"`
	AnswerP50    *float64 `json:"answerP50,omitempty"`
	AnswerP99    *float64 `json:"answerP99,omitempty"`
	StartP50     *float64 `json:"startP50,omitempty"`
	StartP99     *float64 `json:"startP99,omitempty"`
	ExecutionP50 *float64 `json:"executionP50,omitempty"`
	ExecutionP99 *float64 `json:"executionP99,omitempty"`
}

// HistoryLevel is how a pool was at a moment.
type HistoryLevel struct {
	Ready       int   `json:"ready"`
	Claimed     int   `json:"claimed"`
	Starting    int   `json:"starting"`
	Waiting     int   `json:"waiting"`
	MaxSessions int   `json:"maxConcurrentSessions"`
	MemoryBytes int64 `json:"memoryBytes"` // of all its sandboxes
}

// SessionDetail answers GET POOL/.management/session: a session with what the server knows of it.
type SessionDetail struct {
	SessionView
	Sandbox    string     `json:"sandbox"`
	Use        []UsePoint `json:"use"` // the oldest first
	Executions int        `json:"executions"`
	Runs       []RunNote  `json:"runs"`    // the last of them, the oldest first
	Callers    []string   `json:"callers"` // the principals that ran code, such as "token:ID"
	// Egress is what it was refused on the network; absent if it has none.
	Egress *Refusals `json:"egress,omitempty"`
}

// UsePoint is what a sandbox took of the machine at a moment: its memory then, and its processor
// time since it started.
type UsePoint struct {
	Time        string  `json:"time"`
	MemoryBytes int64   `json:"memoryBytes"`
	CPUSeconds  float64 `json:"cpuSeconds"`
}

// RunNote says of an execution how it ended, and not what it was.
type RunNote struct {
	Time    string  `json:"time"`
	By      string  `json:"by,omitempty"`
	Outcome string  `json:"outcome"`
	Seconds float64 `json:"seconds"`
}

// SessionHistory answers GET POOL/.management/history: what sessions of an identifier ran, as far
// as it is kept, the oldest first.
type SessionHistory struct {
	Value []PastExecution `json:"value"`
	// RetentionSeconds is how long an execution is kept after its end, if there is room.
	RetentionSeconds int64 `json:"retentionInSeconds"`
}

// PastExecution is an execution as a history keeps it. All texts are what hostile code may have
// written, with bytes that are no UTF-8 replaced; of long ones the beginning is kept.
type PastExecution struct {
	// Number grows with each execution that the server keeps. It is the parameter "after" for
	// those that follow.
	Number int64 `json:"number"`
	// ID is the execution's, and Sandbox that of the session it ran in.
	ID      string `json:"id"`
	Sandbox string `json:"sandbox"`
	By      string `json:"by,omitempty"` // the principal, such as "token:ID"
	TraceID string `json:"traceId,omitempty"`
	// Kernel and Context are those that the request named.
	Kernel  string `json:"kernel,omitempty"`
	Context string `json:"context,omitempty"`
	Code    string `json:"code"`
	Began   string `json:"began"` // RFC 3339, when it was sent to the sandbox
	// Outcome is "ok", "error" and others, as in RunNote; absent while it runs. Seconds is what
	// the code took.
	Outcome string  `json:"outcome,omitempty"`
	Seconds float64 `json:"seconds"`
	Stdout  string  `json:"stdout,omitempty"`
	Stderr  string  `json:"stderr,omitempty"`
	// Result is the value of the last expression as text, and Displays how many figures and the
	// like it showed, which are not kept.
	Result   string `json:"result,omitempty"`
	Displays int    `json:"displays,omitempty"`
	// Error is what it failed with: an exception, or why there is no result.
	Error string `json:"error,omitempty"`
	// Cut names the fields of which only the beginning is kept.
	Cut []string `json:"cut,omitempty"`
}
