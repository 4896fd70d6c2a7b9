package wire

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// Error codes that clients of the service know.
const (
	CodeMissing     = "SessionPropertiesMissing"
	CodeValidation  = "SessionRequestValidationFailed"
	CodeUnsupported = "SessionRequestNotSupported"
)

// Answer is a finished execution before it is put in an envelope.
type Answer struct {
	ok             bool
	stdout, stderr string
	result         json.RawMessage
	milliseconds   int64
	Took           time.Duration // in the sandbox
	exit           *int          // of a command
	extras         api.ExecutionExtras
}

// About is what an envelope says of the execution besides its answer.
type About struct {
	Operation  string
	Identifier sandpool.Identifier
	Sandbox    sandpool.SandboxID
	UserAgent  string
}

// Envelope puts an answer in the form that a path's clients read.
type Envelope func(Answer, About) any

// Old is the form up to 2024-08-02-preview.
func Old(a Answer, _ About) any {
	return api.OldExecution{SerialID: "1", Properties: oldProps("2", a)}
}

// Legacy is the form of the paths whose clients read top-level fields.
func Legacy(a Answer, _ About) any {
	return api.LegacyExecution{OldExecProps: oldProps("1", a), Properties: oldProps("2", a)}
}

func oldProps(id string, a Answer) api.OldExecProps {
	// AutoGen looks for these two words; "Failed" would pass for success.
	status := api.OldFailure
	if a.ok {
		status = api.OldSuccess
	}
	return api.OldExecProps{SerialID: id, Status: status, Stdout: a.stdout, Stderr: a.stderr,
		Result: a.result, ExecutionResult: a.result, Milliseconds: a.milliseconds,
		ExecutionExtras: a.extras}
}

// New is the form from 2024-10-02-preview on.
func New(a Answer, of About) any {
	e := api.Execution{SerialID: "1", ID: of.Operation, Identifier: string(of.Identifier),
		SessionID:     string(of.Sandbox),
		ExecutionType: "Synchronous", Status: api.StatusSucceeded,
		Result: api.ExecutionResult{SerialID: "2", Stdout: a.stdout, Stderr: a.stderr,
			ExecutionResult: a.result, Milliseconds: a.milliseconds, ExecutionExtras: a.extras},
		ExitCode: a.exit}
	if wantsStrings(of.UserAgent) {
		e.Result.ExecutionResult = stringify(a.result)
	}
	if !a.ok {
		e.Status = api.StatusFailed
		e.Error = &api.ExecutionErrorBody{Error: api.ExecutionError{Code: a.extras.ErrorName,
			Message: a.extras.ErrorMessage}}
	}
	return e
}

// noExit is the exit status of a command that has none.
const noExit = -1

// Shell is the form of Shell pools.
func Shell(a Answer, of About) any {
	e := api.ShellExecution{ID: of.Operation, Identifier: string(of.Identifier),
		SessionID: string(of.Sandbox),
		ExitCode:  noExit, ErrorName: a.extras.ErrorName, ErrorMessage: a.extras.ErrorMessage,
		Result: api.ShellResult{Stdout: a.stdout, Stderr: a.stderr, Milliseconds: a.milliseconds,
			StdoutTruncated: a.extras.StdoutTruncated, StderrTruncated: a.extras.StderrTruncated,
			StateLost: a.extras.StateLost}}
	if a.exit != nil {
		e.ExitCode = *a.exit
	}
	switch e.ErrorName {
	case exitStatus: // which ExitCode says
		e.ErrorName, e.ErrorMessage = "", ""
	case timedOut:
		e.ErrorName, e.ExitCode = "ExecutionTimeout", noExit
	}
	e.Result.ErrorName, e.Result.ErrorMessage = e.ErrorName, e.ErrorMessage
	e.Status = strconv.Itoa(e.ExitCode)
	return e
}

// wantsStrings recognises Semantic Kernel for .NET, which declares executionResult
// as a string and throws on anything else
// (https://github.com/microsoft/semantic-kernel/issues/12445).
func wantsStrings(userAgent string) bool {
	return strings.HasPrefix(userAgent, "Semantic-Kernel/") &&
		strings.Contains(userAgent, "Language=dotnet")
}

// stringify returns a result as a JSON string, if it is something else.
func stringify(result json.RawMessage) json.RawMessage {
	if len(result) > 0 && result[0] == '"' {
		return result
	}
	return encode(string(result))
}
