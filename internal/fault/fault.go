// Package fault is the one table of what a class of error is on a wire: its HTTP status, its
// code, when trying again makes sense, and whether a sandbox may give it. Package arm answers
// callers by it and package agent the host; clients of both read answers by it.
package fault

import (
	"net/http"
	"time"

	"github.com/sandpool/sandpool"
)

// row says how a class of error looks on the wire.
type row struct {
	class  sandpool.Class
	status int
	code   string        // of errors that bring none of their own
	retry  time.Duration // when to try again, unless the error says; zero means no advice
	guest  bool          // it is an agent's to give, too
}

// table has one row for every class. The codes are those of Azure Resource
// Manager where it has one.
//
// An agent has no errors about what the pool alone knows: that a session ended, or that there is
// no room for one.
//
// Ended is 410 and not a 5xx, because clients repeat requests after a 5xx by
// themselves, and repeating an execution in a fresh session is not what the caller meant.
var table = [...]row{
	{sandpool.Internal, http.StatusInternalServerError, "InternalServerError", 0, true},
	{sandpool.Invalid, http.StatusBadRequest, "InvalidRequest", 0, true},
	{sandpool.Unauthenticated, http.StatusUnauthorized, "AuthenticationFailed", 0, true},
	{sandpool.Denied, http.StatusForbidden, "AuthorizationFailed", 0, true},
	{sandpool.NotFound, http.StatusNotFound, "ResourceNotFound", 0, true},
	{sandpool.Conflict, http.StatusConflict, "Conflict", 0, true},
	{sandpool.Full, http.StatusNotFound, "SessionPoolMaxSessionsReached", 5 * time.Second, false},
	{sandpool.TooLarge, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", 0, true},
	{sandpool.Unsupported, http.StatusBadRequest, "SessionRequestNotSupported", 0, false},
	{sandpool.Unavailable, http.StatusServiceUnavailable, "ServiceUnavailable", 2 * time.Second,
		true},
	{sandpool.Ended, http.StatusGone, "SessionEnded", 0, false},
}

// special lists the codes whose status or class the row of their class does
// not give. Azure answers 400 for a session that does not exist. Clients of custom pools take
// 502, 503 and 504 for a container that cannot be reached.
var special = [...]row{
	{sandpool.NotFound, http.StatusBadRequest, "SessionWithIdentifierNotFound", 0, false},
	{sandpool.NotFound, http.StatusBadRequest, "SessionNotFound", 0, false},
	{sandpool.Invalid, http.StatusMethodNotAllowed, "MethodNotAllowed", 0, false},
	{sandpool.Conflict, http.StatusPreconditionFailed, "PreconditionFailed", 0, false},
	{sandpool.Unsupported, http.StatusUnsupportedMediaType, "UnsupportedMediaType", 0, false},
	{sandpool.Invalid, http.StatusRequestTimeout, "RequestTimeout", 0, false},
	{sandpool.Unavailable, http.StatusTooManyRequests, "TooManyRequests", 0, false},
	{sandpool.Unavailable, http.StatusTooManyRequests, "PrincipalMaxSessionsReached", 0, false},
	// A container that a request was to be forwarded to.
	{sandpool.Unavailable, http.StatusBadGateway, "ContainerUnreachable", 0, false},
	{sandpool.Unavailable, http.StatusBadGateway, "ContainerAnswerInvalid", 0, false},
	{sandpool.Unavailable, http.StatusGatewayTimeout, "ContainerTimeout", 0, false},
}

// rowOf returns the row of class c; an unknown class is Internal.
func rowOf(c sandpool.Class) row {
	for _, r := range table {
		if r.class == c {
			return r
		}
	}
	return table[0]
}

// Status returns the HTTP status of an error of class c with the given code.
// fullStatus is that of class Full; zero means 404, which is what the
// documentation of dynamic sessions gives.
func Status(c sandpool.Class, code string, fullStatus int) int {
	if c == sandpool.Full && fullStatus != 0 {
		return fullStatus
	}
	for _, r := range special {
		if r.class == c && r.code == code {
			return r.status
		}
	}
	return rowOf(c).status
}

// Code returns the code of errors of class c that bring none.
func Code(c sandpool.Class) string { return rowOf(c).code }

// RetryAfter returns when trying again makes sense after an error of class c that does not
// say so itself; zero means no advice.
func RetryAfter(c sandpool.Class) time.Duration { return rowOf(c).retry }

// OfGuest reports whether a sandbox's agent may have errors of class c. Whatever else one says
// of itself, it was taken over.
func OfGuest(c sandpool.Class) bool { return rowOf(c).class == c && rowOf(c).guest }

// ClassOf is the inverse of Status for clients: the class of an answer with the given
// status and code (the header x-ms-error-code, error.code of the body). The code decides if it is a
// known one, because some statuses are shared by several classes.
func ClassOf(status int, code string) sandpool.Class {
	if c, ok := classOfCode(code); ok {
		return c
	}
	return classOfStatus(status)
}

func classOfCode(code string) (sandpool.Class, bool) {
	for _, rows := range [][]row{special[:], table[:]} {
		for _, r := range rows {
			if r.code == code {
				return r.class, true
			}
		}
	}
	return sandpool.Internal, false
}

func classOfStatus(status int) sandpool.Class {
	switch status {
	case http.StatusTooManyRequests:
		return sandpool.Full
	case http.StatusRequestTimeout, http.StatusBadGateway, http.StatusGatewayTimeout:
		return sandpool.Unavailable
	case http.StatusNotImplemented:
		return sandpool.Unsupported
	case http.StatusPreconditionFailed:
		return sandpool.Conflict
	}
	for _, r := range table {
		if r.status == status {
			return r.class
		}
	}
	if status >= 400 && status < 500 {
		return sandpool.Invalid
	}
	return sandpool.Internal
}
