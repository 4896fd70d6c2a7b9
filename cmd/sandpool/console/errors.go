package console

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/client"
)

// The exit codes of the program, which its help promises.
const (
	ExitDone     = 0
	ExitNegative = 1
	ExitUsage    = 2
	ExitTrouble  = 3
)

// ExitError ends the program with a code and without a further message: what
// there is to say has been said.
type ExitError int

func (e ExitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// UsageError is a command line that parses but makes no sense.
type UsageError string

func (e UsageError) Error() string { return string(e) }

// Report says on stderr why a command failed and returns the exit code.
func (a *App) Report(err error) int {
	var code ExitError
	var usage UsageError
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		fmt.Fprintf(a.Stderr, "sandpool: %v\n", err)
		return ExitUsage
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(a.Stderr, "sandpool: interrupted")
		return ExitTrouble
	}
	fmt.Fprintf(a.Stderr, "sandpool: %s\n", PrintableLines(Explain(err)))
	return ExitTrouble
}

// Explain renders an error for people: the server's own words, every detail,
// and what to do next.
func Explain(err error) string {
	var e *sandpool.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	s := e.Message
	if s == "" {
		s = e.Error()
	}
	if e.Code != "" && e.Code != client.CodeUnreachable {
		s += " (" + e.Code + ")"
	}
	for _, d := range e.Details {
		s += fmt.Sprintf("\n  %s: %s", d.Target, d.Message)
	}
	if hint := nextStep(e); hint != "" {
		s += "\n" + hint
	}
	if e.TraceID != "" {
		s += "\nTrace id in the server's log: " + e.TraceID
	}
	return s
}

// nextStep is what usually mends an error of e's kind.
func nextStep(e *sandpool.Error) string {
	switch {
	case e.Code == client.CodeUnreachable:
		return unreachableStep(e)
	case e.Class == sandpool.Unauthenticated:
		return "Give a valid token with SANDPOOL_TOKEN; 'sandpool token create' makes one."
	case e.Class == sandpool.Full && e.RetryAfter > 0:
		return fmt.Sprintf("Try again in %s, end a session with 'sandpool session delete', or "+
			"raise --max-sessions of the pool.", e.RetryAfter)
	case e.Code == "SessionPoolFailed":
		return "'sandpool pool status NAME' shows why."
	case e.Code == "SessionPoolNotFound":
		return "'sandpool pool list' shows the pools that exist."
	}
	return ""
}

// unreachableStep is what usually mends that e's server gave no answer. One whose
// TLS fails does run.
func unreachableStep(e *sandpool.Error) string {
	var (
		unknown     x509.UnknownAuthorityError
		certificate *tls.CertificateVerificationError
		alert       tls.AlertError
		record      tls.RecordHeaderError
	)
	switch {
	case errors.As(e, &unknown):
		return "To trust its certificate, set SSL_CERT_FILE to a PEM file that holds it or its " +
			"issuer's."
	case errors.Is(e, http.ErrSchemeMismatch):
		return "Begin the server's URL with http://, or give the server a certificate."
	case errors.As(e, &certificate), errors.As(e, &alert), errors.As(e, &record):
		return ""
	}
	return "Is the server running? Start it with 'sandpool serve', or name another with " +
		"--endpoint or SANDPOOL_ENDPOINT."
}
