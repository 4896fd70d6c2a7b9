package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/fault"
)

// maxMessage bounds what is taken of a fault's message. The longest of the agent's hold a path of
// 4000 bytes, each of which may take four in quotes.
const maxMessage = 17 << 10

// maxRetryAfter bounds for how long a sandbox can send its callers away.
const maxRetryAfter = time.Minute

// Fault is an error on the wire. Its class travels by name, since the numbers
// of the host and of the agent may be of different builds.
type Fault struct {
	Class   string `json:"class"`
	Code    string `json:"code,omitempty"`
	Target  string `json:"target,omitempty"`
	Message string `json:"message"`
	// RetryAfter is when to try again; zero means no advice.
	RetryAfter time.Duration `json:"retryAfter,omitempty"`
}

// FaultOf returns the form in which err travels.
func FaultOf(err error) *Fault {
	f := &Fault{Class: sandpool.ClassOf(err).String(), Message: err.Error()}
	var e *sandpool.Error
	if errors.As(err, &e) {
		f.Code, f.Target, f.Message, f.RetryAfter = e.Code, e.Target, e.Message, e.RetryAfter
	}
	return f
}

// WriteError answers a request with err, in the form that the Client turns
// back into a sandpool.Error.
func WriteError(w http.ResponseWriter, err error) {
	f := FaultOf(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(fault.Status(sandpool.ClassOf(err), "", 0))
	// A client that is gone needs no answer.
	_ = json.NewEncoder(w).Encode(f)
}

// readError reads the error that an answer other than 2xx carries.
func readError(operation string, resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("agent: %s: status %d: %w", operation, resp.StatusCode, err)
	}
	var f Fault
	if err := json.Unmarshal(body, &f); err != nil {
		return fmt.Errorf("agent: %s: status %d with an unreadable body", operation,
			resp.StatusCode)
	}
	return f.asError(fmt.Sprintf("%s: status %d", operation, resp.StatusCode))
}

// asError turns a fault back into the error that it was, as far as it is the agent's to give.
func (f *Fault) asError(operation string) error {
	for c := sandpool.Internal; c <= sandpool.Ended; c++ {
		if c.String() == f.Class && fault.OfGuest(c) {
			return &sandpool.Error{Class: c, Code: word(f.Code), Target: word(f.Target),
				Message:    clip(f.Message),
				RetryAfter: min(max(f.RetryAfter, 0), maxRetryAfter)}
		}
	}
	return fmt.Errorf("agent: %s: an error of the unknown class %.32q: %.200q", operation, f.Class,
		f.Message)
}

// TooMany is the error of one execution more than may wait.
func TooMany() error {
	return &sandpool.Error{Class: sandpool.Unavailable, Code: "TooManyExecutions",
		RetryAfter: time.Second,
		Message: fmt.Sprintf("%d executions of this session wait already. Wait for some of them.",
			MaxQueue)}
}

// clip returns the beginning of a message that is longer than maxMessage.
func clip(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage], "") + "…"
}

// word returns s if it can be a name in an answer of the API, or nothing.
func word(s string) string {
	const most = 64
	unfit := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' &&
			r != '_'
	}
	if len(s) > most || strings.IndexFunc(s, unfit) >= 0 {
		return ""
	}
	return s
}
