// Package request reads what an execute call asks for, code for a kernel or a command for a shell,
// in all spellings that clients of the service have, and checks it against the server's bounds.
// What the API knows and this server does not do is refused: to ignore it in silence would give the
// caller something else than asked for.
package request

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/gateway/wire"
)

// Execution is a checked request to run code.
type Execution struct {
	agent.ExecuteRequest
	// Identifier is the body's own; the query's goes before it.
	Identifier string
	Async      bool
	// Command says that the answer is to have the form of commands.
	Command bool
	// Traced says that the code is to find the trace of its request.
	Traced bool
}

// Limits are the bounds of what a caller may ask for.
type Limits struct {
	// MaxTimeout bounds timeoutInSeconds, and is what a request without it gets.
	MaxTimeout time.Duration
	// DefaultOutput is how much of stdout and of stderr an answer holds when the request does not
	// say, in bytes; MaxOutput bounds what it may ask for.
	DefaultOutput, MaxOutput int
}

// Code checks the body of an execute call on a pool of code.
func (l Limits) Code(data []byte) (Execution, error) {
	f, err := fields(data, `{"code":"1+1"}`)
	if err != nil {
		return Execution{}, err
	}
	if asksCommand(f) && f.Kernel+f.Context != "" { // whose kernel may be one of commands
		return l.command(f)
	}
	if err := refuse(f); err != nil {
		return Execution{}, err
	}
	code, err := source(f)
	if err != nil {
		return Execution{}, err
	}
	if len(code) > agent.MaxCode {
		return Execution{}, sandpool.Errorf(sandpool.TooLarge, "", "code",
			"The code has %d bytes, of at most %d; upload large data as a file and read it from "+
				"/mnt/data.", len(code), agent.MaxCode)
	}
	return l.bounded(f, agent.ExecuteRequest{Code: code})
}

// fields returns the fields of a body, wrapped or flat.
func fields(data []byte, example string) (api.ExecuteFields, error) {
	var req api.ExecuteRequest
	if len(bytes.TrimSpace(data)) == 0 {
		return req.ExecuteFields, sandpool.Errorf(sandpool.Invalid, wire.CodeMissing, "body",
			`The request has no body; send JSON such as %s.`, example)
	}
	if err := arm.Unmarshal(data, &req); err != nil {
		return req.ExecuteFields, BodyError(err)
	}
	if req.Properties != nil {
		return *req.Properties, nil
	}
	return req.ExecuteFields, nil
}

// bounded is an Execution with the bounds that the caller wants.
func (l Limits) bounded(f api.ExecuteFields, req agent.ExecuteRequest) (Execution, error) {
	seconds, err := l.seconds(f.TimeoutInSeconds)
	if err != nil {
		return Execution{}, err
	}
	output, err := integer("outputStreamsMaxLength", f.OutputStreamsMaxLength,
		int64(l.DefaultOutput), 1, int64(l.MaxOutput))
	if err != nil {
		return Execution{}, err
	}
	req.Timeout, req.MaxOutput = time.Duration(seconds)*time.Second, int(output)
	if err := surround(f, &req); err != nil {
		return Execution{}, err
	}
	return Execution{Identifier: f.Identifier, Traced: f.Traceparent,
		Async: strings.EqualFold(f.ExecutionType, wire.Asynchronous), ExecuteRequest: req}, nil
}

// surround adds where and in what an Execution runs.
func surround(f api.ExecuteFields, req *agent.ExecuteRequest) error {
	if f.Context != "" {
		if err := agent.CheckName("context", f.Context); err != nil {
			return err
		}
	}
	if f.Kernel != "" {
		if err := agent.CheckName("kernel", f.Kernel); err != nil {
			return err
		}
	}
	if len(f.Env) > 0 {
		if err := agent.CheckEnv(f.Env); err != nil {
			return err
		}
	}
	if strings.Contains(f.WorkingDirectory, "\x00") {
		return sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, "workingDirectory",
			"The working directory holds NUL, which no path can.")
	}
	req.Context, req.Kernel, req.Env, req.Dir = f.Context, f.Kernel, f.Env, f.WorkingDirectory
	if f.Stdin != nil {
		req.Stdin = *f.Stdin
	}
	size := len(req.Code) + len(req.Stdin) + len(req.Dir)
	for _, a := range req.Args {
		size += len(a)
	}
	for name, value := range req.Env {
		size += len(name) + len(value)
	}
	if size > agent.MaxCode {
		return sandpool.Errorf(sandpool.TooLarge, "", "code",
			"Code, stdin and env have %d bytes, of at most %d; upload large data as a file and "+
				"read it from /mnt/data.", size, agent.MaxCode)
	}
	return nil
}

// seconds is the time that an Execution may take. More than the most is the most,
// as in the service: its callers send 300 and 600.
func (l Limits) seconds(n *json.Number) (int64, error) {
	most := int64(l.MaxTimeout / time.Second)
	if n != nil {
		if f, err := n.Float64(); err == nil && f > float64(most) {
			return most, nil
		}
	}
	return integer("timeoutInSeconds", n, most, 1, most)
}

// refuse rejects what the API knows and this server does not do: accepting it
// in silence would give the caller something else than asked for.
func refuse(f api.ExecuteFields) error {
	notYet := func(field, format string, args ...any) error {
		return sandpool.Errorf(sandpool.Unsupported, wire.CodeUnsupported, field, format, args...)
	}
	if err := checkType(f); err != nil {
		return err
	}
	switch {
	case f.UseEmptyKernel:
		return notYet("useEmptyKernel", "The option useEmptyKernel is not supported; leave it "+
			"out and use a new identifier for an empty session.")
	case f.ReturnJupyterFormatExecutionResult:
		return notYet("returnJupyterFormatExecutionResult",
			"The option returnJupyterFormatExecutionResult is not supported; leave it out.")
	case f.Code == nil && f.PythonCode == nil && (f.ShellCommand != nil ||
		f.ExecCommandAndArgs != nil):
		return sandpool.Errorf(sandpool.Invalid, wire.CodeMissing, "code",
			"This pool runs code, not shell commands; send the source as 'code' (a line that "+
				"starts with '!' runs in a shell).")
	}
	return nil
}

// checkType checks whether the caller waits.
func checkType(f api.ExecuteFields) error {
	switch strings.ToLower(f.ExecutionType) {
	case "", "synchronous", "asynchronous":
		return nil
	}
	return sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, "executionType",
		"The executionType %.80q is unknown; use 'synchronous' or 'asynchronous'.",
		f.ExecutionType)
}

// source returns the code of a request as text.
func source(f api.ExecuteFields) (string, error) {
	code := f.Code
	if code == nil {
		code = f.PythonCode
	}
	if code == nil {
		return "", sandpool.Errorf(sandpool.Invalid, wire.CodeMissing, "code",
			`The field 'code' is missing; send {"code":"…"}, or {"properties":{"code":"…"}}.`)
	}
	switch strings.ToLower(f.CodeInputType) {
	case "", "inline", "inlinetext":
		return *code, nil
	case "inlinebase64":
		return decodeBase64(*code)
	}
	return "", sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, "codeInputType",
		"The codeInputType %.80q is unknown; use 'inline' or 'inlineBase64'.", f.CodeInputType)
}

// decodeBase64 accepts both alphabets, with and without padding.
func decodeBase64(s string) (string, error) {
	s = strings.NewReplacer("-", "+", "_", "/", "\n", "", "\r", "", "=", "").Replace(s)
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil || !utf8.Valid(b) {
		return "", &sandpool.Error{Class: sandpool.Invalid, Code: wire.CodeValidation,
			Target: "code", Err: err,
			Message: "The field 'code' is not base64 of UTF-8 text, which codeInputType " +
				"'inlineBase64' asks for."}
	}
	return string(b), nil
}

// integer reads a whole number between low and high; nil means fallback.
func integer(field string, n *json.Number, fallback, low, high int64) (int64, error) {
	if n == nil {
		return fallback, nil
	}
	v, err := n.Int64()
	if err != nil {
		// Some JSON writers send every number as a float.
		f, ferr := n.Float64()
		if v = int64(f); ferr != nil || float64(v) != f {
			v = low - 1
		}
	}
	if v < low || v > high {
		return 0, sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, field,
			"The field '%s' is %.80s; use a whole number from %d to %d.", field, n, low, high)
	}
	return v, nil
}

// BodyError says what is wrong with a body, in the code that clients know. Fields have no path
// here: the same one may stand in properties or beside them.
func BodyError(err error) error {
	e := arm.BodyError(err)
	if strings.Contains(err.Error(), "invalid number literal") { // the decoder does not say where
		e.Message = "The fields timeoutInSeconds and outputStreamsMaxLength must be whole numbers."
	}
	if e.Class == sandpool.Invalid {
		e.Code = wire.CodeValidation
		e.Target = cmp.Or(e.Target[strings.LastIndexByte(e.Target, '.')+1:], "body")
	}
	return e
}
