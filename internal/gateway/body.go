package gateway

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/gateway/wire"
)

// Error codes that clients of the service know.
const (
	codeMissing     = "SessionPropertiesMissing"
	codeValidation  = "SessionRequestValidationFailed"
	codeUnsupported = "SessionRequestNotSupported"
)

// execution is a checked request to run code.
type execution struct {
	agent.ExecuteRequest
	// identifier is the body's own; the query's goes before it.
	identifier string
	async      bool
	// command says that the answer is to have the form of commands.
	command bool
	// traced says that the code is to find the trace of its request.
	traced bool
}

// readExecution reads the body of an execute call, whose memory h takes, and has it parsed.
func (o Options) readExecution(w http.ResponseWriter, r *http.Request, h *hold,
	parse func([]byte) (execution, error)) (execution, error) {
	if r.ContentLength > o.MaxBody {
		return execution{}, o.bodyTooLarge()
	}
	if r.ContentLength > small {
		if err := h.fits(r.ContentLength); err != nil {
			return execution{}, err
		}
	}
	plain, err := arm.Body(w, r)
	if err != nil {
		return execution{}, err
	}
	body := newSteady(w, http.MaxBytesReader(w, plain, o.MaxBody), o.Stall)
	body.pace = bodyPace
	data, err := readBody(body, r.ContentLength, h.take)
	if err != nil {
		if err = body.or(err); sandpool.ClassOf(err) == sandpool.TooLarge {
			err = o.bodyTooLarge()
		}
		return execution{}, err
	}
	if data, err = arm.UTF8(data, r.Header.Get("Content-Type")); err != nil {
		return execution{}, err
	}
	return parse(data)
}

// readBody reads r to its end; size is what the caller announced, or negative. Beyond a small
// body, take is asked before memory is spent, which is as bytes arrive and not as they are
// promised.
func readBody(r io.Reader, size int64, take func(int64) error) ([]byte, error) {
	b, taken := make([]byte, 0, min(max(size, 0), small)+bytes.MinRead), int64(0)
	for {
		if len(b) == cap(b) {
			more := cap(b)
			if left := int(size) - cap(b) + bytes.MinRead; left > 0 {
				more = min(more, left) // and then it has the size that was announced
			}
			if need := int64(cap(b)+more-small-bytes.MinRead) - taken; need > 0 {
				if err := take(need); err != nil {
					return nil, err
				}
				taken += need
			}
			b = append(make([]byte, 0, cap(b)+more), b...)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

func (o Options) bodyTooLarge() error {
	return sandpool.Errorf(sandpool.TooLarge, "", "body",
		"The request body is larger than %d bytes; upload large data as a file and read it from "+
			"/mnt/data.", o.MaxBody)
}

// fields returns the fields of a body, wrapped or flat.
func fields(data []byte, example string) (api.ExecuteFields, error) {
	var req api.ExecuteRequest
	if len(bytes.TrimSpace(data)) == 0 {
		return req.ExecuteFields, sandpool.Errorf(sandpool.Invalid, codeMissing, "body",
			`The request has no body; send JSON such as %s.`, example)
	}
	if err := arm.Unmarshal(data, &req); err != nil {
		return req.ExecuteFields, badBody(err)
	}
	if req.Properties != nil {
		return *req.Properties, nil
	}
	return req.ExecuteFields, nil
}

// parseExecution checks the body of an execute call.
func (o Options) parseExecution(data []byte) (execution, error) {
	f, err := fields(data, `{"code":"1+1"}`)
	if err != nil {
		return execution{}, err
	}
	if asksCommand(f) && f.Kernel+f.Context != "" { // whose kernel may be one of commands
		return o.command(f)
	}
	if err := refuse(f); err != nil {
		return execution{}, err
	}
	code, err := source(f)
	if err != nil {
		return execution{}, err
	}
	if len(code) > agent.MaxCode {
		return execution{}, sandpool.Errorf(sandpool.TooLarge, "", "code",
			"The code has %d bytes, of at most %d; upload large data as a file and read it from "+
				"/mnt/data.", len(code), agent.MaxCode)
	}
	return o.bounded(f, agent.ExecuteRequest{Code: code})
}

// bounded is an execution with the bounds that the caller wants.
func (o Options) bounded(f api.ExecuteFields, req agent.ExecuteRequest) (execution, error) {
	seconds, err := o.seconds(f.TimeoutInSeconds)
	if err != nil {
		return execution{}, err
	}
	output, err := integer("outputStreamsMaxLength", f.OutputStreamsMaxLength,
		int64(o.DefaultOutput), 1, int64(o.MaxOutput))
	if err != nil {
		return execution{}, err
	}
	req.Timeout, req.MaxOutput = time.Duration(seconds)*time.Second, int(output)
	if err := surround(f, &req); err != nil {
		return execution{}, err
	}
	return execution{identifier: f.Identifier, traced: f.Traceparent,
		async: strings.EqualFold(f.ExecutionType, wire.Asynchronous), ExecuteRequest: req}, nil
}

// surround adds where and in what an execution runs.
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
		return sandpool.Errorf(sandpool.Invalid, codeValidation, "workingDirectory",
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

// seconds is the time that an execution may take. More than the most is the most,
// as in the service: its callers send 300 and 600.
func (o Options) seconds(n *json.Number) (int64, error) {
	most := int64(o.MaxTimeout / time.Second)
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
		return sandpool.Errorf(sandpool.Unsupported, codeUnsupported, field, format, args...)
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
		return sandpool.Errorf(sandpool.Invalid, codeMissing, "code",
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
	return sandpool.Errorf(sandpool.Invalid, codeValidation, "executionType",
		"The executionType %q is unknown; use 'synchronous' or 'asynchronous'.",
		clip(f.ExecutionType))
}

// source returns the code of a request as text.
func source(f api.ExecuteFields) (string, error) {
	code := f.Code
	if code == nil {
		code = f.PythonCode
	}
	if code == nil {
		return "", sandpool.Errorf(sandpool.Invalid, codeMissing, "code",
			`The field 'code' is missing; send {"code":"…"}, or {"properties":{"code":"…"}}.`)
	}
	switch strings.ToLower(f.CodeInputType) {
	case "", "inline", "inlinetext":
		return *code, nil
	case "inlinebase64":
		return decodeBase64(*code)
	}
	return "", sandpool.Errorf(sandpool.Invalid, codeValidation, "codeInputType",
		"The codeInputType %q is unknown; use 'inline' or 'inlineBase64'.", clip(f.CodeInputType))
}

// decodeBase64 accepts both alphabets, with and without padding.
func decodeBase64(s string) (string, error) {
	s = strings.NewReplacer("-", "+", "_", "/", "\n", "", "\r", "", "=", "").Replace(s)
	b, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil || !utf8.Valid(b) {
		return "", &sandpool.Error{Class: sandpool.Invalid, Code: codeValidation, Target: "code",
			Message: "The field 'code' is not base64 of UTF-8 text, which codeInputType " +
				"'inlineBase64' asks for.", Err: err}
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
		return 0, sandpool.Errorf(sandpool.Invalid, codeValidation, field,
			"The field '%s' is %s; use a whole number from %d to %d.", field, clip(n.String()), low,
			high)
	}
	return v, nil
}

// badBody says what is wrong with a body, in the code that clients know. Fields have no path here:
// the same one may stand in properties or beside them.
func badBody(err error) error {
	e := arm.BodyError(err)
	if strings.Contains(err.Error(), "invalid number literal") { // the decoder does not say where
		e.Message = "The fields timeoutInSeconds and outputStreamsMaxLength must be whole numbers."
	}
	if e.Class == sandpool.Invalid {
		e.Code = codeValidation
		e.Target = cmp.Or(e.Target[strings.LastIndexByte(e.Target, '.')+1:], "body")
	}
	return e
}

// clip shortens text of the caller's for a message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
