package agent

import (
	"context"
	"time"

	"github.com/sandpool/sandpool/api"
)

// InitRequest makes a restored clone an individual. It is accepted once.
type InitRequest struct {
	// Secret is the bearer token of all further calls: 16 to 256 bytes.
	Secret string `json:"secret"`
	// Seed is mixed into every generator that a snapshot froze: 16 to 64 bytes
	// of fresh randomness.
	Seed []byte    `json:"seed"`
	Time time.Time `json:"time,omitzero"` // the host's, to tell the skew
	// Env is environment of this clone alone, of all that runs in it from now on.
	Env map[string]string `json:"env,omitempty"`
}

// InitResult is what the sandbox found at its init call.
type InitResult struct {
	// Skew is how far the sandbox's clock is ahead of the host's.
	Skew time.Duration `json:"skew"`
}

// Bounds of an execution.
const (
	MaxCode          = 16 << 20 // bytes of code
	DefaultMaxOutput = 1 << 20  // bytes kept of each stream
	LimitMaxOutput   = 4 << 20  // the most that MaxOutput may ask for
	DefaultTimeout   = 220 * time.Second
	MaxReaders       = 64       // of streams and ends of executions, of logs, of processes, each
	MaxQueue         = 128      // executions that wait for their turn
	MaxEnv           = 256      // variables of one execution
	MaxDisplays      = 128      // displays kept of one execution
	MaxDisplayBytes  = 24 << 20 // bytes kept of all displays together
)

// ExecuteRequest is one cell.
type ExecuteRequest struct {
	Code string `json:"code"`
	// Timeout is from the start of the cell, without the time in the queue.
	// Zero means DefaultTimeout.
	Timeout time.Duration `json:"timeout"`
	// MaxOutput bounds the bytes kept of each of stdout and stderr. Beyond it the
	// first and the last half are kept with a line in between that says how much is
	// missing. Zero means DefaultMaxOutput.
	MaxOutput int `json:"maxOutput,omitempty"`
	// Args is a program with its arguments that is run in place of Code, and Posix asks for the
	// shell that POSIX describes: both of a kernel whose cells are commands.
	Args  []string `json:"args,omitempty"`
	Posix bool     `json:"posix,omitempty"`
	// Stdin is what code reads from standard input.
	Stdin string `json:"stdin,omitempty"`
	// Env is added to the environment, and Dir is the working directory, relative to DataDir,
	// during the execution alone.
	Env map[string]string `json:"env,omitempty"`
	Dir string            `json:"dir,omitempty"`
	// Context is where it runs; "" means the default one, or the one that is named after Kernel.
	// With a Kernel, the context is made unless it is there.
	Context string `json:"context,omitempty"`
	Kernel  string `json:"kernel,omitempty"`
	// Command says that Code is a command, which only some kernels run.
	Command bool `json:"command,omitempty"`
	// Room is the host's memory for the execution; nil means that there always is some.
	Room Room `json:"-"`
}

// LargeAnswer is the size in bytes, as it is sent, beyond which an answer needs room.
const LargeAnswer = 4 << 20

// Room is memory that an execution takes on the host.
type Room interface {
	// Sent is called when the request is on its way, and takes no memory any more.
	Sent()
	// Take is called before an answer of more than LargeAnswer bytes is read: code decides how
	// large one is. It waits until there is room for bytes, or fails; the caller then loses the
	// answer.
	Take(ctx context.Context, bytes int64) error
}

// Outcome says how an execution ended.
type Outcome string

// The outcomes of an execution.
const (
	// OK: the cell came to its end.
	OK Outcome = "ok"
	// Failed: the cell raised an exception, which is in Error, or a command's status is not zero.
	Failed Outcome = "error"
	// Interrupted: Interrupt was called and the cell yielded; the state is kept.
	Interrupted Outcome = "interrupted"
	// TimeoutInterrupted: the time was over and the cell yielded to an
	// interrupt; the state is kept.
	TimeoutInterrupted Outcome = "timeout-interrupted"
	// TimeoutRestarted: the time was over and the cell did not yield; the kernel
	// was killed with all its processes and replaced, the state is lost.
	TimeoutRestarted Outcome = "timeout-restarted"
	// KernelDied: the kernel ended under the cell and was replaced; the state is lost.
	KernelDied Outcome = "kernel-died"
)

// ExecuteResult is what became of a cell.
type ExecuteResult struct {
	Outcome         Outcome `json:"outcome"`
	Stdout          string  `json:"stdout"`
	Stderr          string  `json:"stderr"`
	StdoutTruncated bool    `json:"stdoutTruncated,omitempty"`
	StderrTruncated bool    `json:"stderrTruncated,omitempty"`
	// HasValue says that the last expression had a value other than None.
	HasValue bool `json:"hasValue,omitempty"`
	// Text is the value as IPython prints it (text/plain).
	Text string `json:"text,omitempty"`
	// Value holds every representation of the value by MIME type, if Text is not the only one;
	// binary ones are base64.
	Value Bundle `json:"value,omitempty"`
	// Displays are what display() and figures showed, in order.
	Displays          Displays        `json:"displays,omitempty"`
	DisplaysTruncated bool            `json:"displaysTruncated,omitempty"`
	Error             *ExecutionError `json:"error,omitempty"`
	// ExitStatus is that of a command: of a shell's, 128 and the signal if one ended it. It is nil
	// of a kernel whose cells are no commands.
	ExitStatus *int `json:"exitStatus,omitempty"`
	// Duration is the kernel's own measure of the cell, or the agent's if the kernel has none.
	Duration time.Duration `json:"duration"`
	// KernelRestarted says that the kernel was replaced since the previous
	// execution's start: what earlier cells defined is gone.
	KernelRestarted bool `json:"kernelRestarted,omitempty"`
	// Notice says why the kernel was replaced before the cell began, for the reader of the answer.
	Notice string `json:"notice,omitempty"`
}

// Display is one thing shown, by MIME type; binary representations are base64.
type Display struct {
	ID   string `json:"id,omitempty"` // of displays that are updated later
	Data Bundle `json:"data"`
}

// ExecutionError is an exception, or why a kernel ended.
type ExecutionError struct {
	Name      string `json:"name"`
	Message   string `json:"message"`
	Traceback string `json:"traceback,omitempty"` // plain text, without colours
}

// Event is a part of a running execution. Exactly one field is set.
type Event struct {
	Stdout  string         `json:"stdout,omitempty"`
	Stderr  string         `json:"stderr,omitempty"`
	Display *Display       `json:"display,omitempty"`
	Clear   *Clear         `json:"clear,omitempty"`
	Result  *ExecuteResult `json:"result,omitempty"` // the last event
}

// Clear says that all output of the execution so far is to be forgotten.
type Clear struct {
	Wait bool `json:"wait,omitempty"` // only when there is new output
}

// KernelInfo describes a kernel and what is installed beside it. The API's Metadata is made of it.
type KernelInfo struct {
	Runtime       string        `json:"runtime"` // "python"
	Version       string        `json:"version"`
	Kernel        string        `json:"kernel"` // "ipython"
	KernelVersion string        `json:"kernelVersion"`
	Packages      []api.Package `json:"packages"`
}

// MaxEntries is the most files and directories that a listing has.
const MaxEntries = 20000

// FileType says what a FileInfo is about.
type FileType string

// The types of files. Other stands for links that lead out, pipes, sockets
// and devices: they are listed, and cannot be read.
const (
	File      FileType = "file"
	Directory FileType = "directory"
	Other     FileType = "other"
)

// FileInfo is a file or directory beneath DataDir.
type FileInfo struct {
	Name        string    `json:"name"`
	Path        string    `json:"path"` // from DataDir, with slashes, without a leading one
	Type        FileType  `json:"type"`
	Size        int64     `json:"size"`
	ModTime     time.Time `json:"modTime"`
	ContentType string    `json:"contentType,omitempty"` // of files, by extension
	// Raw is the bytes of a Path that is no UTF-8, which JSON cannot hold.
	Raw []byte `json:"raw,omitempty"`
	// SHA256 is of the content, in hexadecimal digits, where it was asked for.
	SHA256 string `json:"sha256,omitempty"`
}
