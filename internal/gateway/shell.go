package gateway

import (
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// parseCommand checks the body of an execute call on a Shell pool. What callers send for code
// pools besides, such as codeInputType, has no meaning here and does no harm.
func (o Options) parseCommand(data []byte) (execution, error) {
	f, err := fields(data, `{"shellCommand":"ls -l"}`)
	if err != nil {
		return execution{}, err
	}
	if err := checkType(f); err != nil {
		return execution{}, err
	}
	req := agent.ExecuteRequest{Args: f.ExecCommandAndArgs}
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
	if f.Stdin != nil {
		req.Stdin = *f.Stdin
	}
	size := len(req.Code) + len(req.Stdin)
	for _, a := range append([]string{req.Code}, req.Args...) {
		if size += len(a); strings.Contains(a, "\x00") {
			return execution{}, sandpool.Errorf(sandpool.Invalid, codeValidation, "shellCommand",
				"The command holds NUL, which no command can; write it as an escape, or send it "+
					"by 'stdin'.")
		}
	}
	if size -= len(req.Code); size > agent.MaxCode {
		return execution{}, sandpool.Errorf(sandpool.TooLarge, "", "shellCommand",
			"Command and stdin have %d bytes, of at most %d; upload large data as a file and "+
				"read it from /mnt/data.", size, agent.MaxCode)
	}
	return o.bounded(f, req)
}

// notShell refuses the paths of the api-versions before Shell pools.
func notShell() error {
	return sandpool.Errorf(sandpool.Unsupported, codeUnsupported, "path",
		"Shell execution is not supported in the API version of this path; send commands by POST "+
			"to 'executions'.")
}
