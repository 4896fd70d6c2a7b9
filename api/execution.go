package api

import "encoding/json"

// ExecuteRequest is the body of every execute call of the data plane. Callers
// of the first api-versions wrap the fields in Properties, later ones send them
// flat; some do either on any path, so one type reads both and Properties wins.
//
// Pointers tell an absent field from a zero one.
type ExecuteRequest struct {
	Properties *ExecuteFields `json:"properties,omitempty"`
	ExecuteFields
}

// ExecuteFields are the fields of an execute call.
type ExecuteFields struct {
	// Code is the source; PythonCode is its name on the legacy path python/execute.
	Code       *string `json:"code,omitempty"`
	PythonCode *string `json:"pythonCode,omitempty"`
	// CodeInputType is "inline", "inlineText" or "inlineBase64", in any case.
	CodeInputType string `json:"codeInputType,omitempty"`
	// ExecutionType is "synchronous" or "asynchronous", in any case.
	ExecutionType string `json:"executionType,omitempty"`
	// TimeoutInSeconds bounds the run; absent means the server's default.
	TimeoutInSeconds *json.Number `json:"timeoutInSeconds,omitempty"`
	// OutputStreamsMaxLength bounds stdout and stderr, each, in bytes of UTF-8.
	OutputStreamsMaxLength *json.Number `json:"outputStreamsMaxLength,omitempty"`
	// Identifier is the session, for callers that do not put it into the query.
	Identifier string `json:"identifier,omitempty"`
	// ShellCommand and ExecCommandAndArgs belong to Shell pools.
	ShellCommand       *string  `json:"shellCommand,omitempty"`
	ExecCommandAndArgs []string `json:"execCommandAndArgs,omitempty"`
	// ShellType is "bash", the default, or "sh". Of Shell pools.
	ShellType string `json:"shellType,omitempty"`
	// Context is where the code runs: a kernel of its own in the session. With Kernel, the context
	// is made unless it is there; a Kernel alone stands for the context of its name.
	Context string `json:"context,omitempty"`
	Kernel  string `json:"kernel,omitempty"`
	// Stdin is what the code reads from standard input, Env is added to the environment, and
	// WorkingDirectory is absolute or from /mnt/data: all for this execution alone.
	Stdin            *string   `json:"stdin,omitempty"`
	Env              Variables `json:"env,omitempty"`
	WorkingDirectory string    `json:"workingDirectory,omitempty"`
	// Traceparent adds the trace of the request to the environment, as TRACEPARENT and TRACESTATE,
	// unless Env has them.
	Traceparent bool `json:"traceparent,omitempty"`
	// UseEmptyKernel and ReturnJupyterFormatExecutionResult are options of the
	// code interpreter image that some callers know.
	UseEmptyKernel                     bool `json:"useEmptyKernel,omitempty"`
	ReturnJupyterFormatExecutionResult bool `json:"returnJupyterFormatExecutionResult,omitempty"`
}

// The values of status in the envelope up to 2024-08-02-preview.
const (
	OldSuccess = "Success"
	OldFailure = "Failure"
)

// The values of status in the envelope from 2024-10-02-preview on.
const (
	StatusSucceeded = "Succeeded"
	StatusFailed    = "Failed"
)

// OldExecution answers code/execute: the envelope up to 2024-08-02-preview.
type OldExecution struct {
	SerialID   string       `json:"$id"`
	Properties OldExecProps `json:"properties"`
}

// OldExecProps is an execution in the old envelope. Result and ExecutionResult
// are the same value: captured answers of the service name it result, its
// tutorials executionResult. Both are always present, because Semantic Kernel
// and AutoGen index the map without a default.
type OldExecProps struct {
	SerialID        string          `json:"$id"`
	Status          string          `json:"status"`
	Stdout          string          `json:"stdout"`
	Stderr          string          `json:"stderr"`
	Result          json.RawMessage `json:"result"`
	ExecutionResult json.RawMessage `json:"executionResult"`
	Milliseconds    int64           `json:"executionTimeInMilliseconds"`
	ExecutionExtras
}

// LegacyExecution answers python/execute, whose clients read top-level fields,
// and execute, of which no published schema exists: the flat fields, and a copy of them
// under properties.
type LegacyExecution struct {
	OldExecProps
	Properties OldExecProps `json:"properties"`
}

// Execution answers executions: the envelope from 2024-10-02-preview on.
type Execution struct {
	SerialID      string          `json:"$id"`
	ID            string          `json:"id"`
	Identifier    string          `json:"identifier"`
	SessionID     string          `json:"sessionId"`
	ExecutionType string          `json:"executionType"`
	Status        string          `json:"status"`
	Result        ExecutionResult `json:"result"`
	// Error is set when Status is Failed.
	Error *ExecutionErrorBody `json:"error,omitempty"`
	// ExitCode is the exit status of a command of a Shell pool, whose Status a synchronous answer
	// holds it as, too.
	ExitCode *int `json:"exitCode,omitempty"`
}

// ShellExecution answers synchronous executions of Shell pools.
type ShellExecution struct {
	ID         string `json:"id"`
	Identifier string `json:"identifier"`
	SessionID  string `json:"sessionId"`
	// Status is the exit status as text, of which clients make a number; -1 if the command had
	// none, because its time or its session ended.
	Status   string `json:"status"`
	ExitCode int    `json:"exitCode"`
	// ErrorName and ErrorMessage say why a command did not come to its end.
	ErrorName    string      `json:"errorName,omitempty"`
	ErrorMessage string      `json:"errorMessage,omitempty"`
	Result       ShellResult `json:"result"`
}

// ShellResult is what a command left behind.
type ShellResult struct {
	Stdout          string `json:"stdout"`
	Stderr          string `json:"stderr"`
	Milliseconds    int64  `json:"executionTimeInMilliseconds"`
	StdoutTruncated bool   `json:"stdoutTruncated,omitempty"`
	StderrTruncated bool   `json:"stderrTruncated,omitempty"`
	// StateLost says that variables and functions of earlier commands are gone.
	StateLost bool `json:"stateLost,omitempty"`
	// ErrorName and ErrorMessage are those of the answer, where other pools have them.
	ErrorName    string `json:"errorName,omitempty"`
	ErrorMessage string `json:"errorMessage,omitempty"`
}

// ExecutionResult is what an execution left behind.
type ExecutionResult struct {
	SerialID        string          `json:"$id"`
	Stdout          string          `json:"stdout"`
	Stderr          string          `json:"stderr"`
	ExecutionResult json.RawMessage `json:"executionResult"`
	Milliseconds    int64           `json:"executionTimeInMilliseconds"`
	ExecutionExtras
}

// ExecutionExtras are fields of sandpool's own, in every envelope, each absent
// when it has nothing to say.
type ExecutionExtras struct {
	// StdoutTruncated and StderrTruncated say that a stream met its limit.
	StdoutTruncated bool `json:"stdoutTruncated,omitempty"`
	StderrTruncated bool `json:"stderrTruncated,omitempty"`
	// Images are all images in order, when there is more than one or the code failed;
	// else the one image is the result.
	Images []Image `json:"images,omitempty"`
	// DisplayData are the other outputs of display() as MIME type to content,
	// and the value of the last expression if an image took its place as the result, or
	// if it has other representations than text, such as HTML; it is then the last.
	DisplayData []map[string]string `json:"displayData,omitempty"`
	// DisplayDataTruncated says that displays, images among them, were dropped.
	DisplayDataTruncated bool `json:"displayDataTruncated,omitempty"`
	// ErrorName and ErrorMessage name the exception, or "Timeout", "KernelDied",
	// "Aborted".
	ErrorName    string `json:"errorName,omitempty"`
	ErrorMessage string `json:"errorMessage,omitempty"`
	// StateLost says that variables of earlier cells are gone.
	StateLost bool `json:"stateLost,omitempty"`
}

// Image is an image as a result.
type Image struct {
	Type   string `json:"type"`        // always "image"
	Format string `json:"format"`      // "png", "jpeg", "svg", "gif", "webp"
	Data   string `json:"base64_data"` // standard base64
}

// ExecutionErrorBody is the error of a failed execution in the new envelope: the
// shape of an HTTP error's body, of which clients read error.code and error.message.
type ExecutionErrorBody struct {
	Error ExecutionError `json:"error"`
}

// ExecutionError names what ended an execution.
type ExecutionError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// The other values of status of an execution that was started asynchronously.
const (
	StatusNotStarted = "NotStarted"
	StatusRunning    = "Running"
	StatusCanceled   = "Canceled"
)

// PendingExecution is an execution in the new envelope while it has no result.
type PendingExecution struct {
	ID            string `json:"id"`
	Identifier    string `json:"identifier"`
	SessionID     string `json:"sessionId"`
	ExecutionType string `json:"executionType"`
	Status        string `json:"status"`
	CreatedAt     string `json:"createdAt,omitempty"`
	StartedAt     string `json:"startedAt,omitempty"`
	EndedAt       string `json:"endedAt,omitempty"`
	Context       string `json:"context,omitempty"` // absent of the default one
	// Error is set when Status is Failed and there is no result at all.
	Error *ExecutionErrorBody `json:"error,omitempty"`
}

// PendingExecutions lists the executions of a session that were started asynchronously or read as a
// stream, the oldest first, without results.
type PendingExecutions struct {
	Value []PendingExecution `json:"value"`
}

// The types of ExecutionEvent.
const (
	EventStatus = "status" // Status
	EventStdout = "stdout" // Text
	EventStderr = "stderr" // Text
	// Data, and DisplayID if it may be updated: that id again takes its place
	EventDisplay = "display"
	EventClear   = "clear"  // the output so far is to be forgotten; with Wait, when there is more
	EventResult  = "result" // Execution; the last
	EventError   = "error"  // Error; the last, if the stream cannot go on
)

// ExecutionEvent is a part of a running execution, as a caller reads it live.
type ExecutionEvent struct {
	// Sequence numbers the events of an execution from 1, with none left out.
	Sequence  int64             `json:"sequence,omitempty"`
	Type      string            `json:"type"`
	Status    string            `json:"status,omitempty"`
	Text      string            `json:"text,omitempty"`
	Data      map[string]string `json:"data,omitempty"` // by MIME type; binary ones are base64
	DisplayID string            `json:"displayId,omitempty"`
	Wait      bool              `json:"wait,omitempty"`
	// Execution is how it ended: an Execution whose streams are empty, since the events before are
	// what they held, or a PendingExecution if there is no result.
	Execution any          `json:"execution,omitempty"`
	Error     *ErrorDetail `json:"error,omitempty"`
}
