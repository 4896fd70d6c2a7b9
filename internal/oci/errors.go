package oci

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/oci/layer"
)

// The codes of what can go wrong with an image, with the class of each.
const (
	CodeReference  = "InvalidImageReference" // Invalid: it does not parse
	CodeNotAllowed = "RegistryNotAllowed"    // Denied: by the operator, or by the guard
	CodeMissing    = "ImageNotFound"         // NotFound
	// Invalid: none, wrong ones, or no right to the image
	CodeCredentials = "ImageCredentialsRefused"
	CodePlatform    = "ImagePlatformNotFound" // Invalid: not for linux/amd64
	CodeNotImage    = "NotAnImage"            // Invalid: a chart, a signature, an old format
	CodeDamaged     = "ImageDamaged"          // Invalid: it is not what its digests say
	CodeLayer       = layer.CodeInvalid       // Invalid
	CodeTooLarge    = layer.CodeTooLarge      // TooLarge
	CodeUnreachable = "RegistryUnreachable"   // Unavailable: no connection, or none that lasts
	// Unavailable: no TLS, or a certificate that is not trusted
	CodeTLS          = "RegistryTLS"
	CodeRegistry     = "RegistryFailed"         // Unavailable: it answers with an error of its own
	CodeBusy         = "RegistryBusy"           // Unavailable: too many requests
	CodeDiskFull     = "DiskFull"               // Unavailable
	CodeSlow         = "ImagePullTimeout"       // Unavailable
	CodeHelperFailed = "CredentialHelperFailed" // Internal
)

// describe turns an error of a request to host, for the image what, into one that a caller may
// see. Nothing of it is the registry's own text but a short part without secrets: addresses of
// requests can hold signatures, and answers can repeat what was sent.
func describe(err error, host, what string, c Credentials) error {
	var known *sandpool.Error
	if err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return err
	}
	e := sandpool.Errorf(sandpool.Unavailable, CodeUnreachable, "image",
		"The registry %s cannot be reached: %s.", host, c.scrub(printable(cause(err), 200)))
	var (
		answer  *transport.Error
		refused blocked
		disk    syscall.Errno
		file    *os.PathError
		own     ownFault
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.Code, e.Message = CodeSlow, fmt.Sprintf(
			"Pulling %s took too long and was given up.", what)
	case errors.As(err, &disk) && (disk == syscall.ENOSPC || disk == syscall.EDQUOT):
		return diskFull()
	case errors.As(err, &file), errors.As(err, &own):
		return fmt.Errorf("pull %s: %w", what, err) // this machine's own fault
	case errors.As(err, &refused):
		e.Class, e.Code = sandpool.Denied, CodeNotAllowed
		e.Message = fmt.Sprintf("The registry %s may not be asked: %s.", host,
			printable(refused.why, 300))
	case errors.As(err, &answer):
		describeAnswer(e, answer, host, what, c)
	default:
		if why := tlsTrouble(err); why != "" {
			e.Code = CodeTLS
			e.Message = fmt.Sprintf("The registry %s has a TLS problem: %s.", host,
				printable(why, 300))
		}
	}
	return e
}

// ownFault is an error of what this machine does with an image, and no fault of its registry.
type ownFault struct{ error }

func (e ownFault) Unwrap() error { return e.error }

func diskFull() error {
	e := sandpool.Errorf(sandpool.Unavailable, CodeDiskFull, "image",
		"The server's disk has no room for the image; 'sandpool image prune' removes images that nothing uses.")
	return e
}

// describeAnswer fills e from the registry's answer.
func describeAnswer(e *sandpool.Error, answer *transport.Error, host, what string, c Credentials) {
	told := ""
	for _, d := range answer.Errors {
		told = fmt.Sprintf(" It says: %s.",
			strings.TrimSuffix(c.scrub(printable(string(d.Code)+" "+d.Message, 200)), "."))
		break
	}
	switch status := answer.StatusCode; {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		e.Class, e.Code = sandpool.Invalid, CodeCredentials
		e.Message = fmt.Sprintf("The registry %s refuses the credentials for %s.%s",
			host, what, told)
		if c.IsZero() {
			e.Message = fmt.Sprintf(
				"The registry %s wants credentials for %s, or there is no such image.%s",
				host, what, told)
		}
	case status == http.StatusNotFound:
		e.Class, e.Code = sandpool.NotFound, CodeMissing
		e.Message = fmt.Sprintf("The registry %s has no image %s.%s", host, what, told)
	case status == http.StatusTooManyRequests:
		e.Code, e.RetryAfter = CodeBusy, time.Minute
		e.Message = fmt.Sprintf(
			"The registry %s has had too many requests from here; try later, or give credentials.%s", host, told)
	default:
		e.Code = CodeRegistry
		e.Message = fmt.Sprintf("The registry %s answers %d %s for %s.%s", host, status,
			http.StatusText(status), what, told)
	}
}

// tlsTrouble says what is wrong with a registry's TLS, or "".
func tlsTrouble(err error) string {
	var (
		certificate *tls.CertificateVerificationError
		unknown     x509.UnknownAuthorityError
		record      tls.RecordHeaderError
		alert       tls.AlertError
	)
	switch {
	case errors.As(err, &unknown):
		return "its certificate comes from an authority that is not trusted here; " +
			"registries.ca_file can name it"
	case errors.As(err, &certificate):
		return certificate.Err.Error()
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return "it does not speak TLS; if that is meant to be so, list it in registries.plain_http"
	case errors.As(err, &alert):
		return alert.Error()
	}
	return ""
}

// cause is the innermost part of an error of the network: what is around it has the request's
// URL.
func cause(err error) string {
	var (
		dns     *net.DNSError
		network *net.OpError
	)
	switch {
	case errors.As(err, &dns):
		return dns.Error()
	case errors.As(err, &network):
		return network.Error()
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "it does not answer in time"
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// printable is text of somebody else's, without control characters and not too long.
func printable(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
