package api

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// SessionView is a session. The data-plane specification names the end of a
// session expireAt, the pages about .management expiresAt; both are sent everywhere.
// Times are RFC 3339.
type SessionView struct {
	Identifier     string `json:"identifier"`
	ETag           string `json:"etag"`
	CreatedAt      string `json:"createdAt"`
	LastAccessedAt string `json:"lastAccessedAt"`
	ExpireAt       string `json:"expireAt"`
	ExpiresAt      string `json:"expiresAt"`
}

// Sessions answers listSessions.
type Sessions struct {
	Sessions []SessionView `json:"sessions"`
	NextLink string        `json:"nextLink,omitempty"`
}

// ManagedSessions answers .management/listSessions. Count is the length of Value.
type ManagedSessions struct {
	Value    []SessionView `json:"value"`
	Count    int           `json:"count"`
	NextLink string        `json:"nextLink,omitempty"`
}

// Metadata answers metadata: what code of a pool finds.
type Metadata struct {
	Runtimes             []Package     `json:"runtimes"`
	PreInstalledPackages []Package     `json:"preInstalledPackages"`
	CreatedAt            string        `json:"createdAt"`
	LastUpdatedAt        string        `json:"lastUpdatedAt"`
	JupyterKernel        JupyterKernel `json:"jupyterKernel"`
}

// Package is a named version.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// JupyterKernel describes what runs the code.
type JupyterKernel struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	ProjectURL  string `json:"projectUrl"`
	Description string `json:"description"`
}

// Kernel is a kernel that code of a session can name.
type Kernel struct {
	Name        string `json:"name"`
	DisplayName string `json:"displayName"`
	Language    string `json:"language"`
	// Jupyter says that it is not sandpool's: the image has it for Jupyter.
	Jupyter bool `json:"jupyter"`
}

// Kernels lists the kernels of a session, sandpool's first.
type Kernels struct {
	Value []Kernel `json:"value"`
}

// Context is a kernel of its own in a session.
type Context struct {
	Name   string `json:"name"`
	Kernel string `json:"kernel"`
	// CreatedAt is absent of the default context, which is as old as the session.
	CreatedAt string `json:"createdAt,omitempty"`
	// Running says that code runs in it, and Waiting how many executions wait for that to end.
	Running bool  `json:"running"`
	Waiting int64 `json:"waiting"`
}

// Contexts lists the contexts of a session, the default one first.
type Contexts struct {
	Value []Context `json:"value"`
}

// ContextRequest is the body of a call that makes a context.
type ContextRequest struct {
	// Kernel is the name of one that the pool's image has; absent, it is that of the session's
	// default context.
	Kernel string `json:"kernel,omitempty"`
}

// MaxVariables is the most variables that an execution may bring.
const MaxVariables = 256

// FieldError says what is wrong with a field of a request.
type FieldError struct{ Field, Message string }

func (e *FieldError) Error() string { return e.Message }

// Variables is variables by name. Reading one stops at MaxVariables: a few bytes of JSON are an
// entry of a map.
type Variables map[string]string

// UnmarshalJSON implements json.Unmarshaler.
func (e *Variables) UnmarshalJSON(text []byte) error {
	if bytes.Equal(text, []byte("null")) {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		return &FieldError{"env", "The value of env is no object of strings."}
	}
	read := Variables{}
	for dec.More() {
		if len(read) == MaxVariables {
			return &FieldError{"env", fmt.Sprintf("The value of env has more than %d variables.",
				MaxVariables)}
		}
		key, err := dec.Token()
		if err != nil {
			return err
		}
		var value *string
		if err := dec.Decode(&value); err != nil || value == nil {
			return &FieldError{"env", "A variable of env is no string; write its value as one."}
		}
		read[key.(string)] = *value // the decoder takes no other keys
	}
	*e = read
	return nil
}

// The types of TerminalMessage.
const (
	TerminalResize = "resize" // to the server: Columns and Rows
	TerminalExit   = "exit"   // from the server, the last: Code and Signal
)

// TerminalMessage is a text message on the WebSocket of a terminal. Bytes, in both directions, are
// binary messages.
type TerminalMessage struct {
	Type    string `json:"type"`
	Columns int    `json:"columns,omitempty"`
	Rows    int    `json:"rows,omitempty"`
	// Code is the exit code of the shell; Signal is what ended it, if that is not 0.
	Code   *int `json:"code,omitempty"`
	Signal int  `json:"signal,omitempty"`
}

// Terminal describes a terminal of a session.
type Terminal struct {
	Name      string `json:"name"`
	PID       int    `json:"pid"` // of its shell, in the session
	CreatedAt string `json:"createdAt"`
	Columns   int    `json:"columns"`
	Rows      int    `json:"rows"`
	Viewers   int    `json:"viewers"`
}

// Terminals lists the terminals of a session.
type Terminals struct {
	Value []Terminal `json:"value"`
}

// ProcessRequest is the body of a call that starts a process in the background.
type ProcessRequest struct {
	// ID names the process in its session; absent, the server makes one up.
	ID string `json:"id,omitempty"`
	// Command is a program with its arguments, and ShellCommand text for a shell: one of them.
	Command      []string `json:"command,omitempty"`
	ShellCommand string   `json:"shellCommand,omitempty"`
	// Env is added to the environment. WorkingDirectory is absolute, or from /mnt/data. Stdin is
	// all that the process reads from standard input.
	Env              Variables `json:"env,omitempty"`
	WorkingDirectory string    `json:"workingDirectory,omitempty"`
	Stdin            string    `json:"stdin,omitempty"`
	// Traceparent adds the trace of the request to the environment, as with executions.
	Traceparent bool `json:"traceparent,omitempty"`
}

// ProcessExited is the status of a process that has ended; before, it is StatusRunning.
const ProcessExited = "Exited"

// Process is a process that goes on in the background of a session.
type Process struct {
	ID        string   `json:"id"`
	PID       int      `json:"pid"`
	Command   []string `json:"command"`
	Status    string   `json:"status"`
	CreatedAt string   `json:"createdAt"`
	EndedAt   string   `json:"endedAt,omitempty"`
	// ExitCode is there once it has exited, Signal if a signal ended it.
	ExitCode *int `json:"exitCode,omitempty"`
	Signal   int  `json:"signal,omitempty"`
}

// Processes lists the background processes of a session, the oldest first.
type Processes struct {
	Value []Process `json:"value"`
}

// EventLost is the type of an event that stands for events that are kept no more.
const EventLost = "lost"

// ProcessEvent is an event of a background process: what it has put out, or, as the last, how it
// is.
type ProcessEvent struct {
	Sequence int64  `json:"sequence,omitempty"`
	Type     string `json:"type"` // stdout, stderr, lost, status or error
	Text     string `json:"text,omitempty"`
	// Lost is how many events before the next one are kept no more.
	Lost    int64        `json:"lost,omitempty"`
	Process *Process     `json:"process,omitempty"`
	Error   *ErrorDetail `json:"error,omitempty"`
}

// LogLine is a line that a sandbox wrote to its standard output or error. Text is what hostile code
// may have written: bytes that are no UTF-8 are replaced, and nothing else is.
type LogLine struct {
	Time   string `json:"time"`   // RFC 3339
	Stream string `json:"stream"` // "stdout" or "stderr"
	Text   string `json:"text"`
	// Part says that the text is a part of a long line, which goes on in the next of its stream.
	Part bool `json:"part,omitempty"`
	// Missed says that what stood before this line is not kept any more.
	Missed bool `json:"missed,omitempty"`
	// Next is the parameter "after" for what follows this line.
	Next string `json:"next"`
}

// LogLines answers GET .management/logs: what a session's sandbox wrote, the oldest first.
type LogLines struct {
	Sandbox string    `json:"sandbox"`
	Value   []LogLine `json:"value"`
	// Next is the parameter "after" for what follows; it stays the same while nothing does.
	Next string `json:"next"`
}

// The parameters of a query for logs besides "after": whether to wait for what follows until the
// sandbox ends, and the sandbox to read of, if it is not that of a session.
const (
	FollowParameter  = "follow"
	SandboxParameter = "sandbox"
)
