package sandpool

import (
	"fmt"
	"unicode/utf8"
)

// Identifier is the caller's name for a session: 4 to 128 printable ASCII
// characters without space and backslash, which is the pattern that the public
// specification of Azure dynamic sessions (2025-10-02-preview) declares. It
// works like a bearer secret: who knows it, and may use the pool, reaches the
// session.
type Identifier string

// Bounds of an identifier's length in characters.
const (
	MinIdentifier = 4
	MaxIdentifier = 128
)

// ParseIdentifier checks s and returns it as an Identifier. The error is of
// class Invalid and names the first rule that s breaks.
func ParseIdentifier(s string) (Identifier, error) {
	if s == "" {
		return "", &Error{Class: Invalid, Code: "SessionRequestValidationFailed",
			Target: "identifier",
			Message: "The query parameter 'identifier' is missing. Add ?identifier=NAME, 4 to " +
				"128 characters that name the session."}
	}
	if n := utf8.RuneCountInString(s); n < MinIdentifier || n > MaxIdentifier {
		return "", &Error{Class: Invalid, Code: "InvalidLengthOfSessionIdentifier",
			Target: "identifier",
			Message: fmt.Sprintf("The session identifier has %d characters; use %d to %d.", n,
				MinIdentifier, MaxIdentifier)}
	}
	for i, c := range s {
		if c <= ' ' || c >= 0x7f || c == '\\' {
			return "", &Error{Class: Invalid, Code: "SessionRequestValidationFailed",
				Target: "identifier",
				Message: fmt.Sprintf("The session identifier has %q at position %d; use "+
					"printable ASCII characters without space and backslash.", c, i+1)}
		}
	}
	return Identifier(s), nil
}
