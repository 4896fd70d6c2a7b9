package request

import (
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/gateway/wire"
)

// Command checks the body of an execute call on a Shell pool. What callers send for code
// pools besides, such as codeInputType, has no meaning here and does no harm.
func (l Limits) Command(data []byte) (Execution, error) {
	f, err := fields(data, `{"shellCommand":"ls -l"}`)
	if err != nil {
		return Execution{}, err
	}
	if f.Code != nil && !asksCommand(f) && f.Kernel+f.Context != "" {
		code, err := source(f)
		if err != nil {
			return Execution{}, err
		}
		return l.bounded(f, agent.ExecuteRequest{Code: code})
	}
	return l.command(f)
}

// asksCommand reports whether a body holds a command.
func asksCommand(f api.ExecuteFields) bool {
	return f.ShellCommand != nil || len(f.ExecCommandAndArgs) > 0
}

// command checks a body that holds a command.
func (l Limits) command(f api.ExecuteFields) (Execution, error) {
	if err := checkType(f); err != nil {
		return Execution{}, err
	}
	req := agent.ExecuteRequest{Args: f.ExecCommandAndArgs, Command: f.Kernel+f.Context != ""}
	switch {
	case f.ShellCommand != nil && len(f.ExecCommandAndArgs) > 0:
		return Execution{}, sandpool.Errorf(sandpool.Invalid, wire.CodeValidation,
			"execCommandAndArgs", "The fields 'shellCommand' and 'execCommandAndArgs' exclude "+
				"each other; send one.")
	case f.ShellCommand != nil:
		req.Code = *f.ShellCommand
	case len(f.ExecCommandAndArgs) == 0:
		return Execution{}, sandpool.Errorf(sandpool.Invalid, wire.CodeMissing, "shellCommand",
			`This pool runs commands, not code; send {"shellCommand":"…"} or `+
				`{"execCommandAndArgs":["…"]}.`)
	}
	switch strings.ToLower(f.ShellType) {
	case "", "bash":
	case "sh":
		req.Posix = true
	default:
		return Execution{}, sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, "shellType",
			"The shellType %.80q is unknown; use 'bash' or 'sh'.", f.ShellType)
	}
	for _, a := range append([]string{req.Code}, req.Args...) {
		if strings.Contains(a, "\x00") {
			return Execution{}, sandpool.Errorf(sandpool.Invalid, wire.CodeValidation,
				"shellCommand", "The command holds NUL, which no command can; write it as an "+
					"escape, or send it by 'stdin'.")
		}
	}
	x, err := l.bounded(f, req)
	x.Command = true
	return x, err
}
