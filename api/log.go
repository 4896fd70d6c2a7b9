package api

// LogLine is a line that a sandbox wrote to its standard output or error. Text is what hostile code
// may have written: bytes that are no UTF-8 are replaced, and nothing else is.
type LogLine struct {
	Time   string `json:"time"`   // RFC 3339
	Stream string `json:"stream"` // "stdout" or "stderr"
	Text   string `json:"text"`
	// Part says that the text is a part of a long line, which goes on in the next of its stream.
	Part bool `json:"part,omitempty"`
	// Missed says that what stood before this line is not kept any more.
	Missed bool `json:"missed,omitempty"`
	// Next is the parameter "after" for what follows this line.
	Next string `json:"next"`
}

// LogLines answers GET .management/logs: what a session's sandbox wrote, the oldest first.
type LogLines struct {
	Sandbox string    `json:"sandbox"`
	Value   []LogLine `json:"value"`
	// Next is the parameter "after" for what follows; it stays the same while nothing does.
	Next string `json:"next"`
}

// The parameters of a query for logs besides "after": whether to wait for what follows until the
// sandbox ends, and the sandbox to read of, if it is not that of a session.
const (
	FollowParameter  = "follow"
	SandboxParameter = "sandbox"
)
