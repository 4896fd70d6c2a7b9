package proxy

import (
	"errors"

	"github.com/sandpool/sandpool"
)

// Codes of errors that the proxy answers itself. Their statuses are in package arm: 502 for
// the first two, 504 for the third.
const (
	codeUnreachable = "ContainerUnreachable"
	codeInvalid     = "ContainerAnswerInvalid"
	codeTimeout     = "ContainerTimeout"
)

var (
	errTooLong      = errors.New("the head of the answer is too long")
	errSessionEnded = errors.New("the session has ended")
	errAnswered     = errors.New("the caller has its answer")
)

// ErrCallerGone is the error of a caller that takes no more of an answer that has begun.
var ErrCallerGone = errors.New("the caller has gone")

func refuse(target, format string, args ...any) error {
	return sandpool.Errorf(sandpool.Invalid, "InvalidRequest", target, format, args...)
}

// unreachable is the error of a container to which no connection can be made.
func unreachable(port int, err error) error {
	e := sandpool.Errorf(sandpool.Unavailable, codeUnreachable, "container",
		"Nothing in the container accepts connections on port %d.", port)
	e.Err = err
	return e
}

// lost is the error of a container that closed its connection instead of answering.
func lost(err error) error {
	return &sandpool.Error{Class: sandpool.Unavailable, Code: codeUnreachable, Target: "container",
		Message: "The container closed the connection before it answered.", Err: err}
}

// badAnswer is the error of an answer that is not HTTP, or could be read in two ways.
func badAnswer(format string, args ...any) error {
	return sandpool.Errorf(sandpool.Unavailable, codeInvalid, "container",
		"The container's answer is not valid HTTP: "+format+".", args...)
}

// silent is the error of a container that has not answered in time.
func silent(err error) error {
	return &sandpool.Error{Class: sandpool.Unavailable, Code: codeTimeout, Target: "container",
		Message: "The container has sent nothing for too long.", Err: err}
}

// asTold returns the error in err's chain that is meant for the caller, if there is one.
func asTold(err error) error {
	var told *sandpool.Error
	if errors.As(err, &told) {
		return told
	}
	return nil
}
