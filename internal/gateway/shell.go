package gateway

import (
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
)

// parseCommand checks the body of an execute call on a Shell pool. What callers send for code
// pools besides, such as codeInputType, has no meaning here and does no harm.
func (o Options) parseCommand(data []byte) (execution, error) {
	f, err := fields(data, `{"shellCommand":"ls -l"}`)
	if err != nil {
		return execution{}, err
	}
	if f.Code != nil && !asksCommand(f) && f.Kernel+f.Context != "" {
		code, err := source(f)
		if err != nil {
			return execution{}, err
		}
		return o.bounded(f, agent.ExecuteRequest{Code: code})
	}
	return o.command(f)
}

// asksCommand reports whether a body holds a command.
func asksCommand(f api.ExecuteFields) bool {
	return f.ShellCommand != nil || len(f.ExecCommandAndArgs) > 0
}

// command checks a body that holds a command.
func (o Options) command(f api.ExecuteFields) (execution, error) {
	if err := checkType(f); err != nil {
		return execution{}, err
	}
	req := agent.ExecuteRequest{Args: f.ExecCommandAndArgs, Command: f.Kernel+f.Context != ""}
	switch {
	case f.ShellCommand != nil && len(f.ExecCommandAndArgs) > 0:
		return execution{}, sandpool.Errorf(sandpool.Invalid, codeValidation, "execCommandAndArgs",
			"The fields 'shellCommand' and 'execCommandAndArgs' exclude each other; send one.")
	case f.ShellCommand != nil:
		req.Code = *f.ShellCommand
	case len(f.ExecCommandAndArgs) == 0:
		return execution{}, sandpool.Errorf(sandpool.Invalid, codeMissing, "shellCommand",
			`This pool runs commands, not code; send {"shellCommand":"…"} or {"execCommandAndArgs":["…"]}.`)
	}
	switch strings.ToLower(f.ShellType) {
	case "", "bash":
	case "sh":
		req.Posix = true
	default:
		return execution{}, sandpool.Errorf(sandpool.Invalid, codeValidation, "shellType",
			"The shellType %q is unknown; use 'bash' or 'sh'.", clip(f.ShellType))
	}
	for _, a := range append([]string{req.Code}, req.Args...) {
		if strings.Contains(a, "\x00") {
			return execution{}, sandpool.Errorf(sandpool.Invalid, codeValidation, "shellCommand",
				"The command holds NUL, which no command can; write it as an escape, or send it "+
					"by 'stdin'.")
		}
	}
	x, err := o.bounded(f, req)
	x.command = true
	return x, err
}

// notShell refuses the paths of the api-versions before Shell pools.
func notShell() error {
	return sandpool.Errorf(sandpool.Unsupported, codeUnsupported, "path",
		"Shell execution is not supported in the API version of this path; send commands by POST "+
			"to 'executions'.")
}
