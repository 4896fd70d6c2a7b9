package gateway

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
)

// answer is a finished execution before it is put in an envelope.
type answer struct {
	ok             bool
	stdout, stderr string
	result         json.RawMessage
	milliseconds   int64
	took           time.Duration // in the sandbox
	extras         api.ExecutionExtras
}

// about is what an envelope says of the execution besides its answer.
type about struct {
	operation  string
	identifier sandpool.Identifier
	sandbox    sandpool.SandboxID
	userAgent  string
}

// envelope puts an answer in the form that a path's clients read.
type envelope func(answer, about) any

// oldEnvelope is the form up to 2024-08-02-preview.
func oldEnvelope(a answer, _ about) any {
	return api.OldExecution{SerialID: "1", Properties: oldProps("2", a)}
}

// legacyEnvelope is the form of the paths whose clients read top-level fields.
func legacyEnvelope(a answer, _ about) any {
	return api.LegacyExecution{OldExecProps: oldProps("1", a), Properties: oldProps("2", a)}
}

func oldProps(id string, a answer) api.OldExecProps {
	// AutoGen looks for these two words; "Failed" would pass for success.
	status := api.OldFailure
	if a.ok {
		status = api.OldSuccess
	}
	return api.OldExecProps{SerialID: id, Status: status, Stdout: a.stdout, Stderr: a.stderr,
		Result: a.result, ExecutionResult: a.result, Milliseconds: a.milliseconds, ExecutionExtras: a.extras}
}

// newEnvelope is the form from 2024-10-02-preview on.
func newEnvelope(a answer, of about) any {
	e := api.Execution{SerialID: "1", ID: of.operation, Identifier: string(of.identifier), SessionID: string(of.sandbox),
		ExecutionType: "Synchronous", Status: api.StatusSucceeded,
		Result: api.ExecutionResult{SerialID: "2", Stdout: a.stdout, Stderr: a.stderr,
			ExecutionResult: a.result, Milliseconds: a.milliseconds, ExecutionExtras: a.extras}}
	if wantsStrings(of.userAgent) {
		e.Result.ExecutionResult = stringify(a.result)
	}
	if !a.ok {
		e.Status = api.StatusFailed
		e.Error = &api.ExecutionErrorBody{Error: api.ExecutionError{Code: a.extras.ErrorName, Message: a.extras.ErrorMessage}}
	}
	return e
}

// wantsStrings recognises Semantic Kernel for .NET, which declares executionResult
// as a string and throws on anything else
// (https://github.com/microsoft/semantic-kernel/issues/12445).
func wantsStrings(userAgent string) bool {
	return strings.HasPrefix(userAgent, "Semantic-Kernel/") && strings.Contains(userAgent, "Language=dotnet")
}

// stringify returns a result as a JSON string, if it is something else.
func stringify(result json.RawMessage) json.RawMessage {
	if len(result) > 0 && result[0] == '"' {
		return result
	}
	return encode(string(result))
}
