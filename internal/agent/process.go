package agent

import (
	"context"
	"net/http"
	"time"
)

// Bounds of a list of processes.
const (
	MaxProcesses = 1024 // listed, those with the lowest ids
	MaxCommand   = 1024 // bytes of a command line
)

// maxProcesses bounds the list on the wire, where a byte may take six.
const maxProcesses = MaxProcesses * (6*MaxCommand + 1<<10)

// ProcessState says what a process does.
type ProcessState string

// The states of processes.
const (
	ProcessRunning  ProcessState = "running"  // or ready to
	ProcessSleeping ProcessState = "sleeping" // waits for something
	ProcessBlocked  ProcessState = "blocked"  // waits for a device, and takes no signals
	ProcessStopped  ProcessState = "stopped"  // by a signal or a debugger
	ProcessEnded    ProcessState = "ended"    // its parent has not asked how yet
	ProcessUnknown  ProcessState = "unknown"
)

// Process is one process of a sandbox.
type Process struct {
	PID    int `json:"pid"`
	Parent int `json:"parent"` // 0 of the first process
	UserID int `json:"userId"` // the effective one
	// Command is the arguments with spaces in between, as far as MaxCommand bytes go; the name
	// in brackets if there are none. The process chooses it: it may hold control characters.
	Command          string       `json:"command"`
	CommandTruncated bool         `json:"commandTruncated,omitempty"`
	State            ProcessState `json:"state"`
	// Started is by the sandbox's clock, which stands still while it is a snapshot.
	Started       time.Time     `json:"started"`
	ResidentBytes int64         `json:"residentBytes"`
	CPUTime       time.Duration `json:"cpuTime"` // without that of its children
}

// Processes lists the processes of the sandbox in the order of their ids, the agent's
// own included, and at most MaxProcesses.
func (c *Client) Processes(ctx context.Context) ([]Process, error) {
	var all processes
	err := c.call(ctx, http.MethodGet, "/processes", nil, nil, &all, maxProcesses)
	return all, err
}

// processes is the list as it is read.
type processes []Process

// UnmarshalJSON implements json.Unmarshaler.
func (p *processes) UnmarshalJSON(text []byte) (err error) {
	*p, err = decodeList[Process](text, MaxProcesses)
	return err
}
