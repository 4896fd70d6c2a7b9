package sandpool

import (
	"errors"
	"fmt"
	"time"
)

// Class says what kind of answer an error is to a caller. There are few, and
// one table (package arm) maps each to an HTTP status.
type Class int

// The classes of error.
const (
	// Internal is a fault of the server; the caller sees a trace id only.
	Internal Class = iota
	// Invalid is a request that is malformed or outside the allowed ranges.
	Invalid
	// Unauthenticated is a request without a valid token.
	Unauthenticated
	// Denied is a request whose principal lacks the permission.
	Denied
	// NotFound names a thing that does not exist.
	NotFound
	// Conflict is a request that the present state of the thing forbids.
	Conflict
	// Full is a claim beyond a pool's maximum number of sessions.
	Full
	// TooLarge is a body or a file beyond a limit.
	TooLarge
	// Unsupported is a known request that this server or pool does not serve.
	Unsupported
	// Unavailable is a fault that passes: try again after RetryAfter.
	Unavailable
	// Ended is work whose session ended under it: deleted, out of memory, crashed.
	Ended
)

var classNames = [...]string{"internal", "invalid", "unauthenticated", "denied", "not found",
	"conflict",
	"full", "too large", "unsupported", "unavailable", "ended"}

func (c Class) String() string {
	if c < 0 || int(c) >= len(classNames) {
		return fmt.Sprintf("Class(%d)", int(c))
	}
	return classNames[c]
}

// Error is an error that a caller may see. Everything else that goes wrong is
// wrapped in it or is of class Internal.
type Error struct {
	Class Class
	// Code is the stable word for programs, such as "SessionWithIdentifierNotFound".
	// Empty means the default code of the class.
	Code string
	// Target names the field, parameter or resource at fault, if one is.
	Target string
	// Message is a sentence for people: what is wrong and how to mend it.
	Message string
	// RetryAfter is when trying again makes sense; zero means no advice.
	RetryAfter time.Duration
	// TraceID finds the request in the server's log. Only the client sets it,
	// from the answer; a server gives one to every answer by itself.
	TraceID string
	// Details are further errors found in the same request.
	Details []*Error
	// Err is the cause, for the log alone.
	Err error
}

func (e *Error) Error() string {
	s := e.Message
	if s == "" {
		s = e.Class.String()
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns the class of the first Error in err's chain, and Internal
// for any other error.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return Internal
}

// Errorf returns an Error of class c with a formatted message.
func Errorf(c Class, code, target, format string, args ...any) *Error {
	return &Error{Class: c, Code: code, Target: target, Message: fmt.Sprintf(format, args...)}
}
