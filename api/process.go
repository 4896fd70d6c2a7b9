package api

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

// ProcessEvent is an event of a background process: what it has put out, or, as the last, how it is.
type ProcessEvent struct {
	Sequence int64  `json:"sequence,omitempty"`
	Type     string `json:"type"` // stdout, stderr, lost, status or error
	Text     string `json:"text,omitempty"`
	// Lost is how many events before the next one are kept no more.
	Lost    int64        `json:"lost,omitempty"`
	Process *Process     `json:"process,omitempty"`
	Error   *ErrorDetail `json:"error,omitempty"`
}
