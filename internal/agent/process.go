package agent

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
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

// Bounds of background processes.
const (
	MaxBackground    = 32        // that are known, those that have ended included
	MaxBackgroundLog = 512 << 10 // bytes kept of what one has put out, the latest
	MaxArguments     = 256       // that are shown of a command line, in MaxCommand bytes
	MaxBackgroundEnd = 60 * time.Second
)

// ProcessRequest is a process to be started, which goes on without a caller.
type ProcessRequest struct {
	// ID names it in its sandbox: letters, digits, hyphens, underscores and dots.
	ID string `json:"id"`
	// Args is the program and its arguments; or Shell is text for the shell.
	Args  []string          `json:"args,omitempty"`
	Shell string            `json:"shell,omitempty"`
	Env   map[string]string `json:"env,omitempty"`
	Dir   string            `json:"dir,omitempty"`   // "" means DataDir, from which others count
	Stdin string            `json:"stdin,omitempty"` // all that it reads from standard input
}

// BackgroundProcess is a process that was started to go on without a caller.
type BackgroundProcess struct {
	ID      string    `json:"id"`
	PID     int       `json:"pid"`
	Command Words     `json:"command"`
	Created time.Time `json:"created"` // by the sandbox's clock, as Ended
	Ended   time.Time `json:"ended,omitzero"`
	// ExitCode and Signal are there once it has ended: the one or the other.
	ExitCode *int `json:"exitCode,omitempty"`
	Signal   int  `json:"signal,omitempty"`
}

// Words is a command line, of MaxArguments at most.
type Words []string

// UnmarshalJSON implements json.Unmarshaler.
func (w *Words) UnmarshalJSON(text []byte) (err error) {
	*w, err = decodeList[string](text, MaxArguments)
	return err
}

// ProcessRecord is a piece of what a background process has put out, with its number: the first is
// 1, and those that are kept no more are Lost.
type ProcessRecord struct {
	Number int64  `json:"number"`
	Stdout string `json:"stdout,omitempty"`
	Stderr string `json:"stderr,omitempty"`
	// Lost is how many records before this one are kept no more.
	Lost int64 `json:"lost,omitempty"`
	// Process is how it ended, or, without following, how it is: the last record.
	Process *BackgroundProcess `json:"process,omitempty"`
}

// StartProcess starts a process that nobody needs to wait for. An ID that is taken is an error of
// class Conflict, a program that is not there one of class Invalid.
func (c *Client) StartProcess(ctx context.Context, req ProcessRequest) (BackgroundProcess, error) {
	var p BackgroundProcess
	err := c.call(ctx, http.MethodPost, "/background", nil, req, &p, maxAnswer)
	return p, err
}

// BackgroundProcesses lists the processes that were started, the oldest first.
func (c *Client) BackgroundProcesses(ctx context.Context) ([]BackgroundProcess, error) {
	var all backgroundList
	err := c.call(ctx, http.MethodGet, "/background", nil, nil, &all, maxAnswer)
	return all, err
}

// backgroundList is the list as it is read.
type backgroundList []BackgroundProcess

// UnmarshalJSON implements json.Unmarshaler.
func (l *backgroundList) UnmarshalJSON(text []byte) (err error) {
	*l, err = decodeList[BackgroundProcess](text, MaxBackground)
	return err
}

// BackgroundProcess returns a process; it waits for its end for as long as wait says, at most
// MaxBackgroundEnd.
func (c *Client) BackgroundProcess(ctx context.Context, id string,
	wait time.Duration) (BackgroundProcess, error) {
	var p BackgroundProcess
	err := c.call(ctx, http.MethodGet, "/background/one", url.Values{"id": {id},
		"wait": {strconv.FormatInt(wait.Milliseconds(), 10)}}, nil, &p, maxAnswer)
	return p, err
}

// SignalProcess sends a signal to a process and its group. One that has ended is an error of class
// Conflict.
func (c *Client) SignalProcess(ctx context.Context, id string, signal int) error {
	return c.call(ctx, http.MethodPost, "/background/signal", url.Values{"id": {id},
		"signal": {strconv.Itoa(signal)}}, nil, nil, 0)
}

// RemoveProcess ends a process with all that it has started, and forgets it.
func (c *Client) RemoveProcess(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/background", url.Values{"id": {id}}, nil, nil, 0)
}

// ProcessLogs calls emit with what a process has put out after the record of the given number. With
// follow it goes on until the process has ended.
func (c *Client) ProcessLogs(ctx context.Context, id string, after int64, follow bool,
	emit func(ProcessRecord) error) error {
	query := url.Values{"id": {id}, "after": {strconv.FormatInt(after, 10)}}
	if follow {
		query.Set("follow", "1")
	}
	return c.frames(ctx, http.MethodGet, "/background/logs", query, nil,
		func(r *FrameReader) error {
			r.Limit = 1 << 20
			for {
				var rec ProcessRecord
				if err := r.Next(&rec); err != nil {
					return err
				}
				if err := emit(rec); err != nil || rec.Process != nil {
					return err
				}
			}
		})
}

// ParseSignal reads a signal as people write it: "TERM", "SIGTERM" or "15".
func ParseSignal(text string) (int, error) {
	name := strings.ToUpper(strings.TrimSpace(text))
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := int(unix.SignalNum(name)); n > 0 {
		return n, nil
	}
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n <= 64 {
		return n, nil
	}
	return 0, sandpool.Errorf(sandpool.Invalid, "InvalidSignal", "signal",
		"%.32q is no signal. Use a name such as TERM or INT, or a number from 1 to 64.", text)
}
